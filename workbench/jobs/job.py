"""What people hold of a job: they follow it, read its result, cancel it.

A job is a row of the workspace's database. A :class:`Job` looks at one from outside; from inside its notebook
a job is a ``scope.JobScope``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from workbench.errors import JobCancelled, JobFailed
from workbench.results.result import Result
from workbench.store import records

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


class Job(ABC):
    """One job, looked at from outside.

    What it says is at most a quarter of a second old while the job is going on. A job of this machine and one
    on a server are both jobs; this class says what both can do.

    Parameters
    ----------
    row : records.Job
        The job as it was read.
    """

    def __init__(self, row: records.Job) -> None:
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

    @abstractmethod
    def refresh(self) -> Self:
        """Read the job again, now."""

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
    @abstractmethod
    def notebook(self) -> Path | None:
        """The executed notebook, saved while it runs; None where there is none.

        Of a job on a server it is a path there.
        """

    @property
    @abstractmethod
    def result(self) -> Result | None:
        """What it returned; None while there is nothing."""

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

    @abstractmethod
    def logs(self, tail: int = 200) -> str:
        """Return the last lines of what it printed; empty while there is nothing.

        Parameters
        ----------
        tail : int
            How many lines; of a very long log, at most its last MiB is looked at.
        """

    @abstractmethod
    def log_size(self) -> int:
        """Return how many bytes its log has."""

    @abstractmethod
    def log_after(self, at: int) -> tuple[str, int]:
        """Return what its log holds after ``at`` bytes, and how many to skip the next time.

        At most a MiB at once, and never half a character.
        """

    @abstractmethod
    def follow_logs(self, pause: float = 0.2) -> Iterator[str]:
        """Yield the lines of its log as they come, from the first on, until the job has ended.

        Parameters
        ----------
        pause : float
            Seconds between two looks.
        """

    @abstractmethod
    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
        *,
        check: bool = True,
    ) -> Self:
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

    @abstractmethod
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

    @abstractmethod
    def cancel(self) -> Self:
        """Ask for the job to stop. A queued one is cancelled at once; one that has ended stays as it is."""

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
