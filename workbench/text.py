"""Text for terminals and plain-text output. Imports nothing, so that the command line stays light."""

from __future__ import annotations

import re

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
