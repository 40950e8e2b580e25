"""Arrays that come into an evaluation: what they must be, and what they become.

Every function refuses what is not what it seems: an array that is measured although it means something else
gives a wrong number that looks right. Each error names the value, its place and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.codes import complete, described

#: Rows whose norms are computed at once, in double precision.
_ROWS_AT_ONCE = 1 << 14


def whole_numbers(values: int | Sequence[int], what: str, least: int) -> list[int]:
    """Return the distinct whole numbers, each at least ``least``, in the given order."""
    listed = [values] if isinstance(values, int | np.integer) else values
    if isinstance(listed, str | bytes) or not isinstance(listed, Sequence | np.ndarray):
        raise wb.BadInput(
            f"{what} must be a whole number of at least {least}, or a list of them, not {values!r}"
        )
    for number in listed:
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise wb.BadInput(f"{what} must be a whole number of at least {least}, not {number!r}")
    return list(dict.fromkeys(int(number) for number in listed))


def code_lengths(bits: int | Sequence[int], width: int) -> list[int]:
    """Return the distinct code lengths up to a width, in the given order."""
    lengths = whole_numbers(bits, "a code length", 8)
    for length in lengths:
        if length % 8 or length > width:
            raise wb.BadInput(f"a code length must be a multiple of 8 from 8 to {width}, not {length!r}")
    if not lengths:
        raise wb.BadInput("at least one code length is required")
    return lengths


def multi_hot(labels: ArrayLike, what: str) -> NDArray[np.bool_]:
    """Return multi-hot labels, bool (n, c).

    Raises
    ------
    workbench.BadInput
        They are not a table of bool or of 0 and 1: NaN and -1 for "absent" would count as present.
    """
    table = complete(labels, what)
    if table.ndim != 2 or table.dtype.kind not in "biufO":
        raise wb.BadInput(f"{what} must be multi-hot, bool or 0/1 of shape (n, c), not {described(labels)}")
    if table.dtype.kind == "b":
        return table
    present = table == 1
    wrong = ~(present | (table == 0))
    if wrong.any():
        row, column = (int(place) for place in np.argwhere(wrong)[0])
        value = table[row, column]
        raise wb.BadInput(
            f"{what} must be 0 or 1, not {value!r} (row {row}, column {column})",
            hint="Labels of -1 and 1: pass labels > 0. NaN for absent: pass numpy.nan_to_num(labels).",
        )
    return np.asarray(present, bool)


def item_ids(ids: ArrayLike, what: str) -> NDArray[Any]:
    """Return ids, one string or one whole number per row.

    Raises
    ------
    workbench.BadInput
        They have another shape or type, are missing in some rows, or mix strings and numbers.
    """
    array = complete(ids, what)
    if array.ndim == 1 and not len(array):
        raise wb.BadInput(f"{what}: there are none; at least one is required")
    if isinstance(ids, list | tuple) and array.ndim == 1 and array.dtype.kind != "O":
        # From ["a", nan] numpy makes "nan", which would be an id, and from [1, "1"] two equal texts.
        kinds = {_kind(one) for one in ids}
        if len(kinds) > 1:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise wb.BadInput(
                f"{what} must be one string or one whole number per row, none missing, not a mix of {names}"
            )
    if array.dtype.kind == "O" and array.ndim == 1:  # as pandas keeps text, and numbers beyond eight bytes
        kinds = {_kind(one) for one in array}
        if kinds == {str}:
            return array.astype(str)
        if kinds == {int}:
            return np.array([int(one) for one in array], object)
    if array.ndim != 1 or array.dtype.kind not in "UiuS":
        raise wb.BadInput(
            f"{what} must be one string or one whole number per row, none missing, not {described(ids)}"
        )
    return array


def _kind(value: Any) -> type:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int
    return str if isinstance(value, str) else bytes if isinstance(value, bytes) else type(value)


def numbered(queries: NDArray[Any], gallery: NDArray[Any]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return ids as small whole numbers, equal where the ids are equal.

    Raises
    ------
    workbench.BadInput
        One side has strings and the other numbers.
    """
    kinds = ["whole numbers" if side.dtype.kind in "iuO" else side.dtype.kind for side in (queries, gallery)]
    if kinds[0] != kinds[1]:
        raise wb.BadInput(
            f"query and gallery ids must be of one kind, not {queries.dtype} and {gallery.dtype}",
            hint="For example str on both sides.",
        )
    if queries.dtype.kind in "iuO" and queries.dtype != gallery.dtype:
        # Together, signed and unsigned integers would become floats, which are equal beyond 2**53.
        queries, gallery = (np.array([int(one) for one in side], object) for side in (queries, gallery))
    together = np.unique(np.concatenate([queries, gallery]), return_inverse=True)[1].astype(np.int32)
    return together[: len(queries)], together[len(queries) :]


