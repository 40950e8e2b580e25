"""What an import leaves out and what it changes, in words, and the conversion of other tools' times."""

from __future__ import annotations

import math
from collections import Counter

from workbench.values import storable

#: Later times than this are not in seconds: it is the year 5138.
_LATEST_SECONDS = 1e11

#: Units in which times are recorded by mistake, per second, coarsest first.
_FINER = (1e3, 1e6, 1e9)


class Report:
    """What an import leaves out, counted by description, and notes on what it changed."""

    def __init__(self) -> None:
        self._left_out: Counter[str] = Counter()
        self._notes: dict[str, None] = {}

    def leave_out(self, what: str, number: int = 1) -> None:
        """Count something that is not imported; a file is named with the reason."""
        self._left_out[str(storable(what))] += number

    def note(self, text: str) -> None:
        """Add a note; the same note is kept once."""
        self._notes[str(storable(text))] = None

    @property
    def left_out(self) -> dict[str, int]:
        """What is not imported, with its number."""
        return {what: number for what, number in self._left_out.items() if number}

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes, in order."""
        return tuple(self._notes)


class Clock:
    """Converts the times of one file to seconds since 1970.

    A time in a finer unit than expected (milliseconds in place of seconds) is recognised by its size: as
    seconds it would lie after the year 5138. A time that is none (NaN, negative, beyond any unit) is replaced
    by the one before, since a point needs a time and is worth more than its time.

    Parameters
    ----------
    what : str
        Name of the file in notes.
    fallback : float
        The time of points before the first valid time, in seconds since 1970.
    expected : str
        The unit that the file's format declares.
    """

    def __init__(self, what: str, fallback: float, expected: str = "seconds") -> None:
        self._what, self._expected = what, expected
        self._last = fallback
        self._converted = self._invalid = 0
        self._example: float | str = ""

    def seconds(self, value: float) -> float:
        """Return a time of the file, already divided by its declared unit, in seconds since 1970."""
        found = in_seconds(value)
        if found is None:
            self._invalid += 1
            self._example = self._example or f"{value:g}"
            return self._last
        if found != value:
            self._converted += 1
        self._last = found
        return found

    def tell(self, report: Report) -> None:
        """Add notes on what was converted and replaced."""
        if self._converted:
            report.note(
                f"{self._what}: {self._converted:,} times were in a finer unit than {self._expected} "
                "and were converted"
            )
        if self._invalid:
            report.note(
                f"{self._what}: {self._invalid:,} times are invalid (such as {self._example}); "
                "the time of the point before is used"
            )


def in_seconds(value: float) -> float | None:
    """Return a time as seconds since 1970, from seconds, milliseconds, microseconds or nanoseconds.

    Returns
    -------
    float or None
        None if it is negative, not finite, or too large for any of these units.
    """
    if not math.isfinite(value) or value < 0:
        return None
    for unit in (1.0, *_FINER):
        if value / unit < _LATEST_SECONDS:
            return value / unit
    return None
