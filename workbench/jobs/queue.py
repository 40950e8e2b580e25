"""The queue: a job's row goes in, and the notebook it was submitted with is kept beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from workbench.errors import BadInput, CorruptFile, StoreError, WrongState
from workbench.home import Home
from workbench.host import processes
from workbench.jobs import workers
from workbench.store import records

#: A job whose worker vanished is begun so many times in all.
MAX_ATTEMPTS = 2


def source_copy(home: Home, digest: str) -> Path:
    """Return where the copy of a submitted notebook is kept."""
    return home.jobs_dir / ".sources" / f"{digest}.ipynb"


def whole_source(home: Home, digest: str) -> Path:
    """Return the copy of a submitted notebook.

    Raises
    ------
    CorruptFile
        It is no longer what was submitted.
    """
    copy = source_copy(home, digest)
    if not is_whole(copy, digest):
        raise CorruptFile(
            copy, "it is not the notebook that was submitted", hint="Submit the notebook again."
        )
    return copy


def is_whole(copy: Path, digest: str) -> bool:
    """Say whether a kept notebook is there and is what was submitted."""
    return copy.is_file() and hashlib.sha256(copy.read_bytes()).hexdigest() == digest


def queue(home: Home, row: records.Job, *, start_worker: bool) -> records.Job:
    """Add a job to the queue and see to it that a worker runs it; return its row.

    Raises
    ------
    BadInput
        A path that a database cannot keep.
    StoreError
        No worker can be started.
    """
    for path in (row.cwd, row.source):
        if path.encode("utf-8", "replace") != path.encode("utf-8", "surrogatepass"):
            raise BadInput(
                f"the path {path!r} is no UTF-8, which a database cannot keep",
                hint="Rename the folder or file.",
            )
    row.host = processes.host() if start_worker else ""  # whoever looks from here sees to a worker, too
    row = home.store.add_job(row)
    if start_worker:
        try:
            workers.ensure_worker(home)
        except StoreError:
            # Nobody would run it. Where somebody does all the same, it is queued in order.
            if home.store.move_job(row.id or 0, expect="queued", to="cancelled"):
                raise
    return row


def check_over(row: records.Job) -> None:
    """Raise unless a job has ended.

    Raises
    ------
    WrongState
        It waits or runs.
    """
    if row.status not in records.FINAL_STATUSES:
        raise WrongState(f"job {row.id} is {row.status}", hint="Cancel it first, or wait for its end.")
