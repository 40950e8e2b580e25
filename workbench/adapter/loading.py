"""Load an adapter from its entry point, or say why it cannot be loaded and what to do."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

from workbench.adapter.contract import BaseAdapter
from workbench.errors import AdapterBroken, WorkbenchError

#: Of what a package raised, an error shows at most this many characters.
_SHOWN_CHARACTERS = 500


_CORRECT = "Correct the entry point in the group 'workbench.adapters' of {package}, and install it again."


_RESTART = "Then start this program again."


#: What failed in this process. A broken import can be slow, so it is tried again only when a package is
#: installed or removed where this one is.
_FAILED: dict[tuple[object, ...], tuple[str, str]] = {}


@dataclass(frozen=True)
class Namesake:
    """A package of another distribution that has the first part of an adapter's import name.

    Attributes
    ----------
    import_name : str
        Such as ``"adapters"``.
    path : Path
        The file that Python imports by this name.
    distribution : str
        Name and version of the distribution that it belongs to; empty where none is known.
    uninstall : str
        The command that removes it; empty where no distribution is known.
    """

    import_name: str
    path: Path
    distribution: str = ""
    uninstall: str = ""


def load(entry: EntryPoint) -> BaseAdapter:
    """Import the adapter that an entry point names.

    Raises
    ------
    AdapterBroken
        The import failed, or the entry point does not name an instance of :class:`BaseAdapter`.
    """
    if known := _FAILED.get(installation(entry)):
        raise AdapterBroken(entry.name, known[0], hint=known[1])
    try:
        return _loaded(entry)
    except AdapterBroken as error:
        cause, hint, raised = error.cause, error.help, error.__cause__
    except (Exception, SystemExit) as error:  # other people's code: whatever it raises is reported
        (cause, hint), raised = _import_problem(entry, error), error
    # The stamp of after the import, which may have written its bytecode.
    _FAILED[installation(entry)] = cause, hint
    raise AdapterBroken(entry.name, cause, hint=hint) from raised


def installation(entry: EntryPoint) -> tuple[object, ...]:
    """Return what changes when packages are installed or removed where an entry point's package is."""
    folder = "" if entry.dist is None else os.fspath(Path(str(entry.dist.locate_file(""))))
    changed = 0
    with suppress(OSError):
        changed = Path(folder).stat().st_mtime_ns
    return entry.name, entry.value, folder, changed, tuple(sys.path)


def sharing(entry: EntryPoint) -> Namesake | None:
    """Return the other distribution into whose package an adapter was installed, if there is one.

    Both then have files in one folder, and the adapter is imported through the other's ``__init__.py``.
    """
    namesake = _namesake(entry)
    if namesake is None or not namesake.distribution or entry.dist is None:
        return None
    inside = f"\n{namesake.import_name}/"
    return namesake if inside in f"\n{_recorded(entry.dist)}" else None


def _loaded(entry: EntryPoint) -> BaseAdapter:
    if not re.fullmatch(r"[\w.]+\s*:\s*[\w.]+\s*(\[.*\])?", entry.value):
        cause = f"its entry point {entry.value!r} must have the form 'module:object'"
        raise AdapterBroken(entry.name, cause, hint=_CORRECT.format(package=_package(entry)))
    found: Any = importlib.import_module(entry.module)
    for name in entry.attr.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            cause = f"{entry.attr!r} not found in its module {entry.module!r}"
            raise AdapterBroken(entry.name, cause, hint=_CORRECT.format(package=_package(entry))) from error
    if isinstance(found, BaseAdapter):
        return found
    what, todo = f"a {type(found).__name__}", _CORRECT.format(package=_package(entry))
    if isinstance(found, type):
        what = f"the class {found.__name__}"
        if issubclass(found, BaseAdapter):
            todo = f"Name an instance instead: adapter = {found.__name__}()"
    cause = f"{entry.value!r} is {what}; it must be an instance of workbench.BaseAdapter"
    raise AdapterBroken(entry.name, cause, hint=todo)


