"""Colours of series and runs, for Python, CSS and JavaScript alike."""

from __future__ import annotations

from collections.abc import Sequence

#: One colour per series, readable on white; pages use them as the CSS variables ``--wb-s0``, ``--wb-s1``, …
SERIES_COLOURS = (
    *("#3155d6", "#c26a10", "#1d8a5f", "#8a4fc4", "#c0392b"),
    *("#4b7f9e", "#96730a", "#c2418f", "#5a6b1f", "#5b5f8a"),
)

#: The same series on a dark page.
DARK_SERIES_COLOURS = (
    *("#8ea6ff", "#f0a35c", "#56c596", "#c79bf2", "#f08a80"),
    *("#8fc1de", "#e0c356", "#f08fc4", "#b7cc6a", "#b6bae8"),
)


def with_colours(css: str) -> str:
    """Return CSS with the colours where it says ``--wb-series: light;`` or ``--wb-series: dark;``."""
    for name, colours in (("light", SERIES_COLOURS), ("dark", DARK_SERIES_COLOURS)):
        css = css.replace(f"--wb-series: {name};", _variables(colours))
    return css


def _variables(colours: Sequence[str]) -> str:
    return " ".join(f"--wb-s{place}: {colour};" for place, colour in enumerate(colours))
