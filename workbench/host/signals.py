"""How a process takes leave: what is queued is written when it exits, or is told to end by SIGTERM.

SIGTERM ends a Python process at once, without a word to anybody. Here what is queued is written first. Then
whoever handled the signal before is called, or, where nobody did, the process ends by the signal as it would
have. Python lets only the main thread say what a signal does: where nothing of this was set up in the main
thread, the writers know it (see :func:`ends_at_once`) and leave nothing in the queue.
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
from types import FrameType
from typing import Any, Protocol

#: Seconds that writing may take before a process that was told to end does so.
PARTING_SECONDS = 5.0


#: Seconds after which a SIGTERM that came in the middle of a transaction is looked at again.
_SOON = 0.02


_Handler = Callable[[int, FrameType | None], Any]


class _Inside(threading.local):
    depth = 0


class Parting(Protocol):
    """Something that has to be told before the process is gone."""

    def part(self, seconds: float, error: dict[str, Any] | None, status: str = "failed") -> None:
        """Write what is queued, in ``seconds`` at most; with an error, end what is open with it."""

    def forget(self) -> None:
        """Drop what is queued, in a forked child: it is the parent's."""


# State of the process, as signals, forks and its end are: one handler, whatever number of workspaces is open.
# A tuple that is replaced as a whole, since a signal may come in the middle of anything.
_watched: tuple[weakref.ref[Parting], ...] = ()


_previous: list[_Handler | signal.Handlers | int] = []


_level = 0


_told_at = 0.0


_known = False

#: How deep each thread is inside :func:`undisturbed`; signals are handled in the main thread.
_inside = _Inside()


def watch(one: Parting) -> None:
    """Have something told before the process ends; to say it again is good where the signal was taken."""
    global _watched, _known
    if not _known:
        _known = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forked)
    _watched = (*(ref for ref in _watched if ref() not in (None, one)), weakref.ref(one))
    if threading.current_thread() is threading.main_thread():
        _install()


def unwatch(one: Parting) -> None:
    """No more of this; after the last, the signal is again whose it was."""
    global _watched
    _watched = tuple(ref for ref in _watched if ref() not in (None, one))
    if _watched or threading.current_thread() is not threading.main_thread():
        return
    if _previous and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, _previous.pop())
        _previous.clear()


def ends_at_once() -> bool:
    """Say whether SIGTERM would end this process without anybody being told."""
    return signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _install() -> None:
    now = signal.getsignal(signal.SIGTERM)
    # Who ignores the signal is not ended by it; what was set from C (None) cannot be called from here.
    if now is _on_sigterm or now is signal.SIG_IGN or now is None:
        return
    try:
        signal.signal(signal.SIGTERM, _on_sigterm)
    except ValueError:  # a sub-interpreter
        return
    _previous.append(now)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    global _level, _told_at
    now = time.monotonic()
    if _inside.depth and (not _told_at or now - _told_at < PARTING_SECONDS):
        # This very thread holds the database: it must finish before anybody can write.
        _told_at = _told_at or now
        _thread.start_new_thread(_again, (number,))
        return
    _told_at = 0.0
    # Whoever took the signal over after us may call us in turn: then it is the turn of the one before.
    outer, chained = _level, sys._getframe().f_back is not frame
    _level = outer + 1 if chained else 0
    before = _previous[-1 - _level] if _level < len(_previous) else signal.SIG_DFL
    told = {"type": "Terminated", "message": "the process was told to end (SIGTERM)"}
    try:
        # A handler of the user's may let the process go on, so the runs are left to it.
        _part(None if callable(before) else told)
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
    """While this thread is inside, it is not told to end: it holds what those who write then need."""
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
            one.part(max(deadline - time.monotonic(), 0.1), error, status)


def _at_exit() -> None:
    raised = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    goes_on = hasattr(builtins, "__IPYTHON__") or hasattr(sys, "ps1")  # after an error, as a notebook does
    if raised is not None and not goes_on:
        status = "cancelled" if isinstance(raised, KeyboardInterrupt) else "failed"
        _part({"type": type(raised).__name__, "message": str(raised)}, status)
    else:
        said = "the process that logged it exited and left it open: use a with statement, or finish()"
        _part({"type": "Lost", "message": said}, "lost")


def _forked() -> None:
    for ref in _watched:
        if (one := ref()) is not None:
            one.forget()
