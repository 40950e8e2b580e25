"""Submit a job, follow it, cancel it; and what a job notebook does with the job it is.

A job is a row of the database. Its status moves by guarded updates only (``Store.move_job``), and what it
left is in ``jobs/<id>/`` of the workspace: the executed notebook and ``log.txt``. A :class:`Job` looks at
one from outside; from inside its notebook a job is a ``scope.JobScope``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from workbench.adapter.options import check_job
from workbench.adapter.registry import get_adapter
from workbench.errors import BadInput, JobCancelled, JobFailed, StoreError, UnknownJob
from workbench.home import Home
from workbench.host.log import LogReader
from workbench.jobs import workers
from workbench.jobs.queue import MAX_ATTEMPTS, check_over, queue, source_copy
from workbench.jobs.settling import look_after
from workbench.results.result import Result
from workbench.store import records
from workbench.values import plain

#: A handle's properties are at most this old, in seconds.
FRESH_SECONDS = 0.25


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

    def __init__(self, home: Home, row: records.Job) -> None:
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
        if look_after(self._home, [row]):
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
        return self._log().tail(tail)

    def log_size(self) -> int:
        """Return how many bytes its log has."""
        return self._log().size()

    def log_after(self, at: int) -> tuple[str, int]:
        """Return what its log holds after ``at`` bytes, and how many to skip the next time.

        At most a MiB at once, and never half a character.
        """
        return self._log().after(at)

    def follow_logs(self, pause: float = 0.2) -> Iterator[str]:
        """Yield the lines of its log as they come, from the first on, until the job has ended.

        Parameters
        ----------
        pause : float
            Seconds between two looks.
        """
        return self._log().follow(lambda: self.refresh().done, pause)

    def _log(self) -> LogReader:
        return LogReader(self.folder / "log.txt")

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
                    workers.ensure_worker(self._home)
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
        return Job(self._home, queue(self._home, again, start_worker=True))

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
                workers.ensure_worker(self._home)  # where the worker is dead, a new one settles it
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
