"""Rankings reduced to tie groups: the number of items at one distance, and how many of them are relevant.

A ranking by Hamming distance is full of ties, and a metric needs only its *tie groups*. For codes these are
histograms of distances. One pass over the packed bytes yields them for all lengths without sorting, since a
short code is the first bytes of the long one. For float scores they come from one sort, and equal scores are
ties too. Groups without a relevant item contribute only to precision within a radius, and are dropped here.

If a protocol orders ties by id, the ranking is sorted, and each relevant item becomes a separate group; the
same formulas (:mod:`adapters.vlm_quantization.metrics.metrics`) then have only one order to evaluate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Query-gallery pairs processed at once. The working arrays take about 25 bytes per pair, independent of the
#: numbers of queries and items; this many fit in a processor's cache and keep the call overhead low.
PAIRS_PER_CHUNK = 1 << 18


@dataclass(frozen=True)
class TieGroups:
    """The tie groups that hold a relevant item, of a range of queries, in the order of their rank.

    Attributes
    ----------
    query : ndarray, int64, shape (g,)
        Index of the query from the start of the range, ascending.
    size, relevant : ndarray, float64, shape (g,)
        Number of items at this distance, and how many of them are relevant.
    before, found : ndarray, float64, shape (g,)
        Number of nearer items, and how many of them are relevant.
    grades : ndarray, float64, shape (g, levels - 1)
        Number of the relevant items with each grade from 1.
    single : bool
        Whether every group is a single item, so that there is only one order.
    """

    query: NDArray[np.int64]
    size: NDArray[np.float64]
    relevant: NDArray[np.float64]
    before: NDArray[np.float64]
    found: NDArray[np.float64]
    grades: NDArray[np.float64]
    single: bool = False

    def up_to(self, before: int, found: int | None = None) -> TieGroups:
        """Return the groups with fewer than ``before`` nearer items, and fewer than ``found`` relevant."""
        keep = self.before < before
        if found is not None:
            keep &= self.found < found
        return self if keep.all() else self.taken(np.flatnonzero(keep))

    def taken(self, rows: NDArray[np.int64]) -> TieGroups:
        """Return a selection of the groups."""
        return TieGroups(
            self.query[rows],
            self.size[rows],
            self.relevant[rows],
            self.before[rows],
            self.found[rows],
            self.grades[rows],
            single=self.single,
        )


def index_ranges(stop: int, step: int, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of ranges of at most ``step``."""
    for at in range(start, stop, step):
        yield at, min(at + step, stop)


def without_rows(values: Any, grades: Any, itself: NDArray[np.int64], last: float) -> tuple[Any, Any]:
    """Return values and grades with the queries themselves last in the ranking and not relevant."""
    inside = np.flatnonzero(itself >= 0)
    values, grades = values.copy(), grades.copy()
    values[inside, itself[inside]] = last
    grades[inside, itself[inside]] = 0
    return values, grades


def single_items(ranked: NDArray[Any], levels: int) -> TieGroups:
    """Return one group per relevant item of ranked grades (queries, items)."""
    query, place = np.nonzero(ranked)
    starts = np.searchsorted(query, np.arange(len(ranked)))
    found = np.arange(len(query)) - starts[query]
    ones = np.ones(len(query))
    if levels == 2:
        grades = ones[:, None]
    else:
        grades = (ranked[query, place][:, None] == np.arange(1, levels)).astype(np.float64)
    return TieGroups(
        query, ones, ones, place.astype(np.float64), found.astype(np.float64), grades, single=True
    )
