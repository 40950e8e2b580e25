"""Make sure that a worker runs in the background."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from workbench.errors import StoreError
from workbench.home import DATABASE_URL, Home
from workbench.host import processes
from workbench.host import processes as keeper
from workbench.host.locks import start_with_lock, take_lock
from workbench.store import migrations

#: The workers' log is rotated at this size, in bytes; one old file is kept.
WORKER_LOG_BYTES = 4 * 2**20


#: Environment variables by which a worker tells a notebook which job it is.
JOB, ATTEMPT = "WORKBENCH_JOB", "WORKBENCH_JOB_ATTEMPT"


# Workers ---------------------------------------------------------------------------------------


def worker_lock(home: Home) -> Path:
    """Return the file that a worker of this schema version keeps locked while it is alive.

    A worker of another version has a lock of its own, so it does not keep this version's from starting.
    """
    return home.path / f".worker-{migrations.HEAD}.lock"


def ensure_worker(home: Home) -> bool:
    """Start a worker in the background if none is alive on this host; return whether one was started.

    Call it after queueing the row: a worker that is about to exit first releases its lock and then checks the
    queue once more, so no job is missed in between.

    Raises
    ------
    StoreError
        The system cannot create a file in the workspace, or a process.
    """
    try:
        return _start_worker(home)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "strerror", None) or error
        raise StoreError(
            f"no worker can be started for {home.path}: {why}",
            hint="Free some space, make the folder writable, or run a worker on another machine.",
        ) from error


def _start_worker(home: Home) -> bool:
    lock = take_lock(worker_lock(home), seconds=0.003)
    if lock is None:
        return False
    private = (JOB, ATTEMPT, processes.TOKEN, keeper.DEATHS)
    environment = {key: value for key, value in os.environ.items() if key not in private}
    if home.database_url:
        environment[DATABASE_URL] = home.database_url
    log = home.path / "worker.log"
    if log.is_file() and log.stat().st_size > WORKER_LOG_BYTES:
        log.replace(log.with_name("worker.log.1"))
    # The worker inherits the lock, so that of many concurrent submissions only one starts a worker.
    with lock:
        start_with_lock(worker_command(home), lock, log, environment)
    return True


def worker_command(home: Home) -> list[str]:
    """Return the command that starts a worker in the background."""
    return [sys.executable, "-m", "workbench.jobs.worker.background", "--workspace", str(home.path)]
