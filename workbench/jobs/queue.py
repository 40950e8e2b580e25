"""The queue: a row per job, and a copy of each submitted notebook."""

from __future__ import annotations

import hashlib
from pathlib import Path

from workbench.errors import BadInput, CorruptFile, StoreError, WrongState
from workbench.home import Home
from workbench.host import processes
from workbench.jobs import workers
from workbench.store import records

#: Maximum number of attempts at a job whose worker vanished.
MAX_ATTEMPTS = 2


def source_copy(home: Home, digest: str) -> Path:
    """Return where the copy of a submitted notebook is kept."""
    return home.jobs_dir / ".sources" / f"{digest}.ipynb"


def whole_source(home: Home, digest: str) -> Path:
    """Return the copy of a submitted notebook.

    Raises
    ------
    CorruptFile
        The copy is missing or was changed.
    """
    copy = source_copy(home, digest)
    if not is_whole(copy, digest):
        raise CorruptFile(
            copy, "the submitted notebook is missing or was changed", hint="Submit the notebook again."
        )
    return copy


def is_whole(copy: Path, digest: str) -> bool:
    """Return whether the copy of a notebook exists and is what was submitted."""
    return copy.is_file() and hashlib.sha256(copy.read_bytes()).hexdigest() == digest


def check_folder(cwd: str, source: str) -> None:
    """Check that a user's notebook can run in its own folder: elsewhere its relative paths mean other files.

    Raises
    ------
    BadInput
        The folder is gone.
    """
    if cwd and not Path(cwd).is_dir():
        raise BadInput(
            f"the folder {cwd!r} that {Path(source).name} runs in is gone",
            hint="Restore the folder, or submit the notebook from its new place.",
        )


def queue(home: Home, row: records.JobRecord, *, start_worker: bool) -> records.JobRecord:
    """Add a job to the queue, make sure that a worker runs it, and return its row.

    Raises
    ------
    BadInput
        A path cannot be stored in a database.
    StoreError
        No worker can be started.
    """
    for path in (row.cwd, row.source):
        if path.encode("utf-8", "replace") != path.encode("utf-8", "surrogatepass"):
            raise BadInput(
                f"the path {path!r} is not valid UTF-8 and cannot be stored",
                hint="Rename the folder or file.",
            )
    row.host = processes.host() if start_worker else ""  # a look from this host may start a worker, too
    row = home.store.add_job(row)
    if start_worker:
        try:
            workers.ensure_worker(home)
        except StoreError:
            # No worker would run it. If another worker has taken it already, the job is fine.
            if home.store.move_job(row.id or 0, expect="queued", to="cancelled"):
                raise
    return row


def check_over(row: records.JobRecord) -> None:
    """Raise unless a job has ended.

    Raises
    ------
    WrongState
        It is queued or running.
    """
    if row.status not in records.FINAL_STATUSES:
        raise WrongState(f"job {row.id} is {row.status}", hint="Cancel it first, or wait until it has ended.")
