"""Submit jobs, and find them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from workbench.adapter.contract import BaseAdapter
from workbench.adapter.registry import get_adapter
from workbench.errors import BadInput, StoreError, UnknownJob
from workbench.home import Home, as_id
from workbench.host.files import write_whole
from workbench.jobs.checking import check_beginning
from workbench.jobs.floors import check_floors
from workbench.jobs.local import LocalJob
from workbench.jobs.queue import MAX_ATTEMPTS, is_whole, queue, source_copy
from workbench.jobs.settling import look_after
from workbench.notebooks.parameters import check_parameters
from workbench.store import records
from workbench.values import exact, plain

#: Type of a job that executes a user's own notebook.
NOTEBOOK = "notebook"


def submit(
    home: Home,
    type: str,  # noqa: A002
    adapter: str | BaseAdapter | None = None,
    options: Mapping[str, Any] | BaseModel | None = None,
    *,
    fail_below: Mapping[str, float] | str | None = None,
    start_worker: bool = True,
    max_attempts: int = MAX_ATTEMPTS,
) -> LocalJob:
    """Queue a job; see ``Workspace.submit``.

    ``max_attempts`` limits how often it is started: again only if its worker vanished, never if it failed.
    """
    family = adapter if isinstance(adapter, BaseAdapter) else get_adapter(adapter)
    checked, floors = check_beginning(family, type, options, home, floors=fail_below)
    return submit_checked(
        home,
        type,
        family.name,
        plain(checked, "options"),
        fail_below=floors,
        start_worker=start_worker,
        max_attempts=max_attempts,
    )


def submit_checked(
    home: Home,
    type: str,  # noqa: A002
    adapter: str,
    options: Mapping[str, Any],
    *,
    fail_below: Mapping[str, float] | str | None = None,
    start_worker: bool = True,
    max_attempts: int = 2,
) -> LocalJob:
    """Queue a job whose options its adapter has already checked, possibly in another process."""
    row = records.JobRecord(
        type=type,
        adapter=adapter,
        options=dict(options),
        floors=check_floors(fail_below),
        cwd=str(Path.cwd()),
        max_attempts=max_attempts,
    )
    return LocalJob(home, queue(home, row, start_worker=start_worker))


def submit_notebook(
    home: Home,
    path: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    start_worker: bool = True,
    max_attempts: int = MAX_ATTEMPTS,
    source: str | None = None,
    cwd: str | None = None,
) -> LocalJob:
    """Queue a user's own notebook; see ``Workspace.submit_notebook``.

    ``source`` and ``cwd`` are its name and the folder to execute it in; by default both follow from ``path``.
    With both, the file may be deleted as soon as this function returns.
    """
    file = local_notebook(path)
    checked = check_parameters(file, parameters)
    data = _read(file)
    digest = hashlib.sha256(data).hexdigest()
    row = records.JobRecord(
        type=NOTEBOOK,
        options=exact(checked, "parameters"),
        source=source or str(file),
        source_sha256=digest,
        # The folder it runs in when opened by hand, so that its relative paths mean the same.
        cwd=cwd or str(file.parent),
        max_attempts=max_attempts,
    )
    # The copy is executed, so the notebook may be edited while it is queued.
    copy = source_copy(home, digest)
    try:
        if not is_whole(copy, digest):
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_whole(copy, data)
    except OSError as error:
        raise StoreError(
            f"could not copy {file.name} to the workspace: {error.strerror or error}",
            hint="Nothing was queued. Free some space, or make the workspace's folder writable.",
        ) from error
    return LocalJob(home, queue(home, row, start_worker=start_worker))


def local_notebook(path: str | os.PathLike[str]) -> Path:
    """Return a notebook's resolved path on this machine.

    Raises
    ------
    BadInput
        It is a URL, is missing, or is not a notebook.
    """
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "://" in text or "\0" in text:
        raise BadInput(
            f"{text!r} is not a local path", hint="Give the path of an .ipynb file on this machine."
        )
    source = Path(text).expanduser().resolve()
    if source.suffix != ".ipynb":
        raise BadInput(f"{str(source)!r} is not a notebook", hint="Give the path of an .ipynb file.")
    if not source.is_file():
        raise BadInput(f"notebook {str(source)!r} not found", hint="Give the path of an .ipynb file.")
    return source


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror or error}") from None


def find(home: Home, job_id: int) -> LocalJob:
    """Return a job by id; see ``Workspace.job``."""
    number = as_id(job_id)
    row = None if number is None else home.store.job(number)
    if row is None:
        raise UnknownJob(job_id, home.store.newest_job())
    return LocalJob(home, row).refresh() if look_after(home, [row]) else LocalJob(home, row)


def listed(
    home: Home,
    type: str | None,  # noqa: A002
    status: str | Collection[str] | None,
    limit: int | None,
    offset: int,
    *,
    archived: bool | None = False,
) -> list[LocalJob]:
    """Return one page of jobs; see ``Workspace.jobs``."""
    statuses = () if status is None else (status,) if isinstance(status, str) else tuple(status)
    if unknown := [one for one in statuses if one not in records.JOB_STATUSES]:
        raise BadInput(f"unknown job status {unknown[0]!r}; allowed: {', '.join(records.JOB_STATUSES)}")
    if (limit is not None and limit < 0) or offset < 0:
        raise BadInput(f"limit and offset must be at least 0 (got limit={limit}, offset={offset})")
    which = partial(home.store.job_rows, type=type, status=status, archived=archived)
    read = partial(which, limit=limit, offset=offset)
    rows = read()
    if look_after(home, rows):
        rows = read()
    return [LocalJob(home, row) for row in rows]
