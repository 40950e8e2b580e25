"""Text for terminals and plain-text output. Imports nothing, so that the command line stays light."""

from __future__ import annotations


def short_number(value: float) -> str:
    """Format a number for plain text: four significant digits."""
    return f"{value:.4g}"
