"""Submit a job, follow it, cancel it; and what a job notebook does with the job it is.

A job is a row of the database. Its status moves by guarded updates only (``Store.move_job``), and what it
left is in ``jobs/<id>/`` of the workspace: the executed notebook and ``log.txt``. A :class:`Job` looks at
one from outside; from inside its notebook a job is a ``scope.JobScope``.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel

from workbench import settling
from workbench.adapter.contract import BaseAdapter
from workbench.adapter.options import check_job
from workbench.adapter.registry import get_adapter
from workbench.errors import (
    BadInput,
    BadOptions,
    CorruptFile,
    JobCancelled,
    JobFailed,
    StoreError,
    UnknownJob,
    WrongState,
)
from workbench.home import DATABASE_URL, as_id
from workbench.host import processes
from workbench.host import processes as keeper
from workbench.host.files import write_whole
from workbench.host.locks import is_locked as is_locked
from workbench.host.locks import start_with_lock
from workbench.host.locks import take_lock as take_lock
from workbench.host.log import _LOG_MOST, _tail
from workbench.parameters import check_parameters
from workbench.results.result import Result
from workbench.store import records
from workbench.values import plain
from workbench.workspace import Workspace

#: Type of a job that executes a notebook of the user's own.
NOTEBOOK = "notebook"


#: A job whose worker vanished is begun so many times in all.
MAX_ATTEMPTS = 2


#: A handle's properties are at most this old, in seconds.
FRESH_SECONDS = 0.25


#: What workers print goes to a new file when it is longer than this, in bytes; the one before is kept.
WORKER_LOG_BYTES = 4 * 2**20


#: Environment variables by which a worker tells a notebook which job it is.
JOB, ATTEMPT = "WORKBENCH_JOB", "WORKBENCH_JOB_ATTEMPT"


class Stage(NamedTuple):
    """One of the stages a job is in, the inner ones inside the outer ones."""

    name: str
    done: float = 0.0
    total: float | None = None


class Progress(NamedTuple):
    """How far a job is.

    ``rate`` is in units of the innermost stage a second; ``left`` is in seconds, for the whole job where
    that is known and else for what is being counted. Both are None while they are not known.
    """

    done: float = 0.0
    total: float | None = None
    message: str = ""
    stages: tuple[Stage, ...] = ()
    rate: float | None = None
    left: float | None = None

    @property
    def fraction(self) -> float | None:
        """How much is done, 0 to 1; None where the total is not known."""
        if not self.total or self.total <= 0:
            return None
        return min(max(self.done / self.total, 0.0), 1.0)

    @property
    def words(self) -> str:
        """Say it in one line: ``refit › features 120/400, 2 min left``."""
        path = [stage.name for stage in self.stages]
        if self.stages and self.stages[-1].total:
            path[-1] += f" {self.stages[-1].done:g}/{self.stages[-1].total:g}"
        if self.message and self.message not in {stage.name for stage in self.stages}:
            path.append(self.message)
        said = " › ".join(path)
        return (
            said if self.left is None else f"{said}, {time_left(self.left)}" if said else time_left(self.left)
        )


def time_left(seconds: float) -> str:
    """Return a time as people say it: ``40 s left``, ``3 min left``, ``2 h left``."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s left"
    return f"{round(seconds / 60)} min left" if seconds < 5400 else f"{round(seconds / 3600)} h left"


