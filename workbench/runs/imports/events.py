"""Read scalars and hyperparameters from TensorBoard's event files, without TensorBoard.

A file is a sequence of records: length (uint64), checksum, data, checksum. The data is an ``Event`` in
protocol buffers wire format, of which a few fields are read. Formats: ``tensorflow/core/lib/io``
(records), ``tensorflow/core/framework/{event,summary,tensor}.proto`` and ``tensorboard/plugins/hparams``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

#: A longer record holds an image or a graph, not a number: its data is skipped.
_LONG = 2**20


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


class Damaged(ValueError):
    """The file is not an event file, or is damaged."""


class Scalar(NamedTuple):
    """One number."""

    tag: str
    step: int
    time: float
    value: float


class Session(NamedTuple):
    """A record of the hyperparameters plugin: settings at the start, a status at the end."""

    settings: dict[str, Any] | None
    status: int | None
    time: float | None


class Other(NamedTuple):
    """Data other than scalars, such as ``images``, ``histograms`` and ``text``."""

    kind: str


def read_events(path: Path) -> Iterator[Scalar | Session | Other | float]:
    """Yield the time of the first record, then the content of a file, in order.

    An incomplete last record is ignored: it is being written, or its writer was killed.

    Raises
    ------
    Damaged
        A checksum is wrong.
    """
    first = True
    with path.open("rb") as file:
        for data in _records(file, path):
            event = dict(_scalars_of(data))
            at = _double(event.get(1, b"\0" * 8))
            if first:
                first = False
                yield at
            if 5 in event:
                yield from _summary(event[5], _signed(event.get(2, 0)), at)


def _records(file: BinaryIO, path: Path) -> Iterator[bytes]:
    number = 0
    while len(head := file.read(12)) == 12:
        length, check = struct.unpack("<QI", head)
        if check != masked_checksum(head[:8]):
            raise Damaged(f"{path}: record {number} is damaged; the {number} before it can be read")
        if length > _LONG:
            end = file.seek(0, 1) + length + 4
            if end > path.stat().st_size:
                return
            file.seek(end)
        else:
            data = file.read(length + 4)
            if len(data) < length + 4:
                return
            if struct.unpack("<I", data[-4:])[0] != masked_checksum(data[:-4]):
                raise Damaged(f"{path}: record {number} is damaged; the {number} before it can be read")
            yield data[:-4]
        number += 1


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


def _scalars_of(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (number, value) of each field; the last value of a repeated field counts."""
    return ((number, value) for number, _, value in _fields(data))


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
    return value - 2**64 if value >= 2**63 else value


def _double(data: bytes) -> float:
    return float(struct.unpack("<d", data)[0])


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace")


def _summary(data: bytes, step: int, at: float) -> Iterator[Scalar | Session | Other]:
    for number, _, value in _fields(data):
        if number == 1:
            yield from _value(dict(_scalars_of(value)), step, at)


def _value(value: dict[int, Any], step: int, at: float) -> Iterator[Scalar | Session | Other]:
    tag = _text(value.get(1, b""))
    plugin = dict(_scalars_of(dict(_scalars_of(value.get(9, b""))).get(1, b"")))
    kind = _text(plugin.get(1, b""))
    if kind == "hparams":
        yield from _session(plugin.get(2, b""))
    elif 2 in value:
        yield Scalar(tag, step, at, float(struct.unpack("<f", value[2])[0]))
    elif 8 in value:
        number = _tensor(value[8]) if kind in ("scalars", "") else None
        yield Other(kind or "tensors") if number is None else Scalar(tag, step, at, number)
    else:
        old = {3: "graphs", 4: "images", 5: "histograms", 6: "audio"}
        yield Other(kind or next((name for field, name in old.items() if field in value), "others"))


def _tensor(data: bytes) -> float | None:
    """Return the number of a scalar tensor; None if it has several values or is not numeric."""
    fields = dict(_scalars_of(data))
    kind = fields.get(1, 0)
    for number, _, dimension in _fields(fields.get(2, b"")):
        if number == 2 and dict(_scalars_of(dimension)).get(1, 0) != 1:
            return None
    content = fields.get(4, b"")
    if kind == _BFLOAT16:
        raw = content or struct.pack("<H", _first(fields.get(13), 0) & 0xFFFF)
        return float(struct.unpack("<f", b"\0\0" + raw)[0])
    if kind not in _TENSOR:
        return None
    form, field = _TENSOR[kind]
    if content:
        return float(struct.unpack(form, content)[0])
    value = fields.get(field)
    if kind == 1:
        return 0.0 if value is None else float(struct.unpack("<f", value[:4])[0])
    if kind == 2:
        return 0.0 if value is None else _double(value[:8])
    whole = _signed(_first(value, 0))
    if kind == 19:  # stored as its two bytes
        return float(struct.unpack("<e", struct.pack("<H", whole & 0xFFFF))[0])
    return float(whole)


def _first(value: Any, nothing: int) -> int:
    """Return the first of a list of whole numbers, packed or not."""
    if value is None:
        return nothing
    return _varint(value, 0)[0] if isinstance(value, bytes) else int(value)


def _session(data: bytes) -> Iterator[Session]:
    """Yield the content of a record of the hyperparameters plugin."""
    fields = dict(_scalars_of(data))
    if 3 in fields:
        settings, begun = {}, None
        for number, _, value in _fields(fields[3]):
            if number == 1:
                entry = dict(_scalars_of(value))
                settings[_text(entry.get(1, b""))] = _setting(entry.get(2, b""))
            elif number == 5:
                begun = _double(value)
        yield Session(settings, None, begun)
    if 4 in fields:
        end = dict(_scalars_of(fields[4]))
        yield Session(None, int(end.get(1, 0)), _double(end[2]) if 2 in end else None)


def _setting(data: bytes) -> Any:
    """Return a ``google.protobuf.Value`` as plain JSON."""
    for number, _, value in _fields(data):
        if number == 2:
            real = _double(value)
            return int(real) if real.is_integer() and abs(real) < 2**53 else real
        if number == 3:
            return _text(value)
        if number == 4:
            return bool(value)
        if number == 5:
            entries = (dict(_scalars_of(entry)) for _, _, entry in _fields(value))
            return {_text(entry.get(1, b"")): _setting(entry.get(2, b"")) for entry in entries}
        if number == 6:
            return [_setting(item) for _, _, item in _fields(value)]
    return None
