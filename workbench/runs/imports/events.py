"""Read scalars and hyperparameters from TensorBoard's event files, without TensorBoard.

A file is a sequence of records: length (uint64), checksum, data, checksum. The data is an ``Event`` in
protocol buffers wire format, of which a few fields are read. Formats: ``tensorflow/core/lib/io``
(records), ``tensorflow/core/framework/{event,summary,tensor}.proto`` and ``tensorboard/plugins/hparams``.

Every byte is untrusted: whatever a file holds, reading ends, takes bounded memory, and raises nothing but
:class:`Damaged`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

#: A longer record holds a picture or a graph, perhaps with numbers beside it: its checksum is not computed,
#: which would take a second for each few megabytes.
_LONG = 2**20

#: A longer record is not read.
LONGEST = 2**25

#: Maximum nesting depth of a hyperparameter.
MOST_NESTED = 32


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


#: Tensor element types: struct format of one value in ``tensor_content``, and the field with the list.
_TENSOR = {
    1: ("<f", 5),
    2: ("<d", 6),
    3: ("<i", 7),
    4: ("<B", 7),
    5: ("<h", 7),
    6: ("<b", 7),
    9: ("<q", 10),
    10: ("<?", 11),
    19: ("<e", 13),
}


_BFLOAT16 = 14


#: Fields of an event and of a value whose data is not imported.
_EVENT_DATA = {4: "graphs", 6: "log messages", 8: "run metadata", 9: "graphs"}
_VALUE_DATA = {3: "graphs", 4: "images", 5: "histograms", 6: "audio"}


class Damaged(ValueError):
    """The file is not an event file, or is damaged."""


class Start(NamedTuple):
    """The first record of a file."""

    time: float


class Scalar(NamedTuple):
    """One number."""

    tag: str
    step: int
    time: float
    value: float


class Restart(NamedTuple):
    """A session began at a step: what was written before for this and later steps is void."""

    step: int


class Session(NamedTuple):
    """A record of the hyperparameters plugin: settings at the start, a status at the end."""

    settings: dict[str, Any] | None
    status: int | None
    time: float | None


class Other(NamedTuple):
    """Data other than scalars, such as ``images``, ``histograms`` and ``text``."""

    kind: str


class Unreadable(NamedTuple):
    """A record that is whole but does not hold an event; the records after it can be read."""

    reason: str


Content = Start | Scalar | Restart | Session | Other | Unreadable


def read_events(path: Path) -> Iterator[Content]:
    """Yield the content of a file, in order.

    An incomplete last record is ignored: it is being written, or its writer was killed.

    Raises
    ------
    Damaged
        A checksum is wrong: nothing after it can be read.
    OSError
        The file cannot be read.
    """
    first = True
    with path.open("rb") as file:
        for number, data in enumerate(_records(file, path)):
            if data is None:
                yield Other(f"records over {LONGEST // 2**20} MiB")
                continue
            try:
                event = _Message(data)
                at = event.double(1)
                if first:
                    first = False
                    yield Start(at)
                yield from _event(event, at)
            except Damaged as error:
                yield Unreadable(f"record {number}: {error}")


def _event(event: _Message, at: float) -> Iterator[Content]:
    step = event.whole(2)
    if 5 in event:
        for value in event.messages(5):
            for summary in value.messages(1):
                yield from _value(summary, step, at)
    if 7 in event and event.message(7).whole(1) == 1:
        yield Restart(step)
    for field, kind in _EVENT_DATA.items():
        if field in event:
            yield Other(kind)


def _records(file: BinaryIO, path: Path) -> Iterator[bytes | None]:
    """Yield the data of each record; None for one that is too long."""
    number, size = 0, path.stat().st_size
    while len(head := file.read(12)) == 12:
        length, check = struct.unpack("<QI", head)
        if check != masked_checksum(head[:8]):
            raise _damage(path, number)
        if file.tell() + length + 4 > size:
            size = path.stat().st_size  # it may have grown
            if file.tell() + length + 4 > size:
                return
        if length > LONGEST:
            file.seek(length + 4, 1)
            yield None
        else:
            data = file.read(length + 4)
            if len(data) < length + 4:
                return
            if length <= _LONG and struct.unpack("<I", data[-4:])[0] != masked_checksum(data[:-4]):
                raise _damage(path, number)
            yield data[:-4]
        number += 1


def _damage(path: Path, number: int) -> Damaged:
    return Damaged(f"{path}: record {number} is damaged; the {number} before it can be read")


@lru_cache(maxsize=1)
def _table() -> tuple[int, ...]:
    out = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        out.append(byte)
    return tuple(out)


def masked_checksum(data: bytes) -> int:
    """Return the masked CRC-32C of some bytes, as used in records."""
    table, check = _table(), 0xFFFFFFFF
    for byte in data:
        check = table[(check ^ byte) & 0xFF] ^ check >> 8
    check ^= 0xFFFFFFFF
    return ((check >> 15 | check << 17) + 0xA282EAD8) & 0xFFFFFFFF


# Messages --------------------------------------------------------------------------------------------


class _Message:
    """The fields of a message, read by number and expected type.

    Of a field that occurs several times the last value counts, as in protocol buffers. A field of another
    type than expected is damage.
    """

    def __init__(self, data: bytes) -> None:
        self._firsts: dict[int, tuple[int, Any]] = {}
        self._lasts: dict[int, tuple[int, Any]] = {}
        self._messages: dict[int, list[bytes]] = {}  # of a repeated number only the first is ever needed
        for number, kind, value in _fields(data):
            self._firsts.setdefault(number, (kind, value))
            self._lasts[number] = (kind, value)
            if kind == _BYTES:
                self._messages.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._lasts

    def _last(self, number: int, kind: int) -> Any:
        if number not in self._lasts:
            return None
        return _expect(number, kind, self._lasts[number])

    def data(self, number: int) -> bytes:
        """Return a field of bytes; empty if missing."""
        return self._last(number, _BYTES) or b""

    def text(self, number: int) -> str:
        """Return a field of text; what is not UTF-8 is replaced."""
        return self.data(number).decode("utf-8", errors="replace")

    def message(self, number: int) -> _Message:
        """Return a message in a field; empty if missing."""
        return _Message(self.data(number))

    def messages(self, number: int) -> Iterator[_Message]:
        """Yield the messages in a repeated field."""
        if number in self._lasts:
            _expect(number, _BYTES, self._lasts[number])
        for one in self._messages.get(number, ()):
            yield _Message(one)

    def whole(self, number: int) -> int:
        """Return a signed whole number; 0 if missing."""
        return _signed(self._last(number, _VARINT) or 0)

    def double(self, number: int) -> float:
        """Return a number of eight bytes; 0 if missing."""
        data = self._last(number, _FIXED64)
        return 0.0 if data is None else float(struct.unpack("<d", data)[0])

    def single(self, number: int) -> float:
        """Return a number of four bytes; 0 if missing."""
        data = self._last(number, _FIXED32)
        return 0.0 if data is None else float(struct.unpack("<f", data)[0])

    def first_number(self, number: int, kind: int, form: str) -> float:
        """Return the first of a list of numbers, packed into bytes or one per field; 0 if missing."""
        if number not in self._firsts:
            return 0.0
        found, value = self._firsts[number]
        if found == _BYTES and kind == _VARINT:
            return _varint(value, 0)[0] if value else 0
        if found == _BYTES:
            return float(_unpack(form, value[: struct.calcsize(form)])) if value else 0.0
        value = _expect(number, kind, (found, value))
        return value if kind == _VARINT else float(_unpack(form, value))


def _expect(number: int, kind: int, field: tuple[int, Any]) -> Any:
    found, value = field
    if found != kind:
        raise Damaged(f"field {number} has wire type {found}, expected {kind}")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield (number, wire type, value) of each field of a message."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value: Any
            value, at = _varint(data, at)
        elif kind == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
            value, at = data[at : at + size], at + size
        else:
            raise Damaged(f"field {number} has unknown wire type {kind}")
        if at > end:
            raise Damaged(f"field {number} is longer than its message")
        yield number, kind, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Damaged("truncated number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _signed(value: int) -> int:
    """Return a number of eight bytes with its sign; what exceeds them is dropped, as protocol buffers do."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value


