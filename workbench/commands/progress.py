"""A job's progress on the command line: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from workbench.text import visible

if TYPE_CHECKING:
    from workbench.jobs.job import Job


#: Without a terminal, seconds between two lines; a line is also printed when the job's message changes.
LINE_SECONDS = 5.0


class JobProgress:
    """Shows the progress of one job after another while the caller waits for them.

    Parameters
    ----------
    stream : text file
        Where to write; standard error by default, which keeps standard output for the command's result.

    Examples
    --------
    >>> with JobProgress() as shown:                                  # doctest: +SKIP
    ...     job.wait(on_progress=shown)
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._bars: Any = None
        self._tasks: dict[int, Any] = {}
        self._shown: tuple[object, ...] | None = None
        self._shown_at = 0.0

    def __enter__(self) -> Self:
        if self._stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

            self._bars = Progress(
                TextColumn("{task.fields[type]:<12}"),
                BarColumn(bar_width=32),
                TaskProgressColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[message]}", markup=False),
                console=Console(file=self._stream),
            )
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, job: Job) -> None:
        """Show how far a job is; pass the object as ``on_progress``."""
        if self._bars is None:
            self._line(job)
        else:
            self._bar(job)

    def _bar(self, job: Job) -> None:
        if job.id not in self._tasks:
            self._tasks[job.id] = self._bars.add_task("", total=None, type=job.type, message="")
        progress, status = job.progress, job.status
        done, total = progress.done, progress.total
        if status == "succeeded":  # whatever was reported last, the job is complete
            done = total = total or done or 1
        message = progress.words if status == "running" else job.summary or status
        self._bars.update(self._tasks[job.id], completed=done, total=total, message=visible(message))

    def _line(self, job: Job) -> None:
        progress, status = job.progress, job.status
        # numbers in a message change all the time; a new line is due when its words change
        state = (
            job.id,
            status,
            re.sub(r"[-+\d.,]+", "", progress.message),
            *(stage.name for stage in progress.stages),
        )
        if state == self._shown and time.monotonic() - self._shown_at < LINE_SECONDS:
            return
        self._shown, self._shown_at = state, time.monotonic()
        if status == "running":
            share = "     " if progress.fraction is None else f"{progress.fraction:4.0%} "
            text = f"{share} {progress.words or 'starting'}"
        else:
            text = f"{status}{f': {job.summary}' if job.summary else ''}"
        print(f"{job.type:<12} {visible(text)}", file=self._stream, flush=True)
