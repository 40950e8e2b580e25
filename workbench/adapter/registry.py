"""Which adapters are installed; one is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from workbench.adapter.contract import BaseAdapter
from workbench.adapter.loading import Namesake, installation, load, sharing
from workbench.errors import AdapterBroken, BadInput, UnknownAdapter

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
    AdapterBroken
        It is installed and cannot be loaded; the message says why. Within one process the same failure is
        not tried again until a package is installed or removed.
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
    return load(found[name])


def load_adapters(names: Iterable[str]) -> tuple[dict[str, BaseAdapter], list[AdapterBroken]]:
    """Return the adapters that can be loaded, by name, and what is wrong with the others."""
    working: dict[str, BaseAdapter] = {}
    broken: list[AdapterBroken] = []
    for name in names:
        try:
            working[name] = get_adapter(name)
        except AdapterBroken as error:
            broken.append(error)
    return working, broken


def installed_as(name: str) -> tuple[object, ...]:
    """Return what changes when an adapter's package, or one beside it, is installed or removed."""
    entry = _entry_points().get(name)
    return () if entry is None else installation(entry)


def import_name_shared(name: str) -> Namesake | None:
    """Return the other distribution that an adapter shares a regular package with, if there is one."""
    entry = _entry_points().get(name)
    return None if entry is None else sharing(entry)
