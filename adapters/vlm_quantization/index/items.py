"""The items of an opened index: one JSON object per line, checked when it is read."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, cast

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

import workbench as wb


class _Picture(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    id: str
    concept: NotRequired[str]
    caption: str
    subtitle: str
    captions: NotRequired[dict[str, list[str]]]
    labels: NotRequired[list[str]]
    path: NotRequired[str]
    file: NotRequired[list[int]]


class _Caption(TypedDict):
    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]

    id: str
    concept: NotRequired[str]
    caption: str
    subtitle: str
    language: str


_ITEMS: Mapping[str, TypeAdapter[Any]] = {
    "images": TypeAdapter(_Picture),
    "captions": TypeAdapter(_Caption),
}


class ItemLines:
    """Items of a JSON-lines file, memory-mapped and parsed one by one on access.

    Parameters
    ----------
    path : Path
        The file.
    side : {"images", "captions"}
        What its items are, which decides their fields.
    """

    def __init__(self, path: Path, side: str) -> None:
        self._path = path
        self._item = _ITEMS[side]
        empty = path.stat().st_size == 0
        self._bytes = np.empty(0, np.uint8) if empty else np.memmap(path, np.uint8, mode="r")
        self._ends = np.flatnonzero(self._bytes == ord("\n"))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self):
            raise IndexError(row)
        start = self._ends[row - 1] + 1 if row else 0
        line = self._bytes[start : self._ends[row]].tobytes()
        try:
            return cast("dict[str, Any]", self._item.validate_json(line, strict=True))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            reason = f"line {row + 1}: {where and f'{where}: '}{first['msg']}"
            raise wb.CorruptFile(self._path, reason, hint="Build the index again.") from None

    @property
    def table(self) -> Any:
        """A throw-away table of the items, until the stored one is there."""
        import pyarrow as pa

        rows = [self[row] for row in range(len(self))]
        kinds = {
            "captions": pa.map_(pa.string(), pa.list_(pa.string())),
            "labels": pa.list_(pa.string()),
        }
        names = dict.fromkeys(name for row in rows for name in row if name != "file")
        columns: dict[str, Any] = {}
        for name in names:
            values = [row.get(name) for row in rows]
            if name == "captions":
                values = [None if one is None else list(one.items()) for one in values]
            columns[name] = pa.array(values, kinds.get(name))
        if any("file" in row for row in rows):
            columns["size"] = pa.array([(row.get("file") or [None, None])[0] for row in rows], pa.int64())
            columns["modified"] = pa.array([(row.get("file") or [None, None])[1] for row in rows], pa.int64())
        return pa.table(columns)

    def find(self, item_id: str) -> int | None:
        """Return the row of an item by bisection, or None; rows are sorted by id."""
        row = bisect.bisect_left(range(len(self)), item_id, key=lambda row: self[row]["id"])
        return row if row < len(self) and self[row]["id"] == item_id else None

    def check(self) -> None:
        """Read every item, and check that their ids ascend.

        Raises
        ------
        workbench.CorruptFile
            A field is missing or of a wrong type, or an id is not above the one before it.
        """
        before: str | None = None
        for row in range(len(self)):
            item_id = self[row]["id"]
            if before is not None and item_id <= before:
                raise wb.CorruptFile(
                    self._path,
                    f"line {row + 1}: id: {item_id[:60]!r} must come after {before[:60]!r}",
                    hint="Build the index again.",
                )
            before = item_id
