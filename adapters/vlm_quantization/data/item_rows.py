"""Sequences in files: the items of a collection are read by row, and need not be in memory."""

from __future__ import annotations

import itertools
import json
import os
import struct
import tempfile
import weakref
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from adapters.vlm_quantization.data.collection import Item, UnusableLine
from adapters.vlm_quantization.data.parquet_rows import ParquetPicture
from adapters.vlm_quantization.data.stored import ArchiveMember, Picture


class ItemCodec:
    """Turns items into bytes and back, for files of this process.

    What several pictures share, such as an open table, is kept here and not in the bytes.
    """

    def __init__(self) -> None:
        self._shared: list[Any] = []
        self._numbers: dict[int, int] = {}

    def encode(self, item: Item) -> bytes:
        """Return an item as bytes."""
        row = [
            item.id,
            item.concept,
            item.captions,
            self._encoded_picture(item.image),
            item.digest,
            item.keywords,
            item.labels,
            item.style,
            item.group,
            item.base,
            item.flag,
            item.split,
        ]
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")

    def decode(self, data: bytes) -> Item:
        """Return the item that :meth:`encode` was given."""
        (name, concept, captions, image, digest, keywords, labels, style, group, base, flag, split) = (
            json.loads(data.decode("utf-8", "surrogatepass"))
        )
        return Item(
            id=name,
            concept=concept,
            captions={language: tuple(texts) for language, texts in captions.items()},
            image=self._decoded_picture(image),
            digest=digest,
            keywords={language: tuple(texts) for language, texts in keywords.items()},
            labels=tuple(labels),
            style=style,
            group=group,
            base=base,
            flag=flag,
            split=split,
        )

    def _encoded_picture(self, image: Picture) -> str | list[Any]:
        if isinstance(image, Path):
            return str(image)
        if isinstance(image, bytes):
            return ["bytes", b64encode(image).decode()]
        if isinstance(image, ArchiveMember):
            return ["member", str(image.path), image.name, image.offset, image.size]
        if isinstance(image, ParquetPicture):
            start = b64encode(image.start).decode()
            place = [image.row, image.group, image.place, image.size]
            return ["row", str(image.path), *place, start, image.content.hex(), self._number(image.rows)]
        return ["shared", self._number(image)]

    def _decoded_picture(self, image: str | list[Any]) -> Picture:
        if isinstance(image, str):
            return Path(image)
        kind, *rest = image
        if kind == "bytes":
            return b64decode(rest[0])
        if kind == "member":
            return ArchiveMember(Path(rest[0]), *rest[1:])
        if kind == "row":
            path, row, group, place, size, start, content, rows = rest
            return ParquetPicture(
                Path(path),
                row,
                group,
                place,
                size,
                b64decode(start),
                bytes.fromhex(content),
                self._shared[rows],
            )
        picture: Picture = self._shared[rest[0]]
        return picture

    def _number(self, value: Any) -> int:
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._shared)
            self._shared.append(value)  # which also keeps its id from being used again
        return self._numbers[id(value)]


_OFFSET = struct.Struct("<q")

#: Values that are read at a time when all are.
_AT_ONCE = 64

Value = TypeVar("Value")


class StoredRows(Sequence[Value]):
    """Values in files without a name, which are gone with this object; any number takes the same memory.

    Parameters
    ----------
    folder : Path
        An existing folder on the disk that the files take space of.
    encode, decode : callable
        Turn a value into bytes and back.
    """

    def __init__(
        self, folder: Path, encode: Callable[[Value], bytes], decode: Callable[[bytes], Value]
    ) -> None:
        self._encode, self._decode = encode, decode
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed with this object
        self._ends = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        for file in (self._file, self._ends):
            weakref.finalize(self, file.close)
        self._size = 0
        self._count = 0

    def append(self, value: Value) -> None:
        """Add a value; before any is read, :meth:`flush` is due."""
        self.append_encoded(self._encode(value))

    def append_encoded(self, data: bytes) -> None:
        """Add a value that is encoded already."""
        self._size += len(data)
        self._count += 1
        self._file.write(data)
        self._ends.write(_OFFSET.pack(self._size))

    def flush(self) -> None:
        """Make what was appended readable."""
        self._file.flush()
        self._ends.flush()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Value]:
        for first in range(0, self._count, _AT_ONCE):
            yield from self._read(first, min(first + _AT_ONCE, self._count))

    @overload
    def __getitem__(self, row: int) -> Value: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[Value]: ...

    def __getitem__(self, row: int | slice) -> Value | Sequence[Value]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(self._count))]
        place = row + self._count if row < 0 else row
        if not 0 <= place < self._count:
            raise IndexError(row)
        return self._read(place, place + 1)[0]

    def _read(self, first: int, last: int) -> list[Value]:
        width = _OFFSET.size
        begins = max(first - 1, 0)
        data = os.pread(self._ends.fileno(), (last - begins) * width, begins * width)
        ends = [0] * (first == 0) + [end for (end,) in _OFFSET.iter_unpack(data)]
        content = os.pread(self._file.fileno(), ends[-1] - ends[0], ends[0])
        return [
            self._decode(content[start - ends[0] : end - ends[0]]) for start, end in itertools.pairwise(ends)
        ]


def encode_problem(problem: UnusableLine) -> bytes:
    """Return a problem as bytes."""
    return problem.line.to_bytes(8, "big") + problem.message.encode("utf-8", "surrogatepass")


def decode_problem(data: bytes) -> UnusableLine:
    """Return the problem that :func:`encode_problem` was given."""
    return UnusableLine(int.from_bytes(data[:8], "big"), data[8:].decode("utf-8", "surrogatepass"))
