"""Send logged points to a server, each exactly once.

The queue and the thread are those of a local workspace (:mod:`workbench.store.writer`); the points go to a
server instead of a database, in batches numbered per run. The server saves a batch and its number in one
transaction, so a batch that is resent because the connection broke before the answer changes nothing. If the
server is unreachable, points stay queued, and nothing is lost while this process lives. On SIGTERM with an
unreachable server the process ends after :data:`workbench.host.signals.PARTING_SECONDS`.

While a run is open the sink sends a heartbeat every few seconds (:mod:`workbench.runs.heartbeats`). When the
process is gone, the server marks the run as lost.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from workbench import wire
from workbench.errors import (
    BadInput,
    Busy,
    ServerUnreachable,
    StoreUnavailable,
    TooLarge,
    UnknownRun,
    WorkbenchError,
    WrongState,
)
from workbench.remote.door import Door
from workbench.runs import heartbeats
from workbench.store import records
from workbench.store.database import patiently
from workbench.store.points import Batch, Key
from workbench.store.writer import Writer

#: Maximum seconds that blocking calls wait for an unreachable server: ``flush``, ``finish``, ``close``,
#: sending a file, and logging when the queue is full.
AWAY_SECONDS = 300.0

#: Maximum number of points per request; a metric's name counts as the points that fit into its bytes.
REQUEST_POINTS = 10_000

#: Timeout of a batch in seconds.
WRITE_SECONDS = 30.0

#: Approximate bytes of a point in a request.
_POINT_BYTES = 64

_T = TypeVar("_T")

#: Permanent errors: the run's points are dropped. After any other error they stay queued.
_FINAL = (WrongState, UnknownRun, BadInput, TooLarge)


def better_of(row: records.RunRecord) -> dict[str, str]:
    """Return a run's directions by pattern; the first of a repeated pattern counts."""
    out: dict[str, str] = {}
    for pattern, way in row.directions:
        out.setdefault(pattern, way)
    return out


def sendable(value: Any) -> Any:
    """Return plain JSON whose strings can be encoded: names and messages may have unpaired surrogates."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {sendable(str(name)): sendable(item) for name, item in value.items()}
    return [sendable(item) for item in value] if isinstance(value, (list, tuple)) else value


class Handle(Protocol):
    """A run that this process logs to."""

    @property
    def id(self) -> int:
        """The run's id."""

    def refused(self, error: WorkbenchError) -> None:
        """Note that the server no longer accepts points of this run."""


@dataclass
class _Sending:
    """The state of sending one run: the last batch sent, and the one in flight."""

    key: str = field(default_factory=lambda: secrets.token_hex(16))
    number: int = 0  # number of the last batch that the server has
    on_its_way: dict[str, Batch] | None = None  # the next batch, if it is unknown whether it arrived
    spoke_at: float = -math.inf
    refused: WorkbenchError | None = None


