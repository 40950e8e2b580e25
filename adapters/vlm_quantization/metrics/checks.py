"""Whether the inputs of an evaluation belong together; each error names the value and what is allowed.

What each array must be by itself is in :mod:`adapters.vlm_quantization.metrics.inputs`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.metrics.inputs import item_ids
from adapters.vlm_quantization.metrics.protocols import Protocol
from adapters.vlm_quantization.metrics.relevance import Relevance

#: The longest code whose distances fit in a byte, with one value to spare.
LONGEST = 248


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
        ids = item_ids(gallery_ids, "gallery ids")
        if ids.shape != (n_gallery,):
            raise wb.BadInput(f"gallery ids must be one per row, shape ({n_gallery},), not {ids.shape}")
        if rules.ties.startswith("id") and len(np.unique(ids)) != len(ids):
            raise wb.BadInput(
                f"gallery ids must be unique under protocol {rules.name!r}, which orders ties by id; "
                f"{len(ids) - len(np.unique(ids))} are repeated"
            )
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
