"""Relevance of items to queries: the same item, any shared label, or graded by the number of shared labels.

A relevance returns small whole numbers (grades) for a range of queries at a time; 0 is not relevant. Except
for :class:`Judged`, it never holds a matrix of all queries and items.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.codes import complete
from adapters.vlm_quantization.metrics.inputs import item_ids, multi_hot, numbered

#: Grades above this would make the joint histograms of distances and grades too wide.
MAX_GRADE = 100


class Relevance(Protocol):
    """Grades of items for queries, for a range of queries at a time.

    Attributes
    ----------
    words : str
        What counts as relevant, for display.
    n_queries, n_gallery : int
        Numbers of queries and items.
    levels : int
        Grades go from 0 (not relevant) to ``levels - 1``.
    """

    words: str
    n_queries: int
    n_gallery: int
    levels: int

    def block(self, start: int, stop: int) -> NDArray[np.bool_] | NDArray[np.uint8]:
        """Return the grades of the queries of a range, bool or uint8 (stop - start, n_gallery)."""

    def reordered(self, order: NDArray[np.int64]) -> Relevance:
        """Return the same with the gallery in another order."""


class SameItem:
    """A gallery item is relevant if it has the query's id; several may be (five captions per picture).

    Parameters
    ----------
    query_ids, gallery_ids : sequence of str or of int
        One id per row.

    Raises
    ------
    workbench.BadInput
        Ids are not strings or whole numbers, or are strings on one side and numbers on the other.
    """

    words = "same item"
    levels = 2

    def __init__(self, query_ids: ArrayLike, gallery_ids: ArrayLike) -> None:
        queries, gallery = item_ids(query_ids, "query ids"), item_ids(gallery_ids, "gallery ids")
        # Comparing small integers is many times faster than comparing texts.
        self._queries, self._gallery = numbered(queries, gallery)
        self.n_queries, self.n_gallery = len(queries), len(gallery)

    def block(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which items are relevant to the queries of a range, bool (stop - start, n_gallery)."""
        same: NDArray[np.bool_] = self._queries[start:stop, None] == self._gallery
        return same

    def reordered(self, order: NDArray[np.int64]) -> SameItem:
        """Return the same with the gallery in another order."""
        return SameItem(self._queries, self._gallery[order])


