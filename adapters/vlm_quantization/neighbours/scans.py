"""What every scan of codes offers, whatever computes it."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

#: Rows and distances of what was found, by (distance, row).
Found = tuple[NDArray[np.int64], NDArray[np.int64]]


class Scan(Protocol):
    """Exact scans of the columns of n codes.

    ``words`` are queries cut into the columns of a length, uint64 (queries, columns), and ``bits`` is that
    length; ``mask``, bool (n,), says which items may be found, None for all.
    """

    name: str

    def nearest(
        self, bits: int, words: NDArray[np.uint64], mask: NDArray[np.bool_] | None, k: int, threads: int
    ) -> Found:
        """Return the k nearest items of each query, int64 (queries, k) twice; at least k may be found."""

    def within(
        self, bits: int, words: NDArray[np.uint64], mask: NDArray[np.bool_] | None, radius: int
    ) -> Found:
        """Return all items at most ``radius`` away from one query, int64 (found,) twice."""
