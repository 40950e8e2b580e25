"""Exact nearest neighbours in a defined order, by Hamming distance on code prefixes or cosine of features."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, packed_codes

#: Threads per Hamming search. A scan is memory-bound, and on a busy machine more threads make a query many
#: times slower.
FAISS_THREADS = 1


#: Cosines are computed in float32 by a matrix product, whose rounding depends on the position of a row. Rows
#: within this of the k-th score are scored again, so that equal rows tie and are ordered by id.
_ROUNDING = np.float32(1e-5)


class PrefixCodes:
    """Packed codes that can be searched at every length.

    Parameters
    ----------
    codes : ndarray, uint8, shape (n, bytes)
        May be a memory map; each length in use takes a contiguous copy of its bytes.
    lengths : sequence of int
        The lengths at which they can be searched.
    """

    def __init__(self, codes: NDArray[np.uint8], lengths: Sequence[int] = CODE_LENGTHS) -> None:
        self._codes = packed_codes(codes, "codes")
        self._lengths = [length for length in lengths if length <= self._codes.shape[1] * 8]
        self._by_length: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._codes)

    def search(
        self, query: NDArray[np.uint8], *, bits: int, k: int, threads: int = FAISS_THREADS
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and distances of the nearest codes, as :func:`hamming_search` does."""
        import faiss

        k = min(check_k(k), len(self))
        query = self._check(query, bits)
        if not k:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        index = self._index(bits)
        # The setting applies to the calling thread and is shared with other libraries: restore it.
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(threads)
        try:
            # One more than requested shows whether a tie crosses the cut-off. Only then are all items at that
            # distance fetched, because faiss does not guarantee which of them it returns.
            distances, rows = (
                part[0].astype(np.int64) for part in index.search(query, min(k + 1, len(self)))
            )
            if len(rows) > k and distances[k] == distances[k - 1]:
                in_range = index.range_search(query, int(distances[k - 1]) + 1)
                distances, rows = (part.astype(np.int64) for part in in_range[1:])
        finally:
            faiss.omp_set_num_threads(before)
        order = np.lexsort((rows, distances))[:k]
        return rows[order], distances[order]

    def _check(self, query: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
        width = self._codes.shape[1]
        if isinstance(bits, bool) or bits not in self._lengths:
            allowed = ", ".join(map(str, self._lengths))
            raise wb.BadInput(f"unsupported code length {bits!r}. Allowed: {allowed}")
        if not isinstance(query, np.ndarray) or query.dtype != np.uint8 or query.shape != (width,):
            actual = f"{query.dtype} {query.shape}" if isinstance(query, np.ndarray) else type(query).__name__
            raise wb.BadInput(f"the query must be one packed code, uint8 ({width},), not {actual}")
        return np.ascontiguousarray(query[None, : bits // 8])

    def _index(self, bits: int) -> Any:
        import faiss

        with self._lock:
            if bits not in self._by_length:
                index = faiss.IndexBinaryFlat(bits)
                index.add(np.ascontiguousarray(self._codes[:, : bits // 8]))
                self._by_length[bits] = index
            return self._by_length[bits]


def hamming_search(
    codes: NDArray[np.uint8], query: NDArray[np.uint8], *, bits: int, k: int, threads: int = FAISS_THREADS
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the nearest codes by Hamming distance on the first ``bits`` bits, exactly.

    Parameters
    ----------
    codes : ndarray, uint8, shape (n, 16)
        Packed codes.
    query : ndarray, uint8, shape (16,)
        One packed code.
    bits : {8, 16, 32, 64, 128}
        Length to compare.
    k : int
        Number of hits, at least 1; all items if the index has fewer.
    threads : int
        Number of threads.

    Returns
    -------
    rows, distances : ndarray, int64, shape (min(k, n),)
        Ordered by (distance, row).

    Raises
    ------
    workbench.BadInput
        The codes, the length or k is invalid.
    """
    return PrefixCodes(codes).search(query, bits=bits, k=k, threads=threads)


def cosine_search(
    features: NDArray[np.float32], query: NDArray[np.float32], *, k: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the rows of greatest cosine similarity, exactly.

    Parameters
    ----------
    features : ndarray, float32, shape (n, d)
        Rows of unit norm; may be a memory map.
    query : ndarray, float, shape (d,)
        A vector of unit norm.
    k : int
        Number of hits, at least 1; all rows if there are fewer.

    Returns
    -------
    rows : ndarray, int64, shape (min(k, n),)
        Ordered by (-score, row).
    scores : ndarray, float64
        Their cosines.

    Raises
    ------
    workbench.BadInput
        The features, the query or k is invalid.
    """
    if not isinstance(features, np.ndarray) or features.dtype.kind != "f" or features.ndim != 2:
        raise wb.BadInput("features must be a float array of shape (n, d)")
    query = np.asarray(query, np.float32)
    if query.shape != (features.shape[1],) or not np.isfinite(query).all():
        raise wb.BadInput(
            f"the query must be finite and have shape ({features.shape[1]},), not {query.shape}"
        )
    k = min(check_k(k), len(features))
    if not k:
        return np.empty(0, np.int64), np.empty(0, np.float64)
    rough = features @ query
    kth = np.partition(rough, len(rough) - k)[len(rough) - k]
    rows = np.flatnonzero(rough >= kth - _ROUNDING)
    scores = (features[rows].astype(np.float64) * query).sum(axis=1)
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def check_k(k: int) -> int:
    """Return k if it is a whole number of at least 1."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise wb.BadInput(f"k must be a whole number of at least 1, not {k!r}")
    return int(k)
