"""Heartbeats of runs whose process cannot be checked everywhere, and their timeouts.

A run that is logged over HTTP has no process on this machine to check. Its sender sends points or an empty
heartbeat every :data:`BEAT_SECONDS`. The server measures the silence on its own monotonic clock, from its own
start: time while the server is stopped does not count.

A run that is logged in a container, or through a database server, is written by its own process, which others
may be unable to see. That process notes in the database once a minute that it is alive
(:mod:`workbench.store.sink`); without a note for :data:`ABANDONED_SECONDS` the run is lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds between the heartbeats of a remote sender that has no points to send.
BEAT_SECONDS = 5.0


#: Seconds of silence after which the receiving server marks a run as lost.
SILENT_SECONDS = 90.0


#: The same for other processes, and for local runs: a server or a computer may be stopped for a while.
ABANDONED_SECONDS = 86_400.0


class Hearing:
    """The last heartbeats of the runs that are logged to one server.

    Parameters
    ----------
    silent_seconds : float
        Maximum seconds of silence.
    timer : callable
        A monotonic clock, in seconds.
    """

    def __init__(
        self, silent_seconds: float = SILENT_SECONDS, *, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._silent_seconds = silent_seconds
        self._timer = timer
        self._since = timer()
        self._heard: dict[int, float] = {}

    def heard(self, run_id: int) -> None:
        """Record a heartbeat of a run."""
        self._heard[run_id] = self._timer()

    def ended(self, run_id: int) -> None:
        """Forget a run that has ended."""
        self._heard.pop(run_id, None)

    def silent(self, run_id: int, quiet: float) -> bool:
        """Return whether a run has been silent for too long.

        Parameters
        ----------
        run_id : int
            The run.
        quiet : float
            Seconds since its last heartbeat at any server, by the store's clock.
        """
        here = self._timer() - self._heard.get(run_id, self._since)
        return min(here, quiet) > self._silent_seconds

    def said(self) -> str:
        """Return the maximum silence as text."""
        return f"{self._silent_seconds:g} s"
