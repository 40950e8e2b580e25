"""The items of an opened index, each checked when it is read."""

from __future__ import annotations

import bisect
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, Protocol, cast

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

import workbench as wb
from adapters.vlm_quantization.index.blocks import CheckedFile
from adapters.vlm_quantization.index.item_table import ROWS, ROWS_KEY, batch_of, item_of, schema_of

#: Opened record batches that are kept; each is a view of the mapped file.
_KEPT_BATCHES = 256

_REBUILD = "Build the index again."

#: Where a record batch lies in an Arrow file: the bytes before it, those of its header, and of its body.
_PLACE = np.dtype([("offset", "<i8"), ("header", "<i4"), ("padding", "<i4"), ("body", "<i8")])

_MAGIC = b"ARROW1"


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


class Items(Protocol):
    """The items of one side of an index, in the order of their ids."""

    def __len__(self) -> int:
        """Return the number of items."""

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return an item, checked."""

    def find(self, item_id: str) -> int | None:
        """Return the row of an item, or None."""

    def check(self) -> None:
        """Read every item, and check that their ids ascend."""

    @property
    def table(self) -> Any:
        """All items as a ``pyarrow.Table``, with the columns of ``item_table.schema_of``."""

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield some columns of all items, checked, as ``pyarrow.RecordBatch`` in order of rows."""


def _find(items: Items, item_id: str, id_of: Any) -> int | None:
    row = bisect.bisect_left(range(len(items)), item_id, key=id_of)
    return row if row < len(items) and id_of(row) == item_id else None


