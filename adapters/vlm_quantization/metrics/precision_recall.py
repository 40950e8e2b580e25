"""Precision-recall curves, from the first rank to the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.metrics import metrics
from adapters.vlm_quantization.metrics.checks import LONGEST
from adapters.vlm_quantization.metrics.code_rankings import code_groups
from adapters.vlm_quantization.metrics.inputs import code_lengths, unit_rows
from adapters.vlm_quantization.metrics.relevance import Relevance
from adapters.vlm_quantization.metrics.score_rankings import cosine_scorer, score_groups
from adapters.vlm_quantization.metrics.tie_groups import TieGroups

#: Points of a precision-recall curve.
CURVE_POINTS = 48


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Mean precision and mean recall of the first k, for k from 1 to the whole gallery.

    Attributes
    ----------
    bits : int or None
        Code length; None for float scores.
    ks : ndarray, int64, shape (p,)
        Cut-offs, ascending, evenly spaced on a log scale.
    precision, recall : ndarray, float64, shape (p,)
        Means over the queries with a relevant item, expected over tie orders.
    """

    bits: int | None
    ks: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def at(self, recall: ArrayLike) -> NDArray[np.float64]:
        """Return the precision at the recalls, interpolated linearly; NaN before the first point."""
        # at equal recall, the highest precision
        order = np.lexsort((-self.precision, self.recall))
        x, first = np.unique(self.recall[order], return_index=True)
        return np.interp(np.asarray(recall, np.float64), x, self.precision[order][first], left=np.nan)


def precision_recall_curve(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    *,
    bits: Sequence[int] = CODE_LENGTHS,
    features: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]] | None = None,
) -> list[PrecisionRecallCurve]:
    """Return the precision-recall curve of each length, and of the float features if passed.

    Parameters
    ----------
    query_codes, gallery_codes, relevance, bits
        As for :func:`adapters.vlm_quantization.metrics.evaluator.evaluate_codes`.
    features : pair of ndarray, float, shape (n, d), optional
        Query and gallery features, ranked by cosine.

    Returns
    -------
    list of PrecisionRecallCurve
        Empty if no query has a relevant item.
    """
    lengths = sorted(code_lengths(bits, min(query_codes.shape[1] * 8, LONGEST)))
    n = len(gallery_codes)
    ks = np.unique(np.round(np.geomspace(1, n, min(n, CURVE_POINTS))).astype(np.int64))
    sums = {length: np.zeros((3, len(ks))) for length in (*lengths, None)}

    def add(length: int | None, groups: TieGroups, n_queries: int) -> None:
        relevant = np.bincount(groups.query, groups.relevant, minlength=n_queries)
        for place, k in enumerate(ks):
            hits = metrics.within(groups, int(k), n_queries, n)[0][0]
            share = hits / np.maximum(relevant, 1)
            sums[length][:, place] += (relevant > 0).sum(), hits.sum() / k, share.sum()

    for start, stop, length, groups, _ in code_groups(query_codes, gallery_codes, relevance, lengths):
        add(length, groups, stop - start)
    if features is not None:
        scorer = cosine_scorer(unit_rows(features[0], "features"), unit_rows(features[1], "features"))
        for start, stop, groups in score_groups(scorer, relevance):
            add(None, groups, stop - start)
    return [
        PrecisionRecallCurve(length, ks, total[1] / total[0], total[2] / total[0])
        for length, total in sums.items()
        if total[0, 0]
    ]
