"""Which adapters are installed; one is imported when it is asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import cast

from workbench.adapter.contract import BaseAdapter
from workbench.errors import BadInput, UnknownAdapter

ENTRY_POINT_GROUP = "workbench.adapters"


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def adapters() -> list[str]:
    """Return the names of the installed adapters, sorted; none of them is imported."""
    return sorted(_entry_points())


def get_adapter(name: str | None = None) -> BaseAdapter:
    """Return an adapter by name, or the only one installed.

    Raises
    ------
    UnknownAdapter
        No adapter of that name; the message lists the known ones.
    BadInput
        No name was given and there is more than one to choose from.
    """
    found = _entry_points()
    if not name:
        if len(found) > 1:
            raise BadInput(f"which adapter? Installed: {', '.join(sorted(found))}", hint="Give its name.")
        if not found:
            raise UnknownAdapter(name or "", ())
        name = next(iter(found))
    if name not in found:
        raise UnknownAdapter(name, sorted(found))
    return cast(BaseAdapter, found[name].load())
