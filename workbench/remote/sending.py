"""Send what is logged here to a server, each point once.

The queue and the thread are those of a local workspace (:mod:`workbench.store.writer`); the points go to a
server instead of a database. They go in batches that are numbered for each run. The server keeps a batch and
its number in one transaction, so a batch that is sent again, because the connection broke before the answer
came, changes nothing. A server that is away is waited for: what is logged meanwhile stays queued, and nothing
is lost as long as this process lives. A process that is told to end while no server answers ends after a few
seconds (:data:`workbench.host.signals.PARTING_SECONDS`).

While a run is open the sink tells the server every few seconds that it goes on
(:mod:`workbench.runs.heartbeats`). When the process is gone, the silence ends the run as lost.
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

#: Seconds that a server which is away is waited for where somebody waits: in ``flush``, ``finish``, ``close``
#: and while a file is sent; and where the queue of points is full.
AWAY_SECONDS = 300.0

#: Points in one request at most; a metric's name counts for as many as fit into its bytes.
REQUEST_POINTS = 10_000

#: Seconds for the answer to a batch.
WRITE_SECONDS = 30.0

#: About how many bytes a point has on its way.
_POINT_BYTES = 64

_T = TypeVar("_T")

#: After these a run's points will never be taken; anything else may pass, and keeps them queued.
_FINAL = (WrongState, UnknownRun, BadInput, TooLarge)


def better_of(row: records.Run) -> dict[str, str]:
    """Return a run's directions by pattern; of two for one pattern the first counts."""
    out: dict[str, str] = {}
    for pattern, way in row.directions:
        out.setdefault(pattern, way)
    return out


def sendable(value: Any) -> Any:
    """Return plain JSON whose texts can be sent: a name or a message may hold half characters."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, Mapping):
        return {sendable(str(name)): sendable(item) for name, item in value.items()}
    return [sendable(item) for item in value] if isinstance(value, (list, tuple)) else value


class Handle(Protocol):
    """A run that is logged from here."""

    @property
    def id(self) -> int:
        """The run's id."""

    def refused(self, error: WorkbenchError) -> None:
        """Take notice that the server takes nothing more for this run."""


@dataclass
class _Sending:
    """What was sent of one run, and what is on its way."""

    key: str = field(default_factory=lambda: secrets.token_hex(16))
    number: int = 0  # of the last batch that the server has
    on_its_way: dict[str, Batch] | None = None  # the next one, where it is not known whether it has come
    spoke_at: float = -math.inf
    refused: WorkbenchError | None = None


