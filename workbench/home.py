"""The location of a workspace: its folder, its database, and its metrics writer."""

from __future__ import annotations

import difflib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, NotFound, StoreError
from workbench.host import processes
from workbench.store.sink import LocalSink
from workbench.store.store import Store
from workbench.store.writer import Writer

#: Environment variables: the workspace folder, and a database outside it.
HOME = "WORKBENCH_HOME"
DATABASE_URL = "WORKBENCH_DATABASE_URL"

#: Name of the database file in a workspace's folder.
DATABASE = "workbench.db"

#: Maximum number of entries of a folder among which the nearest workspace is looked for.
_MOST_NEAR = 500


class Home:
    """A folder with a database and all output of runs and jobs.

    Parameters
    ----------
    path : path, optional
        The folder, created if missing; default: ``$WORKBENCH_HOME`` or ``./results``.
    database_url : str, optional
        The database; default: ``$WORKBENCH_DATABASE_URL``, or ``workbench.db`` in the folder.

    Raises
    ------
    BadInput
        The path is a file, or is not writable.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, database_url: str | None = None
    ) -> None:
        self.path = workspace_path(path)
        try:
            if not self.path.is_dir():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                # Private: it holds checkpoints and logs. Whoever shares it changes its permissions.
                self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"{self.path} cannot be a workspace: {error.strerror or error}",
                hint="Give a writable folder as path, --workspace or $WORKBENCH_HOME.",
            ) from None
        self.database_url = database_url or os.environ.get(DATABASE_URL) or ""
        self.store = Store(self.database_url or self.path / DATABASE)
        # On this machine anybody can see whether a process lives; from a container, or on another host, not.
        if self.store.is_sqlite and not processes.numbering():
            self._writer = Writer(self.store)
        else:
            sink = LocalSink(self.store)
            self._writer = Writer(sink, sink)

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"

    def close(self) -> None:
        """Write queued points and close the database; jobs keep running."""
        try:
            self._writer.stop()
        finally:
            self.store.close()

    # Folders -----------------------------------------------------------------------------------

    @property
    def cache(self) -> Path:
        """The folder of files that can be regenerated."""
        return self._folder("cache")

    @property
    def indexes(self) -> Path:
        """The folder of indexes, one subfolder per index."""
        return self._folder("indexes")

    @property
    def jobs_dir(self) -> Path:
        """The folder of jobs, one subfolder per job with its executed notebook and log."""
        return self._folder("jobs")

    @property
    def runs_dir(self) -> Path:
        """The folder of runs, one subfolder per run."""
        return self._folder("runs")

    def _folder(self, name: str) -> Path:
        """Return a folder of the workspace; it is created if the workspace can be written.

        Raises
        ------
        StoreError
            The workspace is gone, or the name leads to something else.
        """
        self.store.check_there()
        folder = self.path / name
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError:
            raise StoreError(
                f"the workspace {self.path} is gone: it was deleted or moved while it was open",
                hint="Open it again: restart this kernel or server.",
            ) from None
        except (FileExistsError, NotADirectoryError):
            what = "a link to a missing place" if folder.is_symlink() else "not a folder"
            raise StoreError(
                f"{folder} is {what}", hint="Restore the folder, or delete what is in its place."
            ) from None
        except OSError:
            return folder  # it cannot be written; what is there can be read
        return folder


def workspace_path(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of a workspace; by default ``$WORKBENCH_HOME`` or ``./results``."""
    return Path(path or os.environ.get(HOME) or "results").expanduser().resolve()


def is_workspace(path: Path) -> bool:
    """Return whether a folder holds a workspace: its database, or at least its indexes."""
    try:
        return (path / DATABASE).exists() or (path / "indexes").is_dir()
    except OSError:  # no permission to look; opening it raises the error
        return True


def check_workspace(path: Path) -> None:
    """Raise unless there is a workspace; nothing is created.

    Raises
    ------
    NotFound
        There is none; the message names the nearest one.
    """
    # With a database elsewhere, the folder only holds files, and a new one is as good as any.
    if os.environ.get(DATABASE_URL) or is_workspace(path):
        return
    near = _nearest_workspace(path)
    meant = f"; did you mean {near}?" if near else ""
    raise NotFound(f"there is no workspace at {path}{meant}")


def _nearest_workspace(path: Path) -> str:
    """Return the workspace whose path is most like that of a missing one; empty if none is near."""
    existing = next((folder for folder in (path, *path.parents) if folder.is_dir()), path)
    # In the folder itself, such as a project's; beside it; and where the path begins to be wrong.
    folders = {existing, existing.parent if existing == path else existing}
    found = []
    for folder in folders:
        with suppress(OSError):
            inside = sorted(folder.iterdir())[:_MOST_NEAR]
            found += [one for one in (folder, *inside) if is_workspace(one)]
            found += [one / "results" for one in inside if is_workspace(one / "results")]
    names = [str(one) for one in dict.fromkeys(found)]
    return next(iter(difflib.get_close_matches(str(path), names, n=1, cutoff=0.3)), "")


def as_id(value: Any) -> int | None:
    """Return a value as an id, or None if it is not a valid id."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    number = int(value) if str(value).isascii() and str(value).isdigit() else 0
    return number if 0 < number < 2**31 else None
