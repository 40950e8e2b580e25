"""Scans by the compiled kernel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.neighbours.columns import Columns
from adapters.vlm_quantization.neighbours.scans import Found

#: A search at this length or above first reads the bits of half of it, and the others only where needed.
_PRUNED_FROM = 128

#: Items of a piece, which one thread scans before it takes the next one.
_PIECE = 1 << 16

#: Beyond this many results per query, what threads gather would take more memory than they save time.
_SHARED_K = 4_096

#: After a search whose helping threads did little, this many searches are left to the calling thread alone.
_ALONE = 32

#: Items that a range search gathers before it hands them on.
_ROOM = 1 << 16

#: Longest length that is compiled, in bits: a distance takes one byte, of which one value is no distance.
LONGEST = 248

_ALL = np.empty(0, np.uint8)


class NumbaScan:
    """Scans codes by compiled code; see :class:`adapters.vlm_quantization.neighbours.scans.Scan`.

    Raises
    ------
    ImportError
        numba is missing, too old for the installed numpy, or switched off.
    """

    name = "numba"

    def __init__(self, columns: Columns) -> None:
        from adapters.vlm_quantization.neighbours import compiled

        self._compiled = compiled
        self._columns = columns
        self._places: dict[int, tuple[NDArray[np.int64], int, list[NDArray[Any]]]] = {}
        self._alone = 0

    def nearest(
        self, bits: int, words: NDArray[np.uint64], mask: NDArray[np.bool_] | None, k: int, threads: int
    ) -> Found:
        """Return the k nearest items of each query.

        Threads that get no processor cost nothing: the calling thread does what they have not finished. If
        they did little, the next searches start none.
        """
        queries, n = len(words), len(self._columns)
        shared = threads > 1 and n > _PIECE and k <= _SHARED_K
        if shared and self._alone:
            self._alone -= 1
            shared = False
        piece = max(_PIECE, -(-n // (16 * threads))) if shared else n
        pieces = -(-n // piece)
        room = min(2 * k + 64, n + k + 1)
        slots = 2 * pieces if shared else 1
        place, split, parts = self._placed(bits)
        rows = np.empty((slots, queries, room), np.int64)
        distances = np.empty((slots, queries, room), np.uint8)
        counts = np.empty((slots, queries), np.int64)
        limits = np.full(queries, bits + 1, np.int64)
        state = np.zeros(pieces + 1, np.int64)
        allowed = _ALL if mask is None else mask.view(np.uint8)
        out = np.empty((queries, k), np.int64), np.empty((queries, k), np.int64)
        task = (place, words, split, n, piece, allowed, limits, k, rows, distances, counts, state)
        helpers = [
            self._pool.submit(_help, self._compiled.help_scan, task, parts)
            for _ in range(min(threads, pieces) - 1 if shared else 0)
        ]
        done = self._compiled.nearest(*task, *out)
        if shared and (pieces - done) * 4 * threads < pieces * (threads - 1):
            self._alone = _ALONE
        for helper in helpers:
            helper.cancel()
        return out

    def within(
        self, bits: int, words: NDArray[np.uint64], mask: NDArray[np.bool_] | None, radius: int
    ) -> Found:
        """Return all items at most ``radius`` away from one query."""
        place, split, _ = self._placed(bits)
        allowed = _ALL if mask is None else mask.view(np.uint8)
        rows = np.empty((1, _ROOM), np.int64)
        near = np.empty((1, _ROOM), np.uint8)
        found: list[NDArray[np.int64]] = []
        distances: list[NDArray[np.uint8]] = []
        at, n = 0, len(self._columns)
        while at < n:
            count, at = self._compiled.within(place, words, split, at, n, allowed, radius + 1, rows, near)
            found.append(rows[0, :count].copy())
            distances.append(near[0, :count].copy())
        all_rows, all_distances = np.concatenate(found), np.concatenate(distances)
        order = np.argsort(all_distances, kind="stable")  # rows ascend
        return all_rows[order], all_distances[order].astype(np.int64)

    def _placed(self, bits: int) -> tuple[NDArray[np.int64], int, list[NDArray[Any]]]:
        """Return where the columns of a length lie, and from which on only what must be read is read.

        The last part is the columns themselves, which must live as long as their addresses are used.
        """
        placed = self._places.get(bits)
        if placed is None:
            count = self._columns.count(bits)
            parts = [self._columns.words(at) for at in range(count)]
            place = np.array([[part.ctypes.data for part in parts], [part.itemsize for part in parts]])
            half = sum(cut.last <= bits // 16 for cut in self._columns.cuts[:count])
            split = half or count if bits >= _PRUNED_FROM else count
            placed = self._places[bits] = place.astype(np.int64), split, parts
        return placed

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(thread_name_prefix="nearest-codes")


def _help(scan: Any, task: tuple[Any, ...], parts: list[NDArray[Any]]) -> None:
    """Do a part of a search; ``parts`` are held because the task has only their addresses."""
    scan(*task)
