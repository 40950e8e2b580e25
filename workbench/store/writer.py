"""The one thread of a workspace that writes what is logged, to a database or to a server.

Who logs puts a number into a queue and goes on. The thread commits what has come together, at most
:data:`BATCH_SECONDS` later, and keeps each metric's summary. The queue and the lock that hurries the thread
are made in C and may be used in a signal handler, in the middle of anything.
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

#: A logged number is in the database after at most this many seconds, and the time of one commit.
BATCH_SECONDS = 0.25


#: The same where SIGTERM would end the process before anybody could write.
HASTY_SECONDS = 0.01


#: Points in one transaction at most, so that no batch holds the write lock for long.
BATCH_POINTS = 50_000


#: The writer is allowed to be this far behind; then who logs waits instead of filling the memory.
QUEUE_POINTS = 1_000_000


#: Seconds between two tries while the database refuses.
_RETRY_SECONDS = 0.5


#: One call of ``log``: run, step, time, (name, value) pairs; or one metric's points from ``log_many``.
_Call = tuple[int, int, float, Sequence[tuple[str, float]]]


_Many = tuple[Key, Batch]


_Columns = tuple[list[int], list[float], list[float]]


class Sink(Protocol):
    """Where points go: a database, or a server."""

    def add_batches(self, batches: Mapping[Key, Batch], better: Mapping[Key, str | None]) -> None:
        """Keep points; what is out of reach raises ``StoreUnavailable`` and is given all of it again."""

    def end_run(self, run_id: int, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """End a run that is running; say whether it was."""

    def forget_connections(self) -> None:
        """Leave inherited connections alone in a process that was forked."""


class Heart(Protocol):
    """Tells who is elsewhere that runs go on, also when nothing is logged."""

    @property
    def beat_seconds(self) -> float:
        """Seconds between two beats."""

    def beat(self, run_ids: Collection[int]) -> None:
        """Say that these runs go on, where it is time to; it never raises."""


class _Mark:
    """Put behind what is queued; answered when all of that is committed, or cannot be."""

    def __init__(self, *, last: bool = False, end: tuple[str, dict[str, Any]] | None = None) -> None:
        self.last = last
        self.end = end
        self.error: WorkbenchError | None = None
        self.answered = threading.Event()


class Writer:
    """Writes the metric points of one workspace, in a thread of its own.

    Parameters
    ----------
    store : Sink
        Where the points go.
    heart : Heart, optional
        Who has to hear that the open runs go on.
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
        self._waiting = 0  # points queued, about: two threads may count at once
        self._written = True  # whether all that was queued is committed
        self._error: WorkbenchError | None = None
        self._thread: threading.Thread | None = None
        self._asked = False
        self._hurry = threading.Lock()
        self._hurry.acquire()

    def forget(self) -> None:
        """Begin with nothing: in a forked child the queue is the parent's, and so are the open runs."""
        self._begin_empty()
        self._starting = threading.Lock()
        self._open.clear()
        self._store.forget_connections()

    # Who logs ------------------------------------------------------------------------------------

    def begin(self, run_id: int) -> None:
        """Note a run of this process that has begun: when the process ends, so does the run."""
        self._open[run_id] = None
        if self._thread is None:
            self._start()
        signals.watch(self)

    def ended(self, run_id: int) -> None:
        """Note that a run has ended."""
        self._open.pop(run_id, None)

    @property
    def open_runs(self) -> list[int]:
        """The runs of this process that have begun and not ended."""
        return list(self._open)

    def learn(self, run_id: int, name: str, better: str | None) -> None:
        """Say which way a metric of a run is better, before its first point."""
        self._better[run_id, name] = better

    def put(self, item: _Call | _Many, points: int) -> None:
        """Queue what was logged; it is written soon."""
        if self._thread is None:
            self._start()
        self._queue.put(item)
        self._written = False
        self._waiting += points
        if self._error is not None or self._waiting > QUEUE_POINTS:
            self.flush()

    def flush(self) -> None:
        """Return when everything queued so far is committed.

        Raises
        ------
        StoreError
            The database refused. Nothing is lost yet: the points stay queued, and the next flush tries again.
        """
        if self._written:
            return
        if self._thread is None:
            self._start()
        self._ask(_Mark())

    def stop(self) -> None:
        """Write everything and end the thread; a later point starts a new one."""
        thread = self._thread
        if not self._open:  # a run that was left open is ended when the process is
            signals.unwatch(self)
        if thread is None:
            return
        try:
            self._ask(_Mark(last=True))
        finally:
            thread.join()

    def part(self, seconds: float, error: dict[str, Any] | None, status: str = "failed") -> None:
        """Write what is queued, in ``seconds`` at most; with an error, end the open runs with it."""
        thread, deadline = self._thread, time.monotonic() + seconds
        if thread is None or not thread.is_alive():
            if error is not None:
                self._end_runs(status, error)
            return
        while (left := deadline - time.monotonic()) > 0:
            mark = _Mark(end=None if error is None else (status, error))
            self._send(mark)
            if mark.answered.wait(left) and not isinstance(mark.error, StoreUnavailable):
                return
            time.sleep(min(left, 0.1))

    def _ask(self, mark: _Mark) -> None:
        thread = self._thread
        self._send(mark)
        while not mark.answered.wait(1.0):
            if thread is None or not thread.is_alive():
                raise StoreError("the thread that writes metrics is gone", hint="Restart the process.")
        if mark.error is not None:
            raise mark.error
        self._error = None

    def _send(self, mark: _Mark) -> None:
        self._asked = True
        self._queue.put(mark)
        with contextlib.suppress(RuntimeError):  # it is awake
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
                self._error = error  # raised by the next log or flush, where somebody can see it
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
        """Wait for something and gather what comes soon after it: one transaction for all of it."""
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
        """Wait for something, and have a heart beat meanwhile."""
        while True:
            try:
                return self._queue.get(timeout=None if self._heart is None else self._heart.beat_seconds)
            except Empty:
                if self._heart is not None:
                    self._heart.beat(list(self._open))

    def _write(self) -> WorkbenchError | None:
        """Commit what is pending; return what the database said against it."""
        if not self._pending:
            return None
        try:
            self._store.add_batches(_batches(self._pending), self._better)
        except WorkbenchError as error:
            return error
        except Exception as error:  # the thread must live: whoever logs is told
            return StoreError(f"metrics could not be written: {error!r}")
        done = sum(_points(item) for item in self._pending)
        self._waiting = 0 if self._queue.empty() else max(self._waiting - done, 0)
        self._pending = []
        self._written = True
        if not self._queue.empty():  # asked after it was said, so what comes in between is not overlooked
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
    """Return what was logged by run and metric, in the order it was logged."""
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
            found = mine.get(name)
            if found is None:
                found = mine[name] = ([], [], [])
            found[0].append(step)
            found[1].append(at)
            found[2].append(value)
    return {(run_id, name): Batch(*lists) for run_id, mine in runs.items() for name, lists in mine.items()}
