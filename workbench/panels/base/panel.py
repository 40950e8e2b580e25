"""The base class of all panels: a widget that closes its layout with itself, and saved as plain HTML."""

from __future__ import annotations

import os
from abc import abstractmethod
from datetime import datetime
from pathlib import PurePath
from typing import Any

import anywidget

from workbench.host import processes

#: Commands and modules that execute notebooks without showing them; the last one executes jobs.
_BATCH_TOOLS = frozenset(
    {
        *("papermill", "nbconvert", "jupyter-nbconvert", "jupyter-execute", "nbclient"),
        "workbench.jobs.worker.runner",
    }
)


class Panel(anywidget.AnyWidget):
    """A widget that leaves nothing behind in the kernel or on the page when it is closed.

    Its output holds the widget and, for places that show no widgets, plain HTML. A notebook that is only
    executed (by a job, papermill or nbconvert) has no page for a widget, so its output is the HTML alone:
    viewers prefer a saved widget, which is empty without its kernel.
    """

    def open(self) -> None:
        """Connect the panel to the page; in a notebook that is only executed, it has none."""
        if not executed_only():
            super().open()

    @abstractmethod
    def to_html(self) -> str:
        """Return the panel as plain HTML without scripts; every text in it is escaped."""

    def close(self) -> None:
        """Remove the panel and its layout, a separate widget, from the page."""
        layout = self.layout if self.comm is not None else None
        super().close()
        if layout is not None:
            layout.close()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if self.comm is None and executed_only():
            return {"text/plain": repr(self), "text/html": self._saved_html()}, {}
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/html": self._saved_html()}, metadata

    def _saved_html(self) -> str:
        now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
        note = f"<p><small>As of {now}, when this cell ran.</small></p>"
        return f'<div class="wb-saved">{note}{self.to_html()}</div>'


def executed_only() -> bool:
    """Return whether this kernel's notebook is only executed and saved, so that no page shows its widgets."""
    parent = os.environ.get("JPY_PARENT_PID", "")  # set by the program that starts a kernel
    command = processes.command_line(int(parent)) if parent.isdecimal() else []
    module = command[command.index("-m") + 1 :][:1] if "-m" in command else []
    scripts = [PurePath(word).name.removesuffix(".exe") for word in command[:2]]
    return not _BATCH_TOOLS.isdisjoint([*module, *scripts])
