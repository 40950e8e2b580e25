"""One SQLite file: whether it can be written or only read, and whether it is still the same file.

A file that is deleted, moved or replaced stays open: SQLite would go on writing into the deleted one, and
everything written would be lost. So the path is compared with the opened file before each transaction and
before each commit.

A file that cannot be written (a read-only disk, another user's folder, a full disk) is read in one of three
ways. With ``mode=ro``, if a writer's shared memory exists or can be made. With ``immutable=1``, if there is
no write-ahead log, so that the file itself is complete. Otherwise a private copy of the file and its log is
read. The last two would not notice a writer, so the files are compared before each transaction, and opened
again if they changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from workbench.errors import ReadOnly, StoreError

#: Endings of the files beside a database: the write-ahead log, and its shared memory.
_LOG, _MEMORY = "-wal", "-shm"

#: A copy is made again if its source changed meanwhile, at most this often.
_COPIES = 3

#: Parts of SQLite's messages about files that cannot be written; they may still be readable.
_UNWRITABLE = ("disk I/O error", "full", "unable to open", "readonly")

_Mark = tuple[tuple[int, int, int] | None, ...]


class SqliteFile:
    """Opens an SQLite file, and checks that it is still there.

    Parameters
    ----------
    path : Path
        The file.
    module : module
        The SQLite driver.
    journal : str
        The journal mode: ``wal`` or ``truncate``.

    Attributes
    ----------
    problem : str
        Why the file can only be read; empty if it can be written, or was not opened yet.
    seen : tuple or None
        The state of the files that the newest connection shows; None if it also shows later ones.
    """

    def __init__(self, path: Path, module: Any, journal: str) -> None:
        self.path = path
        self._names = str(path), str(_beside(path, _LOG))
        self.problem = ""
        self._module = module
        self._journal = journal
        self._opened: tuple[int, int] | None = None
        self._pin: int | None = None
        self.seen: _Mark | None = None
        self._copies: list[tempfile.TemporaryDirectory[str]] = []
        self._lock = threading.Lock()

    def connect(self, name: str, settings: Mapping[str, Any]) -> Any:
        """Return a connection; one that can only read if the file cannot be written.

        Parameters
        ----------
        name : str
            The database as the driver expects it.
        settings : mapping
            The driver's settings.

        Raises
        ------
        StoreError
            The file is not the one that was opened first, or cannot be read.
        """
        with self._lock:
            self.check()
            self.seen = None
            connection = self._connect(name, settings)
            self._remember()
            return connection

    def check(self) -> None:
        """Check that the path still leads to the file that was opened first.

        Raises
        ------
        StoreError
            The file was deleted, moved or replaced.
        """
        if self._opened is None:
            return
        try:
            now = os.stat(self.path)  # noqa: PTH116  # a third of the cost of Path.stat, before each commit
        except (FileNotFoundError, NotADirectoryError):
            raise self._gone() from None
        except OSError:
            return  # SQLite reports what is wrong with the disk
        if (now.st_dev, now.st_ino) != self._opened:
            raise self._gone(replaced=True)

    def written(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Return what changes when anybody commits: the state of the file and of its write-ahead log.

        Commits within a few milliseconds can look the same where they reuse the log, so that it must not be
        relied on for long.
        """
        return _stamp(self._names[0]), _stamp(self._names[1])

    def is_current(self, seen: object) -> bool:
        """Return whether a connection that showed the state ``seen`` still shows the newest one."""
        return seen is None or seen == self._mark()

    def forget_problem(self) -> None:
        """Try to write again with the next connection."""
        self.problem = ""

    def refuse(self) -> None:
        """Refuse to write.

        Raises
        ------
        ReadOnly
            Always.
        """
        raise ReadOnly(
            f"the workspace can only be read: {self.problem}",
            hint="Nothing was changed. Make its folder writable or free some space, or copy the folder to a "
            "place of your own.",
        )

    def close(self) -> None:
        """Delete private copies."""
        copies, self._copies = self._copies, []
        for copy in copies:
            copy.cleanup()

    # Opening -----------------------------------------------------------------------------------

    def _connect(self, name: str, settings: Mapping[str, Any]) -> Any:
        problem = self._why_unwritable()
        if not problem:
            there = self.path.exists()
            try:
                return self._writable(name, settings)
            except self._module.OperationalError as error:
                problem = str(error)
                if not there or not any(part in problem for part in _UNWRITABLE):
                    raise
        elif not self.path.exists():
            raise StoreError(
                f"there is no workspace in {self.path.parent}, and none can be made: {problem}",
                hint="Name another folder with --workspace or $WORKBENCH_HOME.",
            )
        connection = self._readable(settings, problem)
        self.problem = problem
        return connection

    def _writable(self, name: str, settings: Mapping[str, Any]) -> Any:
        connection = self._module.connect(name, **settings)
        try:
            connection.isolation_level = None  # transactions begin in the engine's `begin`
            connection.text_factory = _text
            connection.execute(f"pragma journal_mode = {self._journal}")
            connection.execute("pragma foreign_keys = on")
        except BaseException:
            connection.close()
            raise
        return connection

    def _readable(self, settings: Mapping[str, Any], problem: str) -> Any:
        with contextlib.suppress(self._module.OperationalError):
            return self._read(self.path, "mode=ro", settings)
        mark = self._mark()  # taken first: a change meanwhile is noticed
        try:
            if not _has_bytes(self.path, _LOG):
                return self._read(self.path, "mode=ro&immutable=1", settings)
            # Without its log the file may be half of a state: read both where SQLite can join them.
            return self._read(self._copied(), "mode=rw", settings)
        except (self._module.OperationalError, OSError) as error:
            raise StoreError(
                f"the workspace's database {self.path} can be neither written ({problem}) nor read ({error})",
                hint="Copy the folder to a place of your own and read it there.",
            ) from None
        finally:
            self.seen = mark

    def _read(self, path: Path, how: str, settings: Mapping[str, Any]) -> Any:
        connection = self._module.connect(f"file:{quote(str(path))}?{how}", uri=True, **settings)
        try:
            connection.isolation_level = None
            connection.text_factory = _text
            connection.execute("select count(*) from sqlite_master").fetchone()
            connection.execute("pragma query_only = on")
        except BaseException:
            connection.close()
            raise
        return connection

    def _copied(self) -> Path:
        """Copy the file and its log to a private folder; return the copy."""
        self.close()  # connections to an older copy keep it open
        for _ in range(_COPIES):
            before = self._mark()
            folder = tempfile.TemporaryDirectory(prefix="workbench-read-", ignore_cleanup_errors=True)
            self._copies.append(folder)
            copy = Path(folder.name, self.path.name)
            shutil.copyfile(self.path, copy)
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(_beside(self.path, _LOG), _beside(copy, _LOG))
            if before == self._mark():
                return copy
        raise OSError("it changed while it was being copied")

    def _why_unwritable(self) -> str:
        """Return why this user cannot write here, as far as the system says; empty if it does not."""
        for place in (self.path.parent, self.path):
            if place.exists() and not os.access(place, os.W_OK):
                read_only = os.statvfs(place).f_flag & os.ST_RDONLY
                return f"{place} is {'on a read-only disk' if read_only else 'not writable for this user'}"
        return ""

    def _mark(self) -> _Mark:
        """Return what changes when a writer changes the database."""
        return _stamp(self.path), _stamp(_beside(self.path, _LOG)), _stamp(_beside(self.path, _MEMORY))

    # Being the same ----------------------------------------------------------------------------

    def _remember(self) -> None:
        if self._opened is not None:
            return
        status = os.stat(self.path)  # noqa: PTH116
        if hasattr(os, "O_PATH"):
            # While it is pinned its number is not given to another file. Closing such a descriptor releases
            # no lock, as closing any other one of a database would.
            self._pin = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
            status = os.fstat(self._pin)
            weakref.finalize(self, os.close, self._pin)
        self._opened = status.st_dev, status.st_ino

    def _gone(self, *, replaced: bool = False) -> StoreError:
        kept = self._pin is not None and os.fstat(self._pin).st_nlink > 0
        if kept:
            return StoreError(
                f"the workspace {self.path.parent} was moved away while it was open: nothing was stored",
                hint="Move it back, or open it at its new place and restart this kernel or server there."
                + (" Another workspace is in its place now; nothing is written to that one." * replaced),
            )
        now = "deleted and another one put in its place" if replaced else "deleted"
        return StoreError(
            f"the workspace {self.path.parent} was {now} while it was open: nothing was stored",
            hint="To go on, open it again: restart this kernel or server. What was in the deleted workspace "
            "is gone.",
        )


def _text(data: bytes) -> str:
    """Return stored text; one damaged letter must not make a list unreadable."""
    return data.decode("utf-8", "replace")


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _has_bytes(path: Path, ending: str) -> bool:
    stamp = _stamp(_beside(path, ending))
    return stamp is not None and stamp[2] > 0


def _stamp(path: Path | str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  # a third of the cost of Path.stat, many times per second
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
