"""Handles of jobs, to follow a job, read its result, or cancel it.

A job is a row of the workspace's database. A :class:`Job` is the view of one from outside; the view from
inside its notebook is a ``scope.JobScope``.
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
from workbench.runs.kept_files import KeptFile
from workbench.store import records
from workbench.values import restored

#: A handle's properties are at most this old, in seconds.
FRESH_SECONDS = 0.25


class Stage(NamedTuple):
    """One of the nested stages a job is in."""

    name: str
    done: float = 0.0
    total: float | None = None


class Progress(NamedTuple):
    """Progress of a job.

    ``rate`` is in units of the innermost stage per second. ``left`` is in seconds, for the whole job if
    known, otherwise for the innermost stage. Both are None while unknown.
    """

    done: float = 0.0
    total: float | None = None
    message: str = ""
    stages: tuple[Stage, ...] = ()
    rate: float | None = None
    left: float | None = None

    @property
    def fraction(self) -> float | None:
        """Fraction done, 0 to 1; None if the total is unknown."""
        if not self.total or self.total <= 0:
            return None
        return min(max(self.done / self.total, 0.0), 1.0)

    @property
    def words(self) -> str:
        """The progress in one line: ``refit › features 120/400, 2 min left``."""
        path = [stage.name for stage in self.stages]
        if self.stages and self.stages[-1].total:
            path[-1] += f" {self.stages[-1].done:g}/{self.stages[-1].total:g}"
        if self.message and self.message not in {stage.name for stage in self.stages}:
            path.append(self.message)
        text = " › ".join(path)
        return (
            text if self.left is None else f"{text}, {time_left(self.left)}" if text else time_left(self.left)
        )


def time_left(seconds: float) -> str:
    """Return a remaining time as text: ``40 s left``, ``3 min left``, ``2 h left``."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s left"
    return f"{round(seconds / 60)} min left" if seconds < 5400 else f"{round(seconds / 3600)} h left"


