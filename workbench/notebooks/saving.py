"""Saves the notebook that is being executed, so that it is readable at every moment."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.host.files import write_whole

#: The executed notebook is saved this often while something comes from the kernel, in seconds.
SAVE_SECONDS = 1.0


class NotSaved(WorkbenchError):
    """A notebook was executed, and its last state could not be written."""


class NotebookSaver:
    """Writes the notebook where it belongs, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notebook: Any = None
        self.changed = False
        self._saved_at = 0.0

    def save(self, *, force: bool = False, touch: bool = False) -> None:
        """Save the notebook if something has changed and it is time; at once with ``force``."""
        self.changed |= touch
        due = self.changed and time.monotonic() - self._saved_at >= SAVE_SECONDS
        if self.notebook is None or not (force or due):
            return
        self._saved_at = time.monotonic()
        try:
            self._write()
        except OSError as error:
            if force:
                raise
            # A disk that is full for a while is no reason to stop; the last save has to succeed.
            with contextlib.suppress(OSError):
                print(f"the notebook could not be saved: {error}", file=sys.stderr, flush=True)
            return
        self.changed = False

    def save_at_last(self, failure: BaseException | None = None) -> None:
        """Save when nothing more will come; a failure that is there already stays the reason of the end.

        Raises
        ------
        WorkbenchError
            It could not be saved, and nothing else was wrong.
        """
        try:
            self.save(force=True)
        except OSError as error:
            said = f"the executed notebook could not be saved: {error.strerror or error}"
            if failure is None:
                hint = "Its outputs since the last save are lost; a result that the job had kept is kept."
                raise NotSaved(said, hint=hint) from error
            with contextlib.suppress(OSError):
                print(said, file=sys.stderr, flush=True)

    def _write(self) -> None:
        import nbformat.v4

        # Without nbformat's validation, which costs more than the rest: papermill validated what came in.
        text: str = nbformat.v4.writes(self.notebook)  # type: ignore[no-untyped-call]
        write_whole(self.path, (text + "\n").encode(), crash_at="notebook-written")
