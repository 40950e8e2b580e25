"""Where the writer of local runs puts their points: into the database, each batch once.

A database server may crash while it commits: then nobody knows whether the batch was stored. So on a server
each batch has a number, stored in the same transaction; a batch that is sent again is stored only if its
number is new.

A process that others may be unable to check (in a container, or on another host) also notes here, once a
minute, that it is alive.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from workbench.errors import StoreError, StoreUnavailable
from workbench.store.points import Batch, Key
from workbench.store.store import Store

#: Seconds between two notes that a process is alive.
NOTE_SECONDS = 60.0


class _Numbered(NamedTuple):
    batches: Mapping[Key, Batch]
    better: Mapping[Key, str | None]


class LocalSink:
    """The writer's side of a database that others use too.

    Parameters
    ----------
    store : Store
        The workspace's database.
    timer : callable
        A monotonic clock, in seconds.
    """

    def __init__(self, store: Store, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._timer = timer
        self._begin_empty()

    def _begin_empty(self) -> None:
        self._key = secrets.token_hex(16)
        self._noted: dict[int, float] = {}
        self._number = 0
        self._unsure: _Numbered | None = None  # the last batch, if it is unknown whether it was stored
        self._done: dict[Key, int] = {}  # points of the current batches that are stored

    def forget_connections(self) -> None:
        """Start empty in a forked child: connections and numbers belong to the parent."""
        self._store.forget_connections()
        self._begin_empty()

    # Points ------------------------------------------------------------------------------------

    def add_batches(self, batches: Mapping[Key, Batch], better: Mapping[Key, str | None]) -> None:
        """Add points by (run id, metric name).

        After a failure the same points are passed again, possibly with more after them: points that are
        stored are skipped, and a batch of which that is unknown is sent again unchanged.

        Raises
        ------
        StoreUnavailable
            The database is unreachable.
        """
        if self._store.is_sqlite:
            self._store.add_batches(batches, better)  # a file has stored a transaction, or has not
            return
        if self._unsure is not None:
            self._send(self._unsure)
        left = {key: _after(batch, self._done.get(key, 0)) for key, batch in batches.items()}
        left = {key: batch for key, batch in left.items() if len(batch.values)}
        if left:
            self._send(_Numbered(left, dict(better)))
        self._done.clear()

    def _send(self, batch: _Numbered) -> None:
        self._unsure = batch
        try:
            self._store.add_batches(*batch, sent=(self._key, self._number + 1))
        except StoreUnavailable as error:
            if error.undone:
                self._unsure = None
            raise
        except BaseException:
            self._unsure = None
            raise
        self._number += 1
        self._unsure = None
        for key, points in batch.batches.items():
            self._done[key] = self._done.get(key, 0) + len(points.values)

    def end_run(self, run_id: int, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """End a running run; return whether it was running."""
        return self._store.end_run(run_id, status, error)

    # Heartbeats --------------------------------------------------------------------------------

    @property
    def beat_seconds(self) -> float:
        """Seconds between two notes."""
        return NOTE_SECONDS

    def beat(self, run_ids: Collection[int]) -> None:
        """Note for each open run that its process is alive, if that is due; never raises."""
        now = self._timer()
        self._noted = {run_id: at for run_id, at in self._noted.items() if run_id in run_ids}
        due = [run_id for run_id in run_ids if now - self._noted.get(run_id, -NOTE_SECONDS) >= NOTE_SECONDS]
        if due:
            with contextlib.suppress(StoreError):  # it is written more often than anybody needs
                self._store.note_alive(due, self._key)
                self._noted |= dict.fromkeys(due, now)


def _after(batch: Batch, count: int) -> Batch:
    return Batch(batch.steps[count:], batch.times[count:], batch.values[count:]) if count else batch