def _import_problem(entry: EntryPoint, error: BaseException) -> tuple[str, str]:
    """Return the cause and what to do, where the import of an adapter's module raised."""
    package = _package(entry)
    reason = _reason_of(error)
    missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    own_missing = bool(missing) and f"{entry.module}.".startswith(f"{missing}.")
    namesake = _namesake(entry)
    if namesake is not None and own_missing:
        return _hidden(entry, namesake)
    if namesake is not None and namesake.distribution and _passes_through(error.__traceback__, namesake.path):
        return _hidden(entry, namesake, reason)
    again = f"pip install --force-reinstall --no-deps {package}" if entry.dist else ""
    if own_missing:
        return f"its module {missing!r} not found", f"Install its package again: {again}".rstrip(": ")
    if missing:
        needs = f"pip install {package}" if entry.dist else "install its package again"
        return f"module {missing!r}, which it needs, not found", f"Install what it needs: {needs}"
    if isinstance(error, WorkbenchError) and error.help:
        return reason, error.help
    trace = f"The whole trace: python -c 'import {entry.module}'"
    return reason, f"Update or reinstall {package}, or uninstall it. {trace}"


def _hidden(entry: EntryPoint, namesake: Namesake, reason: str = "") -> tuple[str, str]:
    name, path = namesake.import_name, namesake.path
    if namesake.distribution:
        cause = (
            f"the import name {name!r} belongs to another distribution, {namesake.distribution}, at {path}"
        )
        own = f"install {_package(entry)} in an environment of its own"
        hint = f"Uninstall that ({namesake.uninstall}), or {own}."
    else:
        cause = f"its module {entry.module!r} not found, since Python finds {name!r} at {path}"
        again = f"install {_package(entry)} again"
        hint = f"If that is another package: rename, move or uninstall it. If not: {again}."
    return f"{cause}, which raised {reason}" if reason else cause, f"{hint} {_RESTART}"


def _reason_of(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".strip(": ")
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None and entry.dist.name else "its package"


# Whose a package is ---------------------------------------------------------------------------------


def _namesake(entry: EntryPoint) -> Namesake | None:
    """Return the package that has the adapter's import name and is not of the adapter's distribution."""
    name = entry.module.partition(".")[0]
    path = _imported_from(name)
    if path is None:  # no such package, or a namespace that any number of distributions share
        return None
    owner = _owner(path)
    if owner is None:
        return Namesake(name, path)
    if entry.dist is not None and _canonical(owner) in {_canonical(entry.dist), *_required(entry.dist)}:
        return None
    return Namesake(name, path, f"{owner.name} {owner.version}", f"pip uninstall {owner.name}")


def _imported_from(name: str) -> Path | None:
    """Return the file that Python imports, or has imported, by a top-level name."""
    if name in sys.modules:
        file = getattr(sys.modules[name], "__file__", None)
        return Path(file) if file else None
    with suppress(ImportError, ValueError, AttributeError):
        spec = find_spec(name)
        if spec is not None and spec.has_location and spec.origin:
            return Path(spec.origin)
    return None


def _owner(path: Path) -> Distribution | None:
    """Return the distribution that installed a file, or that is installed editable from around it."""
    file = path.resolve()
    for one in distributions():
        with suppress(OSError, ValueError, KeyError, TypeError):  # metadata that cannot be read owns nothing
            folder = Path(str(one.locate_file(""))).resolve()
            inside = file.is_relative_to(folder) and f"\n{file.relative_to(folder).as_posix()},"
            if one.name and ((inside and inside in f"\n{_recorded(one)}") or file in _Editable(one)):
                return one
    return None


class _Editable:
    """The folder that a distribution is installed editable from."""

    def __init__(self, one: Distribution) -> None:
        origin = json.loads(one.read_text("direct_url.json") or "{}")
        editable = origin.get("dir_info", {}).get("editable")
        self._folder = Path(unquote(urlsplit(origin["url"]).path)).resolve() if editable else None

    def __contains__(self, file: Path) -> bool:
        return self._folder is not None and file.is_relative_to(self._folder)


def _recorded(one: Distribution) -> str:
    return (one.read_text("RECORD") or "").replace("\r\n", "\n")


def _required(one: Distribution) -> Iterator[str]:
    for line in one.requires or ():
        yield _plain_name(re.split(r"[^\w.-]", line, maxsplit=1)[0])


def _canonical(one: Distribution) -> str:
    return _plain_name(one.name or "")


def _plain_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _passes_through(trace: TracebackType | None, path: Path) -> bool:
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            return True
        trace = trace.tb_next
    return False
