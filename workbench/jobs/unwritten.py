"""How jobs ended, if the worker cannot write that into the database: on a full disk, for example.

The worker reserves the space for such notes when it starts, in a file beside its lock, and overwrites it in
place. Whoever reads a job that is marked as running reads them too, so that its end is seen before there is
space to record it.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from workbench.home import Home
from workbench.host.locks import is_locked
from workbench.jobs import workers

#: Bytes that are reserved, and the most characters of a message in them.
RESERVED_BYTES, MESSAGE_CHARACTERS = 16 * 2**10, 500


class End(NamedTuple):
    """How an attempt at a job ended."""

    job_id: int
    attempt: int
    status: str
    error: dict[str, Any] | None
    finished_at: float


def notes_file(home: Home) -> Path:
    """Return the file of a workspace's notes."""
    return home.path / ".worker.unwritten"


class Notes:
    """The worker's side of the notes.

    Parameters
    ----------
    home : Home
        The workspace.
    """

    def __init__(self, home: Home) -> None:
        self._path = notes_file(home)
        self._written = b""

    def reserve(self) -> None:
        """Reserve the space, and remove the notes of a worker that was killed; never raises."""
        with contextlib.suppress(OSError), self._path.open("wb") as file:
            file.write(b" " * RESERVED_BYTES)
            file.flush()
            os.fsync(file.fileno())

    def write(self, ends: Iterable[End], why: str) -> None:
        """Note ends that cannot be written, and why; never raises."""
        notes: list[dict[str, Any]] = []
        for end in ends:
            error = dict(end.error or {"cell": None, "type": "", "message": ""})
            error["message"] = str(error.get("message", ""))[:MESSAGE_CHARACTERS]
            notes.append({**end._asdict(), "error": error if end.status == "failed" else None})
        data = json.dumps({"ends": notes, "why": why[:MESSAGE_CHARACTERS]}).encode()
        while len(data) > RESERVED_BYTES and notes:
            notes.pop()
            data = json.dumps({"ends": notes, "why": ""}).encode()
        self._put(data)

    def clear(self) -> None:
        """Remove the notes, since everything is written; never raises."""
        if self._written:
            self._put(b"")

    def _put(self, data: bytes) -> None:
        if data == self._written:
            return
        with contextlib.suppress(OSError), self._path.open("rb+", buffering=0) as file:
            file.write(data.ljust(RESERVED_BYTES))
            self._written = data


def read_ends(home: Home) -> list[End]:
    """Return the ends that the running worker could not write; their messages say so."""
    try:
        text = notes_file(home).read_bytes().strip()
        if not text or not is_locked(workers.worker_lock(home)):
            return []  # its jobs are settled as those of any dead worker
        notes = json.loads(text)
        ends = [End(**note) for note in notes["ends"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    for end in ends:
        if end.error is not None:
            end.error["message"] += f" (this could not be written: {notes['why']})"
    return ends
