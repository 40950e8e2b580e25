"""Emoji in queries: looked up by their names where there are no words, and left out beside words."""

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


#: Emoji that Unicode counts as punctuation, mathematics or letters.
_OTHER_EMOJI = "‼⁉ℹ↔⤴⤵◻◼◽◾〰〽"


#: Reserved for emoji: here are also those that are newer than Python's table of Unicode.
_EMOJI_PLANE = ("\U0001f000", "\U0001faff")


#: Digits and signs are symbols only as the picture of a key.
_KEYS = "#*0123456789"


_KEY = re.compile("[#*0-9]\ufe0f?\u20e3")


_FLAG_LETTERS = ("\U0001f1e6", "\U0001f1ff")


#: Maximum number of symbols that a note lists.
_LISTED = 10


def searchable(index: Index, query: str) -> tuple[str, Sequence[str], str]:
    """Return the text to search for, the names in it, and a note if it is not the query itself.

    Beside words, symbols are left out, and the note says so. Names in their place were tried on the demo's
    everyday queries: the first hit is right more often (by .04 to .2) where the symbol repeats the word, and
    wrong far more often (by .5 to .7) where it only decorates.

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
    named = {one: _own_name(index, one) for one in dict.fromkeys(symbols(query))}
    # Some symbols are words in another form, such as ℃: they are symbols only if the index names them.
    named = {one: name for one, name in named.items() if name or not words_of(_KEY.sub(" ", one))}
    rest = query
    for one in sorted(named, key=len, reverse=True):
        rest = rest.replace(one, " ")
    if words_of(rest):
        text = " ".join(rest.split()) if named else query
        return text, (text,), _left_out(list(named)) if named else ""
    named = {one: name or unicode_name(one) for one, name in named.items()}
    names = tuple(dict.fromkeys(filter(None, named.values())))
    if not names:
        shown = query if len(query) <= 60 else f"{query[:60]}…"
        raise wb.BadInput(f"the query {shown!r} has no letter or digit", hint="Type a word or two.")
    text = " ".join(names)
    note = f"searched for “{text}”, the name of {' '.join(one for one, name in named.items() if name)}"
    nameless = [one for one, name in named.items() if not name]
    return text, names, f"{note}; no name is known for {_listed(nameless)}" if nameless else note


def _left_out(found: Sequence[str]) -> str:
    verb = "is" if len(found) == 1 else "are"
    return f"{_listed(found)} {verb} left out: symbols are searched for only in a query without words"


def _listed(found: Sequence[str]) -> str:
    return " ".join([*found[:_LISTED], *(["…"] if len(found) > _LISTED else [])])


def symbols(text: str) -> list[str]:
    """Return the emoji and other symbols of a text; a sequence, such as a flag, is one."""
    out: list[str] = []
    joined = follows = False
    for one in text:
        flag = follows and _is_letter(one) and len(out[-1]) == 1 and _is_letter(out[-1])
        if follows and ((joined and _is_symbol(one)) or flag or _EXTENDS.match(one)):
            out[-1] += one
        elif follows := _is_symbol(one) or one in _KEYS:
            out.append(one)
        joined = one == "\u200d"
    return [one for one in out if one[0] not in _KEYS or _KEY.fullmatch(one)]


def _is_symbol(one: str) -> bool:
    kind = unicodedata.category(one)
    return kind == "So" or one in _OTHER_EMOJI or (kind == "Cn" and _EMOJI_PLANE[0] <= one <= _EMOJI_PLANE[1])


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
    names = [unicodedata.name(one, "").lower() for one in symbol if _is_symbol(one) or one in _KEYS]
    return " ".join(name for name in names if name)
