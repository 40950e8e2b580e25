"""The JavaScript and CSS beside the panels, put together without a build step."""

from __future__ import annotations

from pathlib import Path

_STATIC = Path(__file__).parent / "static"


def assets(*names: str) -> str:
    """Return some files of ``static`` as one text, in the order given."""
    return "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in names)
