"""Panels that update themselves from a background thread that can be stopped.

A kernel that runs a cell handles no messages from the page, so a thread sends the updates.
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import traitlets

from workbench.errors import WorkbenchError
from workbench.panels.base.panel import Panel

_LOG = logging.getLogger(__name__)


class Poller:
    """Call a function repeatedly until stopped; it returns the seconds to wait before the next call.

    Parameters
    ----------
    look : callable
        Returns the seconds to wait. An exception is logged, and the next call follows after ``after_error``.
    name : str
        Name of the thread.
    after_error : float
        Seconds to wait after an exception.
    """

    def __init__(self, look: Callable[[], float], *, name: str, after_error: float = 5.0) -> None:
        self._look = look
        self._name = name
        self.after_error = after_error
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Start the thread; no effect if it is already running."""
        with self._lock:
            if self.alive:
                return
            self._stopping = False
            self._wake.clear()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def nudge(self) -> None:
        """Make the next call now instead of waiting."""
        self._wake.set()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop the calls and wait until the thread has ended."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping = True
            self._wake.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                pause = self._look()
            except Exception:
                _LOG.exception("%s: the update failed", self._name)
                pause = self.after_error
            if not self._stopping:
                self._wake.wait(pause)


class LivePanel(Panel):
    """A panel whose trait ``state`` is refreshed regularly while a page shows it.

    Subclasses return the state and the seconds until the next look. The page reports each of its views with
    ``{"type": "view", "view": id, "open": true or false}``. The thread ends with the last view, so running
    a cell again leaves no thread of the previous panel behind.

    A message with ``"hear": {"view", "heard"}`` is confirmed by ``{"type": "heard", "view", "heard"}`` before
    it is handled, so the page can tell a busy kernel from one that works on the request. After an interrupted
    connection the page sends ``{"type": "refresh"}`` and gets the whole state again.

    If a look fails, the state keeps what was last known, and its ``problem`` has ``"stale": True``.
    """

    state = traitlets.Dict().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self._views: set[str] = set()
        self._refreshing = threading.RLock()
        super().__init__(**traits)
        _answer_while_busy(self.comm)
        self._poller = Poller(self.refresh, name=f"workbench-{type(self).__name__}")
        self.on_msg(lambda _, content, buffers: self._on_message(content))
        self.refresh()

    @abstractmethod
    def look(self) -> tuple[dict[str, Any], float]:
        """Return the current state and the seconds until the next look."""

    def at_hand(self) -> dict[str, Any]:
        """Return the parts of the state that are known even if a look fails."""
        return {}

    @abstractmethod
    def answer(self, content: Mapping[str, Any]) -> None:
        """Handle a message from the page."""

    def refresh(self) -> float:
        """Look once, update the page if the state changed, and return the seconds until the next look."""
        with self._refreshing:
            try:
                state, pause = self.look()
            except Exception as error:
                # The page keeps the last known state and says why it is not newer.
                state = {**self.state, **self.at_hand(), "problem": _problem(error)}
                pause = self._poller.after_error
                if not isinstance(error, WorkbenchError) and state != self.state:
                    _LOG.exception("%s could not be updated", type(self).__name__)
            if state != self.state:
                self.state = state
        return pause

    def look_now(self) -> None:
        """Look now, and wake the thread."""
        self.refresh()
        self._poller.nudge()

    def close(self) -> None:
        """Stop the thread and remove the panel from the page."""
        poller = getattr(self, "_poller", None)  # None if the constructor failed
        if poller is not None:
            poller.stop()
        super().close()

    @property
    def alive(self) -> bool:
        """Whether the panel updates itself."""
        return self._poller.alive

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if self.comm is not None:
            # From here on the panel is on a page and must update even while cells run.
            self._poller.start()
        return super()._repr_mimebundle_(**kwargs)

    def _on_message(self, content: Any) -> None:
        if not isinstance(content, Mapping):
            return
        hear = content.get("hear")
        if isinstance(hear, Mapping):
            self.send({"type": "heard", "view": hear.get("view"), "heard": hear.get("heard")})
        if content.get("type") == "refresh":
            self.look_now()
            self.send_state("state")
            return
        if content.get("type") == "view":
            (self._views.add if content.get("open") else self._views.discard)(str(content.get("view")))
            if self._views:
                self._poller.start()
            else:
                self._poller.stop()
            return
        self.answer(content)


def _problem(error: Exception) -> dict[str, Any]:
    """Return why a look failed, as the page shows it."""
    if isinstance(error, WorkbenchError):
        return {"message": error.message, "hint": error.help, "stale": True}
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "It will try again; the traceback is in the kernel's log."
    return {"message": f"The panel could not be updated: {reason}", "hint": hint, "stale": True}


def _answer_while_busy(comm: Any) -> None:
    """Handle the page's messages in the subshell they name, so that a running cell does not delay them.

    JupyterLab sends a widget's messages to a subshell, a thread beside the one that runs cells. ipykernel 7.4
    and later route them to the thread that published last. That is right for a cell that waits for an answer,
    and wrong for a panel, whose answers change nothing that a cell holds. Other versions lack this method,
    and a kernel without subshells names none; there, messages wait for the running cell as usual.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, chosen: chosen