class ItemFile:
    """Items of an Arrow file, memory-mapped and read one by one on access.

    Parameters
    ----------
    file : CheckedFile
        The file: record batches of one number of rows, but for the last.
    side : {"images", "captions"}
        What its items are, which decides their fields.
    count : int
        Number of items that there must be.

    Raises
    ------
    workbench.CorruptFile
        It is not such a file, or has another number of items.
    """

    def __init__(self, file: CheckedFile, side: str, count: int) -> None:
        import pyarrow as pa

        self._file = file
        self._item = _ITEMS[side]
        self._count = count
        self._opened: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        try:
            self._places = _places(file)
            self._reader = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(file.bytes)))
            schema = self._reader.schema
            self._rows = int((schema.metadata or {}).get(ROWS_KEY, b"0"))
        except (pa.ArrowException, ValueError, struct.error, OSError) as error:
            raise self._corrupt(f"not an Arrow file of items: {error}") from None
        expected = schema_of(side)
        if not schema.equals(expected, check_metadata=False):
            raise self._corrupt(f"must have the columns of {side}: {_difference(schema, expected)}")
        if self._rows < 1 or len(self._places) != -(-count // self._rows):
            raise self._corrupt(
                f"must have {count:,} items as in the manifest, not {len(self._places):,} record batches of "
                f"{self._rows:,}"
            )

    def _corrupt(self, reason: str) -> wb.CorruptFile:
        return wb.CorruptFile(self._file.path, reason, hint=_REBUILD)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < self._count:
            raise IndexError(row)
        values = self._batch(row // self._rows).slice(row % self._rows, 1).to_pylist()[0]
        try:
            return cast("dict[str, Any]", self._item.validate_python(item_of(values), strict=True))
        except ValidationError as error:
            raise self._corrupt(f"row {row}: {_first_problem(error)}") from None
        except (ValueError, RecursionError) as error:
            raise self._corrupt(f"row {row}: {error}") from None

    def _batch(self, number: int) -> Any:
        """Return a record batch, of which every byte has been checked."""
        with self._lock:
            if (batch := self._opened.get(number)) is not None:
                self._opened.move_to_end(number)
                return batch
        offset, header, _, body = self._places[number].tolist()
        self._file.check(offset, offset + header + body)
        batch = self._read(number)
        self._validate(number, batch)
        with self._lock:
            self._opened[number] = batch
            if len(self._opened) > _KEPT_BATCHES:
                self._opened.popitem(last=False)
        return batch

    def _read(self, number: int) -> Any:
        """Return a record batch, of which no more than the header has been read."""
        import pyarrow as pa

        try:
            batch = self._reader.get_batch(number)
        except (pa.ArrowException, OSError) as error:
            raise self._corrupt(f"record batch {number} cannot be read: {error}") from None
        rows = min(self._rows, self._count - number * self._rows)
        if batch.num_rows != rows:
            raise self._corrupt(f"record batch {number} must have {rows:,} items, not {batch.num_rows:,}")
        return batch

    def _validate(self, number: int, batch: Any) -> None:
        """Check what Arrow takes for granted, such as offsets: wrong ones would read other memory."""
        import pyarrow as pa

        try:
            batch.validate(full=True)
        except pa.ArrowException as error:
            raise self._corrupt(f"record batch {number} is not valid: {error}") from None

    def find(self, item_id: str) -> int | None:
        """Return the row of an item by bisection, or None; rows are sorted by id."""
        return _find(self, item_id, self._id)

    def _id(self, row: int) -> str:
        value = self._batch(row // self._rows).column(0)[row % self._rows].as_py()
        if value is None:
            raise self._corrupt(f"row {row}: id: missing")
        return str(value)

    def check(self) -> None:
        """Read every item, and check that their ids ascend.

        Raises
        ------
        workbench.CorruptFile
            A field is missing or of a wrong type, or an id is not above the one before it.
        """
        _check(self, "row", 0, self._file.path)

    @cached_property
    def table(self) -> Any:
        """All items as a ``pyarrow.Table``, memory-mapped, with the columns of ``item_table.schema_of``.

        No more than the headers of its record batches is read. Its values are not checked: :meth:`batches`
        gives checked ones.
        """
        import pyarrow as pa

        parts = []
        for number in range(len(self._places)):
            self._check_header(number)
            parts.append(self._read(number))
        return pa.Table.from_batches(parts, self._reader.schema)

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield some columns of all items, checked, as ``pyarrow.RecordBatch`` in order of rows.

        Parameters
        ----------
        columns : sequence of str
            Names of columns; only their bytes are read.

        Raises
        ------
        workbench.CorruptFile
            A byte of them was altered.
        """
        for number in range(len(self._places)):
            self._check_header(number)
            batch = self._read(number).select(columns)
            for column in batch.columns:
                self._check_buffers(column)
            self._validate(number, batch)
            yield batch

    def _check_header(self, number: int) -> None:
        offset, header, _, _ = self._places[number].tolist()
        self._file.check(offset, offset + header)

    def _check_buffers(self, column: Any) -> None:
        start = self._file.bytes.ctypes.data
        for buffer in column.buffers():
            if buffer is not None and buffer.size:
                place = buffer.address - start
                if not 0 <= place <= len(self._file.bytes) - buffer.size:
                    raise self._corrupt("a buffer lies outside the file")
                self._file.check(place, place + buffer.size)


def _places(file: CheckedFile) -> np.ndarray[Any, Any]:
    """Return where the record batches of an Arrow file lie, from its footer.

    The footer is a flatbuffer, whose fourth field is a vector of places (``File.fbs`` of the Arrow format).

    Raises
    ------
    ValueError, struct.error
        It is not an Arrow file.
    """
    size = len(file.bytes)
    if size < 2 * len(_MAGIC) + 4:
        raise ValueError("too short")
    file.check(size - len(_MAGIC) - 4, size)
    tail = file.bytes[-len(_MAGIC) - 4 :].tobytes()
    (length,) = struct.unpack_from("<i", tail)
    start = size - len(tail) - length
    if tail[4:] != _MAGIC or length < 8 or start < len(_MAGIC):
        raise ValueError("no footer")
    file.check(start, size)
    footer = file.bytes[start : start + length].tobytes()
    (root,) = struct.unpack_from("<I", footer)
    (back,) = struct.unpack_from("<i", footer, root)
    fields, field = root - back, 4 + 2 * 3
    (last,) = struct.unpack_from("<H", footer, fields) if fields >= 0 else (0,)
    (place,) = struct.unpack_from("<H", footer, fields + field) if last > field else (0,)
    if not place:
        return np.empty(0, _PLACE)
    at = root + place
    vector = at + struct.unpack_from("<I", footer, at)[0]
    (count,) = struct.unpack_from("<I", footer, vector)
    places = np.frombuffer(footer, _PLACE, count, vector + 4)
    ends = places["offset"] + places["header"] + places["body"]
    if (places["offset"] < 0).any() or (places["header"] < 0).any() or (places["body"] < 0).any():
        raise ValueError("a record batch lies outside the file")
    if count and (ends.max() > start or ends.min() < 0):
        raise ValueError("a record batch lies outside the file")
    # What lies before and after the record batches is not needed, but an altered byte is one.
    file.check(0, int(places["offset"].min()) if count else start)
    file.check(int(ends.max()) if count else start, size)
    return places


def _difference(schema: Any, expected: Any) -> str:
    """Return the first difference of two schemas in words."""
    for field in expected:
        if (at := schema.get_field_index(field.name)) < 0:
            return f"{field.name} is missing"
        if schema.field(at).type != field.type:
            return f"{field.name} must be {field.type}, not {schema.field(at).type}"
    return f"{', '.join(expected.names)}, not {', '.join(schema.names)}"


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where and f'{where}: '}{first['msg']}"


def _check(items: Items, what: str, first: int, path: Path) -> None:
    before: str | None = None
    for row in range(len(items)):
        item_id = items[row]["id"]
        if before is not None and item_id <= before:
            raise wb.CorruptFile(
                path,
                f"{what} {row + first}: id: {item_id[:60]!r} must come after {before[:60]!r}",
                hint=_REBUILD,
            )
        before = item_id


class ItemLines:
    """Items of a JSON-lines file, as indexes had before format 3: memory-mapped, and parsed on access.

    Parameters
    ----------
    path : Path
        The file.
    side : {"images", "captions"}
        What its items are, which decides their fields.
    """

    def __init__(self, path: Path, side: str) -> None:
        self._path = path
        self._side = side
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
            reason = f"line {row + 1}: {_first_problem(error)}"
            raise wb.CorruptFile(self._path, reason, hint=_REBUILD) from None

    def find(self, item_id: str) -> int | None:
        """Return the row of an item by bisection, or None; rows are sorted by id."""
        return _find(self, item_id, lambda row: self[row]["id"])

    def check(self) -> None:
        """Read every item, and check that their ids ascend; see :meth:`ItemFile.check`."""
        _check(self, "line", 1, self._path)

    @cached_property
    def table(self) -> Any:
        """All items as a ``pyarrow.Table``, made of the lines when it is first used."""
        import pyarrow as pa

        return pa.Table.from_batches(
            [
                batch_of([self[row] for row in range(start, min(start + ROWS, len(self)))], self._side)
                for start in range(0, len(self), ROWS)
            ],
            schema_of(self._side),
        )

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Yield some columns of all items as ``pyarrow.RecordBatch`` in order of rows."""
        yield from self.table.select(columns).to_batches()
