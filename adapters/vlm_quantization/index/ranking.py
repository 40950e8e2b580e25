"""Exact nearest neighbours in a defined order, by Hamming distance on code prefixes or cosine of features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.index.features import Features
from adapters.vlm_quantization.neighbours.prefix_codes import THREADS, PrefixCodes, check_k

#: Cosines are computed in float32 by a matrix product, whose rounding depends on the position of a row. Rows
#: within this of the k-th score are scored again, so that equal rows tie and are ordered by id.
_ROUNDING = np.float32(1e-5)

#: Bytes of features, as float32, that are multiplied at a time.
_BLOCK_BYTES = 1 << 26


def hamming_search(
    codes: NDArray[np.uint8], query: NDArray[np.uint8], *, bits: int, k: int, threads: int = THREADS
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
        Number of threads, at least 1; no more are used than the process has processors.

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
    features: NDArray[np.float32] | Features,
    query: NDArray[np.float32],
    *,
    k: int,
    among: NDArray[np.bool_] | NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the rows of greatest cosine similarity, exactly.

    Parameters
    ----------
    features : ndarray or Features, float32, shape (n, d)
        Rows of unit norm; may be memory-mapped, and are read in blocks.
    query : ndarray, float, shape (d,)
        A vector of unit norm.
    k : int
        Number of hits, at least 1; all rows if there are fewer.
    among : ndarray, bool (n,) or int64 (m,), optional
        The rows that may be found: True for each, or their numbers in ascending order. All if not given.

    Returns
    -------
    rows : ndarray, int64, shape (min(k, rows that may be found),)
        Ordered by (-score, row).
    scores : ndarray, float64
        Their cosines.

    Raises
    ------
    workbench.BadInput
        The features, the query or k is invalid.
    """
    if not isinstance(features, Features) and (
        not isinstance(features, np.ndarray) or features.dtype.kind != "f" or features.ndim != 2
    ):
        raise wb.BadInput("features must be a float array of shape (n, d)")
    query = np.asarray(query, np.float32)
    if query.shape != (features.shape[1],) or not np.isfinite(query).all():
        raise wb.BadInput(
            f"the query must be finite and have shape ({features.shape[1]},), not {query.shape}"
        )
    some = among.astype(np.int64, copy=False) if among is not None and among.dtype != bool else None
    items = len(features) if among is None else int(np.count_nonzero(among)) if some is None else len(some)
    k = min(check_k(k), items)
    if not k:
        return np.empty(0, np.int64), np.empty(0, np.float64)
    rough = np.full(len(features) if some is None else items, -np.inf, np.float32)
    at_once = max(1, _BLOCK_BYTES // (4 * features.shape[1]))
    for start in range(0, len(rough), at_once):
        part = slice(start, start + at_once)
        if some is None and among is not None and not among[part].any():
            continue
        with np.errstate(invalid="ignore"):
            rough[part] = features[part if some is None else some[part]] @ query
        if isinstance(features, Features) and not np.isfinite(rough[part]).all():
            raise features.not_finite()
    if among is not None and some is None:
        rough[~among] = -np.inf
    kth = np.partition(rough, len(rough) - k)[len(rough) - k]
    near = np.flatnonzero(rough >= kth - _ROUNDING)
    rows = near if some is None else some[near]
    scores = (features[rows].astype(np.float64) * query).sum(axis=1)
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]
