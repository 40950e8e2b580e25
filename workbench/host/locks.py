"""One process of a kind a workspace: a lock file that a living process holds, and how to be born with it."""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO


def take_lock(path: Path, *, seconds: float) -> IO[bytes] | None:
    """Return a file that is locked until it is closed, or None where another process holds it.

    Tries for ``seconds``, since others lock it for an instant to see whether somebody holds it.
    """
    deadline = time.monotonic() + seconds
    file = path.open("ab")
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                return None
            time.sleep(0.002)
        else:
            return file


def is_locked(path: Path) -> bool:
    """Say whether a living process holds a lock file."""
    try:
        with path.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def start_with_lock(
    command: Sequence[str], lock: IO[bytes], log: Path, environment: Mapping[str, str]
) -> None:
    """Start a command in the background that holds a lock from its first moment on.

    It is told the number of the open file by ``--lock``. It gets a session of its own and no parent: it
    outlives the terminal, the kernel or the command that started it, and leaves no zombie there.
    """
    with log.open("ab") as said:
        subprocess.run(  # noqa: S603  # this interpreter and our own module
            ["/bin/sh", "-c", '"$@" &', "sh", *command, "--lock", str(lock.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=dict(environment),
            start_new_session=True,
            pass_fds=(lock.fileno(),),
            check=True,
        )
