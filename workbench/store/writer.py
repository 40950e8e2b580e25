"""The metrics writer: one thread per workspace that writes logged points to a database or a server.

Logging puts values into a queue and returns. The thread commits the queued values at most
:data:`BATCH_SECONDS` later and updates each metric's summary. The queue and the lock that wakes the thread
are implemented in C and are safe to use in a signal handler.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from workbench.errors import StoreError, StoreUnavailable, WorkbenchError
from workbench.host import signals
from workbench.store.points import Batch, Key

#: Maximum seconds until a logged value is written, not counting the commit itself.
BATCH_SECONDS = 0.25


#: The same if SIGTERM would end the process before the queue is written.
HASTY_SECONDS = 0.01


#: Maximum number of points per transaction, so that no batch holds the write lock for long.
BATCH_POINTS = 50_000


#: A process that ends writes its queue for at most this long, in seconds, while commits go on.
_PARTING_MOST_SECONDS = 60.0


#: Maximum number of queued points; beyond it, logging blocks instead of filling the memory.
QUEUE_POINTS = 1_000_000


#: Seconds between two tries while the database reports errors.
_RETRY_SECONDS = 0.5


#: One call of ``log``: run, step, time, (name, value) pairs; or one metric's points from ``log_many``.
_Call = tuple[int, int, float, Sequence[tuple[str, float]]]


_Many = tuple[Key, Batch]


_Columns = tuple[list[int], list[float], list[float]]


class Sink(Protocol):
    """The destination of points: a database or a server."""

    def add_batches(self, batches: Mapping[Key, Batch], better: Mapping[Key, str | None]) -> None:
        """Save points; ``StoreUnavailable`` means that the same points are sent again later."""

    def end_run(self, run_id: int, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """End a running run; return whether it was running."""

    def forget_connections(self) -> None:
        """Drop inherited connections, without closing them, in a forked process."""


class Heart(Protocol):
    """Sends heartbeats for open runs, even when nothing is logged."""

    @property
    def beat_seconds(self) -> float:
        """Seconds between two heartbeats."""

    def beat(self, run_ids: Collection[int]) -> None:
        """Send heartbeats for these runs if they are due; never raises."""


class _Mark:
    """A queue marker; answered when everything before it is committed, or has failed."""

    def __init__(self, *, last: bool = False, end: tuple[str, dict[str, Any]] | None = None) -> None:
        self.last = last
        self.end = end
        self.error: WorkbenchError | None = None
        self.answered = threading.Event()


class Writer:
    """Writes the metric points of one workspace in its own thread.

    Parameters
    ----------
    store : Sink
        The destination of the points.
    heart : Heart, optional
        Sends heartbeats for the open runs.
    """

    def __init__(self, store: Sink, heart: Heart | None = None) -> None:
        self._store = store
        self._heart = heart
        self._better: dict[Key, str | None] = {}
        self._open: dict[int, None] = {}
        self._starting = threading.Lock()
        self._begin_empty()
        signals.watch(self)

    def _begin_empty(self) -> None:
        self._queue: SimpleQueue[_Call | _Many | _Mark] = SimpleQueue()
        self._pending: list[_Call | _Many] = []
        self._commits = 0
        self._waiting = 0  # approximate number of queued points: not synchronized
        self._written = True  # whether everything queued is committed
        self._error: WorkbenchError | None = None
        self._thread: threading.Thread | None = None
        self._asked = False
        self._hurry = threading.Lock()
        self._hurry.acquire()

    def forget(self) -> None:
        """Start empty in a forked child: the queue and the open runs belong to the parent."""
        self._begin_empty()
        self._starting = threading.Lock()
        self._open.clear()
        self._store.forget_connections()

    # Called by the logging threads ---------------------------------------------------------------

    def begin(self, run_id: int) -> None:
        """Register a run that this process started; the run ends with the process."""
        self._open[run_id] = None
        if self._thread is None:
            self._start()
        signals.watch(self)

    def ended(self, run_id: int) -> None:
        """Unregister a run that has ended."""
        self._open.pop(run_id, None)

    @property
    def open_runs(self) -> list[int]:
        """The runs that this process started and that have not ended."""
        return list(self._open)

    def learn(self, run_id: int, name: str, better: str | None) -> None:
        """Set the better direction of a run's metric, before its first point."""
        self._better[run_id, name] = better

    def put(self, item: _Call | _Many, points: int) -> None:
        """Queue logged values; the thread writes them soon."""
        if self._thread is None:
            self._start()
        self._queue.put(item)
        self._written = False
        self._waiting += points
        if self._error is not None or self._waiting > QUEUE_POINTS:
            self.flush()

    def flush(self) -> None:
        """Wait until everything queued so far is committed.

        Raises
        ------
        StoreError
            The database reported an error. The points stay queued, and the next flush tries again.
        """
        if self._written:
            return
        if self._thread is None:
            self._start()
        self._ask(_Mark())

    def stop(self) -> None:
        """Write everything and end the thread; a later point starts a new thread."""
        thread = self._thread
        if not self._open:  # a run left open ends with the process
            signals.unwatch(self)
        if thread is None:
            return
        try:
            self._ask(_Mark(last=True))
        finally:
            thread.join()

    def part(self, seconds: float, error: dict[str, Any] | None, status: str = "failed") -> None:
        """Write queued points, until none was committed for ``seconds``; with an error, end the open runs.

        A long queue on a slow machine takes longer than that; a database that does not answer gets no more.
        """
        thread, began = self._thread, time.monotonic()
        if thread is None or not thread.is_alive():
            if error is not None:
                self._end_runs(status, error)
            return
        commits, deadline = self._commits, began + seconds
        mark: _Mark | None = None
        while True:
            if self._commits != commits:
                commits, deadline = (
                    self._commits,
                    min(time.monotonic(), began + _PARTING_MOST_SECONDS) + seconds,
                )
            if (left := deadline - time.monotonic()) <= 0:
                return
            if mark is None:
                mark = _Mark(end=None if error is None else (status, error))
                self._send(mark)
            if mark.answered.wait(min(left, 0.1)):
                if not isinstance(mark.error, StoreUnavailable):
                    return
                time.sleep(min(left, 0.1))
                mark = None

    def _ask(self, mark: _Mark) -> None:
        thread = self._thread
        self._send(mark)
        while not mark.answered.wait(1.0):
            if thread is None or not thread.is_alive():
                raise StoreError("the metrics writer thread has stopped", hint="Restart the process.")
        if mark.error is not None:
            raise mark.error
        self._error = None

    def _send(self, mark: _Mark) -> None:
        self._asked = True
        self._queue.put(mark)
        with contextlib.suppress(RuntimeError):  # already awake
            self._hurry.release()

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="workbench-metrics", daemon=True)
                thread.start()
                self._thread = thread
                signals.watch(self)

    # The thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            mark = self._gather()
            self._asked &= mark is None
            error = self._write()
            if self._heart is not None:
                self._heart.beat(list(self._open))
            if mark is not None and mark.end is not None and error is None:
                error = self._end_runs(*mark.end)
            if error is not None and not isinstance(error, StoreUnavailable):
                self._error = error  # raised by the next log or flush
            if mark is not None:
                if mark.last:
                    self._thread = None
                mark.error = error
                mark.answered.set()
                if mark.last:
                    return
            elif error is not None:
                self._hurry.acquire(timeout=_RETRY_SECONDS)

    def _gather(self) -> _Mark | None:
        """Wait for an item and collect those that follow soon, to write them in one transaction."""
        points = sum(_points(item) for item in self._pending)
        if not self._pending:
            first = self._first()
            if isinstance(first, _Mark):
                return first
            self._pending.append(first)
            points = _points(first)
            pause = HASTY_SECONDS if signals.ends_at_once() else BATCH_SECONDS
            if self._waiting < BATCH_POINTS and not self._asked:
                self._hurry.acquire(timeout=pause)
        with contextlib.suppress(Empty):
            while points < BATCH_POINTS:
                item = self._queue.get_nowait()
                if isinstance(item, _Mark):
                    return item
                self._pending.append(item)
                points += _points(item)
        return None

    def _first(self) -> _Call | _Many | _Mark:
        """Wait for an item, sending heartbeats meanwhile."""
        while True:
            try:
                return self._queue.get(timeout=None if self._heart is None else self._heart.beat_seconds)
            except Empty:
                if self._heart is not None:
                    self._heart.beat(list(self._open))

    def _write(self) -> WorkbenchError | None:
        """Commit the pending points; return the error if the database reported one."""
        if not self._pending:
            return None
        try:
            self._store.add_batches(_batches(self._pending), self._better)
        except WorkbenchError as error:
            return error
        except Exception as error:  # the thread must go on; the next log call raises it
            return StoreError(f"metrics could not be written: {error!r}")
        done = sum(_points(item) for item in self._pending)
        self._waiting = 0 if self._queue.empty() else max(self._waiting - done, 0)
        self._pending = []
        self._commits += 1
        self._written = True
        # Checked after setting it, so that an item queued in between is not missed.
        if not self._queue.empty():
            self._written = False
        return None

    def _end_runs(self, status: str, error: dict[str, Any]) -> WorkbenchError | None:
        try:
            for run_id in list(self._open):
                self._store.end_run(run_id, status, error)
                self.ended(run_id)
        except WorkbenchError as refused:
            return refused
        return None


def _points(item: _Call | _Many) -> int:
    return len(item[3]) if len(item) == 4 else len(item[1].values)


def _batches(items: Iterable[_Call | _Many]) -> dict[Key, Batch]:
    """Return the logged points by run and metric, in the order logged."""
    runs: dict[int, dict[str, _Columns]] = {}
    for item in items:
        if len(item) == 2:
            (run_id, name), batch = item
            columns = runs.setdefault(run_id, {}).setdefault(name, ([], [], []))
            columns[0].extend(batch.steps)
            columns[1].extend(batch.times)
            columns[2].extend(batch.values)
            continue
        run_id, step, at, pairs = item
        mine = runs.setdefault(run_id, {})
        for name, value in pairs:
            series = mine.get(name)
            if series is None:
                series = mine[name] = ([], [], [])
            series[0].append(step)
            series[1].append(at)
            series[2].append(value)
    return {(run_id, name): Batch(*lists) for run_id, mine in runs.items() for name, lists in mine.items()}
