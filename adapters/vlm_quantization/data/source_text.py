"""How a collection is named in one text: a name or a path, its options, and further collections.

::

    emoji
    photos/captions.csv?image=file&caption=title
    emoji + stamps?photographs=yes

Options follow a question mark, separated by ``&``; a value may use ``%26`` and the like for characters with a
meaning. Collections that are joined are separated by a plus sign between blanks. The path of an existing file
or folder is taken as it is, whatever it contains.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import workbench as wb


@dataclass(frozen=True)
class Source:
    """One collection: its name or path, and its options by name."""

    place: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        options = "&".join(f"{name}={quote(value, safe='/,:. ')}" for name, value in self.options.items())
        return f"{self.place}?{options}" if options else self.place


def parse_sources(text: str) -> list[Source]:
    """Return the collections that a text names.

    Raises
    ------
    BadInput
        It names none, or its options are not ``name=value``.
    """
    if _exists(text):
        return [Source(text)]
    sources = [_source(part.strip()) for part in re.split(r"\s\+(?:\s|$)", text)]
    if not all(source.place for source in sources):
        raise wb.BadInput(
            f"{text!r} names no collection where one is expected", hint="For example: emoji + photos.jsonl"
        )
    return sources


def joined_text(sources: Sequence[Source]) -> str:
    """Return the text that names collections."""
    return " + ".join(map(str, sources))


def _source(text: str) -> Source:
    if _exists(text) or "?" not in text:
        return Source(text)
    place, _, tail = text.partition("?")
    options: dict[str, str] = {}
    for part in filter(None, tail.split("&")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise wb.BadInput(
                f"{part!r} in {text!r} is not an option",
                hint="Options are written PATH?name=value&name=value.",
            )
        options[name.strip()] = unquote(value.strip())
    return Source(place, options)


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):  # too long, or a zero byte
        return False
