"""Panels that move by themselves, fed by a thread that can be stopped for good.

A kernel that runs a cell hears nothing from the page, so what must move meanwhile is fed by a thread.
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
    """Call a function until stopped; the function says how long to wait before the next call.

    Parameters
    ----------
    look : callable
        Returns seconds to wait. An exception is logged, and the next look comes after ``after_error``.
    name : str
        Name of the thread.
    after_error : float
        Seconds.
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
        """Whether the thread runs."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Start looking; does nothing where it already does."""
        with self._lock:
            if self.alive:
                return
            self._stopping = False
            self._wake.clear()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def nudge(self) -> None:
        """Look at once instead of waiting."""
        self._wake.set()

    def stop(self, timeout: float = 10.0) -> None:
        """Stop looking and wait until the thread has ended."""
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
                _LOG.exception("%s: could not look", self._name)
                pause = self.after_error
            if not self._stopping:
                self._wake.wait(pause)


class LivePanel(Panel):
    """A panel whose one trait ``state`` is looked up again and again while a page shows it.

    Subclasses say what the state is, and how long to wait before the next look. The page tells of each of
    its views by ``{"type": "view", "view": id, "open": true or false}``; with the last one the thread
    ends, so that a cell which is run again leaves no thread of its former panel behind.
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
        """Return the state as it is now, and the seconds until the next look."""

    def at_hand(self) -> dict[str, Any]:
        """Return what of the state is known without a look, for when one fails."""
        return {}

    @abstractmethod
    def to_html(self) -> str:
        """Return the state as plain HTML, for where no widget is shown."""

    @abstractmethod
    def answer(self, content: Mapping[str, Any]) -> None:
        """Do what a message of the page asks."""

    def refresh(self) -> float:
        """Look once, tell the page if something changed, and return the seconds until the next look."""
        with self._refreshing:
            try:
                state, pause = self.look()
            except WorkbenchError as error:
                # What was last known stays on the page, with the reason why it is not newer.
                problem = {"message": error.message, "hint": error.hint}
                state, pause = {**self.state, **self.at_hand(), "problem": problem}, self._poller.after_error
            if state != self.state:
                self.state = state
        return pause

    def look_now(self) -> None:
        """Look at once, and let the thread look again soon."""
        self.refresh()
        self._poller.nudge()

    def close(self) -> None:
        """Stop looking, and take the panel off the page."""
        poller = getattr(self, "_poller", None)  # None where the panel could not even be made
        if poller is not None:
            poller.stop()
        super().close()

    @property
    def alive(self) -> bool:
        """Whether the panel looks by itself."""
        return self._poller.alive

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        # From here on the panel is on a page, so it must move even while cells run.
        self._poller.start()
        data, metadata = bundle
        return {**data, "text/html": self.to_html()}, metadata

    def _on_message(self, content: Any) -> None:
        if not isinstance(content, Mapping):
            return
        if content.get("type") == "view":
            (self._views.add if content.get("open") else self._views.discard)(str(content.get("view")))
            if self._views:
                self._poller.start()
            else:
                self._poller.stop()
            return
        self.answer(content)


def _answer_while_busy(comm: Any) -> None:
    """Let what the page sends be handled in the subshell it names, so that no running cell holds it up.

    JupyterLab sends a widget's messages to a subshell, which is a thread beside the cells. ipykernel from 7.4
    on sends them back to whatever thread published last instead, which is right for a cell that waits for an
    answer and wrong for a panel, whose answers change nothing that a cell holds. Other versions have no such
    method, and a kernel without subshells names none: then messages wait for the cell, as everywhere.
    """
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda _data, chosen: chosen
