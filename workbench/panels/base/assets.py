"""Join the panels' JavaScript and CSS files without a build step."""

from __future__ import annotations

from pathlib import Path

from workbench.panels.base.colours import with_colours

#: The mark of the best value, which ``trophy.css`` draws; without styles, the value's bold type remains.
TROPHY = '<span class="wb-trophy" role="img" aria-label="best"></span>'

_PANELS = Path(__file__).parents[1]


def assets(*names: str) -> str:
    """Return files as one text; names are relative to the panels folder (``"base/dom.js"``)."""
    return with_colours("\n".join((_PANELS / name).read_text(encoding="utf-8") for name in names))


def panel_script(*names: str) -> str:
    """Return the module of a panel: the shared scripts, its own, and the frame around what they export."""
    return f"{assets('base/dom.js', 'base/frame.js')}\n{_own(names)}\nexport default framed(panel);\n"


def page_script(*names: str) -> str:
    """Return a script that runs a panel without a kernel: the last of the files starts ``panel``."""
    return f"{assets('base/dom.js')}\n{_own(names)}"


def _own(names: tuple[str, ...]) -> str:
    return assets(*names).replace("\nexport default ", "\nconst panel = ")
