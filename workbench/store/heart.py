"""The heartbeats of local runs whose process others may be unable to check."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Collection

from workbench.errors import StoreError
from workbench.store.store import Store

#: Seconds between two notes that a process is alive.
NOTE_SECONDS = 60.0


class LocalHeart:
    """Notes in the database that the process that logs local runs is alive.

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
        self._key = secrets.token_hex(16)
        self._noted: dict[int, float] = {}

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