class ServerSink:
    """Sends points to a server, each exactly once.

    Parameters
    ----------
    door : Door
        The server. The sink has its own connection, since a signal may arrive while the other is in use.
    """

    def __init__(self, door: Door) -> None:
        self._door = door.again(WRITE_SECONDS)
        self._begin_empty()

    def _begin_empty(self) -> None:
        self._runs: dict[int, _Sending] = {}
        self._sent: dict[Key, int] = {}  # points of the current batches that the server already has
        self._handles: dict[int, weakref.WeakSet[Handle]] = {}

    @property
    def beat_seconds(self) -> float:
        """Seconds between two heartbeats."""
        return heartbeats.BEAT_SECONDS

    def close(self) -> None:
        """Close the connection."""
        self._door.close()

    def forget_connections(self) -> None:
        """Start empty in a forked child: connection, numbers and runs belong to the parent."""
        self._door = self._door.again(WRITE_SECONDS)
        self._begin_empty()

    def began(self, run_id: int, key: str) -> None:
        """Register the key of a run that this process started."""
        self._runs[run_id] = _Sending(key, spoke_at=time.monotonic())

    def meet(self, handle: Handle) -> None:
        """Register a handle that logs; it is notified when the server rejects its run."""
        self._handles.setdefault(handle.id, weakref.WeakSet()).add(handle)
        if (sending := self._runs.get(handle.id)) is not None and sending.refused is not None:
            handle.refused(sending.refused)

    def add_batches(self, batches: Mapping[Key, Batch], better: Mapping[Key, str | None]) -> None:
        """Send points by run and metric.

        After a failure the same points are passed again, possibly with more after them: points that the
        server already has are skipped, and the batch in flight is resent unchanged.

        Raises
        ------
        StoreUnavailable
            The server is unreachable.
        WorkbenchError
            The server rejects all points, for example because the token is no longer valid. If only one run
            is rejected, its points are dropped and its handles are notified instead.
        """
        runs: dict[int, dict[str, Batch]] = {}
        for (run_id, name), batch in batches.items():
            runs.setdefault(run_id, {})[name] = batch
        for run_id, mine in runs.items():
            self._send_run(run_id, mine)
        self._sent.clear()

    def _send_run(self, run_id: int, mine: Mapping[str, Batch]) -> None:
        sending = self._sending(run_id)
        while sending.refused is None:
            if sending.on_its_way is None:
                left = {
                    name: _after(batch, self._sent.get((run_id, name), 0)) for name, batch in mine.items()
                }
                sending.on_its_way = _portion(left) or None
            if (portion := sending.on_its_way) is None:
                return
            try:
                self._say(run_id, sending, sending.number + 1, portion)
            except _FINAL as error:
                self._refuse(run_id, sending, error)
                return
            sending.number += 1
            sending.on_its_way = None
            for name, batch in portion.items():
                self._sent[run_id, name] = self._sent.get((run_id, name), 0) + len(batch.values)

    def _say(self, run_id: int, sending: _Sending, number: int, points: Mapping[str, Batch]) -> None:
        body = {
            "key": sending.key,
            "number": number,
            "points": {
                name: {"steps": batch.steps, "times": batch.times, "values": _numbers(batch.values)}
                for name, batch in points.items()
            },
        }
        with _reachable():
            self._door.post(f"runs/{run_id}/points", body)
        sending.spoke_at = time.monotonic()

    def beat(self, run_ids: Collection[int]) -> None:
        """Send heartbeats for runs that have sent nothing for some seconds."""
        for run_id in run_ids:
            sending = self._sending(run_id)
            if sending.refused is not None or time.monotonic() - sending.spoke_at < self.beat_seconds:
                continue
            sending.spoke_at = time.monotonic()  # even if it fails: the next heartbeat is sent on time
            try:
                self._say(run_id, sending, sending.number, {})
            except _FINAL as error:
                self._refuse(run_id, sending, error)
            except WorkbenchError:
                continue

    def _sending(self, run_id: int) -> _Sending:
        return self._runs.setdefault(run_id, _Sending())

    def _refuse(self, run_id: int, sending: _Sending, error: WorkbenchError) -> None:
        sending.refused, sending.on_its_way = error, None
        for handle in list(self._handles.get(run_id, ())):
            handle.refused(error)

    def end_run(self, run_id: int, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """End a running run; a run that has ended keeps its status."""
        with _reachable():
            reply = end(self._door, run_id, status, error)
        return bool(reply["status"] == status)


def end(door: Door, run_id: int, status: str, error: Mapping[str, Any] | None) -> dict[str, Any]:
    """End a run on a server; return how it ended."""
    problem = None
    if error is not None:
        problem = {
            name: sendable(str(error[name]))[:most] for name, most in (("type", 1000), ("message", 100_000))
        }
    body = {"status": status, "error": problem, "finished_at": time.time()}
    reply: dict[str, Any] = door.post(f"runs/{run_id}/end", body, again=True)
    return reply


@contextlib.contextmanager
def _reachable() -> Iterator[None]:
    """Convert temporary errors to the error that is retried."""
    try:
        yield
    except (ServerUnreachable, Busy) as error:
        raise StoreUnavailable(error.message, hint=error.hint, advice=error.advice) from error


def _after(batch: Batch, count: int) -> Batch:
    return _cut(batch, count, None) if count else batch


def _cut(batch: Batch, start: int, end: int | None) -> Batch:
    return Batch(batch.steps[start:end], batch.times[start:end], batch.values[start:end])


def _portion(left: Mapping[str, Batch]) -> dict[str, Batch]:
    """Return the first points of some metrics that fit into one request."""
    out: dict[str, Batch] = {}
    room = REQUEST_POINTS
    for name, batch in left.items():
        if not len(batch.values):
            continue
        room -= 1 + 6 * len(name) // _POINT_BYTES  # a character may be escaped as six bytes
        if room <= 0 and out:
            break
        taken = max(min(room, len(batch.values)), 1)
        out[name] = _cut(batch, 0, taken)
        room -= taken
    return out


def _numbers(values: Iterable[float]) -> list[Any]:
    return [value if math.isfinite(value) else wire.number_json(value) for value in values]


class RemoteWriter(Writer):
    """The thread that sends logged points; waiting for it also waits for an unreachable server."""

    def flush(self) -> None:
        """Wait until the server has everything logged so far.

        Raises
        ------
        ServerUnreachable
            It was unreachable for :data:`AWAY_SECONDS`. The points stay queued.
        """
        try:
            patiently(super().flush, AWAY_SECONDS)
        except StoreUnavailable as error:
            raise ServerUnreachable(error.message, hint=error.hint, advice=error.advice) from None


class Sender:
    """Sends the points of one workspace's runs; its thread starts with the first log call.

    Parameters
    ----------
    door : Door
        The server.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._making = threading.Lock()
        self._made: tuple[ServerSink, RemoteWriter] | None = None

    def begin(self, run_id: int, key: str) -> None:
        """Register a run that this process started, and its key."""
        sink, writer = self._both()
        sink.began(run_id, key)
        writer.begin(run_id)

    def writer_of(self, handle: Handle) -> Writer:
        """Return the writer of a run; the handle is notified when the server rejects the run."""
        sink, writer = self._both()
        sink.meet(handle)
        return writer

    def ended(self, run_id: int) -> None:
        """Unregister a run that has ended."""
        if self._made is not None:
            self._made[1].ended(run_id)

    def flush(self) -> None:
        """Wait until the server has everything logged so far; see :meth:`RemoteWriter.flush`."""
        if self._made is not None:
            self._made[1].flush()

    def close(self) -> None:
        """Send queued points and close the connection."""
        if self._made is None:
            return
        sink, writer = self._made
        try:
            writer.flush()
            writer.stop()
        finally:
            if not writer.open_runs:  # a run left open ends with the process
                sink.close()

    def _both(self) -> tuple[ServerSink, RemoteWriter]:
        with self._making:
            if self._made is None:
                sink = ServerSink(self._door)
                self._made = sink, RemoteWriter(sink, sink)
            return self._made


def waiting_for_server(call: Callable[[], _T]) -> _T:
    """Return the result of an idempotent call, retrying while the server is unreachable."""

    def reached() -> _T:
        with _reachable():
            return call()

    try:
        return patiently(reached, AWAY_SECONDS)
    except StoreUnavailable as error:
        raise ServerUnreachable(error.message, hint=error.hint, advice=error.advice) from None
