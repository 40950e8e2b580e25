"""The distance and score thresholds beyond which a hit is no better than chance."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.blocks import CheckedFile, CheckedRows
from adapters.vlm_quantization.index.features import FeatureKind, Features
from adapters.vlm_quantization.index.items import ItemFile

#: An item counts as near a query if at most this share of unrelated pairs is as near.
UNRELATED_TAIL = 1e-3


#: Number of items sampled from each side to measure unrelated pairs, and the minimum number of such pairs.
UNRELATED_SAMPLE = 1_000


UNRELATED_PAIRS_MIN = 10_000


class Sample(NamedTuple):
    """Items drawn from one side of an index.

    Attributes
    ----------
    codes : ndarray, uint8, shape (m, bytes)
    features : ndarray, float32, shape (m, d), or None
    concepts : ndarray, str, shape (m,)
    """

    codes: NDArray[np.uint8]
    features: NDArray[np.float32] | None
    concepts: NDArray[np.str_]


def drawn_from(
    folder: Path, side: str, count: int, lengths: Sequence[int], dim: int, kind: FeatureKind
) -> Sample:
    """Draw at most :data:`UNRELATED_SAMPLE` items of a side whose files are written; always the same ones."""
    random = np.random.default_rng((0, files.SIDES.index(side)))
    rows = np.sort(random.choice(count, min(count, UNRELATED_SAMPLE), replace=False, shuffle=False))
    names = files.column_files(side, lengths).values()
    codes = np.concatenate([files.open_rows(folder / name)[rows] for name in names], axis=1)
    stored = scales = None
    if kind != "none":
        stored = _rows(folder / files.features_file(side))
    if kind == "int8":
        scales = _rows(folder / files.scales_file(side))
    features = None
    if stored is not None:
        features = Features(kind, stored, scales, (count, dim), "")[rows]
    items = ItemFile(CheckedFile(folder / files.items_file(side)), side, count)
    concepts = np.array([items[int(row)].get("concept", "") for row in rows], dtype=str)
    return Sample(codes, features, concepts)


def _rows(path: Path) -> CheckedRows:
    return CheckedRows(CheckedFile(path), files.open_rows(path))


def chance_thresholds(
    drawn: Mapping[str, Sample], lengths: Sequence[int]
) -> dict[str, dict[str, float | None]]:
    """Measure how near unrelated items are, for each pair of sides, length and method.

    Items of different concepts count as unrelated. The threshold of a length is the largest distance within
    which at most a share of :data:`UNRELATED_TAIL` of the pairs lies (-1: even equal codes are more common);
    for cosine it is the score that this share of the pairs exceeds, None if features are not stored.
    """
    out: dict[str, dict[str, float | None]] = {}
    for one, other in (("images", "images"), ("captions", "images"), ("captions", "captions")):
        (codes, features, concepts), (codes2, features2, concepts2) = drawn[one], drawn[other]
        unrelated = concepts[:, None] != concepts2
        pairs = int(unrelated.sum())
        tails: dict[str, float | None] = dict.fromkeys([*map(str, lengths), "cosine"])
        if pairs >= UNRELATED_PAIRS_MIN:
            distances = np.zeros(unrelated.shape, np.uint16)
            for start, length in itertools.pairwise((0, *lengths)):
                part = slice(start // 8, length // 8)
                differing = np.bitwise_count(codes[:, None, part] ^ codes2[:, part])
                distances += differing.sum(axis=2, dtype=np.uint16)
                counts = np.bincount(distances[unrelated], minlength=length + 1)
                within = counts.cumsum() <= UNRELATED_TAIL * pairs
                tails[str(length)] = float(within.sum() - 1)
            if features is not None and features2 is not None:
                scores = (features @ features2.T)[unrelated]
                tails["cosine"] = float(np.quantile(scores, 1 - UNRELATED_TAIL))
        out[files.pair_key(one, other)] = tails
    return out
