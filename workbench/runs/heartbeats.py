"""Signs of life of who logs a run from elsewhere, and how long silence may last.

A run that is logged over HTTP has no process here that could be looked for. Who logs it says something every
:data:`BEAT_SECONDS`, be it points or nothing. The server that hears it counts the silence on a clock of its
own that nobody can set, and only since it listens: the time while a server is stopped is nobody's silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds after which who logs from elsewhere says that it is there, if it has nothing else to say.
BEAT_SECONDS = 5.0


#: Seconds of silence after which the server that listens takes a run for lost.
SILENT_SECONDS = 90.0


#: The same for who only looks and cannot hear: the server may be stopped, and its runs go on meanwhile.
ABANDONED_SECONDS = 86_400.0


class Hearing:
    """What one server has heard of the runs that are logged to it.

    Parameters
    ----------
    silent_seconds : float
        How long silence may last.
    timer : callable
        Seconds of a clock that never jumps.
    """

    def __init__(
        self, silent_seconds: float = SILENT_SECONDS, *, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._silent_seconds = silent_seconds
        self._timer = timer
        self._since = timer()
        self._heard: dict[int, float] = {}

    def heard(self, run_id: int) -> None:
        """Note a sign of life of a run."""
        self._heard[run_id] = self._timer()

    def ended(self, run_id: int) -> None:
        """Forget a run that is over."""
        self._heard.pop(run_id, None)

    def silent(self, run_id: int, quiet: float) -> bool:
        """Say whether a run has been silent for too long.

        Parameters
        ----------
        run_id : int
            The run.
        quiet : float
            Seconds since anybody heard of it, by the store's clock: another server may have.
        """
        here = self._timer() - self._heard.get(run_id, self._since)
        return min(here, quiet) > self._silent_seconds

    def said(self) -> str:
        """Return for how long silence may last, in words."""
        return f"{self._silent_seconds:g} s"