class SharedLabel:
    """A gallery item is relevant if it shares at least one label with the query.

    Parameters
    ----------
    query_labels, gallery_labels : array_like of bool or 0/1, shape (n, c)
        Multi-hot labels.

    Raises
    ------
    workbench.BadInput
        Labels are not two tables of equal width, of bool or 0 and 1.
    """

    words = "any shared label"
    levels = 2

    def __init__(self, query_labels: ArrayLike, gallery_labels: ArrayLike) -> None:
        self._queries, self._gallery = _multi_hot(query_labels, gallery_labels)
        self.n_queries, self.n_gallery = len(self._queries), len(self._gallery)
        # One bit per item for each label: a query has few labels, and reads the rows of those.
        packed = np.packbits(self._gallery.T, axis=1)
        rows = np.zeros((len(packed), -(-self.n_gallery // 64) * 8), np.uint8)
        rows[:, : packed.shape[1]] = packed
        self._items = rows.view(np.uint64)

    def block(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which items are relevant to the queries of a range, bool (stop - start, n_gallery)."""
        shared = np.zeros((stop - start, self._items.shape[1]), np.uint64)
        for row, labels in zip(shared, self._queries[start:stop], strict=True):
            np.bitwise_or.reduce(self._items[np.flatnonzero(labels)], axis=0, out=row)
        return np.unpackbits(shared.view(np.uint8), axis=1, count=self.n_gallery).view(bool)

    def reordered(self, order: NDArray[np.int64]) -> SharedLabel:
        """Return the same with the gallery in another order."""
        return SharedLabel(self._queries, self._gallery[order])


class Graded:
    """Graded relevance: the grade is the number of shared labels, 0 for none.

    Binary metrics (mAP, P@k …) treat every grade above 0 as relevant; NDCG weights the grades.

    Parameters
    ----------
    query_labels, gallery_labels : array_like of bool or 0/1, shape (n, c)
        Multi-hot labels.
    highest : int
        Higher grades are capped at this.

    Raises
    ------
    workbench.BadInput
        Labels are not two tables of equal width, or the highest grade is out of range.
    """

    words = "graded by the number of shared labels"

    def __init__(self, query_labels: ArrayLike, gallery_labels: ArrayLike, *, highest: int = 10) -> None:
        if isinstance(highest, bool) or not isinstance(highest, int) or not 1 <= highest <= MAX_GRADE:
            raise wb.BadInput(f"the highest grade must be from 1 to {MAX_GRADE}, not {highest!r}")
        self._queries, self._gallery = _multi_hot(query_labels, gallery_labels)
        most = min(side.sum(axis=1).max(initial=0) for side in (self._queries, self._gallery))
        self.levels = max(2, min(highest, int(most)) + 1)
        self._highest = highest
        self.n_queries, self.n_gallery = len(self._queries), len(self._gallery)
        self._words = _words(self._queries), _words(self._gallery)

    def block(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the grades of the queries of a range, uint8 (stop - start, n_gallery)."""
        shared = np.zeros((stop - start, self.n_gallery), np.uint16)
        for query, gallery in zip(*self._words, strict=True):
            shared += np.bitwise_count(query[start:stop, None] & gallery)
        return np.minimum(shared, self.levels - 1).astype(np.uint8)

    def reordered(self, order: NDArray[np.int64]) -> Graded:
        """Return the same with the gallery in another order."""
        return Graded(self._queries, self._gallery[order], highest=self._highest)


class Judged:
    """Grades assigned one by one, as by human judges: a table of all queries and items.

    Parameters
    ----------
    grades : array_like of int, shape (n_queries, n_gallery)
        0 for not relevant.

    Raises
    ------
    workbench.BadInput
        The grades are not a table of whole numbers from 0 to 100.
    """

    words = "graded by judgement"

    def __init__(self, grades: ArrayLike) -> None:
        table = complete(grades, "grades")
        if table.ndim != 2 or table.dtype.kind not in "iub":
            raise wb.BadInput(
                f"grades must be whole numbers of shape (queries, items), not {table.dtype} {table.shape}"
            )
        if table.size and not (table.min() >= 0 and table.max() <= MAX_GRADE):
            raise wb.BadInput(
                f"grades must be from 0 to {MAX_GRADE}, not from {table.min()} to {table.max()}"
            )
        self._grades = table.astype(np.uint8)
        self.levels = max(2, int(self._grades.max(initial=0)) + 1)
        self.n_queries, self.n_gallery = table.shape

    def block(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Return the grades of the queries of a range, uint8 (stop - start, n_gallery)."""
        return self._grades[start:stop]

    def reordered(self, order: NDArray[np.int64]) -> Judged:
        """Return the same with the gallery in another order."""
        return Judged(self._grades[:, order])


def itself(query_ids: Sequence[str], gallery_ids: Sequence[str]) -> NDArray[np.int64]:
    """Return for each query its row in the gallery, -1 for a query not in the gallery.

    For image→image and text→text, where the queries are taken from the gallery and must not find themselves.

    Parameters
    ----------
    query_ids, gallery_ids : sequence of str
        One id per row; ids of the gallery are unique.

    Raises
    ------
    workbench.BadInput
        Two items of the gallery have the same id.
    """
    rows = {item: row for row, item in enumerate(gallery_ids)}
    if len(rows) != len(gallery_ids):
        raise wb.BadInput("gallery ids must be unique, but two items have the same id")
    return np.array([rows.get(item, -1) for item in query_ids], np.int64)


def _multi_hot(queries: ArrayLike, gallery: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    one, other = multi_hot(queries, "query labels"), multi_hot(gallery, "gallery labels")
    if one.shape[1] != other.shape[1]:
        raise wb.BadInput(f"labels must be multi-hot (n, c) with equal c, not {one.shape} and {other.shape}")
    return one, other


def _words(labels: NDArray[np.bool_]) -> list[NDArray[np.unsignedinteger[Any]]]:
    """Return labels as columns of machine words, one bit per label; the last word is as narrow as possible.

    Comparing words reads a fraction of the memory of a matrix product of floats, and memory is the bottleneck
    for a large gallery.
    """
    out = []
    for start in range(0, labels.shape[1], 64):
        part = np.packbits(labels[:, start : start + 64], axis=1)
        width = next(width for width in (1, 2, 4, 8) if part.shape[1] <= width)
        padded = np.zeros((len(part), width), np.uint8)
        padded[:, : part.shape[1]] = part
        out.append(padded.view(f"u{width}")[:, 0].copy())
    return out
