"""Digests of pictures that were decoded before, by path, size and time of modification, in a database file.

Nothing of it is held in memory but the last few hundred entries, and what was found is kept as it is found,
so that an opening which is killed goes on where it was.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path
from types import TracebackType

#: Entries that are written at a time: what a killed opening may have to decode again.
WRITTEN_AT_ONCE = 256

#: Seconds to wait for another process that writes to the same file.
_PATIENCE = 5.0

#: Version of the table; a file with another version is replaced.
_VERSION = 1


class DigestCache:
    """The digests of one collection's pictures; use it as a context manager, which writes what is left.

    A file that cannot be read or written is as good as none: pictures are decoded again. It may be used by
    several threads.

    Parameters
    ----------
    path : Path or None
        The database; None for no cache.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._new: dict[str, tuple[int, int, str]] = {}
        self._seen = bytearray()
        self._seen_count = 0
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> DigestCache:
        if self._path is not None:
            for _ in range(2):  # a damaged file is deleted once
                try:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    self._database = _opened(self._path)
                    break
                except (sqlite3.Error, OSError, UnicodeError):
                    with contextlib.suppress(OSError):
                        self._path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._write()
            if error is None:
                self._forget_others()
            if self._database is not None:
                self._database.close()
                self._database = None

    def get(self, name: str, size: int, modified: int) -> str:
        """Return the digest of a file that has not changed; empty if it is not known.

        Parameters
        ----------
        name : str
            Its path within the collection.
        size, modified : int
            Its size in bytes, and its time of modification in ns.
        """
        with self._lock:
            if (new := self._new.get(name)) is None:
                row = self._row(name)
                if row is None:
                    return ""
                self._see(row[0])
                new = row[1:]
            return new[2] if new[:2] == (size, modified) else ""

    def put(self, name: str, size: int, modified: int, digest: str) -> None:
        """Keep the digest of a file."""
        if self._path is None:
            return
        with self._lock:
            self._new[name] = (size, modified, digest)
            if len(self._new) >= WRITTEN_AT_ONCE:
                self._write()

    def _row(self, name: str) -> tuple[int, int, int, str] | None:
        if self._database is None:
            return None
        try:
            row = self._database.execute(
                "select rowid, size, modified, digest from pictures where name = ?", (name,)
            ).fetchone()
        except (sqlite3.Error, UnicodeError):
            self._give_up()
            return None
        if row is None or not isinstance(row[3], str):
            return None
        return row  # type: ignore[no-any-return]

    def _write(self) -> None:
        new, self._new = self._new, {}
        if self._database is None or not new:
            return
        try:
            with self._database:
                for name, entry in new.items():
                    done = self._database.execute(
                        "insert or replace into pictures (name, size, modified, digest) values (?, ?, ?, ?)",
                        (name, *entry),
                    )
                    self._see(done.lastrowid or 0)
        except (sqlite3.Error, UnicodeError):
            self._give_up()

    def _see(self, number: int) -> None:
        """Remember by one bit that a picture is still there."""
        place, bit = number >> 3, 1 << (number & 7)
        if place >= len(self._seen):
            self._seen.extend(bytes(place + 1024 - len(self._seen)))
        if not self._seen[place] & bit:
            self._seen[place] |= bit
            self._seen_count += 1

    def _was_seen(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._seen) and bool(self._seen[place] & (1 << (number & 7)))

    def _forget_others(self) -> None:
        """Delete the entries of pictures that the collection no longer has."""
        if self._database is None:
            return
        try:
            (count,) = self._database.execute("select count(*) from pictures").fetchone()
            if count == self._seen_count:
                return
            first = 0
            while numbers := self._database.execute(
                "select rowid from pictures where rowid >= ? order by rowid limit 10000", (first,)
            ).fetchall():
                first = numbers[-1][0] + 1
                gone = [one for one in numbers if not self._was_seen(one[0])]
                with self._database:
                    self._database.executemany("delete from pictures where rowid = ?", gone)
        except sqlite3.Error:
            self._give_up()

    def _give_up(self) -> None:
        """Go on without the file: it is damaged, or the disk is full or read-only."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)
    try:
        (version,) = database.execute("pragma user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError("another version")
        database.execute("pragma synchronous = normal")
        with database:
            database.execute(
                "create table if not exists pictures (name text not null unique, size integer not null, "
                "modified integer not null, digest text not null)"
            )
            database.execute(f"pragma user_version = {_VERSION}")
    except BaseException:
        database.close()
        raise
    return database
