"""Rankings by score, as tie groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.metrics.inputs import ranked_scores
from adapters.vlm_quantization.metrics.relevance import Relevance
from adapters.vlm_quantization.metrics.tie_groups import (
    PAIRS_PER_CHUNK,
    TieGroups,
    index_ranges,
    single_items,
    without_rows,
)

#: Scores of the queries of a range, real numbers (stop - start, n_gallery); higher is nearer.
Scorer = Callable[[int, int], NDArray[Any]]

#: Items of the gallery that are multiplied at once, in double precision.
_COLUMNS_AT_ONCE = 1 << 13


def cosine_scorer(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> Scorer:
    """Return a scorer of inner products, computed so that equal rows of the gallery tie exactly.

    A matrix product may round equal rows differently depending on their position, and rows whose products are
    equal on paper differently from one another. Multiplying each distinct row once, in sorted order, makes
    duplicates tie and makes the gallery's order irrelevant. Products are summed in double precision, where
    those of float32 numbers are exact, and rounded to float32, so that equal sums of different terms tie.

    Parameters
    ----------
    queries, gallery : ndarray, float32, shape (n, d)
    """
    whole_row = np.dtype((np.void, gallery.dtype.itemsize * gallery.shape[1]))
    as_bytes = np.ascontiguousarray(gallery).view(whole_row)
    _, first, inverse = np.unique(as_bytes[:, 0], return_index=True, return_inverse=True)
    distinct = gallery[first]

    def scores(start: int, stop: int) -> NDArray[np.float32]:
        part = queries[start:stop].astype(np.float64)
        products = np.empty((len(part), len(distinct)), np.float32)
        for at in range(0, len(distinct), _COLUMNS_AT_ONCE):
            columns = distinct[at : at + _COLUMNS_AT_ONCE].astype(np.float64)
            products[:, at : at + _COLUMNS_AT_ONCE] = part @ columns.T
        return np.take(products, inverse, axis=1)

    return scores


def score_groups(
    scorer: Scorer,
    relevance: Relevance,
    itself: NDArray[np.int64] | None = None,
    *,
    by_row: bool = False,
) -> Iterator[tuple[int, int, TieGroups]]:
    """Yield ``(start, stop, groups)`` for ranges of queries, by float scores, highest first.

    Parameters
    ----------
    scorer : callable
        ``scorer(start, stop)`` returns real numbers (stop - start, n_gallery); equal scores are ties.
    relevance : Relevance
        Relevant items of each query.
    itself : ndarray, int64, shape (n_queries,), optional
        As for :func:`adapters.vlm_quantization.metrics.code_rankings.code_groups`.
    by_row : bool
        Order items with equal scores by row instead of keeping them tied.
    """
    rows = max(1, PAIRS_PER_CHUNK // relevance.n_gallery)
    # A product of few rows leaves most of the processor idle, so several chunks are multiplied at once.
    for first, last in index_ranges(relevance.n_queries, 16 * rows):
        products = ranked_scores(scorer(first, last), first, last, relevance.n_gallery)
        for start, stop in index_ranges(last, rows, first):
            scores = products[start - first : stop - first]
            grades = relevance.block(start, stop)
            if itself is not None:
                last_of_all = -np.inf if scores.dtype.kind == "f" else -1  # below the lowest rank
                scores, grades = without_rows(scores, grades, itself[start:stop], last_of_all)
            ranked = _ordered(scores, grades, relevance.levels) if by_row else None
            yield start, stop, ranked or _from_scores(scores, grades, relevance.levels)


def _descending(scores: NDArray[Any]) -> NDArray[np.int64]:
    """Return integers that ascend as the scores, float32 or ranks, descend."""
    if scores.dtype.kind == "i":
        ranks: NDArray[np.int64] = np.negative(scores)
        return ranks
    as_int = scores.view(np.int32)
    ascending = np.where(as_int >= 0, as_int, np.int32(-(2**31)) - as_int).astype(np.int64)
    return np.negative(ascending, out=ascending)


def _ordered(scores: NDArray[Any], grades: Any, levels: int) -> TieGroups:
    keys = _descending(scores) << 32
    keys |= np.arange(scores.shape[1])
    keys.sort(axis=1)
    order = keys & (2**32 - 1)
    return single_items(np.take_along_axis(grades, order, axis=1), levels)


def _from_scores(scores: NDArray[Any], grades: Any, levels: int) -> TieGroups:
    """Return the groups of equal scores, highest first."""
    rows, n = scores.shape
    # The bits of a float32 as an integer that ascends as the score descends; the lowest bits hold the grade.
    # Sorting these integers in place is several times faster than an argsort.
    shift = int(levels - 1).bit_length()
    keys = (_descending(scores) << shift) | grades
    keys.sort(axis=1)
    grade = keys & ((1 << shift) - 1)
    keys >>= shift
    opens = np.ones((rows, n), bool)
    np.not_equal(keys[:, 1:], keys[:, :-1], out=opens[:, 1:])

    starts = np.flatnonzero(opens)
    size = np.diff(starts, append=rows * n)
    hits_before = np.concatenate([[0], np.cumsum(grade > 0)])
    group_hits = hits_before[starts + size] - hits_before[starts]
    kept = np.flatnonzero(group_hits)
    starts, query = starts[kept], starts[kept] // n
    by_grade = group_hits[kept].astype(np.float64)[:, None]
    if levels > 2:
        flat = grade.ravel()
        sums = [np.concatenate([[0], np.cumsum(flat == level)]) for level in range(1, levels)]
        by_grade = np.stack([one[starts + size[kept]] - one[starts] for one in sums], axis=1).astype(float)
    return TieGroups(
        query,
        size[kept].astype(np.float64),
        group_hits[kept].astype(np.float64),
        (starts - query * n).astype(np.float64),
        (hits_before[starts] - hits_before[query * n]).astype(np.float64),
        by_grade,
    )
