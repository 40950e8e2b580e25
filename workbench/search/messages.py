"""Messages between clients and the search service: framed JSON, with pictures as base64."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
import socket
import struct
from collections.abc import Mapping
from typing import Any

from workbench import errors
from workbench.results.explanation import Term
from workbench.results.hits import Hit, SearchResult
from workbench.search.filters import FilterField
from workbench.search.searcher import MAX_IMAGE_BYTES
from workbench.wire import number_from

#: Maximum size of a request, in bytes: a picture as base64, with line breaks, and its options. A comparison
#: of two pictures must fit too.
REQUEST_BYTES = MAX_IMAGE_BYTES * 4 // 3 * 21 // 20 + 2**16


#: Maximum size of an answer, in bytes: several hundred thumbnails.
ANSWER_BYTES = 2**26


_LENGTH = struct.Struct(">I")


# Search ----------------------------------------------------------------------------------------


def result_from(data: Mapping[str, Any]) -> SearchResult:
    """Return the result that ``SearchResult.to_json`` wrote."""
    hits = [hit_from(row) for row in data["hits"]]
    took = {name: number_from(value) for name, value in data.get("took_ms", {}).items()}
    return SearchResult(hits, took, note=str(data.get("note", "")), cutoff=data.get("cutoff"))


def hit_from(row: Mapping[str, Any]) -> Hit:
    """Return the hit that ``Hit.to_json`` wrote."""
    fields = {name: value for name, value in row.items() if name in Hit.__dataclass_fields__}
    if fields.get("thumbnail") is not None:
        fields["thumbnail"] = base64.b64decode(fields["thumbnail"])
    fields["score"] = number_from(fields["score"])
    return Hit(**fields)


def field_json(field: FilterField) -> dict[str, Any]:
    """Return a field of filters as plain JSON."""
    values = [{"value": value, "count": count} for value, count in field.values]
    return {**dataclasses.asdict(field), "values": values}


def field_from(data: Mapping[str, Any]) -> FilterField:
    """Return the field that :func:`field_json` wrote."""
    known = {name: value for name, value in data.items() if name in FilterField.__dataclass_fields__}
    return FilterField(
        **{**known, "values": [(str(one["value"]), int(one["count"])) for one in data["values"]]}
    )


#: The two sides of a comparison.
SIDES = ("left", "right")


def term_json(term: Term) -> dict[str, str]:
    """Return one side of a comparison as plain JSON: ``{"by", "value", "name"}``, a picture as base64."""
    value = picture_text(term.value) if term.by == "image" else term.value
    return {"by": term.by, "value": value, "name": term.name}


def term_from(data: Any, side: str) -> Term:
    """Return the side of a comparison that :func:`term_json` wrote; a picture stays encoded.

    Raises
    ------
    BadInput
        The data describe no text, picture or item.
    """
    if not isinstance(data, Mapping):
        raise errors.BadInput(f"{side} must be a mapping, got {type(data).__name__}")
    by, value = data.get("by"), data.get("value")
    if by not in ("text", "image", "item"):
        raise errors.BadInput(f"{side}: cannot compare {by!r}; allowed: text, image, item")
    if not isinstance(value, str):
        raise errors.BadInput(f"{side}: {by} must be text, got {type(value).__name__}")
    return Term(by, picture_from(value) if by == "image" else value, str(data.get("name", ""))[:200])


def pictured(question: Mapping[str, Any]) -> list[str]:
    """Return the sides of a comparison that are pictures; none for any other request."""
    return [
        side
        for side in SIDES
        if question.get("op") == "explain"
        and isinstance(question.get(side), Mapping)
        and question[side].get("by") == "image"
    ]


def picture_text(data: bytes) -> str:
    """Return the bytes of a picture as base64 text."""
    return base64.b64encode(data).decode("ascii")


def picture_from(text: str) -> bytes:
    """Return the bytes of a picture from base64 text: in one line or several, or as a ``data:`` URL.

    Raises
    ------
    BadInput
        The text is not valid base64.
    """
    body = text.strip()
    if body[:5].lower() == "data:":
        head, comma, body = body.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise errors.BadInput(
                f"the picture is a data: URL that is not base64: {head[:60]!r}",
                hint="It must begin like data:image/jpeg;base64,",
            )
    body = body.translate(_BREAKS)
    if (other := _NOT_BASE64.search(body)) is not None:
        raise errors.BadInput(
            f"the picture is not valid base64: character {other.start() + 1:,} is {other[0]!r}",
            hint=_AS_BASE64,
        )
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise errors.BadInput(
            f"the picture is not valid base64: {len(body):,} characters ({error})", hint=_AS_BASE64
        ) from None


_AS_BASE64 = "Send the bytes of its file as base64."


#: White space that programs break long base64 with.
_BREAKS = {ord(one): None for one in " \t\r\n"}


_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]")


def picture_characters(text: str) -> int:
    """Return the number of base64 characters in a text that :func:`picture_from` takes."""
    start = text.find(",", 0, 200) + 1 if text[:5].lower() == "data:" else 0
    return len(text) - start - sum(text.count(one) for one in " \t\r\n")


# Messages --------------------------------------------------------------------------------------


def framed(data: bytes) -> bytes:
    """Return a message, prefixed with its length."""
    return _LENGTH.pack(len(data)) + data


def length_of(head: bytes, most: int) -> int:
    """Return the length of a message from its first four bytes.

    Raises
    ------
    TooLarge
        The length is more than ``most`` bytes.
    """
    length: int = _LENGTH.unpack(head)[0]
    if length > most:
        raise errors.TooLarge(f"a message must be at most {most:,} bytes, got {length:,}")
    return length


HEAD_BYTES = _LENGTH.size


def receive(connection: socket.socket, most: int) -> bytes:
    """Return the next message from a blocking socket.

    Raises
    ------
    EOFError
        The other side closed the connection.
    TooLarge
        The message has more than ``most`` bytes.
    """
    return _exactly(connection, length_of(_exactly(connection, HEAD_BYTES), most))


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(min(count - len(data), 2**20))
        if not part:
            raise EOFError("the connection was closed")
        data += part
    return bytes(data)
