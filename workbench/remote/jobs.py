"""Jobs on a server, looked at from here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from typing_extensions import override

from workbench import wire
from workbench.errors import Busy, ServerUnreachable
from workbench.jobs.job import Job
from workbench.remote.door import Door, OnServer, seconds_of
from workbench.results.result import Result
from workbench.store import records

#: The server breaks its silence after ten seconds; one that is silent for so long is asked again.
_SILENCE_SECONDS = 25.0

#: Seconds that ``wait`` waits for a server that does not answer; starting one takes less.
RESTART_SECONDS = 30.0


def _job_row(told: Mapping[str, Any]) -> records.Job:
    """Return a job's row from its JSON; what only the server's workers need is not in it."""
    progress = told["progress"]
    same = ("id", "type", "adapter", "status", "options", "summary", "error", "floors", "source", "run_id")
    columns = {name: told[name] for name in (*same, "attempt")}
    columns |= {f"progress_{name}": progress[name] for name in _PROGRESS}
    columns |= {name: seconds_of(told[name]) for name in ("created_at", "started_at", "finished_at")}
    return records.Job(**columns, notebook=told["notebook"] or "")


def _result(told: Mapping[str, Any] | None) -> Result | None:
    """Return a job's result from its JSON, in which a number that is none is null."""
    if not told:
        return None
    metrics = {name: wire.number_from(value) for name, value in told["metrics"].items()}
    return Result.model_validate({**told, "metrics": metrics})


_PROGRESS = ("done", "total", "message", "stages", "rate", "left")


class RemoteJob(OnServer, Job):
    """One job on a server, looked at from here.

    Its ``notebook`` is a path on the server.
    """

    _only_local: ClassVar[Mapping[str, tuple[str, str]]] = {
        "folder": ("a job's folder", "Its log is job.logs(), and its result job.result."),
    }

    def __init__(self, door: Door, told: Mapping[str, Any]) -> None:
        self._door = door
        super().__init__(_job_row(told))
        self._take_result(told)

    def _take(self, told: Mapping[str, Any]) -> None:
        self._row, self._read_at = _job_row(told), time.monotonic()
        self._take_result(told)

    def _take_result(self, told: Mapping[str, Any]) -> None:
        self._result = _result(told.get("result"))
        self._asked_result = "result" in told

    @override
    def refresh(self) -> Self:
        self._take(self._door.get(f"jobs/{self.id}"))
        return self

    @property
    @override
    def notebook(self) -> Path | None:
        row = self._now()
        return Path(row.notebook) if row.notebook else None

    @property
    @override
    def result(self) -> Result | None:
        if self._now().status in records.FINAL_STATUSES and not self._asked_result:
            self.refresh()
        return self._result

    @override
    def retry(self) -> RemoteJob:
        return RemoteJob(self._door, self._door.post(f"jobs/{self.id}/retry"))

    @override
    def logs(self, tail: int = 200) -> str:
        if tail < 1:
            return ""
        return _text(self._door.get(f"jobs/{self.id}/logs", tail=min(tail, 10_000)))

    @override
    def log_size(self) -> int:
        return int(self._door.get(f"jobs/{self.id}/logs", tail=1)["next"])

    @override
    def log_after(self, at: int) -> tuple[str, int]:
        told = self._door.get(f"jobs/{self.id}/logs", after=at)
        return _text(told), told["next"]

    @override
    def follow_logs(self, pause: float = 0.5) -> Iterator[str]:
        at, cut = 0, ""
        while True:
            ended = self.refresh().done  # asked first: what was printed before the end is there then
            while True:
                text, after = self.log_after(at)
                *lines, cut = (cut + text).split("\n")
                yield from lines
                if after == at:
                    break
                at = after
            if ended:
                if cut:
                    yield cut
                return
            time.sleep(pause)

    @override
    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Job], object] | None = None,
        *,
        check: bool = True,
    ) -> Self:
        """Return when the job has ended; see :meth:`workbench.jobs.job.Job.wait`.

        The server tells of every change over one connection. Where that breaks, or the server is started
        anew, it is asked again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                self._follow(deadline, on_progress)
            except (Busy, ServerUnreachable):
                if deadline is None or time.monotonic() < deadline - 0.5:
                    time.sleep(0.5)
                    self._ping()
                    continue
            except TimeoutError:
                pass
            if self._row.status in records.FINAL_STATUSES:
                break
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"job {self.id} is {self._row.status} after {timeout:g} s; it goes on")
        if check:
            self._raise_unless_succeeded()
        return self

    def _ping(self) -> None:
        """Wait a little for a server that is started anew; one that stays away is an error."""
        until = time.monotonic() + RESTART_SECONDS
        while True:
            try:
                self.refresh()
                return
            except (Busy, ServerUnreachable):
                if time.monotonic() > until:
                    raise
            time.sleep(0.5)

    def _follow(self, deadline: float | None, on_progress: Callable[[Job], object] | None) -> None:
        """Take what the server tells, until the job's end or the deadline."""

        def left() -> float:
            return _SILENCE_SECONDS if deadline is None else max(deadline - time.monotonic(), 0.01)

        path = f"jobs/{self.id}/events"
        with contextlib.closing(self._door.events(path, min(left(), _SILENCE_SECONDS))) as events:
            for name, told in events:
                if name == "error":
                    raise wire.error_from(told["error"])
                if name == "end":
                    self._take(told)
                    return
                if name == "progress":
                    self._take_progress(told)
                    if on_progress is not None:
                        on_progress(self)
                if deadline is not None and time.monotonic() >= deadline:
                    return

    def _take_progress(self, told: Mapping[str, Any]) -> None:
        row = self._row.model_copy(update={"status": told["status"], "attempt": told["attempt"]})
        for name in _PROGRESS:
            setattr(row, f"progress_{name}", told["progress"][name])
        self._row, self._read_at = row, time.monotonic()
        self._asked_result = False

    @override
    def cancel(self) -> Self:
        self._take(self._door.post(f"jobs/{self.id}/cancel", again=True))
        return self


def _text(told: Mapping[str, Any]) -> str:
    return "\n".join(told["lines"]) + ("\n" if told["lines"] and not told["open_line"] else "")