def _unpack(form: str, data: bytes) -> Any:
    try:
        return struct.unpack(form, data)[0]
    except struct.error:
        raise Damaged(f"a number has {len(data)} bytes, expected {struct.calcsize(form)}") from None


# Summaries -------------------------------------------------------------------------------------------


def _value(value: _Message, step: int, at: float) -> Iterator[Scalar | Session | Other]:
    plugin = value.message(9).message(1)
    kind = plugin.text(1)
    if kind == "hparams":
        yield from _session(plugin.message(2))
    elif 2 in value:
        yield Scalar(value.text(1), step, at, value.single(2))
    elif 8 in value:
        number = _tensor(value.message(8)) if kind in ("scalars", "") else None
        yield Other(kind or "tensors") if number is None else Scalar(value.text(1), step, at, number)
    else:
        yield Other(kind or next((name for field, name in _VALUE_DATA.items() if field in value), "others"))


def _tensor(tensor: _Message) -> float | None:
    """Return the number of a scalar tensor; None if it has several values or is not numeric."""
    kind = tensor.whole(1)
    if any(dimension.whole(1) != 1 for dimension in tensor.message(2).messages(2)):
        return None
    content = tensor.data(4)
    if kind == _BFLOAT16:
        raw = content or struct.pack("<H", int(tensor.first_number(13, _VARINT, "")) & 0xFFFF)
        return float(_unpack("<f", b"\0\0" + raw))
    if kind not in _TENSOR:
        return None
    form, field = _TENSOR[kind]
    if content:
        return float(_unpack(form, content))
    if kind in (1, 2):
        return tensor.first_number(field, _FIXED32 if kind == 1 else _FIXED64, form)
    whole = _signed(int(tensor.first_number(field, _VARINT, "")))
    if kind == 19:  # stored as its two bytes
        return float(_unpack("<e", struct.pack("<H", whole & 0xFFFF)))
    return float(whole)


def _session(content: _Message) -> Iterator[Session]:
    """Yield the content of a record of the hyperparameters plugin."""
    if 3 in content:
        start = content.message(3)
        settings = {entry.text(1): _setting(entry.message(2)) for entry in start.messages(1)}
        yield Session(settings, None, start.double(5) if 5 in start else None)
    if 4 in content:
        end = content.message(4)
        yield Session(None, end.whole(1), end.double(2) if 2 in end else None)


def _setting(value: _Message, levels: int = MOST_NESTED) -> Any:
    """Return a ``google.protobuf.Value`` as plain JSON."""
    if not levels:
        raise Damaged(f"a hyperparameter is nested more than {MOST_NESTED} levels")
    if 2 in value:
        real = value.double(2)
        return int(real) if real.is_integer() and abs(real) < 2**53 else real
    if 3 in value:
        return value.text(3)
    if 4 in value:
        return bool(value.whole(4))
    if 5 in value:
        entries = value.message(5).messages(1)
        return {entry.text(1): _setting(entry.message(2), levels - 1) for entry in entries}
    if 6 in value:
        return [_setting(item, levels - 1) for item in value.message(6).messages(1)]
    return None
