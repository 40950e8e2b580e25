"""The checks of ``workbench doctor``: what is installed, where things are, and problems with hints.

A problem is ``broken`` if it keeps jobs from running as intended, and a ``warning`` if something else does
not work, or works less well.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from workbench.adapter.registry import adapters, get_adapter, import_name_shared
from workbench.errors import AdapterBroken, BadInput, StoreError, StoreUnavailable, WorkbenchError
from workbench.home import DATABASE_URL, workspace_path
from workbench.host.locks import is_locked
from workbench.host.mounts import network_filesystem
from workbench.jobs import workers
from workbench.notebooks import shipped
from workbench.search.indexes import index_names
from workbench.store.engines import is_sound, sqlite_module
from workbench.store.records import JOB_STATUSES
from workbench.workspace import Workspace

DISTRIBUTION = "notebook-workbench"


#: The oldest and the newest Python that the tests run on.
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)


#: Names of the Jupyter Server extension and of the JupyterLab extension that come with this package.
SERVER_EXTENSION, LAB_EXTENSION = "workbench.server", "notebook-workbench"


#: Packages whose versions help to explain a problem.
_TELLING = ("jupyterlab", "voila", "papermill", "ipykernel", "SQLAlchemy", "torch")


#: At most this many damaged values are listed.
_MOST_ROWS = 10


#: Free bytes below which jobs are about to fail, and below which a warning is due.
LEAST_FREE, LITTLE_FREE = 500 * 2**20, 2 * 2**30


#: The folders of a workspace.
_FOLDERS = ("runs", "jobs", "indexes", "cache")


#: Programs that can run the browser tests. The first has no window at all, so pages take half the time.
BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Problem:
    """A problem: its level, the check that found it, a message and a hint."""

    level: Literal["broken", "warning"]
    check: str
    message: str
    hint: str = ""


@dataclass
class Report:
    """The findings by name, and the problems."""

    found: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        """Whether anything is more than a warning."""
        return any(problem.level == "broken" for problem in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Return ``{"found": {name: text}, "problems": [{"level", "check", "message", "hint"}]}``."""
        return {"found": self.found, "problems": [asdict(problem) for problem in self.problems]}


@dataclass
class _Installation:
    """The installation and workspace to check, and the findings so far."""

    path: Path
    database_url: str
    found: dict[str, str]
    home: Workspace | None = None


def examine(path: str | os.PathLike[str] | None = None, *, database_url: str | None = None) -> Report:
    """Check this installation and a workspace, without creating or repairing anything.

    Parameters
    ----------
    path : path, optional
        The workspace folder; by default ``$WORKBENCH_HOME`` or ``./results``.
    database_url : str, optional
        Its database; by default ``$WORKBENCH_DATABASE_URL``, or the file in the folder.
    """
    report = Report()
    installation = _Installation(
        workspace_path(path),
        database_url or os.environ.get(DATABASE_URL) or "",
        report.found,
    )
    try:
        for name, check in CHECKS.items():
            try:
                report.problems += check(installation)
            except Exception as error:  # a check must not stop the others
                message = f"the check '{name}' failed: {type(error).__name__}: {error}"
                report.problems.append(Problem("broken", name, message))
    finally:
        if installation.home is not None:
            installation.home.close()
    # The worst first; the sort is stable.
    report.problems.sort(key=lambda problem: problem.level != "broken")
    return report


# Installation ---------------------------------------------------------------------------------------


def _python(installation: _Installation) -> Iterator[Problem]:
    oldest, newest = (".".join(map(str, version)) for version in (OLDEST_PYTHON, NEWEST_PYTHON))
    running = sys.version.split()[0]
    installation.found["python"] = f"{running} at {sys.executable} (supported: {oldest} to {newest})"
    if not OLDEST_PYTHON <= tuple(sys.version_info[:2]) <= NEWEST_PYTHON:
        message = f"Python {running} is not supported; supported versions are {oldest} to {newest}"
        hint = f"Install {DISTRIBUTION} in an environment with Python {newest}."
        yield Problem("warning", "python", message, hint)


