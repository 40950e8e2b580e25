"""Search of nested codes at every length: exact, in a defined order, by one query or by many."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, packed_codes
from adapters.vlm_quantization.neighbours.by_numba import LONGEST, NumbaScan, is_ready, prepare
from adapters.vlm_quantization.neighbours.by_numpy import NumpyScan
from adapters.vlm_quantization.neighbours.columns import Columns
from adapters.vlm_quantization.neighbours.scans import Scan

#: Threads per search. A scan is limited by memory, so few threads are enough.
THREADS = 1

#: Which implementation scans: ``auto`` is numba where it is installed and there is enough to do.
Engine = Literal["auto", "numba", "numpy"]

#: Up to this many distances numpy takes a few milliseconds, and numba is not loaded for them.
_FEW = 1 << 18

#: Bytes of intermediate results; more queries than fit are searched in turns.
_GATHERED = 1 << 26

#: If at most one item in this many may be found, their codes are fetched instead of scanning all.
_SPARSE = 64


class PrefixCodes:
    """Packed codes that can be searched at every length.

    Parameters
    ----------
    codes : ndarray, uint8, shape (n, bytes), or Columns
        May be memory-mapped. A table is cut into columns, each of which is copied when a length first needs
        it; :class:`~adapters.vlm_quantization.neighbours.columns.Columns` are searched where they are.
    lengths : sequence of int
        The lengths at which a table can be searched; columns know their own.
    engine : {"auto", "numba", "numpy"}
        What scans the codes: numpy, or code that numba compiles, up to lengths of 248 bits. The results are
        the same. ``auto`` is numba where it is installed and there is enough to do.

    Raises
    ------
    workbench.BadInput
        The codes are not packed, or the engine is unknown or cannot be loaded.
    """

    def __init__(
        self,
        codes: NDArray[np.uint8] | Columns,
        lengths: Sequence[int] = CODE_LENGTHS,
        *,
        engine: Engine = "auto",
    ) -> None:
        if not isinstance(codes, Columns):
            table = packed_codes(codes, "codes")
            codes = Columns.of_table(table, [one for one in lengths if one <= table.shape[1] * 8])
            self._width = table.shape[1]
        else:
            self._width = codes.shape[1]
        self.columns = codes
        if engine not in ("auto", "numba", "numpy"):
            raise wb.BadInput(f"unknown engine {engine!r}. Allowed: auto, numba, numpy")
        self._engine: Engine = engine
        if engine == "numba":
            self._by_numba  # noqa: B018 (loaded now, so that an error is raised now)

    def __len__(self) -> int:
        return len(self.columns)

    def search(
        self,
        query: NDArray[np.uint8],
        *,
        bits: int,
        k: int,
        threads: int = THREADS,
        among: ArrayLike | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the nearest codes by Hamming distance on the first ``bits`` bits, exactly.

        Parameters
        ----------
        query : ndarray, uint8, shape (bytes,)
            One packed code of the full length.
        bits : int
            Length to compare.
        k : int
            Number of hits, at least 1; all items that may be found if there are fewer.
        threads : int
            Number of threads, at least 1; no more are used than the process has processors.
        among : array_like, bool (n,) or int (m,), optional
            The items that may be found: True for each, or their rows in ascending order. All if not given.

        Returns
        -------
        rows, distances : ndarray, int64, shape (min(k, items),)
            Ordered by (distance, row).

        Raises
        ------
        workbench.BadInput
            The query, the length, k, the number of threads or the items are invalid.
        """
        rows, distances = self._nearest(self._one(query), bits, k, threads, among)
        return rows[0], distances[0]

    def search_many(
        self,
        queries: NDArray[np.uint8],
        *,
        bits: int,
        k: int,
        threads: int = THREADS,
        among: ArrayLike | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find the nearest codes of each query, as :meth:`search` does, in less time per query.

        Parameters
        ----------
        queries : ndarray, uint8, shape (q, bytes)
            Packed codes of the full length.
        bits, k, threads, among
            As in :meth:`search`.

        Returns
        -------
        rows, distances : ndarray, int64, shape (q, min(k, items))
        """
        if not isinstance(queries, np.ndarray) or queries.dtype != np.uint8 or queries.ndim != 2:
            raise wb.BadInput(
                f"the queries must be packed codes, uint8 (q, {self._width}), not {_kind(queries)}"
            )
        if queries.shape[1] != self._width:
            raise wb.BadInput(
                f"the queries must be packed codes, uint8 (q, {self._width}), not uint8 {queries.shape}"
            )
        return self._nearest(queries, bits, k, threads, among)

    def within(
        self, query: NDArray[np.uint8], *, bits: int, radius: int, among: ArrayLike | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find all codes at most ``radius`` away.

        Parameters
        ----------
        query : ndarray, uint8, shape (bytes,)
            One packed code of the full length.
        bits : int
            Length to compare.
        radius : int
            Largest distance, at least 0.
        among : array_like, bool (n,) or int (m,), optional
            The items that may be found, as in :meth:`search`.

        Returns
        -------
        rows, distances : ndarray, int64, shape (found,)
            Ordered by (distance, row).

        Raises
        ------
        workbench.BadInput
            The query, the length, the radius or the items are invalid.
        """
        query = self._one(query)
        self._check_bits(bits)
        if isinstance(radius, bool) or not isinstance(radius, int | np.integer) or radius < 0:
            raise wb.BadInput(f"the radius must be a whole number of at least 0, not {radius!r}")
        radius = min(int(radius), bits)
        mask, sparse = self._among(among)
        if not len(self):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        if sparse is None:
            words = self.columns.query_words(query, self.columns.count(bits))
            return self._scan(bits, len(self)).within(bits, words, mask, radius)
        distances = self._distances(query, bits, sparse)[0].astype(np.int64)
        near = np.flatnonzero(distances <= radius)
        order = near[np.argsort(distances[near], kind="stable")]
        return sparse[order], distances[order]

    # --- checks ---------------------------------------------------------------------------------------------

    def _check_bits(self, bits: int) -> None:
        if isinstance(bits, bool) or bits not in self.columns.lengths:
            allowed = ", ".join(map(str, self.columns.lengths))
            raise wb.BadInput(f"unsupported code length {bits!r}. Allowed: {allowed}")

    def _one(self, query: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not isinstance(query, np.ndarray) or query.dtype != np.uint8 or query.shape != (self._width,):
            raise wb.BadInput(
                f"the query must be one packed code, uint8 ({self._width},), not {_kind(query)}"
            )
        return query[None]

    def _among(self, among: ArrayLike | None) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64] | None]:
        """Return a mask of the items that may be found, or, if they are few, their rows; neither for all."""
        if among is None:
            return None, None
        given = np.asarray(among)
        if given.dtype == bool:
            if given.shape != (len(self),):
                raise wb.BadInput(
                    f"the items to search among must be bool ({len(self)},), not {_kind(given)}"
                )
            mask = np.ascontiguousarray(given)
            few = np.count_nonzero(mask) * _SPARSE <= len(self)
            return (None, np.flatnonzero(mask)) if few else (mask, None)
        if given.size == 0 and given.ndim == 1:
            return None, np.empty(0, np.int64)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise wb.BadInput(f"the items to search among must be rows or bool, not {_kind(given)}")
        rows = given.astype(np.int64)
        if rows[0] < 0 or rows[-1] >= len(self) or (np.diff(rows) <= 0).any():
            raise wb.BadInput(
                f"rows to search among must ascend, each once, from 0 to at most {len(self) - 1}"
            )
        if len(rows) * _SPARSE <= len(self):
            return None, rows
        mask = np.zeros(len(self), bool)
        mask[rows] = True
        return mask, None

    # --- searching ------------------------------------------------------------------------------------------

    def _nearest(
        self, queries: NDArray[np.uint8], bits: int, k: int, threads: int, among: ArrayLike | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        self._check_bits(bits)
        k = check_k(k)
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise wb.BadInput(f"threads must be a whole number of at least 1, not {threads!r}")
        mask, sparse = self._among(among)
        items = len(self) if mask is None else int(np.count_nonzero(mask))
        k = min(k, items if sparse is None else len(sparse))
        rows = np.empty((len(queries), k), np.int64)
        distances = np.empty((len(queries), k), np.int64)
        if not k or not len(queries):
            return rows, distances
        at_once = max(1, _GATHERED // (16 * (2 * k + 64) if sparse is None else 64 * len(sparse)))
        for start in range(0, len(queries), at_once):
            some = slice(start, start + at_once)
            if sparse is None:
                words = self.columns.query_words(queries[some], self.columns.count(bits))
                scan = self._scan(bits, len(self) * len(words))
                rows[some], distances[some] = scan.nearest(bits, words, mask, k, min(threads, _processors()))
            else:
                far = self._distances(queries[some], bits, sparse)
                order = np.argsort(far, axis=1, kind="stable")[:, :k]  # rows ascend
                rows[some], distances[some] = sparse[order], np.take_along_axis(far, order, axis=1)
        return rows, distances

    def _distances(
        self, queries: NDArray[np.uint8], bits: int, rows: NDArray[np.int64]
    ) -> NDArray[np.uint16]:
        """Return the distances of some items, (queries, rows)."""
        distances = np.zeros((len(queries), len(rows)), np.uint16)
        words = self.columns.query_words(queries, self.columns.count(bits))
        for at in range(words.shape[1]):
            column = self.columns.words(at)[rows]
            distances += np.bitwise_count(words[:, at, None].astype(column.dtype) ^ column)
        return distances

    def prepare(self) -> None:
        """Load the compiled scan in the background if it will be used, so that the first search has it."""
        if self._engine == "auto" and len(self) >= _FEW:
            prepare()

    def _scan(self, bits: int, distances: int) -> Scan:
        """Return what scans at a length, for a number of distances to compute.

        Nobody waits for numba to be loaded or to compile, which takes some seconds once on a machine: numpy
        answers until it is there.
        """
        if self._engine == "numpy" or bits > LONGEST:
            return self._by_numpy
        if self._engine == "numba" or is_ready():
            return self._by_numba
        if distances >= _FEW:
            prepare()
        return self._by_numpy

    @cached_property
    def _by_numba(self) -> NumbaScan:
        try:
            return NumbaScan(self.columns)
        except ImportError as error:
            raise wb.BadInput(
                f"engine 'numba' cannot be loaded: {error}",
                hint="pip install numba, or use engine='numpy', which is slower and finds the same.",
            ) from None

    @cached_property
    def _by_numpy(self) -> NumpyScan:
        return NumpyScan(self.columns)


def _processors() -> int:
    """Return the number of processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_k(k: int) -> int:
    """Return k if it is a whole number of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise wb.BadInput(f"k must be a whole number of at least 1, not {k!r}")
    return int(k)


def _kind(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
