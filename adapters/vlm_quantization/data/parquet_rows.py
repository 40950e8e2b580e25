"""Pictures in the rows of a Parquet file, read by row group when they are used.

Parquet has no place of a single row: to read one, the rows before it in its row group are read too, a few at
a time. Rows that are wanted one after the other, as a build or a training wants them, are read once.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.vlm_quantization.data import decoder

#: Number of rows that are read at a time.
ROWS_AT_ONCE = 16


#: Bytes of pictures that are kept of those that were read on the way to another.
KEPT_BYTES = 2**25


#: Number of bytes of a picture that are kept: enough to tell its format, and the size of a PNG.
START_BYTES = 32


class PictureRows:
    """The pictures of a file, read by row group; rows that follow each other are read once.

    Parameters
    ----------
    path : Path
        The file.
    column : str
        The column of encoded pictures, as Parquet names it, such as ``"image.bytes"``.
    """

    def __init__(self, path: Path, column: str) -> None:
        self._path = path
        self._column = column
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._batches: Iterator[Any] = iter(())
        self._group, self._next = -1, 0
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._size = 0

    def __getstate__(self) -> tuple[Path, str]:
        return self._path, self._column

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self._path, self._column = state
        self._forget()

    def read(self, group: int, row: int) -> bytes:
        """Return the bytes of a picture; empty if there is none.

        Raises
        ------
        decoder.Refused
            The file cannot be read.
        """
        import pyarrow

        with self._lock:
            if (known := self._kept.get((group, row))) is not None:
                return known
            try:
                if group != self._group or row < self._next:
                    self._open(group)
                while self._next <= row:
                    self._keep(next(self._batches))
                return self._kept.get((group, row), b"")
            except (OSError, pyarrow.ArrowException, StopIteration) as error:
                self._group = -1
                reason = str(error)[:200] or "it has fewer rows than before"
                raise decoder.Refused(f"cannot be read from its table ({reason})") from None

    def _open(self, group: int) -> None:
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(self._path, buffer_size=2**20)
        self._batches = file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[self._column])
        self._group, self._next = group, 0

    def _keep(self, batch: Any) -> None:
        for value in pictures_of(batch.column(0)):
            data = b"" if value is None else bytes(value)
            self._kept[self._group, self._next] = data
            self._size += len(data)
            self._next += 1
        while self._size > KEPT_BYTES and len(self._kept) > ROWS_AT_ONCE:
            _, data = self._kept.popitem(last=False)
            self._size -= len(data)


@dataclass(frozen=True)
class ParquetPicture:
    """A picture in a row of a table.

    Attributes
    ----------
    path : Path
        The table.
    row : int
        Number of the row in the file, from 1.
    group, place : int
        The row group, and the row's place in it, from 0.
    size : int
        Size in bytes.
    start : bytes
        Its first bytes.
    content : bytes
        A digest of all its bytes.
    """

    path: Path
    row: int
    group: int
    place: int
    size: int
    start: bytes = field(repr=False)
    content: bytes = field(repr=False)
    rows: PictureRows = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """Its name within the table."""
        return f"row {self.row}"

    def __str__(self) -> str:
        return f"{self.path}, {self.name}"

    def read(self, max_bytes: int, /) -> bytes:
        """Return the encoded picture."""
        if self.size > max_bytes:
            size, most = self.size / 1e6, max_bytes / 1e6
            raise decoder.Refused(f"a file of {size:,.0f} MB; at most {most:,.0f} MB are allowed")
        data = self.rows.read(self.group, self.place)
        if content_of(data) != self.content:
            raise decoder.Refused("the table has changed since it was opened")
        return data


def content_of(data: Any) -> bytes:
    """Return a digest of a picture's bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


def pictures_of(column: Any) -> Iterator[memoryview | None]:
    """Yield the encoded pictures of a column of a batch, without copying them; None for an empty cell."""
    import pyarrow

    if pyarrow.types.is_struct(column.type):
        inner = column.field("bytes")
        missing = [not value.is_valid for value in column] if column.null_count else ()
    else:
        inner, missing = column, ()
    if pyarrow.types.is_dictionary(inner.type):
        inner = inner.dictionary_decode()
    for place, value in enumerate(inner):
        gone = not value.is_valid or (bool(missing) and missing[place])
        yield None if gone else memoryview(value.as_buffer())
