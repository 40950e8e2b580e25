"""Queries without a letter or digit: emoji are looked up by their names."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

import workbench as wb
from adapters.vlm_quantization.towers.ngrams import words_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters.vlm_quantization.index.opened import Index

_SELECTOR = "\ufe0f"


_SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")


#: Selectors, joiners, the frame of a key, skin tones and tags continue a symbol.
_EXTENDS = re.compile("[\ufe0f\u200d\u20e3\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")


#: Digits and signs are symbols only as the picture of a key.
_KEYS = "#*0123456789"


_KEY = re.compile("[#*0-9]\ufe0f?\u20e3")


_FLAG_LETTERS = ("\U0001f1e6", "\U0001f1ff")


def searchable(index: Index, query: str) -> tuple[str, Sequence[str], str]:
    """Return the text to search for, the names in it, and a note if it is not the query itself.

    Parameters
    ----------
    index : Index
        Its own names come before those of Unicode.
    query : str
        Any text.

    Raises
    ------
    workbench.BadInput
        The query has no letter, digit or emoji.
    """
    query = query.strip()
    if not query:
        raise wb.BadInput("the query is empty", hint="Type a word or two.")
    if words_of(_KEY.sub(" ", query)):
        return query, (query,), ""
    named = {one: name for one in symbols(query) if (name := _own_name(index, one) or unicode_name(one))}
    if not named:
        shown = query if len(query) <= 60 else f"{query[:60]}…"
        raise wb.BadInput(f"the query {shown!r} has no letter or digit", hint="Type a word or two.")
    names = tuple(dict.fromkeys(named.values()))
    text = " ".join(names)
    return text, names, f"searched for “{text}”, the name of {' '.join(named)}"


def symbols(text: str) -> list[str]:
    """Return the emoji and other symbols of a text; a sequence, such as a flag, is one."""
    out: list[str] = []
    joined = False
    for one in text:
        flag = bool(out) and _is_letter(one) and len(out[-1]) == 1 and _is_letter(out[-1])
        if out and (joined or flag or _EXTENDS.match(one)):
            out[-1] += one
        elif unicodedata.category(one) == "So" or one in _KEYS:
            out.append(one)
        joined = one == "\u200d"
    return [one for one in out if one[0] not in _KEYS or _KEY.fullmatch(one)]


def _is_letter(one: str) -> bool:
    return _FLAG_LETTERS[0] <= one <= _FLAG_LETTERS[1]


def _own_name(index: Index, symbol: str) -> str:
    """Return the name of an index's own item for a symbol; empty if it has none."""
    captions = index.sides["captions"].items
    for form in (symbol, _SKIN.sub("", symbol)):
        code = "-".join(f"{ord(one):04X}" for one in form if one != _SELECTOR)
        for language in index.manifest.languages:
            row = captions.find(f"{code}:{language}:0")
            if row is not None:
                return str(captions[row]["caption"])
    return ""


def unicode_name(symbol: str) -> str:
    """Return the name that Unicode gives to a symbol, in lower case; empty if it has none."""
    if _is_letter(symbol[0]):
        letters = "".join(
            chr(ord(one) - ord(_FLAG_LETTERS[0]) + ord("A")) for one in symbol if _is_letter(one)
        )
        return f"flag {letters}" if len(letters) == 2 else ""
    names = [
        unicodedata.name(one, "").lower()
        for one in symbol
        if unicodedata.category(one) == "So" or one in _KEYS
    ]
    return " ".join(name for name in names if name)