def _packages(installation: _Installation) -> Iterator[Problem]:
    try:
        installation.found[DISTRIBUTION] = version(DISTRIBUTION)
    except PackageNotFoundError:
        hint = f'In its checkout: pip install -e "."; elsewhere: pip install {DISTRIBUTION}'
        yield Problem("broken", "packages", f"{DISTRIBUTION} is not installed as a package", hint)
        return
    for name in _TELLING:
        if installed := _version(name):
            installation.found[name] = installed
    missing = _missing("")
    if missing:
        hint = "pip install " + " ".join(f"'{line}'" for line in missing.values())
        yield Problem("broken", "packages", f"missing or too old: {', '.join(missing)}", hint)


def _extras(installation: _Installation) -> Iterator[Problem]:
    whole, absent = [], []
    for extra in metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
        missing = _missing(extra)
        if not missing:
            whole.append(extra)
        elif extra != "test":  # developers need no hint
            absent.append(f"{extra} ({', '.join(missing)})")
    installation.found["extras"] = ", ".join(whole) or "none"
    if absent:
        names = ",".join(one.partition(" ")[0] for one in absent)
        message = f"optional packages are not installed: {'; '.join(absent)}"
        yield Problem("warning", "extras", message, f'To install them: pip install "{DISTRIBUTION}[{names}]"')


def _missing(extra: str) -> dict[str, str]:
    """Return the missing requirements of an extra (of the package itself for ""): name to requirement."""
    out: dict[str, str] = {}
    for line in requires(DISTRIBUTION) or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        if extra and (requirement.marker is None or "extra" not in str(requirement.marker)):
            continue
        installed = _version(requirement.name)
        if not installed or not requirement.specifier.contains(installed, prereleases=True):
            requirement.marker = None  # the rest is what pip takes
            out[canonicalize_name(requirement.name)] = str(requirement)
    return out


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _browser(installation: _Installation) -> Iterator[Problem]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    installation.found["browser"] = path or "none"
    if path is None and find_spec("playwright"):
        message = "no Chromium found: the browser tests are skipped; nothing else needs it"
        yield Problem("warning", "browser", message, "On Debian: apt-get install chromium-headless-shell")


def _jupyter(installation: _Installation) -> Iterator[Problem]:
    from jupyter_core.paths import jupyter_config_path, jupyter_path
    from jupyter_server.extension.config import ExtensionConfigManager
    from jupyterlab_server.config import get_page_config

    manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
    configured: dict[str, bool] = manager.get_jpserver_extensions()  # type: ignore[no-untyped-call]
    enabled = configured.get(SERVER_EXTENSION)
    installation.found["server extension"] = "enabled" if enabled else "off"
    if enabled is False:
        message = f"the Jupyter Server extension {SERVER_EXTENSION} is disabled: no HTTP API, no job status"
        yield Problem("warning", "jupyter", message, f"jupyter server extension enable {SERVER_EXTENSION}")
    elif enabled is None and find_spec(SERVER_EXTENSION):
        message = f"Jupyter has no configuration for the server extension {SERVER_EXTENSION}: no HTTP API"
        yield Problem(
            "warning", "jupyter", message, f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
        )

    places = jupyter_path("labextensions")
    installed = any(Path(place, LAB_EXTENSION, "package.json").is_file() for place in places)
    off = get_page_config(places).get("disabledExtensions", {})
    disabled = LAB_EXTENSION in off if isinstance(off, list) else bool(off.get(LAB_EXTENSION))
    installation.found["lab extension"] = "enabled" if installed and not disabled else "off"
    if installed and disabled:
        message = "the JupyterLab extension is disabled: no launcher cards, no job status"
        yield Problem("warning", "jupyter", message, f"jupyter labextension enable {LAB_EXTENSION}")
    elif not installed:
        message = "JupyterLab does not find this package's extension: no launcher cards, no job status"
        yield Problem(
            "warning", "jupyter", message, f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
        )


# The workspace --------------------------------------------------------------------------------------