def unit_rows(features: ArrayLike, what: str) -> NDArray[np.float32]:
    """Return float32 rows of unit norm; rows of zeros stay zero.

    Norms are computed in double precision of rows divided by their largest value, so that no finite row
    overflows or vanishes, whatever its size.

    Raises
    ------
    workbench.BadInput
        The features are not a table of finite real numbers.
    """
    rows = complete(features, what)
    if rows.ndim != 2 or rows.dtype.kind not in "fiu":
        raise wb.BadInput(f"{what} must be real numbers of shape (n, d), not {described(features)}")
    out = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows[start : start + _ROWS_AT_ONCE].astype(np.float64)
        if not np.isfinite(part).all():
            bad = np.flatnonzero(~np.isfinite(rows.astype(np.float64)).all(axis=1))
            raise wb.BadInput(
                f"{what}: {bad.size} of {len(rows)} rows are not finite; the first is row {bad[0]}"
            )
        largest = np.abs(part).max(axis=1, keepdims=True, initial=0)
        part /= np.where(largest > 0, largest, 1)
        norms = np.sqrt(np.einsum("nd,nd->n", part, part))[:, None]
        out[start : start + _ROWS_AT_ONCE] = part / np.where(norms > 0, norms, 1)
    return out


def ranked_scores(scores: ArrayLike, first: int, last: int, n_gallery: int) -> NDArray[Any]:
    """Return the scores of queries ``first`` to ``last`` in a form that orders as they do.

    Parameters
    ----------
    scores : array_like of real numbers, shape (last - first, n_gallery)
        Higher is nearer; infinities are in order.

    Returns
    -------
    ndarray, shape (last - first, n_gallery)
        float32 scores as they are; all others, which float32 would round and tie, as their dense ranks in
        each row, int64 from 0 for the lowest.

    Raises
    ------
    workbench.BadInput
        Another shape or type, or NaN, which has no place in an order.
    """
    array = complete(scores, f"scores of queries {first} to {last - 1}")
    expected = (last - first, n_gallery)
    if array.shape != expected or array.dtype.kind not in "fiu":
        raise wb.BadInput(
            f"the scorer must return real numbers of shape {expected} for queries {first} to {last - 1}, "
            f"not {described(scores)}"
        )
    if array.dtype.kind == "f":
        wrong = np.isnan(array)
        if wrong.any():
            row, column = (int(place) for place in np.argwhere(wrong)[0])
            raise wb.BadInput(
                f"{int(wrong.sum())} scores are NaN; the first is that of query {first + row}, item {column}",
                hint="Return -inf for an item that must rank last.",
            )
    if array.dtype in (np.float16, np.float32):
        return array.astype(np.float32) + np.float32(0)  # no negative zero
    order = np.argsort(array, axis=1, kind="stable")
    ascending = np.take_along_axis(array, order, axis=1)
    ranks = np.zeros(array.shape, np.int64)
    np.cumsum(ascending[:, 1:] != ascending[:, :-1], axis=1, out=ranks[:, 1:])
    out = np.empty_like(ranks)
    np.put_along_axis(out, order, ranks, axis=1)
    return out
