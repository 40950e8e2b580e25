"""How the cells of the running notebook end, seen from inside the kernel.

A job that spans several cells has no ``with`` block that an exception would leave. Where nobody sits at the
notebook, the first cell that fails ends it; a person may mend the cell and run it again.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from typing import Any


class CellWatch:
    """Reports that a cell has ended the notebook, or that its kernel ends.

    Parameters
    ----------
    failed : callable
        ``failed(error, cell)``: a cell raised and the notebook goes no further; ``cell`` is its number.
        Not called for cells tagged ``raises-exception``, nor where a person runs the cells.
    went_on : callable
        ``went_on(error)``: a cell has ended, with an error or None, and the notebook may go on.
    leaving : callable
        The kernel ends.
    """

    def __init__(
        self,
        failed: Callable[[BaseException, int | None], None],
        went_on: Callable[[BaseException | None], None],
        leaving: Callable[[], None],
    ) -> None:
        self._failed = failed
        self._went_on = went_on
        self._leaving = leaving
        self._shell = shell()
        atexit.register(leaving)
        if self._shell is not None:
            self._shell.events.register("post_run_cell", self._look)

    def stop(self) -> None:
        """Report nothing any more."""
        atexit.unregister(self._leaving)
        if self._shell is not None:
            self._shell.events.unregister("post_run_cell", self._look)
            self._shell = None

    def _look(self, result: Any) -> None:
        error = result.error_in_exec or result.error_before_exec
        if error is not None and ends_the_notebook(self._shell):
            self._failed(error, result.execution_count)
        else:
            self._went_on(error)


def ends_the_notebook(shell: Any) -> bool:
    """Return whether an error of the running cell ends the notebook.

    A front end says with each cell whether somebody can answer a question of it, and whether an error of it
    stops what follows: programs such as papermill say no to the first, and yes to the second unless the cell
    is tagged ``raises-exception``.
    """
    kernel = getattr(shell, "kernel", None)
    content = kernel.get_parent("shell").get("content", {}) if kernel is not None else {}
    return not content.get("allow_stdin", True) and bool(content.get("stop_on_error", True))


def shell() -> Any:
    """Return the IPython shell that runs this code; None outside of one."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()
