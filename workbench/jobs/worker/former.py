"""Workers of older versions that are alive in the workspace when this version's worker runs there.

They claim nothing in a database of a newer schema (migration 0005 has the trigger). One of 0.2.0 does not
know why, keeps its lock, and would never exit while jobs are queued. It exits once its lock file is gone,
since that is how it sees that its workspace was moved: so its lock file is removed when it runs no job.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import IO

from workbench.home import Home
from workbench.host import processes
from workbench.host.locks import is_locked, take_lock
from workbench.jobs import workers
from workbench.store import migrations

#: The lock of a worker of 0.2.0, whose name did not contain the schema version.
FIRST_LOCK = ".worker.lock"


class FormerWorkers:
    """The workers of older versions in one workspace.

    Parameters
    ----------
    home : Home
        The workspace.
    lock : file, optional
        The lock of 0.2.0, if the process that started this one is a server of that version and took it.
    """

    def __init__(self, home: Home, lock: IO[bytes] | None = None) -> None:
        self._home = home
        self._lock = lock
        if lock is not None:
            self._sign(lock)

    def running(self) -> int:
        """Return how many jobs they run on this host; those of 0.2.0 that run none are made to exit."""
        first = self._home.path / FIRST_LOCK
        self._keep_out(first)
        jobs = [
            (job.worker_pid, job.host)
            for job in self._home.store.jobs(status=("running", "cancelling"))
            if job.worker_id and not job.claim.startswith(f"{migrations.HEAD}/")
        ]
        running = 0
        own = workers.worker_lock(self._home)
        for lock in sorted(self._home.path.glob(".worker*.lock")):
            if lock >= own and lock != first:
                continue  # ours, or a newer version's
            pid, signed = _holder(lock)
            if (lock == first and signed) or not is_locked(lock):
                continue
            its = jobs.count((pid, processes.host()))
            running += its
            if lock == first and not its:
                with contextlib.suppress(OSError):
                    lock.unlink(missing_ok=True)
        return running

    def close(self) -> None:
        """Release the lock of 0.2.0."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _keep_out(self, lock: Path) -> None:
        """Hold the lock of 0.2.0 if it is free, so that its servers start no worker that could do nothing."""
        if self._lock is None:
            with contextlib.suppress(OSError):
                self._lock = take_lock(lock, seconds=0)
                if self._lock is not None:
                    self._sign(self._lock)

    def _sign(self, lock: IO[bytes]) -> None:
        with contextlib.suppress(OSError):
            lock.truncate(0)
            lock.write(f"{processes.this_process().pid} {migrations.HEAD}\n".encode())
            lock.flush()


def _holder(lock: Path) -> tuple[int | None, bool]:
    """Return the process in a lock file, and whether its version writes the schema version there."""
    try:
        words = lock.read_text(encoding="utf-8").split()
        return int(words[0]), len(words) > 1
    except (OSError, ValueError, IndexError):
        return None, False
