"""Wait for events, not for times: no test may depend on the machine's pace."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable

#: Seconds after which a test gives up on what would otherwise be waited for without end. It costs nothing
#: where the event comes, and a busy machine may stand still for a while.
GUARD = 120.0


def until(
    happened: Callable[[], object],
    what: str = "",
    *,
    seconds: float = GUARD,
    despite: type[Exception] | tuple[type[Exception], ...] = (),
) -> None:
    """Wait until something has happened.

    Parameters
    ----------
    happened
        It is called again and again, until it returns something true.
    what
        What is waited for, for the failure's message; by default, that shows the lines of ``happened``.
    seconds
        How long to wait. A shorter time than the default is right only where the time itself is tested.
    despite
        Exceptions of ``happened`` that mean: not yet.
    """
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline  # before the look: a pause after it does not count
        last: object
        try:
            if last := happened():
                return
        except despite as error:
            last = error
        assert not late, f"in {seconds:g} s it did not happen: {what or _lines(happened)} (last: {last!r})"
        time.sleep(0.02)


def _lines(happened: Callable[[], object]) -> str:
    """Return the source of a condition, or its name."""
    try:
        return " ".join(inspect.getsource(happened).split())
    except (OSError, TypeError):
        return repr(happened)
