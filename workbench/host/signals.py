"""Write queued points when the process exits or receives SIGTERM.

By default SIGTERM ends a Python process at once. Here queued points are written first; then the previous
handler is called, or, if there was none, the process ends by the signal as usual. Python allows only the main
thread to install signal handlers. If none could be installed, the writers know it (see :func:`ends_at_once`)
and empty the queue without delay.
"""

from __future__ import annotations

import _thread
import atexit
import builtins
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.util import Finalize, register_after_fork
from types import FrameType
from typing import Any, Protocol

#: Seconds without a commit after which a process that ends gives up writing.
PARTING_SECONDS = 15.0


#: Seconds after which a SIGTERM received during a transaction is handled again.
_SOON = 0.02


_Handler = Callable[[int, FrameType | None], Any]


class _Inside(threading.local):
    depth = 0


class Parting(Protocol):
    """An object that must be notified before the process ends."""

    def part(self, seconds: float, error: dict[str, Any] | None, status: str = "failed") -> None:
        """Write queued points, until none was committed for ``seconds``; with an error, end open runs."""

    def forget(self) -> None:
        """Drop queued points in a forked child: they belong to the parent."""


# Global state, as signals, forks and exit are global: one handler for all open workspaces.
# The tuple is replaced as a whole, since a signal may arrive at any point.
_watched: tuple[weakref.ref[Parting], ...] = ()


_previous: list[_Handler | signal.Handlers | int] = []


_level = 0


_pending_since = 0.0


_known = False

#: Nesting depth of :func:`undisturbed` in each thread; signals are handled in the main thread.
_inside = _Inside()


def watch(one: Parting) -> None:
    """Notify an object before the process ends; calling again reinstalls a replaced signal handler."""
    global _watched, _known
    if not _known:
        _known = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked)
    _watched = (*(ref for ref in _watched if ref() not in (None, one)), weakref.ref(one))
    register_after_fork(one, _part_with_process)
    if threading.current_thread() is threading.main_thread():
        _install()


def _part_with_process(one: Parting) -> None:
    """In a forked process of ``multiprocessing``, which ends without Python's exit handlers."""
    Finalize(None, one.part, args=(PARTING_SECONDS, None), exitpriority=10)


def unwatch(one: Parting) -> None:
    """Stop notifying an object; after the last one, the previous signal handler is restored."""
    global _watched
    _watched = tuple(ref for ref in _watched if ref() not in (None, one))
    if _watched or threading.current_thread() is not threading.main_thread():
        return
    if _previous and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, _previous.pop())
        _previous.clear()


def ends_at_once() -> bool:
    """Return whether SIGTERM would end this process without running a handler."""
    return signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _install() -> None:
    now = signal.getsignal(signal.SIGTERM)
    # An ignored signal does not end the process; a handler set in C (None) cannot be called from here.
    if now is _on_sigterm or now is signal.SIG_IGN or now is None:
        return
    try:
        signal.signal(signal.SIGTERM, _on_sigterm)
    except ValueError:  # a sub-interpreter
        return
    _previous.append(now)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    global _level, _pending_since
    now = time.monotonic()
    if _inside.depth and (not _pending_since or now - _pending_since < PARTING_SECONDS):
        # This thread holds the database and must finish before the points can be written.
        _pending_since = _pending_since or now
        _thread.start_new_thread(_again, (number,))
        return
    _pending_since = 0.0
    # A handler installed after ours may call ours; then the handler before ours is next.
    outer, chained = _level, sys._getframe().f_back is not frame
    _level = outer + 1 if chained else 0
    before = _previous[-1 - _level] if _level < len(_previous) else signal.SIG_DFL
    terminated = {"type": "Terminated", "message": "the process was terminated (SIGTERM)"}
    try:
        # A user's handler may let the process go on, so open runs are not ended here.
        _part(None if callable(before) else terminated)
        if callable(before):
            before(number, frame)
            return
    finally:
        _level = outer
    if before is not signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Defer SIGTERM while this thread is inside: it holds the database, which the handler needs."""
    _inside.depth += 1
    try:
        yield
    finally:
        _inside.depth -= 1


def _again(number: int) -> None:
    time.sleep(_SOON)
    os.kill(os.getpid(), number)


def _part(error: dict[str, Any] | None, status: str = "failed") -> None:
    deadline = time.monotonic() + PARTING_SECONDS
    for ref in _watched:
        if (one := ref()) is not None:
            one.part(max(deadline - time.monotonic(), 1.0), error, status)


def _at_exit() -> None:
    raised = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    interactive = hasattr(builtins, "__IPYTHON__") or hasattr(sys, "ps1")  # survives errors
    if raised is not None and not interactive:
        status = "cancelled" if isinstance(raised, KeyboardInterrupt) else "failed"
        _part({"type": type(raised).__name__, "message": str(raised)}, status)
    else:
        message = "the process exited without finishing the run: use a with statement, or finish()"
        _part({"type": "Lost", "message": message}, "lost")


def _forked() -> None:
    for ref in _watched:
        if (one := ref()) is not None:
            one.forget()
