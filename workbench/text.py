"""Text for terminals, messages and plain-text output.

Imports only light parts of the standard library, so that the command line stays light.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

#: Maximum length of a value, and of one of several names, in a message, in characters.
SHOWN_CHARACTERS, NAME_CHARACTERS = 120, 60

#: Colours of a log, or one control character or unpaired surrogate; all but newline and tab.
_CONTROLS = re.compile(r"\x1b\[[0-9;]*m|[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def short_number(value: float) -> str:
    """Format a number for plain text: four significant digits."""
    return f"{value:.4g}"


def shortened(text: str, most: int = 100) -> str:
    """Return text in one line, cut to at most ``most`` characters."""
    line = " ".join(text[: most * 4].split())
    return line if len(line) <= most and len(text) <= most * 4 else f"{line[: most - 1]}…"


def visible(text: str, *, colours: bool = False) -> str:
    """Return text with control characters escaped, so that a name cannot clear or rewrite a terminal.

    Parameters
    ----------
    text : str
        Newlines and tabs are kept.
    colours : bool
        Whether to keep carriage returns and the escape sequences of colours, which logs contain.
    """

    def escaped(match: re.Match[str]) -> str:
        kept = colours and (len(match[0]) > 1 or match[0] == "\r")
        return match[0] if kept else match[0].encode("unicode_escape").decode()

    return _CONTROLS.sub(escaped, text)


def short(text: str, most: int = SHOWN_CHARACTERS) -> str:
    """Return the first line of a text, cut to at most ``most`` characters with an ellipsis."""
    first, newline, _ = text.partition("\n")
    return first if len(first) <= most and not newline else f"{first[: most - 1].rstrip()}…"


def shown(value: object, most: int = SHOWN_CHARACTERS) -> str:
    """Return ``repr(value)`` for a message; of a long one the beginning and its length."""
    text = repr(value[: most + 1]) if isinstance(value, (str, bytes)) else repr(value)
    if len(text) <= most:
        return text
    size = len(value) if isinstance(value, (str, bytes)) else len(text)
    return f"{text[:most]}… ({size:,} characters)"


def nearest(wanted: object, names: Iterable[object], most: int = 1) -> list[str]:
    """Return the names that are probably meant, the likeliest first.

    Parameters
    ----------
    wanted : object
        What was given.
    names : iterable
        The valid names, the most important ones first: of equally likely names, the first is preferred.
    most : int
        Maximum number of names to return.

    Notes
    -----
    A name that contains all of ``wanted`` between its separators is likelier than one that is only spelled
    alike: ``R@10`` means ``t2i/R@10@64`` rather than ``R@1``, and fewer parts are likelier than more.
    """
    text = str(wanted)[:NAME_CHARACTERS].casefold()
    known = [str(name) for name in names]
    if not text or not known:
        return []
    inside = re.compile(rf"(?<![^\W_]){re.escape(text)}(?![^\W_])")
    found = [name for name in known if name.casefold() == text]
    found += sorted((name for name in known if inside.search(name.casefold())), key=_parts)
    folded: dict[str, str] = {}
    for name in known:
        folded.setdefault(name.casefold(), name)
    found += [folded[near] for near in difflib.get_close_matches(text, folded, n=most)]
    return list(dict.fromkeys(found))[:most]


def _parts(name: str) -> int:
    return name.count("/")


def alternatives(names: Sequence[str]) -> str:
    """Return names as ``'a', 'b' or 'c'``."""
    quoted = [repr(name) for name in names]
    return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def listed(names: Iterable[object], most: int = 8) -> str:
    """Return names separated by commas: the first few, each cut, and how many there are besides."""
    known = [short(str(name), NAME_CHARACTERS) for name in names]
    more = len(known) - most
    return ", ".join(known[:most]) + (f" and {more} more" if more > 0 else "")
