"""Lock files that ensure one process of a kind per workspace, and starting a process that holds one."""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO


def take_lock(path: Path, *, seconds: float) -> IO[bytes] | None:
    """Return a file that is locked until closed, or None if another process holds the lock.

    Retries for ``seconds``, since :func:`is_locked` briefly locks the file too.
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
    """Return whether a running process holds a lock file."""
    try:
        with path.open("rb") as file:  # works in a folder that can only be read, and creates nothing
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def is_same_file(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file is still the one at a path, which nobody moved, removed or replaced."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # the error does not mean that the file is missing


def start_with_lock(
    command: Sequence[str], lock: IO[bytes], log: Path, environment: Mapping[str, str]
) -> None:
    """Start a background command that holds a lock from its start.

    It receives the file descriptor as ``--lock``. It runs in a new session without a parent, so it outlives
    the terminal, kernel or command that started it, and leaves no zombie.
    """
    with log.open("ab") as output:
        subprocess.run(  # noqa: S603  # this interpreter and our own module
            ["/bin/sh", "-c", '"$@" &', "sh", *command, "--lock", str(lock.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
            pass_fds=(lock.fileno(),),
            check=True,
        )