def _workspace(installation: _Installation) -> Iterator[Problem]:
    path = installation.path
    installation.found["workspace"] = str(path) if path.exists() else f"{path} (does not exist yet)"
    if path.is_dir() and not installation.database_url and not (path / "workbench.db").exists():
        installation.found["workspace"] = f"{path} (no workspace yet: it has no workbench.db)"
        if os.access(path, os.R_OK) and any(path.iterdir()):
            hint = (
                "Name the workspace with --workspace or $WORKBENCH_HOME. A first job or run would make one."
            )
            yield Problem("warning", "workspace", f"{path} holds other files and is no workspace", hint)
    near = next(folder for folder in (path, *path.parents) if folder.exists())
    if not near.is_dir():
        message = f"{path} cannot be a workspace: {near} is a file"
        yield Problem("broken", "workspace", message, "Name a folder with --workspace or $WORKBENCH_HOME.")
    elif not os.access(near, os.W_OK):
        hint = "Make it writable, or name another one with --workspace or $WORKBENCH_HOME."
        yield Problem("broken", "workspace", f"{near} is not writable: it can only be read", hint)
    for name in _FOLDERS:
        folder = path / name
        if folder.is_symlink() and not folder.exists():
            message = f"{folder} is a link to a missing place: {os.readlink(folder)}"  # noqa: PTH115
            yield Problem("broken", "workspace", message, "Restore that folder, or delete the link.")
        elif folder.exists() and not folder.is_dir():
            yield Problem("broken", "workspace", f"{folder} is not a folder", "Move it out of the workspace.")
        elif folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
            hint = f"Run: chmod u+rwx '{folder}', or ask its owner."
            yield Problem("broken", "workspace", f"{folder} is not readable for this user", hint)
    if kind := network_filesystem(near):
        installation.found["file system"] = f"{kind} (network)"


def _disk(installation: _Installation) -> Iterator[Problem]:
    near = next(folder for folder in (installation.path, *installation.path.parents) if folder.exists())
    free = shutil.disk_usage(near).free
    installation.found["free space"] = f"{free / 2**30:.1f} GiB"
    if free < LITTLE_FREE:
        message = f"the disk is nearly full: {free / 2**20:.0f} MiB are free on the workspace's disk"
        hint = (
            "Delete old folders in jobs/, runs/ or cache/ of the workspace, or use a folder on another disk."
        )
        yield Problem("broken" if free < LEAST_FREE else "warning", "disk", message, hint)


def _database(installation: _Installation) -> Iterator[Problem]:
    driver = sqlite_module().sqlite_version
    installation.found["database"] = f"SQLite {driver}"
    exists = installation.database_url or (installation.path / "workbench.db").exists()
    if not exists and not (installation.path.is_dir() and network_filesystem(installation.path)):
        return  # none yet, and this creates none; on a network file system opening it would be refused
    try:
        installation.home = Workspace(installation.path, database_url=installation.database_url or None)
    except WorkbenchError as error:
        installation.found["database"] = "cannot be opened"
        hint = error.help
        if isinstance(error, StoreUnavailable):
            hint = f"Is the database server running, and is ${DATABASE_URL} correct? {hint}"
        yield Problem("broken", "database", error.message, hint)
        return
    installation.found["database"] = installation.home.store.version()
    if installation.home.store.is_sqlite and not is_sound(driver):
        yield Problem(
            "warning",
            "database",
            f"SQLite {driver} has a bug that can corrupt databases, so write-ahead logging is off (slower)",
            "pip install 'pysqlite3>=0.6'",
        )


def _rows(installation: _Installation) -> Iterator[Problem]:
    """Name damaged pages and rows; nothing is changed."""
    from workbench.store.repair import find_pages, find_rows

    home = installation.home
    if home is None:
        return
    if pages := find_pages(home.store):
        more = "" if len(pages) == 1 else f" (and {len(pages) - 1} more)"
        hint = (
            "What can still be read is shown. Copy the workspace, then restore workbench.db from a backup, "
            "or try: sqlite3 workbench.db .recover"
        )
        yield Problem("broken", "database", f"the database file is damaged: {pages[0]}{more}", hint)
    try:
        findings = find_rows(home.store)
    except StoreError:
        if pages:
            return  # they are what cannot be read
        raise
    for finding in findings[:_MOST_ROWS]:
        yield Problem(
            "warning",
            "database",
            f"damaged or wrongly stored: {finding}",
            "It is shown as that. To store it so: workbench doctor --repair",
        )
    left = len(findings) - _MOST_ROWS
    if left > 0:
        yield Problem("warning", "database", f"damaged or wrongly stored: {left} more values")


def _indexes(installation: _Installation) -> Iterator[Problem]:
    """Name indexes whose files cannot be read."""
    folder = installation.path / "indexes"
    if not (folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)):
        return
    for name in index_names(folder):
        for file in sorted((folder / name).iterdir()):
            if not os.access(file, os.R_OK):
                message = f"index {name!r}: {file.name} is not readable for this user"
                yield Problem("broken", "indexes", message, f"Run: chmod u+r '{file}', or build it again.")
                break


