"""Where a workspace is: its folder, its database, and the thread that writes what is logged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workbench.errors import BadInput
from workbench.store.store import Store
from workbench.store.writer import Writer

#: Environment variables: the workspace folder, and a database elsewhere than in it.
HOME = "WORKBENCH_HOME"
DATABASE_URL = "WORKBENCH_DATABASE_URL"


class Home:
    """A folder with a database and everything that runs and jobs made.

    Parameters
    ----------
    path : path, optional
        The folder, made if it is not there; ``$WORKBENCH_HOME`` or ``./results`` if not given.
    database_url : str, optional
        A database elsewhere; ``$WORKBENCH_DATABASE_URL``, or ``workbench.db`` in the folder, if not given.

    Raises
    ------
    BadInput
        The path is a file, or cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, database_url: str | None = None
    ) -> None:
        self.path = Path(path or os.environ.get(HOME) or "results").expanduser().resolve()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(
                f"{self.path} cannot be a workspace: {error.strerror or error}",
                hint="Give a folder that can be written, by path, --workspace or $WORKBENCH_HOME.",
            ) from None
        self.database_url = database_url or os.environ.get(DATABASE_URL) or ""
        self.store = Store(self.database_url or self.path / "workbench.db")
        self._writer = Writer(self.store)

    def __repr__(self) -> str:
        return f"Workspace({str(self.path)!r})"

    def close(self) -> None:
        """Write what is queued and close the database; jobs go on."""
        try:
            self._writer.stop()
        finally:
            self.store.close()

    # Folders -----------------------------------------------------------------------------------

    @property
    def cache(self) -> Path:
        """A folder for what can be made again."""
        return self._folder("cache")

    @property
    def indexes(self) -> Path:
        """The folder that holds one folder an index."""
        return self._folder("indexes")

    @property
    def jobs_dir(self) -> Path:
        """The folder that holds one folder a job: its executed notebook and its log."""
        return self._folder("jobs")

    @property
    def runs_dir(self) -> Path:
        """The folder that holds one folder a run."""
        return self._folder("runs")

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def as_id(given: Any) -> int | None:
    """Return an id that was typed, or None where it cannot be one."""
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        return None
    number = int(given) if str(given).isascii() and str(given).isdigit() else 0
    return number if 0 < number < 2**31 else None
