"""The installed adapters, each imported on first use."""

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
    """Return the names of the installed adapters, sorted, without importing them."""
    return sorted(_entry_points())


def get_adapter(name: str | None = None) -> BaseAdapter:
    """Return an adapter by name, or the only one installed.

    Raises
    ------
    UnknownAdapter
        There is no adapter of that name; the message lists the installed ones.
    BadInput
        ``name`` is missing and more than one adapter is installed.
    AdapterBroken
        The adapter is installed but cannot be loaded; the message gives the reason. Within one process it is
        not loaded again until a package is installed or removed.
    """
    entries = _entry_points()
    if not name:
        if len(entries) > 1:
            installed = ", ".join(sorted(entries))
            raise BadInput(f"the name of the adapter is missing. Installed: {installed}", hint="Name one.")
        if not entries:
            raise UnknownAdapter(name or "", ())
        name = next(iter(entries))
    if name not in entries:
        raise UnknownAdapter(name, sorted(entries))
    return load(entries[name])


def load_adapters(names: Iterable[str]) -> tuple[dict[str, BaseAdapter], list[AdapterBroken]]:
    """Return the adapters that can be loaded, by name, and the errors of the others."""
    working: dict[str, BaseAdapter] = {}
    broken: list[AdapterBroken] = []
    for name in names:
        try:
            working[name] = get_adapter(name)
        except AdapterBroken as error:
            broken.append(error)
    return working, broken


def installed_as(name: str) -> tuple[object, ...]:
    """Return a value that changes when an adapter's package, or one next to it, is installed or removed."""
    entry = _entry_points().get(name)
    return () if entry is None else installation(entry)


def import_name_shared(name: str) -> Namesake | None:
    """Return the other distribution that an adapter shares a regular package with, if any."""
    entry = _entry_points().get(name)
    return None if entry is None else sharing(entry)