class Job(ABC):
    """One job, seen from outside.

    While the job is running, its properties are at most a quarter of a second old. This is the interface that
    jobs on this machine and jobs on a server have in common.

    Parameters
    ----------
    row : records.JobRecord
        The job as read from the database.
    """

    def __init__(self, row: records.JobRecord) -> None:
        self._row = row
        self._read_at = time.monotonic()
        self._result: Result | None = None

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.type} ({self.adapter}): {self.status}>"

    def _now(self) -> records.JobRecord:
        ended = self._row.status in records.FINAL_STATUSES
        if not ended and time.monotonic() - self._read_at > FRESH_SECONDS:
            self.refresh()
        return self._row

    @abstractmethod
    def refresh(self) -> Self:
        """Reload the job now."""

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
    def name(self) -> str:
        """The name that a person gave it; empty without one."""
        return self._now().name

    @property
    def archived(self) -> bool:
        """Whether it is archived: lists omit it, and everything else works as before."""
        return self._now().archived_at is not None

    @property
    def adapter(self) -> str:
        """Name of the adapter."""
        return self._row.adapter

    @property
    def source(self) -> str:
        """Path of the user's notebook that the job executes; empty for an adapter's jobs."""
        return self._row.source

    @property
    def options(self) -> dict[str, Any]:
        """Its options, with defaults filled in, or the parameters of a user's notebook."""
        options: dict[str, Any] = restored(self._row.options)
        return options

    @property
    def floors(self) -> dict[str, float]:
        """Minimum values that metrics of its result must reach."""
        return self._row.floors

    @property
    def status(self) -> str:
        """``queued``, ``running``, ``cancelling``, ``succeeded``, ``failed`` or ``cancelled``."""
        return self._now().status

    @property
    def done(self) -> bool:
        """Whether the job has ended, in any final status."""
        return self.status in records.FINAL_STATUSES

    @property
    def progress(self) -> Progress:
        """Its progress."""
        return _progress(self._now())

    @property
    def summary(self) -> str:
        """The result's one-sentence summary; empty until there is a result."""
        return self._now().summary

    @property
    def error(self) -> dict[str, Any] | None:
        """Why it failed: ``{"cell", "type", "message"}``.

        ``cell`` is the execution number of the cell in the executed notebook; None if no cell caused it.
        """
        return self._now().error

    @property
    def run_id(self) -> int | None:
        """The latest run it created, if any."""
        return self._now().run_id

    @property
    def attempt(self) -> int:
        """How many times it has been started."""
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
        """How long it has been running, or ran in all; None before it starts."""
        row = self._now()
        if row.started_at is None:
            return None
        return max((row.finished_at or time.time()) - row.started_at, 0.0)

    @property
    @abstractmethod
    def notebook(self) -> Path | None:
        """The executed notebook, saved while it runs; None if missing.

        For a job on a server it is a path on that server.
        """

    @property
    @abstractmethod
    def output(self) -> KeptFile | None:
        """Everything that its notebook printed, ``output.txt``; None if it has not printed anything.

        It grows while the job runs. Long logs and notebooks leave out the middle of what was printed; this
        file does not.
        """

    @property
    @abstractmethod
    def output_note(self) -> str:
        """What the log and the notebook leave out, or what is missing; empty if they have everything."""

    @property
    @abstractmethod
    def result(self) -> Result | None:
        """What it returned; None until it has returned something."""

    def to_json(self, *, result: bool = True) -> dict[str, Any]:
        """Return the job as plain JSON; times are ISO 8601 in UTC.

        Parameters
        ----------
        result : bool
            Whether to include the result; lists leave it out.
        """
        row = self._now()
        progress = _progress(row)
        notebook, output = self.notebook, self.output
        out: dict[str, Any] = {
            "id": self.id,
            "type": row.type,
            "name": row.name,
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
            "output": None if output is None else _file_json(output),
            "output_note": self.output_note,
            "run_id": row.run_id,
            "attempt": row.attempt,
            "options": row.options,
            "floors": row.floors,
            "source": row.source,
        }
        for name in ("created_at", "started_at", "finished_at"):
            at: datetime | None = getattr(self, name)
            out[name] = None if at is None else at.isoformat()
        hidden = row.archived_at
        out["archived_at"] = None if hidden is None else datetime.fromtimestamp(hidden, UTC).isoformat()
        out["seconds"] = self.seconds
        if result:
            out["result"] = None if self.result is None else self.result.model_dump()
        return out

    @abstractmethod
    def logs(self, tail: int = 200) -> str:
        """Return the last lines of its output; empty if it has not printed anything.

        Parameters
        ----------
        tail : int
            Number of lines. At most the last MiB of the log is searched.
        """

    @abstractmethod
    def log_size(self) -> int:
        """Return the size of its log in bytes."""

    @abstractmethod
    def log_after(self, at: int) -> tuple[str, int]:
        """Return the log from byte ``at`` on, and the position to continue from.

        Returns at most 1 MiB per call, and never splits a character.
        """

    @abstractmethod
    def follow_logs(self, pause: float = 0.2) -> Iterator[str]:
        """Yield the lines of its log from the first one on, as they arrive, until the job has ended.

        Parameters
        ----------
        pause : float
            Seconds between checks for new lines.
        """

    @abstractmethod
    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
        *,
        check: bool = True,
    ) -> Self:
        """Wait until the job has ended.

        Parameters
        ----------
        timeout : float, optional
            Maximum time to wait, in seconds.
        on_progress : callable, optional
            Called with the job whenever its status or progress changes.
        check : bool
            Whether to raise unless the job succeeded.

        Raises
        ------
        JobFailed, JobCancelled
            The job failed or was cancelled.
        TimeoutError
            The job has not ended yet; it keeps running.
        """

    @abstractmethod
    def retry(self) -> Job:
        """Queue the job again, with the same type, options and floors, and the notebook as submitted.

        Returns
        -------
        Job
            The new job; this one is unchanged.

        Raises
        ------
        WrongState
            The job has not ended yet.
        BadOptions, BadInput, NotSupported, UnknownAdapter
            The adapter has changed since and no longer accepts the job.
        """

    @abstractmethod
    def cancel(self) -> Self:
        """Request the job to stop. A queued job is cancelled at once; a job that has ended is unchanged."""

    # Order -------------------------------------------------------------------------------------

    @abstractmethod
    def rename(self, name: str) -> Self:
        """Give the job a name, or another one.

        Raises
        ------
        BadInput
            The name is empty, too long, or no text that a database can store.
        """

    @abstractmethod
    def archive(self) -> Self:
        """Hide a job that has ended from lists; :meth:`restore` undoes it. Nothing is deleted.

        Raises
        ------
        WrongState
            It has not ended.
        """

    @abstractmethod
    def restore(self) -> Self:
        """Show an archived job in lists again."""

    @abstractmethod
    def delete(self) -> dict[str, int]:
        """Delete a job that has ended, with its result, log and executed notebook. It cannot be undone.

        The runs and indexes that it made stay.

        Returns
        -------
        dict of str to int
            How many ``jobs`` and ``results``, and ``bytes`` of files, were deleted.

        Raises
        ------
        WrongState
            It has not ended.
        """

    def _raise_unless_succeeded(self) -> None:
        if self._row.status == "cancelled":
            raise JobCancelled(self.id, f"job {self.id} ({self.type}) was cancelled")
        if self._row.status == "failed":
            error = self._row.error or {}
            cell = error.get("cell")
            where = f" in cell [{cell}]" if cell else ""
            problem = f"{error.get('type', 'Error')}: {error.get('message', 'no reason was recorded')}"
            hint = f"Open {self.notebook}" if self.notebook else ""
            raise JobFailed(
                self.id, f"job {self.id} ({self.type}) failed{where}: {problem}", cell=cell, hint=hint
            )


def _file_json(file: KeptFile) -> dict[str, Any]:
    return {"path": str(file.path), "size": file.size, "changed_at": file.created_at.isoformat()}


def _progress(row: records.JobRecord) -> Progress:
    stages = tuple(Stage(**stage) for stage in row.progress_stages)
    return Progress(
        row.progress_done,
        row.progress_total,
        row.progress_message,
        stages,
        row.progress_rate,
        row.progress_left,
    )
