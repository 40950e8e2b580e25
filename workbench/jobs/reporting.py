"""How a job reports its progress: nested stages, their rate, and the time left.

Reporting is cheap: it only updates values in memory. A thread writes the latest ones to the database, at most
every :data:`PROGRESS_SECONDS`, and always the last ones.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from workbench.errors import BadInput, JobCancelled, StoreError
from workbench.notebooks.bars import Bar
from workbench.store import records
from workbench.store.store import Store

#: Progress is written to the database at most this often, in seconds.
PROGRESS_SECONDS = 0.2


#: Without new progress, check this often whether the job was cancelled, in seconds.
_LOOK_SECONDS = 1.0


#: A rate is measured over this many last seconds, and only after at least this many (second value).
PACE_SECONDS, _SHORTEST_PACE = 15.0, 1.0


_MESSAGE_CHARACTERS = 1000


class _Frame:
    """One stage: its start and its width as fractions of the whole job; None while unknown."""

    def __init__(self, name: str, base: float | None, width: float | None) -> None:
        self.name = name
        self.base = base
        self.width = width
        self.used = 0.0
        self.done = 0.0
        self.total: float | None = None

    def part(self) -> float:
        """Fraction of this stage that is done, 0 to 1."""
        own = self.done / self.total if self.total else 0.0
        return min(max(own, self.used, 0.0), 1.0)


class Pace:
    """Rate at which a number grows, over the last seconds only.

    Parameters
    ----------
    timer : callable
        A monotonic clock, in seconds.
    """

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self._timer = timer
        self._what: object = None
        self._seen: deque[tuple[float, float]] = deque()

    def take(self, what: object, value: float) -> float | None:
        """Record a value and return units per second; None while unknown. A new ``what`` starts over."""
        now = self._timer()
        if what != self._what or (self._seen and value < self._seen[-1][1]):
            self._what = what
            self._seen.clear()
        self._seen.append((now, value))
        while len(self._seen) > 2 and now - self._seen[1][0] >= PACE_SECONDS:
            self._seen.popleft()
        began, first = self._seen[0]
        if now - began < _SHORTEST_PACE or value <= first:
            return None
        return (value - first) / (now - began)


class Reporter:
    """Writes a job's progress from a thread: often enough to watch, seldom enough to be cheap.

    Parameters
    ----------
    store : Store
        The store of the job.
    row : Job
        The attempt that reports.
    """

    def __init__(self, store: Store, row: records.JobRecord) -> None:
        self._store = store
        self._id = row.id or 0
        self._attempt = row.attempt
        self._frames = [_Frame("", 0.0, 1.0)]
        self._staged = False
        self._message = ""
        self._bars: tuple[Bar, ...] = ()
        self._news = False
        self._furthest = 0.0
        self._rate, self._whole = Pace(), Pace()
        self._gone = ""
        self._wake = threading.Event()
        self._writing = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="workbench-progress", daemon=True)
        self._thread.start()

    def say(self, done: float, total: float | None, message: str) -> None:
        """Record the progress of the innermost stage."""
        if self._gone:
            raise JobCancelled(self._id, f"job {self._id} {self._gone}")
        frame = self._frames[-1]
        if total is not None:
            frame.total = total
        frame.done = done
        self._message = message
        self._tell()

    def say_bars(self, bars: Sequence[Bar]) -> None:
        """Record the state of progress bars, outermost first; empty if there are none."""
        if self._gone:
            raise JobCancelled(self._id, f"job {self._id} {self._gone}")
        self._bars = tuple(bars)
        if bars:
            self._frames[-1].done, self._frames[-1].total = bars[0].done, bars[0].total
            self._message = bars[0].name
        self._tell()

    @contextmanager
    def stage(self, name: str, share: float | None) -> Iterator[None]:
        """Report on a part of the enclosing stage until the block ends."""
        outer = self._frames[-1]
        if not isinstance(name, str) or not name.strip():
            raise BadInput(f"the name of a stage must be text that is not empty, got {name!r}")
        if share is not None:
            left = 1.0 - outer.used
            number = isinstance(share, (int, float)) and not isinstance(share, bool)
            if not number or not 0 < share <= left + 1e-9:
                raise BadInput(
                    f"stage {name!r}: share must be above 0 and at most {left:.3g}, got {share!r}",
                    hint="The shares of the stages of one enclosing stage add up to at most 1.",
                )
        known = share is not None and outer.base is not None and outer.width is not None
        base = outer.base + outer.width * outer.used if known else None  # type: ignore[operator]
        width = outer.width * share if known else None  # type: ignore[operator]
        self._staged = True
        self._frames = [*self._frames, _Frame(name.strip(), base, width)]
        self._message = ""
        self._tell()
        try:
            yield
        finally:
            self._frames = self._frames[:-1]
            outer.used = min(outer.used + (share or 0.0), 1.0)
            self._bars = ()
            self._tell()

    def flush(self) -> None:
        """Write the latest progress now, and check whether the job was cancelled."""
        with self._writing:
            change = self._change()
            status = self._store.update_job(self._id, attempt=self._attempt, **change)
        if status == "cancelling":
            self._gone = "was cancelled"
        elif status is None:
            self._gone = "was abandoned: another process changed its state"

    def stop(self) -> None:
        """Write the last progress and end the thread; if writing fails, the previous progress remains."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        if self._news:
            with contextlib.suppress(StoreError):
                self.flush()

    def _tell(self) -> None:
        self._news = True
        if not self._wake.is_set():
            self._wake.set()

    def _change(self) -> dict[str, Any]:
        change: dict[str, Any] = {"heartbeat_at": time.time()}
        if not self._news:
            return change
        self._news = False
        frames, bars = self._frames, self._bars
        inner = frames[-1]
        done, total, left = self._overall(inner)
        if not math.isfinite(done) or (total is not None and not math.isfinite(total)):
            return change
        deepest = bars[-1] if bars else Bar(inner.name, inner.done, inner.total)
        rate = self._rate.take((id(inner), len(bars), deepest.name, deepest.total), deepest.done)
        if left is None and not self._staged and rate and total and len(bars) < 2:
            left = max(total - done, 0.0) / rate
        stages = [{"name": one.name, "done": one.done, "total": one.total} for one in frames[1:]]
        stages += [bar._asdict() for bar in bars[1:]]
        return change | {
            "progress_done": done,
            "progress_total": total,
            "progress_message": self._message[:_MESSAGE_CHARACTERS],
            "progress_stages": stages,
            "progress_rate": rate,
            "progress_left": left,
        }

    def _overall(self, inner: _Frame) -> tuple[float, float | None, float | None]:
        """Return done, total and seconds left for the whole job."""
        if not self._staged:
            return inner.done, inner.total, None
        if inner.base is None or inner.width is None:
            return inner.done, None, None  # this stage's share of the whole is unknown
        # Never goes backwards, whatever a stage reports.
        self._furthest = max(self._furthest, inner.base + inner.width * inner.part())
        speed = self._whole.take("", self._furthest)
        return self._furthest, 1.0, (1.0 - self._furthest) / speed if speed else None

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(timeout=_LOOK_SECONDS)
            self._wake.clear()
            if self._stopping:
                return
            try:
                self.flush()
            except StoreError:  # may be temporary; the progress is still to be written
                self._news = True
            if self._gone:
                return
            time.sleep(PROGRESS_SECONDS)