class ServerSink:
    """Takes points to a server, each once.

    Parameters
    ----------
    door : Door
        The server. The sink has a connection of its own: a signal may come while another one is held.
    """

    def __init__(self, door: Door) -> None:
        self._door = door.again(WRITE_SECONDS)
        self._begin_empty()

    def _begin_empty(self) -> None:
        self._runs: dict[int, _Sending] = {}
        self._sent: dict[Key, int] = {}  # points of the batches at hand that the server has already
        self._handles: dict[int, weakref.WeakSet[Handle]] = {}

    @property
    def beat_seconds(self) -> float:
        """Seconds between two signs of life."""
        return heartbeats.BEAT_SECONDS

    def close(self) -> None:
        """Close the connection."""
        self._door.close()

    def forget_connections(self) -> None:
        """Begin with nothing, in a forked child: connection, numbers and runs are the parent's."""
        self._door = self._door.again(WRITE_SECONDS)
        self._begin_empty()

    def began(self, run_id: int, key: str) -> None:
        """Note by which key a run was started from here."""
        self._runs[run_id] = _Sending(key, spoke_at=time.monotonic())

    def meet(self, handle: Handle) -> None:
        """Note a handle that logs: it hears when its run takes no more."""
        self._handles.setdefault(handle.id, weakref.WeakSet()).add(handle)
        if (sending := self._runs.get(handle.id)) is not None and sending.refused is not None:
            handle.refused(sending.refused)

    def add_batches(self, batches: Mapping[Key, Batch], better: Mapping[Key, str | None]) -> None:
        """Send points by run and metric.

        Where that breaks, everything is given again, and perhaps more behind it: what the server has of it
        is left out then, and what was on its way is sent once more as it was.

        Raises
        ------
        StoreUnavailable
            The server is out of reach.
        WorkbenchError
            It refuses all of it, as for a token that is no longer its own. A run that takes no more is no
            such case: its points are dropped, and its handles say so.
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
        """Say that runs go on of which nothing was heard for some seconds."""
        for run_id in run_ids:
            sending = self._sending(run_id)
            if sending.refused is not None or time.monotonic() - sending.spoke_at < self.beat_seconds:
                continue
            sending.spoke_at = time.monotonic()  # also where it is not heard: it is said again in its time
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
        """End a run that is running; one that is over stays as it ended."""
        with _reachable():
            told = end(self._door, run_id, status, error)
        return bool(told["status"] == status)


def end(door: Door, run_id: int, status: str, error: Mapping[str, Any] | None) -> dict[str, Any]:
    """End a run on a server; return how it ended."""
    said = None
    if error is not None:
        said = {
            name: sendable(str(error[name]))[:most] for name, most in (("type", 1000), ("message", 100_000))
        }
    body = {"status": status, "error": said, "finished_at": time.time()}
    told: dict[str, Any] = door.post(f"runs/{run_id}/end", body, again=True)
    return told


@contextlib.contextmanager
def _reachable() -> Iterator[None]:
    """Turn what may pass by itself into the error that is tried again."""
    try:
        yield
    except (ServerUnreachable, Busy) as error:
        raise StoreUnavailable(error.message, hint=error.hint) from error


def _after(batch: Batch, count: int) -> Batch:
    return _cut(batch, count, None) if count else batch


def _cut(batch: Batch, start: int, end: int | None) -> Batch:
    return Batch(batch.steps[start:end], batch.times[start:end], batch.values[start:end])


def _portion(left: Mapping[str, Batch]) -> dict[str, Batch]:
    """Return the first points of some metrics, as many as one request takes."""
    out: dict[str, Batch] = {}
    room = REQUEST_POINTS
    for name, batch in left.items():
        if not len(batch.values):
            continue
        room -= 1 + 6 * len(name) // _POINT_BYTES  # a character may be written as six
        if room <= 0 and out:
            break
        taken = max(min(room, len(batch.values)), 1)
        out[name] = _cut(batch, 0, taken)
        room -= taken
    return out


def _numbers(values: Iterable[float]) -> list[Any]:
    return [value if math.isfinite(value) else wire.number_json(value) for value in values]


class RemoteWriter(Writer):
    """The thread that sends what is logged; who waits for it waits for a server that is away, too."""

    def flush(self) -> None:
        """Return when the server has everything logged so far.

        Raises
        ------
        ServerUnreachable
            It was away for :data:`AWAY_SECONDS`. Nothing is lost yet: the points stay queued.
        """
        try:
            patiently(super().flush, AWAY_SECONDS)
        except StoreUnavailable as error:
            raise ServerUnreachable(error.message, hint=error.hint) from None


class Sender:
    """Sends what the runs of one workspace log; its thread starts when something is logged.

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
        """Note a run that was started from here, and by which key."""
        sink, writer = self._both()
        sink.began(run_id, key)
        writer.begin(run_id)

    def writer_of(self, handle: Handle) -> Writer:
        """Return what a run logs to; the handle is told when its run takes no more."""
        sink, writer = self._both()
        sink.meet(handle)
        return writer

    def ended(self, run_id: int) -> None:
        """Note that a run is over."""
        if self._made is not None:
            self._made[1].ended(run_id)

    def flush(self) -> None:
        """Return when the server has everything logged so far; see :meth:`RemoteWriter.flush`."""
        if self._made is not None:
            self._made[1].flush()

    def close(self) -> None:
        """Send what is queued and close the connection."""
        if self._made is None:
            return
        sink, writer = self._made
        try:
            writer.flush()
            writer.stop()
        finally:
            if not writer.open_runs:  # a run that was left open is ended with the process
                sink.close()

    def _both(self) -> tuple[ServerSink, RemoteWriter]:
        with self._making:
            if self._made is None:
                sink = ServerSink(self._door)
                self._made = sink, RemoteWriter(sink, sink)
            return self._made


def waiting_for_server(call: Callable[[], _T]) -> _T:
    """Return what a call returns that may happen twice, again while the server is away."""

    def reached() -> _T:
        with _reachable():
            return call()

    try:
        return patiently(reached, AWAY_SECONDS)
    except StoreUnavailable as error:
        raise ServerUnreachable(error.message, hint=error.hint) from None
