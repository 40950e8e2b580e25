"""The distance and score thresholds beyond which a hit is no better than chance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.shards import Shards

#: An item counts as near a query if at most this share of unrelated pairs is as near.
UNRELATED_TAIL = 1e-3


#: Number of items sampled from each side to measure unrelated pairs, and the minimum number of such pairs.
UNRELATED_SAMPLE = 1_000


UNRELATED_PAIRS_MIN = 10_000


def chance_thresholds(
    built: Path, shards: Shards, lengths: Sequence[int]
) -> dict[str, dict[str, float | None]]:
    """Measure how near unrelated items are, for each pair of sides, length and method.

    Items of different concepts count as unrelated. The threshold of a length is the largest distance within
    which at most a share of :data:`UNRELATED_TAIL` of the pairs lies (-1: even equal codes are more common);
    for cosine it is the score that this share of the pairs exceeds.
    """
    random = np.random.default_rng(0)
    drawn: dict[str, tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.str_]]] = {}
    for side in files.SIDES:
        concepts = np.array([item["concept"] for item in shards.kept(side)], dtype=str)
        rows = np.sort(random.permutation(len(concepts))[:UNRELATED_SAMPLE])
        columns = files.column_files(side, lengths).values()
        codes = np.concatenate([files.open_rows(built / name)[rows] for name in columns], axis=1)
        features = files.open_rows(built / files.features_file(side))[rows]
        drawn[side] = codes, features, concepts[rows]
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
            scores = (features @ features2.T)[unrelated]
            tails["cosine"] = float(np.quantile(scores, 1 - UNRELATED_TAIL))
        out[files.pair_key(one, other)] = tails
    return out