class Job:
    """One job, looked at from outside.

    What it says is at most a quarter of a second old while the job is going on.
    """

    def __init__(self, home: Workspace, row: records.Job) -> None:
        self._home = home
        self._row = row
        self._read_at = time.monotonic()
        self._result: Result | None = None

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.type} ({self.adapter}): {self.status}>"

    def _now(self) -> records.Job:
        ended = self._row.status in records.FINAL_STATUSES
        if not ended and time.monotonic() - self._read_at > FRESH_SECONDS:
            self.refresh()
        return self._row

    def refresh(self) -> Self:
        """Read the job again, now."""
        row = self._read()
        if _look_after(self._home, [row]):
            row = self._read()
        self._row, self._read_at = row, time.monotonic()
        return self

    def _read(self) -> records.Job:
        row = self._home.store.job(self.id)
        if row is None:
            raise UnknownJob(self.id, self._home.store.newest_job())
        return row

    @property
    def id(self) -> int:
        """The job's id."""
        assert self._row.id is not None  # noqa: S101  # a stored row has one
        return self._row.id

    @property
    def type(self) -> str:
        """``train``, ``eval``, ``index_build`` or another type of the adapter's."""
        return self._row.type

    @property
    def adapter(self) -> str:
        """Name of the adapter."""
        return self._row.adapter

    @property
    def source(self) -> str:
        """Path of the user's own notebook that it executes; empty for jobs of an adapter."""
        return self._row.source

    @property
    def options(self) -> dict[str, Any]:
        """Its options, filled in; the parameters of a user's own notebook."""
        return self._row.options

    @property
    def floors(self) -> dict[str, float]:
        """Metrics of its result that must reach a value."""
        return self._row.floors

    @property
    def status(self) -> str:
        """``queued``, ``running``, ``cancelling``, ``succeeded``, ``failed`` or ``cancelled``."""
        return self._now().status

    @property
    def done(self) -> bool:
        """Whether the job has ended, well or badly."""
        return self.status in records.FINAL_STATUSES

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return _progress(self._now())

    @property
    def summary(self) -> str:
        """The result's one sentence; empty while there is none."""
        return self._now().summary

    @property
    def error(self) -> dict[str, Any] | None:
        """Why it failed: ``{"cell", "type", "message"}``.

        ``cell`` is the number beside the cell in the executed notebook; None if no cell is to blame.
        """
        return self._now().error

    @property
    def run_id(self) -> int | None:
        """The run it made last, if it made one."""
        return self._now().run_id

    @property
    def attempt(self) -> int:
        """How many times it was begun."""
        return self._now().attempt

    @property
    def created_at(self) -> datetime:
        """When it was submitted."""
        return datetime.fromtimestamp(self._row.created_at, UTC)

    @property
    def started_at(self) -> datetime | None:
        """When its latest attempt began."""
        at = self._now().started_at
        return None if at is None else datetime.fromtimestamp(at, UTC)

    @property
    def finished_at(self) -> datetime | None:
        """When it ended."""
        at = self._now().finished_at
        return None if at is None else datetime.fromtimestamp(at, UTC)

    @property
    def seconds(self) -> float | None:
        """How long it has run, or ran; None before it began."""
        row = self._now()
        if row.started_at is None:
            return None
        return max((row.finished_at or time.time()) - row.started_at, 0.0)

    @property
    def folder(self) -> Path:
        """The folder of what it left."""
        return self._home.jobs_dir / str(self.id)

    @property
    def notebook(self) -> Path | None:
        """The executed notebook, saved while it runs; None where there is none."""
        row = self._now()
        path = self._home.path / (row.notebook or f"jobs/{self.id}/notebook.ipynb")
        return path if path.is_file() else None

    @property
    def result(self) -> Result | None:
        """What it returned; None while there is nothing."""
        if self._result is None and self._now().status in records.FINAL_STATUSES:
            row = self._home.store.result(self.id)
            self._result = None if row is None else Result.model_validate(row.data)
        return self._result

    def to_json(self, *, result: bool = True) -> dict[str, Any]:
        """Return all of this as plain JSON; times are ISO 8601 in UTC.

        Parameters
        ----------
        result : bool
            Whether the result comes with it; a list does without.
        """
        row = self._now()
        progress = _progress(row)
        notebook = self.notebook
        out: dict[str, Any] = {
            "id": self.id,
            "type": row.type,
            "adapter": row.adapter,
            "status": row.status,
            "progress": {
                **progress._asdict(),
                "stages": [stage._asdict() for stage in progress.stages],
                "fraction": progress.fraction,
            },
            "summary": row.summary,
            "error": row.error,
            "notebook": None if notebook is None else str(notebook),
            "run_id": row.run_id,
            "attempt": row.attempt,
            "options": row.options,
            "floors": row.floors,
            "source": row.source,
        }
        for name in ("created_at", "started_at", "finished_at"):
            at: datetime | None = getattr(self, name)
            out[name] = None if at is None else at.isoformat()
        out["seconds"] = self.seconds
        if result:
            out["result"] = None if self.result is None else self.result.model_dump()
        return out

    def logs(self, tail: int = 200) -> str:
        """Return the last lines of what it printed; empty while there is nothing.

        Parameters
        ----------
        tail : int
            How many lines; of a very long log, at most its last MiB is looked at.
        """
        return _tail(self.folder / "log.txt", tail)

    def log_size(self) -> int:
        """Return how many bytes its log has."""
        path = self.folder / "log.txt"
        return path.stat().st_size if path.is_file() else 0

    def log_after(self, at: int) -> tuple[str, int]:
        """Return what its log holds after so many bytes, and how many to pass over the next time.

        At most a MiB at once, and never half a character.
        """
        path = self.folder / "log.txt"
        if not path.is_file():
            return "", at
        with path.open("rb") as file:
            file.seek(at)
            data = file.read(_LOG_MOST)
        cut = len(data)
        while cut > max(len(data) - 4, 0) and data[cut - 1] & 0xC0 == 0x80:
            cut -= 1  # the tail of a character
        if cut and data[cut - 1] >= 0xC0:  # and its head, where the tail is not all there
            need = 2 if data[cut - 1] < 0xE0 else 3 if data[cut - 1] < 0xF0 else 4
            cut = cut - 1 if len(data) - cut + 1 < need else len(data)
        else:
            cut = len(data)
        return data[:cut].decode("utf-8", errors="replace"), at + cut

    def follow_logs(self, pause: float = 0.2) -> Iterator[str]:
        """Yield the lines of its log as they come, from the first on, until the job has ended.

        Parameters
        ----------
        pause : float
            Seconds between two looks.
        """
        at, cut = 0, ""
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode  # a look may end inside a letter
        while True:
            ended = self.refresh().done  # asked first: what was printed before the end is there then
            path = self.folder / "log.txt"
            if path.is_file():
                with path.open("rb") as file:
                    file.seek(at)
                    text = file.read()
                at += len(text)
                *lines, cut = (cut + decode(text)).split("\n")
                yield from lines
            if ended:
                if cut:
                    yield cut
                return
            time.sleep(pause)

    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
        *,
        check: bool = True,
    ) -> Job:
        """Return when the job has ended.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait at most.
        on_progress : callable, optional
            Called with the job whenever its status or progress has changed.
        check : bool
            Whether an end other than success raises.

        Raises
        ------
        JobFailed, JobCancelled
            How it ended.
        TimeoutError
            It has not ended yet; it goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        seen: object = None
        looked = time.monotonic()
        pause = 0.02
        while True:
            row = self.refresh()._row
            now = (row.status, row.progress_done, row.progress_total, row.progress_message)
            if now != seen:
                seen, pause = now, 0.02
                if on_progress is not None:
                    on_progress(self)
            if row.status in records.FINAL_STATUSES:
                break
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"job {self.id} is {row.status} after {timeout:g} s; it goes on")
            if row.status == "queued" and time.monotonic() - looked > 2.0:  # wherever it was submitted
                looked = time.monotonic()
                with contextlib.suppress(StoreError):  # it goes on waiting, and tries again
                    ensure_worker(self._home)
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
        if check:
            self._raise_unless_succeeded()
        return self

    def retry(self) -> Job:
        """Queue the same again: same type, options, floors, and the notebook as it was submitted.

        Returns
        -------
        Job
            The new one; this one stays as it ended.

        Raises
        ------
        WrongState
            It has not ended yet.
        BadOptions, BadInput, NotSupported, UnknownAdapter
            The adapter has changed meanwhile and takes it no more.
        """
        row = self.refresh()._row
        check_over(row)
        options = row.options
        if row.source:
            if not source_copy(self._home, row.source_sha256).is_file():
                raise BadInput(
                    f"the notebook of job {self.id} is no longer kept", hint=f"Submit {row.source} again."
                )
        else:
            family = get_adapter(row.adapter)
            options = plain(check_job(family, row.type, row.options), "options")
        again = records.Job(
            type=row.type,
            adapter=row.adapter,
            options=options,
            floors=row.floors,
            source=row.source,
            source_sha256=row.source_sha256,
            cwd=row.cwd or str(Path.cwd()),
            max_attempts=MAX_ATTEMPTS,
        )
        return _queue(self._home, again, start_worker=True)

    def _raise_unless_succeeded(self) -> None:
        if self._row.status == "cancelled":
            raise JobCancelled(self.id, f"job {self.id} ({self.type}) was cancelled")
        if self._row.status == "failed":
            error = self._row.error or {}
            cell = error.get("cell")
            where = f" in cell [{cell}]" if cell else ""
            said = f"{error.get('type', 'Error')}: {error.get('message', 'no reason was kept')}"
            hint = f"Open {self.notebook}" if self.notebook else ""
            raise JobFailed(
                self.id, f"job {self.id} ({self.type}) failed{where}: {said}", cell=cell, hint=hint
            )

    def cancel(self) -> Job:
        """Ask for the job to stop. A queued one is cancelled at once; one that has ended stays as it is."""
        store = self._home.store
        if store.move_job(self.id, expect="queued", to="cancelled"):
            return self.refresh()
        if store.move_job(self.id, expect="running", to="cancelling") and self._now().worker_id:
            with contextlib.suppress(StoreError):
                ensure_worker(self._home)  # where the worker is dead, a new one settles it
        return self.refresh()


def _progress(row: records.Job) -> Progress:
    stages = tuple(Stage(**stage) for stage in row.progress_stages)
    return Progress(
        row.progress_done,
        row.progress_total,
        row.progress_message,
        stages,
        row.progress_rate,
        row.progress_left,
    )


def submit(
    home: Workspace,
    type: str,  # noqa: A002
    adapter: str | BaseAdapter | None = None,
    options: Mapping[str, Any] | BaseModel | None = None,
    *,
    fail_below: Mapping[str, float] | str | None = None,
    start_worker: bool = True,
    max_attempts: int = MAX_ATTEMPTS,
) -> Job:
    """Queue a job; see ``Workspace.submit``.

    ``max_attempts`` counts the times it is begun: again only when its worker vanished, never when it failed.
    """
    family = adapter if isinstance(adapter, BaseAdapter) else get_adapter(adapter)
    checked = plain(check_job(family, type, options), "options")
    return submit_checked(
        home,
        type,
        family.name,
        checked,
        fail_below=fail_below,
        start_worker=start_worker,
        max_attempts=max_attempts,
    )


def submit_checked(
    home: Workspace,
    type: str,  # noqa: A002
    adapter: str,
    options: Mapping[str, Any],
    *,
    fail_below: Mapping[str, float] | str | None = None,
    start_worker: bool = True,
    max_attempts: int = 2,
) -> Job:
    """Queue a job whose options were checked by its adapter already, in another process perhaps."""
    row = records.Job(
        type=type,
        adapter=adapter,
        options=dict(options),
        floors=check_floors(fail_below),
        cwd=str(Path.cwd()),
        max_attempts=max_attempts,
    )
    return _queue(home, row, start_worker=start_worker)


def submit_notebook(
    home: Workspace,
    path: str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    start_worker: bool = True,
    max_attempts: int = MAX_ATTEMPTS,
    source: str | None = None,
    cwd: str | None = None,
) -> Job:
    """Queue a notebook of the user's own; see ``Workspace.submit_notebook``.

    ``source`` and ``cwd`` are what it is called and where it is executed if not by its path, which may then
    be gone as soon as this has returned.
    """
    file = local_notebook(path)
    checked = check_parameters(file, parameters)
    data = _read(file)
    digest = hashlib.sha256(data).hexdigest()
    row = records.Job(
        type=NOTEBOOK,
        options=plain(checked, "parameters"),
        source=source or str(file),
        source_sha256=digest,
        # Where it runs when it is opened by hand, so that its relative paths mean the same.
        cwd=cwd or str(file.parent),
        max_attempts=max_attempts,
    )
    # What is executed is what was submitted, however long it is queued and whoever edits it meanwhile.
    copy = source_copy(home, digest)
    try:
        if not _is_whole(copy, digest):
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_whole(copy, data)
    except OSError as error:
        raise StoreError(
            f"the workspace refused a copy of {file.name}: {error.strerror or error}",
            hint="Nothing was queued. Free some space, or make the workspace's folder writable.",
        ) from error
    return _queue(home, row, start_worker=start_worker)


def local_notebook(path: str | os.PathLike[str]) -> Path:
    """Return a notebook's resolved path on this machine.

    Raises
    ------
    BadInput
        It is an address, is not there, or is no notebook.
    """
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "://" in text or "\0" in text:
        raise BadInput(f"{text!r} is no local path", hint="Give the path of an .ipynb file on this machine.")
    source = Path(text).expanduser().resolve()
    if source.suffix != ".ipynb" or not source.is_file():
        raise BadInput(f"no notebook {str(source)!r}", hint="Give the path of an .ipynb file.")
    return source


def _read(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise BadInput(f"{source} cannot be read: {error.strerror or error}") from None


def source_copy(home: Workspace, digest: str) -> Path:
    """Return where the copy of a submitted notebook is kept."""
    return home.jobs_dir / ".sources" / f"{digest}.ipynb"


def whole_source(home: Workspace, digest: str) -> Path:
    """Return the copy of a submitted notebook.

    Raises
    ------
    CorruptFile
        It is no longer what was submitted.
    """
    copy = source_copy(home, digest)
    if not _is_whole(copy, digest):
        raise CorruptFile(
            copy, "it is not the notebook that was submitted", hint="Submit the notebook again."
        )
    return copy


def _is_whole(copy: Path, digest: str) -> bool:
    return copy.is_file() and hashlib.sha256(copy.read_bytes()).hexdigest() == digest


def check_floors(given: Any) -> dict[str, float]:
    """Return what ``fail_below`` says, from a mapping or JSON text: a finite floor for each metric.

    Raises
    ------
    BadOptions
        It is something else.
    """
    hint = """Such as '{"R@10": 0.35}'."""
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError as error:
            raise BadOptions(f"fail_below is not JSON ({error}): {given!r}", hint=hint) from None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadOptions(f"fail_below must map metrics to floors, not be {given!r}", hint=hint)
    problems = [
        (f"fail_below.{name}", f"a finite number is wanted (given: {floor!r})")
        for name, floor in given.items()
        if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not math.isfinite(floor)
    ]
    if problems:
        raise BadOptions("; ".join(": ".join(problem) for problem in problems), problems, hint=hint)
    return {str(name): float(floor) for name, floor in given.items()}


def _queue(home: Workspace, row: records.Job, *, start_worker: bool) -> Job:
    for path in (row.cwd, row.source):
        if path.encode("utf-8", "replace") != path.encode("utf-8", "surrogatepass"):
            raise BadInput(
                f"the path {path!r} is no UTF-8, which a database cannot keep",
                hint="Rename the folder or file.",
            )
    row.host = processes.host() if start_worker else ""  # whoever looks from here sees to a worker, too
    job = Job(home, home.store.add_job(row))
    if start_worker:
        try:
            ensure_worker(home)
        except StoreError:
            # Nobody would run it. Where somebody does all the same, it is queued in order.
            if home.store.move_job(job.id, expect="queued", to="cancelled"):
                raise
    return job


def check_over(row: records.Job) -> None:
    """Raise unless a job has ended.

    Raises
    ------
    WrongState
        It waits or runs.
    """
    if row.status not in records.FINAL_STATUSES:
        raise WrongState(f"job {row.id} is {row.status}", hint="Cancel it first, or wait for its end.")


def find(home: Workspace, job_id: int) -> Job:
    """Return a job by id; see ``Workspace.job``."""
    number = as_id(job_id)
    row = None if number is None else home.store.job(number)
    if row is None:
        raise UnknownJob(job_id, home.store.newest_job())
    return Job(home, row).refresh() if _look_after(home, [row]) else Job(home, row)


def listed(
    home: Workspace,
    type: str | None,  # noqa: A002
    status: str | Collection[str] | None,
    limit: int | None,
    offset: int,
) -> list[Job]:
    """Return one page of jobs; see ``Workspace.jobs``."""
    wanted = () if status is None else (status,) if isinstance(status, str) else tuple(status)
    if unknown := [one for one in wanted if one not in records.JOB_STATUSES]:
        raise BadInput(f"no job status {unknown[0]!r}. There are: {', '.join(records.JOB_STATUSES)}")
    if (limit is not None and limit < 0) or offset < 0:
        raise BadInput(f"limit={limit}, offset={offset}: neither can be below 0")
    read = partial(home.store.job_rows, type=type, status=status, limit=limit, offset=offset)
    rows = read()
    if _look_after(home, rows):
        rows = read()
    return [Job(home, row) for row in rows]


def _look_after(home: Workspace, rows: Collection[records.Job]) -> bool:
    """See to it that what rows say is true; return whether some of it was not.

    What is said to run and is gone is settled, and what was queued here and waits gets a worker. A worker
    does this too; this is for when none is left.
    """
    gone = [row for row in rows if settling.gone_here(row)]
    here = processes.host()
    waiting = any(row.status == "queued" and row.host == here for row in rows)
    try:
        if gone:
            settling.settle_gone(home.store)
        if (gone and home.store.count_jobs("queued")) or (waiting and not is_locked(worker_lock(home))):
            ensure_worker(home)
    except (StoreError, OSError):  # somebody who may only read: what is known is shown as it is
        return False
    return bool(gone)


# Workers ---------------------------------------------------------------------------------------


def worker_lock(home: Workspace) -> Path:
    """Return the file that a worker holds locked for as long as it lives."""
    return home.path / ".worker.lock"


def ensure_worker(home: Workspace) -> bool:
    """Start a worker in the background if none is alive on this host; say whether one was started.

    Call it after the row is queued: a worker about to leave lets go of its lock first and then looks at
    the queue once more, so a job is never left between the two.

    Raises
    ------
    StoreError
        The system refuses a file in the workspace, or a process.
    """
    try:
        return _start_worker(home)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "strerror", None) or error
        raise StoreError(
            f"no worker can be started for {home.path}: {why}",
            hint="Free some space, make the folder writable, or run one elsewhere: workbench worker",
        ) from error


def _start_worker(home: Workspace) -> bool:
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
    # It is born with the lock, so that of many who submit at once one starts a worker.
    with lock:
        start_with_lock(worker_command(home), lock, log, environment)
    return True


def worker_command(home: Workspace) -> list[str]:
    """Return the command that starts a worker in the background."""
    return [sys.executable, "-m", "workbench.background", "--workspace", str(home.path)]
