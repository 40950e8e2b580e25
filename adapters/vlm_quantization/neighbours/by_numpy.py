"""Scans by numpy alone: for few codes, and where numba is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.neighbours.columns import Columns
from adapters.vlm_quantization.neighbours.scans import Found

#: Items whose distances are computed together.
BLOCK = 1 << 16


class NumpyScan:
    """Scans codes with numpy; see :class:`adapters.vlm_quantization.neighbours.scans.Scan`."""

    name = "numpy"

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def nearest(
        self, bits: int, words: NDArray[np.uint64], mask: NDArray[np.bool_] | None, k: int, threads: int
    ) -> Found:
        """Return the k nearest items of each query, on one thread whatever ``threads`` says."""
        found = [self._nearest(bits, query, mask, k) for query in words]
        return np.array([rows for rows, _ in found]), np.array([distances for _, distances in found])

    def within(
        self, bits: int, words: NDArray[np.uint64], mask: NDArray[np.bool_] | None, radius: int
    ) -> Found:
        """Return all items at most ``radius`` away from one query."""
        parts = [
            self._near(bits, words[0], start, mask, radius + 1)
            for start in range(0, len(self._columns), BLOCK)
        ]
        rows, distances = (np.concatenate(each) for each in zip(*parts, strict=True))
        order = np.argsort(distances, kind="stable")
        return rows[order], distances[order]

    def _nearest(self, bits: int, words: NDArray[np.uint64], mask: NDArray[np.bool_] | None, k: int) -> Found:
        rows, distances = np.empty(0, np.int64), np.empty(0, np.int64)
        limit = bits + 1
        for start in range(0, len(self._columns), BLOCK):
            if limit == 0:  # k equal codes are found, and later rows come after them
                break
            more = self._near(bits, words, start, mask, limit)
            rows, distances = np.concatenate([rows, more[0]]), np.concatenate([distances, more[1]])
            if len(rows) > k:
                limit = int(np.searchsorted(np.bincount(distances).cumsum(), k))
                kept = distances < limit
                kept[np.flatnonzero(distances == limit)[: k - int(kept.sum())]] = True
                rows, distances = rows[kept], distances[kept]
        order = np.argsort(distances, kind="stable")  # rows ascend
        return rows[order], distances[order]

    def _near(
        self,
        bits: int,
        words: NDArray[np.uint64],
        start: int,
        mask: NDArray[np.bool_] | None,
        limit: int,
    ) -> Found:
        """Return the items of a block that are nearer than a limit, in order of rows."""
        block = slice(start, min(start + BLOCK, len(self._columns)))
        # Distances of up to 255 bits fit in a byte, which is twice as fast.
        kind = np.uint8 if bits <= np.iinfo(np.uint8).max else np.uint16
        distances: NDArray[np.unsignedinteger[Any]] = np.zeros(block.stop - start, kind)
        for at in range(self._columns.count(bits)):
            column = self._columns.words(at)[block]
            distances += np.bitwise_count(column ^ words[at].astype(column.dtype))
        near = distances < limit
        if mask is not None:
            near &= mask[block]
        rows = np.flatnonzero(near)
        return rows + start, distances[rows].astype(np.int64)