def _queue(installation: _Installation) -> Iterator[Problem]:
    home = installation.home
    if home is None:
        return
    counts = {status: home.store.count_jobs(status) for status in JOB_STATUSES}
    installation.found["jobs"] = (
        ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"
    )
    alive = is_locked(workers.worker_lock(home))
    installation.found["worker"] = "alive" if alive else "none; one starts with the next job"
    if (waiting := counts["queued"]) and not alive:
        message = f"{waiting} job{' is' if waiting == 1 else 's are'} queued and no worker is running"
        yield Problem("broken", "jobs", message, "Start one: workbench worker")
    installation.found["indexes"] = ", ".join(index_names(home.path / "indexes")) or "none"


# Repairing ------------------------------------------------------------------------------------------


@dataclass
class Repairs:
    """What was repaired: a sentence per change, and the copy that was made first."""

    changes: list[str] = field(default_factory=list)
    backup: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return ``{"changes": [text], "backup": path}``."""
        return asdict(self)


def repair(path: str | os.PathLike[str] | None = None, *, database_url: str | None = None) -> Repairs:
    """Repair wrongly stored rows of a workspace and a missing schema version; the database is copied first.

    Raises
    ------
    BadInput
        There is no workspace, or its database is on a server.
    StoreError
        The database cannot be copied or written.
    """
    from workbench.store.repair import back_up, find_rows, missing_version, repair_rows, restore_version

    folder = workspace_path(path)
    if database_url or os.environ.get(DATABASE_URL):
        raise BadInput(
            "only a workspace's own database file can be repaired, not one on a server",
            hint=f"Unset ${DATABASE_URL}, or restore the server's database from its backup.",
        )
    file = folder / "workbench.db"
    if not file.is_file():
        raise BadInput(f"{folder} is no workspace: it has no workbench.db", hint="Name one with --workspace.")
    made = Repairs()
    version = missing_version(file)
    if version:
        made.backup = str(back_up(file))
        restore_version(file, version)
        made.changes.append(f"schema version: missing → {version}")
    with Workspace(folder) as home:
        if find_rows(home.store):
            made.backup = made.backup or str(back_up(file))
            made.changes += map(str, repair_rows(home.store))
    return made


# Adapters and notebooks -----------------------------------------------------------------------------


def _adapters(installation: _Installation) -> Iterator[Problem]:
    names, broken = adapters(), []
    if not names:
        message = "no adapter is installed, so there is nothing to train, evaluate or search"
        yield Problem(
            "broken", "adapters", message, "Install a model family's package, or: workbench new adapter"
        )
    for name in names:
        try:
            get_adapter(name)
        except AdapterBroken as error:
            broken.append(name)
            yield Problem("broken", "adapters", error.message, error.help)
            continue
        if other := import_name_shared(name):
            message = (
                f"adapter {name!r} shares the import name {other.import_name!r} with another distribution, "
                f"{other.distribution}, at {other.path}"
            )
            hint = f"One can break the other. Uninstall that ({other.uninstall}), or use two environments."
            yield Problem("warning", "adapters", message, hint)
    working = ", ".join(name for name in names if name not in broken) or "none"
    installation.found["adapters"] = (
        f"{working}; cannot be loaded: {', '.join(broken)}" if broken else working
    )


def _notebooks(installation: _Installation) -> Iterator[Problem]:
    installation.found["notebooks"] = str(shipped.notebooks_folder())
    for kind in shipped.JOB_NOTEBOOKS:
        try:
            shipped.job_notebook(kind)
        except WorkbenchError as error:
            yield Problem("broken", "notebooks", error.message, error.help)
    for name in adapters():
        try:
            shipped.own_notebooks(get_adapter(name))
        except AdapterBroken as error:
            if "notebook" in error.cause:  # other faults are reported by the check of adapters
                yield Problem("broken", "notebooks", error.message, error.help)
        except WorkbenchError as error:
            yield Problem("broken", "notebooks", error.message, error.help)


#: The checks, in this order.
CHECKS: dict[str, Callable[[_Installation], Iterator[Problem]]] = {
    "python": _python,
    "packages": _packages,
    "extras": _extras,
    "browser": _browser,
    "jupyter": _jupyter,
    "workspace": _workspace,
    "disk": _disk,
    "database": _database,
    "rows": _rows,
    "indexes": _indexes,
    "jobs": _queue,
    "adapters": _adapters,
    "notebooks": _notebooks,
}
