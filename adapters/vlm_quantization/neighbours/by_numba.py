"""Scans by the compiled kernel."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.neighbours.columns import Columns
from adapters.vlm_quantization.neighbours.scans import Found

#: A search at this length or above first reads the bits of half of it, and the others only where needed.
_PRUNED_FROM = 128

#: Items of a piece, which one thread scans before it takes the next one.
_PIECE = 1 << 16

#: Shorter codes have so few distances that one thread finds the nearest before another has started.
_SHARED_FROM = 32

#: Beyond this many results per query, what threads gather would take more memory than they save time.
_SHARED_K = 4_096

#: After a search whose helping threads did little, this many searches are left to the calling thread alone.
_ALONE = 32

#: Items that a range search gathers before it hands them on.
_ROOM = 1 << 16

#: Longest length that is compiled, in bits: a distance takes one byte, of which one value is no distance.
LONGEST = 248

_ALL = np.empty(0, np.uint8)

_COMPILED = "adapters.vlm_quantization.neighbours.compiled"
_LOADER = "load-compiled-scan"


def is_ready() -> bool:
    """Say whether the code is loaded and compiled in this process."""
    compiled = sys.modules.get(_COMPILED)
    return bool(getattr(getattr(compiled, "nearest", None), "signatures", ()))


def prepare() -> None:
    """Load the code, or compile it, in a thread of its own; nothing happens if that is done or under way."""
    if not is_ready() and not any(thread.name == _LOADER for thread in threading.enumerate()):
        threading.Thread(target=_load, name=_LOADER).start()


def _load() -> None:
    with suppress(ImportError):  # the search finds out by itself
        lengths = (8, 16, 32, 64)
        columns = Columns.of_table(np.zeros((1, 8), np.uint8), lengths)
        NumbaCounts(columns, [lengths[:3], lengths[3:]], 2).count(columns[:], np.zeros((1, 1), np.uint8))
        NumbaScan(columns).nearest(64, columns.query_words(columns[:], 4), None, 1, 1)


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
        shared = threads > 1 and bits >= _SHARED_FROM and n > _PIECE and k <= _SHARED_K
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
        nearest = self._compiled.nearest
        helpers = [
            self._pool.submit(_help, nearest, (*task, True, *out), parts)
            for _ in range(min(threads, pieces) - 1 if shared else 0)
        ]
        done = nearest(*task, False, *out)
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
            counts = np.zeros(1, np.int64)
            limits = np.array([radius + 1])
            at = self._compiled.scan(place, words, split, at, n, allowed, limits, 0, rows, near, counts)
            found.append(rows[0, : counts[0]].copy())
            distances.append(near[0, : counts[0]].copy())
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


class NumbaCounts:
    """Counts the items of a gallery by distance and grade, by the same compiled distances.

    Parameters
    ----------
    columns : Columns
        The gallery, cut at the lengths.
    runs : sequence of sequence of int
        The lengths, all of them in order, in runs that share a joint histogram.
    levels : int
        Grades go from 0 to ``levels - 1``.
    """

    def __init__(self, columns: Columns, runs: Sequence[Sequence[int]], levels: int) -> None:
        from adapters.vlm_quantization.neighbours import compiled

        self._compiled = compiled
        self._columns = columns
        self._levels = levels
        self._parts = [
            columns.words(at) for at in range(len(columns.cuts))
        ]  # held, as only addresses are used
        self._place = np.array(
            [[part.ctypes.data for part in self._parts], [part.itemsize for part in self._parts]], np.int64
        )
        self._lengths = np.array([(columns.count(length), length) for length in columns.lengths], np.int64)
        firsts = np.cumsum([0, *map(len, runs)])
        begins = np.cumsum([0, *(_bins(run, levels) for run in runs)])
        self._begins = np.cumsum([0, *(levels * (length + 1) for length in columns.lengths)])
        self._runs = np.column_stack([firsts[:-1], firsts[1:], begins[:-1], self._begins[firsts[:-1]]])

    @staticmethod
    def can_count(runs: Sequence[Sequence[int]], levels: int) -> bool:
        """Say whether distances fit in a byte, and bins in two."""
        return runs[-1][-1] <= LONGEST and all(_bins(run, levels) <= 1 << 16 for run in runs)

    def count(
        self, queries: NDArray[np.uint8], grades: NDArray[np.bool_] | NDArray[np.uint8]
    ) -> list[NDArray[np.int64]]:
        """Return the items at each distance by grade, int64 (queries, length + 1, levels) for each length.

        Parameters
        ----------
        queries : ndarray, uint8, shape (queries, bytes)
            Packed codes.
        grades : ndarray, bool or uint8, shape (queries, n)
            The grade of each item.
        """
        words = self._columns.query_words(queries, len(self._parts))
        counts = np.empty((len(queries), self._begins[-1]), np.int64)
        values = np.ascontiguousarray(grades).view(np.uint8)
        self._compiled.count_pairs(
            self._place,
            words,
            len(self._columns),
            self._lengths,
            self._runs,
            values,
            self._levels,
            counts,
        )
        parts = np.split(counts, self._begins[1:-1], axis=1)
        return [part.reshape(len(queries), -1, self._levels) for part in parts]


def _bins(run: Sequence[int], levels: int) -> int:
    """Return the number of bins of a joint histogram."""
    bins = levels * (run[0] + 1)
    for shorter, longer in pairwise(run):
        bins *= longer - shorter + 1
    return bins


def _help(scan: Any, task: tuple[Any, ...], parts: list[NDArray[Any]]) -> None:
    """Do a part of a search; ``parts`` are held because the task has only their addresses."""
    scan(*task)
