"""Baselines for the learned code: codes of the same float features, without training a hash head.

All baselines rank the same queries over the same gallery with the same features as the learned code. Those
that need fitting are fitted on the training part alone, on pictures and texts together.

============================  ======================================================================
sign of the float             the signs of the first b components
random hyperplanes            signs of b random projections (Charikar, STOC 2002)
PCA-sign                      signs of the first b principal components
ITQ                           PCA to b components, then the rotation that minimises the distance to
                              their signs (Gong and Lazebnik, CVPR 2011)
============================  ======================================================================

Pictures and texts are apart in the common space, so a threshold that suits one side splits the other badly.
PCA-sign and ITQ therefore centre each modality on its own mean; ITQ is also reported with a shared centre.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, pack_codes
from adapters.vlm_quantization.encoding.itq import itq_rotation, principal_axes
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_ranking
from adapters.vlm_quantization.metrics.inputs import unit_rows
from adapters.vlm_quantization.metrics.protocols import Protocol
from adapters.vlm_quantization.metrics.records import MetricRecord
from adapters.vlm_quantization.metrics.relevance import Relevance
from adapters.vlm_quantization.metrics.score_rankings import Scorer, cosine_scorer

#: Number of nearest items by Hamming distance that are reranked by the float features.
SHORTLIST = 100


#: The sides of a pair; each has its own mean to subtract.
SIDES = ("image", "text")


Bits = Callable[[NDArray[np.float32], str], NDArray[np.bool_]]


@dataclass(frozen=True)
class Baseline:
    """A method that makes codes of float features.

    Attributes
    ----------
    name : str
        Name in the report.
    words : str
        Description for the report.
    lengths : tuple of int
        Code lengths it was fitted for.
    nested : bool
        Whether one code serves all lengths, short codes being prefixes of long ones.
    bits : mapping of int to callable
        By length, ``bits(features, side)`` returns bool (n, length) for a side of :data:`SIDES`.
    """

    name: str
    words: str
    lengths: tuple[int, ...]
    nested: bool
    bits: Mapping[int, Bits]

    def codes(self, features: NDArray[np.float32], side: str, length: int) -> NDArray[np.uint8]:
        """Return packed codes of one length, uint8 (n, length // 8)."""
        return pack_codes(self.bits[length](features, side)[:, :length])

    def evaluate(
        self,
        query: NDArray[np.float32],
        gallery: NDArray[np.float32],
        sides: tuple[str, str],
        relevance: Relevance,
        *,
        ks: Sequence[int] = (10,),
        protocol: str | Protocol = "default",
    ) -> list[MetricRecord]:
        """Rank and measure at every length; ``sides`` are the kinds of queries and gallery."""
        groups = [(max(self.lengths), self.lengths)] if self.nested else [(b, (b,)) for b in self.lengths]
        records: list[MetricRecord] = []
        for made, lengths in groups:
            query_codes, gallery_codes = (
                self.codes(features, side, made)
                for features, side in zip((query, gallery), sides, strict=True)
            )
            records += evaluate_codes(
                query_codes, gallery_codes, relevance, bits=lengths, ks=ks, protocol=protocol, radii=()
            )
        return records


def fit_baselines(
    images: NDArray[np.float32],
    texts: NDArray[np.float32],
    *,
    lengths: Sequence[int] = CODE_LENGTHS,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> list[Baseline]:
    """Fit every baseline on float features of the training part.

    Parameters
    ----------
    images, texts : ndarray, float32, shape (n, d) and (m, d)
        Features of the training pictures and of their texts.
    lengths : sequence of int
        Code lengths; a baseline leaves out lengths it cannot produce, beyond the width of the features or
        the number of rows.
    seed : int
        For the random hyperplanes and ITQ's first rotation.
    progress : callable, optional
        ``progress(done, total)``.

    Returns
    -------
    list of Baseline

    Raises
    ------
    workbench.BadInput
        The widths of the features differ, or a side is empty.
    """
    images, texts = unit_rows(images, "training pictures"), unit_rows(texts, "training texts")
    if images.shape[1] != texts.shape[1] or not len(images) or not len(texts):
        raise wb.BadInput(
            f"features of pictures and texts must have equal width, not {images.shape} and {texts.shape}"
        )
    width = images.shape[1]
    rng = np.random.Generator(np.random.PCG64(seed))
    means = {"image": images.mean(axis=0), "text": texts.mean(axis=0)}
    shared = np.concatenate([images, texts]).mean(axis=0)
    total = 2 * len(lengths)
    out = [
        _nested("sign of the float", "signs of the first components", np.eye(width), {}, lengths),
        _nested(
            "random hyperplanes",
            "signs of random projections, not centred",
            rng.standard_normal((width, max(lengths))),
            {},
            lengths,
        ),
    ]
    for number, (name, centres, words) in enumerate(
        (
            ("ITQ", means, "rotated principal components, each modality centred on its own mean"),
            ("ITQ, one centre", dict.fromkeys(SIDES, shared), "the same with one mean for both modalities"),
        )
    ):
        centred = np.concatenate([images - centres["image"], texts - centres["text"]]).astype(np.float64)
        axes = principal_axes(centred)
        fits = [length for length in lengths if length <= min(width, len(centred))]
        if not number and fits:
            words_of_pca = "signs of principal components, each modality centred on its own mean"
            out.append(_nested("PCA-sign", words_of_pca, axes[:, : max(fits)], centres, fits))
        bits: dict[int, Bits] = {}
        for at, length in enumerate(fits):
            if progress:
                progress(number * len(lengths) + at, total)
            rotation = itq_rotation(centred @ axes[:, :length], rng)
            bits[length] = _projection(axes[:, :length] @ rotation, centres)
        if fits:
            out.append(Baseline(name, words, tuple(fits), False, bits))
    return out


def _nested(
    name: str,
    words: str,
    matrix: NDArray[np.float64],
    centres: Mapping[str, NDArray[np.float32]],
    lengths: Sequence[int],
) -> Baseline:
    fits = tuple(length for length in lengths if length <= matrix.shape[1])
    longest = max(fits, default=0)
    bits = {length: _projection(matrix[:, :longest], centres) for length in fits}
    return Baseline(name, words, fits, True, bits)


def _projection(matrix: NDArray[np.float64], centres: Mapping[str, NDArray[np.float32]]) -> Bits:
    def bits(features: NDArray[np.float32], side: str) -> NDArray[np.bool_]:
        rows = features - centres[side] if centres else features
        signs: NDArray[np.bool_] = rows @ matrix.astype(np.float32) >= 0
        return signs

    return bits


def evaluate_rescored(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    query: NDArray[np.float32],
    gallery: NDArray[np.float32],
    relevance: Relevance,
    *,
    lengths: Sequence[int] = CODE_LENGTHS,
    ks: Sequence[int] = (10,),
    protocol: str | Protocol = "default",
) -> list[MetricRecord]:
    """Measure a ranking by Hamming distance whose shortlist is reranked by the cosine of the float features.

    The :data:`SHORTLIST` nearest by (distance, row) come first, by cosine; the others follow by distance.

    Parameters
    ----------
    query_codes, gallery_codes : ndarray, uint8, shape (n, w)
    query, gallery : ndarray, float32, shape (n, d)
    relevance, lengths, ks, protocol
        As for :func:`adapters.vlm_quantization.metrics.evaluator.evaluate_codes`.
    """
    cosines = cosine_scorer(unit_rows(query, "queries"), unit_rows(gallery, "gallery"))
    records: list[MetricRecord] = []
    for length in lengths:
        one, other = query_codes[:, : length // 8], gallery_codes[:, : length // 8]
        scorer = _rescored(one, other, cosines)
        records += evaluate_ranking(
            scorer, relevance, ks=ks, protocol=protocol, bits=length, method="rescored"
        )
    return records


def _rescored(query: NDArray[np.uint8], gallery: NDArray[np.uint8], cosines: Scorer) -> Scorer:
    n = len(gallery)
    rows = np.arange(n)
    keep = min(SHORTLIST, n)

    def scores(start: int, stop: int) -> NDArray[np.float32]:
        out: NDArray[np.float32] = cosines(start, stop)
        for place, code in enumerate(query[start:stop]):
            distance = np.bitwise_count(code ^ gallery).sum(axis=1).astype(np.int64)
            keys = distance * n + rows
            last = np.partition(keys, keep - 1)[keep - 1]
            # cosines are at least -1, so items after the shortlist start at -2
            out[place] = np.where(keys <= last, out[place], -2 - distance)
        return out

    return scores


def evaluate_float_query(
    margins: NDArray[np.float32],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    *,
    lengths: Sequence[int] = CODE_LENGTHS,
    ks: Sequence[int] = (10,),
    protocol: str | Protocol = "default",
) -> list[MetricRecord]:
    """Measure the ranking by a query's unrounded margins against the gallery's bits.

    Only the gallery is quantised: it is stored as codes, and a query costs b additions per item.

    Parameters
    ----------
    margins : ndarray, float32, shape (n_queries, bits)
        Distance of each bit of a query from its threshold.
    gallery_codes : ndarray, uint8, shape (n_gallery, bits // 8)
    relevance, lengths, ks, protocol
        As for :func:`adapters.vlm_quantization.metrics.evaluator.evaluate_codes`.
    """
    records: list[MetricRecord] = []
    for length in lengths:
        signs = np.unpackbits(gallery_codes[:, : length // 8], axis=1).astype(np.float32) * 2 - 1
        # not normalised: dot products of whole-number signs are exact, so ties stay ties
        records += evaluate_ranking(
            cosine_scorer(np.ascontiguousarray(margins[:, :length], np.float32), signs),
            relevance,
            ks=ks,
            protocol=protocol,
            bits=length,
            method="float query",
        )
    return records


def retention(records: Sequence[MetricRecord], floats: Sequence[MetricRecord], name: str) -> dict[int, float]:
    """Return by length the metric of a code divided by that of the float ranking; NaN if that is zero."""
    level = next((record.value for record in floats if record.name == name and record.bits is None), np.nan)
    return {
        record.bits: record.value / level if level > 0 else np.nan
        for record in records
        if record.name == name and record.bits is not None
    }
