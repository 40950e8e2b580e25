"""Input validation of an evaluation; each error names the value and what is allowed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.metrics.protocols import Protocol
from adapters.vlm_quantization.metrics.relevance import Relevance

#: The longest code whose distances fit in a byte, with one value to spare.
LONGEST = 248


def whole_numbers(values: Sequence[int], what: str, least: int) -> list[int]:
    """Return the distinct whole numbers, each at least ``least``, in the given order."""
    for number in values:
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise wb.BadInput(f"{what} must be a whole number of at least {least}, not {number!r}")
    return list(dict.fromkeys(int(number) for number in values))


def code_lengths(bits: Sequence[int], width: int) -> list[int]:
    """Return the distinct code lengths up to a width, ascending."""
    for length in bits:
        if not isinstance(length, int | np.integer) or length % 8 or not 8 <= length <= width:
            raise wb.BadInput(f"a code length must be a multiple of 8 from 8 to {width}, not {length!r}")
    if not len(bits):
        raise wb.BadInput("at least one code length is required")
    return sorted({int(length) for length in bits})


def check_codes(codes: NDArray[np.uint8], what: str) -> None:
    """Refuse anything but packed codes."""
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.ndim != 2:
        actual = f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise wb.BadInput(
            f"{what} must be packed, uint8 (n, bytes), not {actual}",
            hint="Pack bits with adapters.vlm_quantization.hash_layer.pack_codes.",
        )


def check_relevance(relevance: Relevance, n_queries: int, n_gallery: int) -> None:
    """Refuse a relevance that does not match the queries and items, and empty inputs."""
    if (relevance.n_queries, relevance.n_gallery) != (n_queries, n_gallery):
        raise wb.BadInput(
            f"relevance is for {relevance.n_queries} queries and {relevance.n_gallery} items, "
            f"but there are {n_queries} queries and {n_gallery} items"
        )
    if not n_queries or not n_gallery:
        raise wb.BadInput(f"{n_queries} queries and {n_gallery} items: nothing to evaluate")


def rows_of_queries(itself: ArrayLike | None, n_queries: int, n_gallery: int) -> NDArray[np.int64] | None:
    """Return the row of each query in the gallery, -1 for none; None if no query is in the gallery."""
    if itself is None:
        return None
    rows = np.asarray(itself)
    if rows.shape != (n_queries,) or rows.dtype.kind not in "iu":
        raise wb.BadInput(
            f"itself must be one row number per query, shape ({n_queries},), not {rows.dtype} {rows.shape}"
        )
    if rows.size and not (rows.min() >= -1 and rows.max() < n_gallery):
        raise wb.BadInput(f"itself must be rows of the gallery, from 0 to {n_gallery - 1}, or -1 for none")
    return rows.astype(np.int64)


def id_order(rules: Protocol, gallery_ids: ArrayLike | None, n_gallery: int) -> NDArray[np.int64] | None:
    """Return the rows in id order; None if they are already in it or the protocol does not need it."""
    order = None
    if gallery_ids is not None:
        ids = np.asarray(gallery_ids)
        if ids.shape != (n_gallery,):
            raise wb.BadInput(f"gallery ids must be one per row, shape ({n_gallery},), not {ids.shape}")
        order = np.argsort(ids, kind="stable")
    if not rules.ties.startswith("id"):
        return None
    if rules.ties == "id descending":
        order = np.arange(n_gallery)[::-1] if order is None else order[::-1]
    return order


def moved(itself: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of rows of the gallery in another order; -1 stays -1."""
    place = np.empty(len(order) + 1, np.int64)
    place[order] = np.arange(len(order))
    place[-1] = -1  # none stays none
    return place[itself]


def unit_rows(features: NDArray[np.floating[Any]], what: str) -> NDArray[np.float32]:
    """Return float32 rows of unit norm; rows of zeros stay zero.

    Raises
    ------
    workbench.BadInput
        The features are not a table of finite numbers.
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2:
        raise wb.BadInput(f"{what} must have shape (n, d), not {rows.shape}")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise wb.BadInput(f"{what}: {bad.size} of {len(rows)} rows are not finite; the first is row {bad[0]}")
    norms: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    return np.divide(rows, np.where(norms > 0, norms, 1), dtype=np.float32)
