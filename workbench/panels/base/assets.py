"""The JavaScript and CSS beside the panels, put together without a build step."""

from __future__ import annotations

from pathlib import Path

_PANELS = Path(__file__).parents[1]


def assets(*names: str) -> str:
    """Return some files, named from the folder of the panels (``"base/dom.js"``), as one text."""
    return "\n".join((_PANELS / name).read_text(encoding="utf-8") for name in names)
