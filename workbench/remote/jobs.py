"""Handles of jobs on a server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from typing_extensions import override

from workbench import wire
from workbench.errors import Busy, ServerUnreachable
from workbench.jobs.job import Job
from workbench.remote.door import Door, OnServer, seconds_of
from workbench.remote.kept_files import RemoteOutput, Source
from workbench.results.result import Result
from workbench.runs.order import check_new_name
from workbench.store import records

#: Seconds of silence after which the client reconnects; the server sends something every ten seconds.
_SILENCE_SECONDS = 25.0

#: Seconds that ``wait`` waits for a server that does not answer; starting one takes less.
RESTART_SECONDS = 120.0


def _job_row(reply: Mapping[str, Any]) -> records.JobRecord:
    """Return a job's row from its JSON, without the columns that only workers need."""
    progress = reply["progress"]
    same = ("id", "type", "adapter", "status", "options", "summary", "error", "floors", "source", "run_id")
    columns = {name: reply[name] for name in (*same, "attempt")}
    columns |= {f"progress_{name}": progress[name] for name in _PROGRESS}
    columns |= {name: seconds_of(reply[name]) for name in ("created_at", "started_at", "finished_at")}
    # Servers of version 0.2.0 know neither.
    columns |= {"name": reply.get("name", ""), "archived_at": seconds_of(reply.get("archived_at"))}
    return records.JobRecord(**columns, notebook=reply["notebook"] or "")


def _result(reply: Mapping[str, Any] | None) -> Result | None:
    """Return a job's result from its JSON, where NaN is null."""
    if not reply:
        return None
    metrics = {name: wire.number_from(value) for name, value in reply["metrics"].items()}
    return Result.model_validate({**reply, "metrics": metrics})


_PROGRESS = ("done", "total", "message", "stages", "rate", "left")


class RemoteJob(OnServer, Job):
    """A job on a server.

    Its ``notebook`` is a path on the server.
    """

    _only_local: ClassVar[Mapping[str, tuple[str, str]]] = {
        "folder": ("a job's folder", "Use job.logs(), job.output and job.result."),
    }

    def __init__(self, door: Door, reply: Mapping[str, Any]) -> None:
        self._door = door
        super().__init__(_job_row(reply))
        self._take_result(reply)

    def _take(self, reply: Mapping[str, Any]) -> None:
        self._row, self._read_at = _job_row(reply), time.monotonic()
        self._take_result(reply)

    def _take_result(self, reply: Mapping[str, Any]) -> None:
        self._output, self._output_note = reply.get("output"), str(reply.get("output_note", ""))
        self._result = _result(reply.get("result"))
        self._asked_result = "result" in reply

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
    def output(self) -> RemoteOutput | None:
        self._now()
        if self._output is None:
            return None
        path = Path(self._output["path"])
        source = Source(self._door, f"jobs/{self.id}/output")
        size, changed = self._output["size"], self._output["changed_at"]
        return RemoteOutput(path.name, path, size, datetime.fromisoformat(changed), source=source)

    @property
    @override
    def output_note(self) -> str:
        self._now()
        return self._output_note

    @property
    @override
    def result(self) -> Result | None:
        if self._now().status in records.FINAL_STATUSES and not self._asked_result:
            self.refresh()
        return self._result

    @override
    def retry(self) -> RemoteJob:
        return RemoteJob(self._door, self._door.post(f"jobs/{self.id}/retry"))

    # Order -------------------------------------------------------------------------------------

    @override
    def rename(self, name: str) -> Self:
        return self._ordered("rename", {"name": check_new_name(name, "a job")})

    @override
    def archive(self) -> Self:
        return self._ordered("archive")

    @override
    def restore(self) -> Self:
        return self._ordered("restore")

    def _ordered(self, verb: str, body: Mapping[str, Any] | None = None) -> Self:
        self._take(self._door.post(f"jobs/{self.id}/{verb}", body, again=True))
        return self

    @override
    def delete(self) -> dict[str, int]:
        counts: dict[str, int] = self._door.delete(f"jobs/{self.id}")["deleted"]
        return counts

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
        reply = self._door.get(f"jobs/{self.id}/logs", after=at)
        return _text(reply), reply["next"]

    @override
    def follow_logs(self, pause: float = 0.5) -> Iterator[str]:
        at, cut = 0, ""
        while True:
            ended = self.refresh().done  # checked first, so that no output before the end is missed
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
        """Wait until the job has ended; see :meth:`workbench.jobs.job.Job.wait`.

        The server sends every change over one connection. If it breaks or the server restarts, the client
        reconnects.
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
                raise TimeoutError(f"job {self.id} is still {self._row.status} after {timeout:g} s")
        if check:
            self._raise_unless_succeeded()
        return self

    def _ping(self) -> None:
        """Wait for a server that restarts; raise if it stays unreachable."""
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
        """Process the server's events until the job's end or the deadline."""

        def left() -> float:
            return _SILENCE_SECONDS if deadline is None else max(deadline - time.monotonic(), 0.01)

        path = f"jobs/{self.id}/events"
        with contextlib.closing(self._door.events(path, min(left(), _SILENCE_SECONDS))) as events:
            for name, reply in events:
                if name == "error":
                    raise wire.error_from(reply["error"])
                if name == "end":
                    self._take(reply)
                    return
                if name == "progress":
                    self._take_progress(reply)
                    if on_progress is not None:
                        on_progress(self)
                if deadline is not None and time.monotonic() >= deadline:
                    return

    def _take_progress(self, reply: Mapping[str, Any]) -> None:
        row = self._row.model_copy(update={"status": reply["status"], "attempt": reply["attempt"]})
        for name in _PROGRESS:
            setattr(row, f"progress_{name}", reply["progress"][name])
        self._row, self._read_at = row, time.monotonic()
        self._asked_result = False

    @override
    def cancel(self) -> Self:
        self._take(self._door.post(f"jobs/{self.id}/cancel", again=True))
        return self


def _text(reply: Mapping[str, Any]) -> str:
    return "\n".join(reply["lines"]) + ("\n" if reply["lines"] and not reply["open_line"] else "")
