"""The float features of an index, in one of several widths, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import workbench as wb

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from adapters.vlm_quantization.index.blocks import CheckedRows

#: How features are stored. ``int8`` has one scale per row; with ``none`` there is no cosine.
FeatureKind = Literal["float32", "float16", "int8", "none"]

KINDS: tuple[FeatureKind, ...] = ("float32", "float16", "int8", "none")

#: Rows that are looked at once more when they are read: the score of a query shows those of many.
_FEW = 1_024

#: Bytes of a stored feature: per dimension, and per row.
_BYTES = {"float32": (4, 0), "float16": (2, 0), "int8": (1, 4), "none": (0, 0)}


def check_kind(kind: str) -> FeatureKind:
    """Return a kind of features that is known.

    Raises
    ------
    workbench.BadInput
        It is not.
    """
    for known in KINDS:
        if kind == known:
            return known
    raise wb.BadInput(f"unknown features {kind!r}. Allowed: {', '.join(KINDS)}")


def row_bytes(kind: FeatureKind, dim: int) -> int:
    """Return the bytes of one stored feature of ``dim`` dimensions."""
    per_dimension, per_row = _BYTES[kind]
    return per_dimension * dim + per_row


def stored(features: NDArray[Any], kind: FeatureKind) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Return features as they are stored, and the scale of each row for ``int8``.

    Parameters
    ----------
    features : ndarray, float, shape (n, d)
        Rows of unit norm.
    kind : {"float32", "float16", "int8"}

    Returns
    -------
    rows : ndarray, shape (n, d)
    scales : ndarray, float32, shape (n,), or None
        What a row is multiplied by; it then has unit norm.
    """
    if kind != "int8":
        return np.ascontiguousarray(features, kind), None
    rows = np.asarray(features, np.float32)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=np.finfo(np.float32).tiny)
    whole = np.rint(rows * (np.float32(127) / largest)).astype(np.int8)
    lengths = np.linalg.norm(whole.astype(np.float32), axis=1)
    return whole, (1 / np.maximum(lengths, 1)).astype(np.float32)


class Features:
    """The features of one side: indexed by row, they are float32.

    Parameters
    ----------
    kind : {"float32", "float16", "int8", "none"}
        How they are stored.
    rows : CheckedRows, shape (n, d), or None
    scales : CheckedRows, float32, shape (n,), or None
        For ``int8``.
    shape : (int, int)
        Items and dimensions.
    index : str
        Name of the index, for errors.
    """

    def __init__(
        self,
        kind: FeatureKind,
        rows: CheckedRows | None,
        scales: CheckedRows | None,
        shape: tuple[int, int],
        index: str,
    ) -> None:
        self.kind = kind
        self.shape = shape
        self.dtype = np.dtype(np.float32)
        self._rows = rows
        self._scales = scales
        self._index = index

    @property
    def present(self) -> bool:
        """Whether there are any features to compute with."""
        return self._rows is not None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        if self._rows is None:
            raise self._missing()
        found = self._rows[rows]
        if self._scales is not None:
            found = found.astype(np.float32) * self._scales[rows][..., None]
        elif found.dtype != np.float32:
            found = found.astype(np.float32)
        if found.size <= _FEW * self.shape[1] and not np.isfinite(found).all():
            raise self.not_finite()
        return found

    def not_finite(self) -> wb.CorruptFile:
        """Return the error for rows that are no vectors, which somebody else must have written."""
        path = Path() if self._rows is None else self._rows.file.path
        return wb.CorruptFile(path, "some rows are not finite", hint="Build the index again.")

    def query(self, feature: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """Return the feature of a query, if it can be compared with these.

        Raises
        ------
        workbench.BadInput
            There are no features, or the query has none.
        """
        if self._rows is None or feature is None:
            raise self._missing()
        return feature

    def _missing(self) -> wb.BadInput:
        return wb.BadInput(
            f"index {self._index!r} was built without features, so it has no cosine",
            hint="Search by Hamming distance, or build it again with features=float32, float16 or int8.",
        )

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)
