"""Find a job's notebook and execute it.

papermill injects the parameters and runs the cells. This module adds: the kernel is this interpreter,
regardless of the installed kernels; it dies with the process that started it; the executed notebook is saved
now and then and is valid JSON at all times; everything that the cells print is kept, and logged with
timestamps; and a failure names its cell.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, WorkbenchError
from workbench.host import processes
from workbench.host.log import LogFile
from workbench.notebooks.bars import Bar, BarReader
from workbench.notebooks.language import kernel_note
from workbench.notebooks.output import OUTPUT_FILE, KeptOutput, OutputFile
from workbench.notebooks.parameters import declared_parameters, read_notebook
from workbench.notebooks.saving import NotebookSaver

#: Name of papermill's engine with our kernel, our saving and our log.
ENGINE = "workbench"

#: Minimum interval between reports of progress bars, in seconds.
REPORT_SECONDS = 0.2


class CellFailed(WorkbenchError):
    """A notebook stopped at a cell.

    Parameters
    ----------
    cell : int or None
        The execution number of the cell, counted from 1.
    type : str
        Class name of the exception.
    message : str
        Its message.
    """

    def __init__(self, cell: int | None, type: str, message: str) -> None:  # noqa: A002
        super().__init__(f"cell [{cell}]: {type}: {message}" if cell else f"{type}: {message}")
        self.cell = cell
        self.type = type
        self.message = message


class Interrupted(WorkbenchError):
    """A notebook was stopped on request."""


@dataclass
class Execution:
    """One execution of one notebook.

    Parameters
    ----------
    source : Path
        The notebook.
    output : Path
        Path of the executed notebook.
    parameters : mapping
        Values for the names that its cell tagged ``parameters`` declares.
    log : Path
        Path of the log of its cells' output. Everything that they print is kept in ``output.txt`` beside the
        executed notebook; long notebooks and logs leave out the middle, and say so.
    runtime : Path
        A private folder for the kernel's sockets, with a short path, since a socket's path may have at most
        107 bytes. The process that creates it must remove it: this one may be killed.
    cwd : Path, optional
        The folder that its kernel starts in.
    report : callable
        Called with ``{"cells": True}`` just before the first cell starts, and with ``{"progress": …}``.
    watch_bars : bool
        Whether to derive progress from the finished cells and from the running cell's progress bars; for
        notebooks that do not report progress themselves.
    """

    source: Path
    output: Path
    parameters: Mapping[str, Any]
    log: Path
    runtime: Path
    cwd: Path | None = None
    report: Callable[[Mapping[str, Any]], object] = lambda _: None
    watch_bars: bool = False
    interrupted: bool = field(default=False, init=False)
    #: Cells whose errors are expected, with all their outputs, while papermill looks for errors.
    hidden: list[tuple[Any, Any]] = field(default_factory=list, init=False)
    kernel: Any = field(default=None, init=False)
    _cell: int | None = field(default=None, init=False)
    _cells: int = field(default=0, init=False)
    _bars: BarReader | None = field(default=None, init=False)
    _reported_at: float = field(default=0.0, init=False)

    def run(self) -> None:
        """Execute the notebook; the executed notebook on disk is complete in any case.

        Raises
        ------
        CellFailed
            A cell raised an exception, or the kernel died.
        Interrupted
            :meth:`interrupt` was called.
        BadInput
            The notebook does not declare a parameter, or cannot be read.
        """
        self._check()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        saver = NotebookSaver(self.output)
        try:
            with LogFile(self.log, OUTPUT_FILE) as log:
                kept = KeptOutput(OutputFile(self.output.with_name(OUTPUT_FILE)), log)
                try:
                    self._execute(saver, kept)
                finally:
                    kept.close()
        except BaseException as error:
            saver.save_at_last(error)
            raise
        saver.save_at_last()

    def _execute(self, saver: NotebookSaver, kept: KeptOutput) -> None:
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

        cwd = self.cwd if self.cwd and self.cwd.is_dir() else None
        if self.cwd and cwd is None:
            kept.log.write(f"the folder {self.cwd} is gone: the kernel starts in {Path.cwd()}\n")
        if note := kernel_note(read_notebook(self.source)):
            kept.log.write(note + "\n")
        try:
            warm_up()
            papermill.execute_notebook(
                str(self.source),
                None,  # the saver writes the output atomically
                parameters=dict(self.parameters),
                engine_name=ENGINE,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=None if cwd is None else str(cwd),
                execution=self,
                saver=saver,
                kept=kept,
            )
        except PapermillExecutionError as error:
            self.raise_if_interrupted()
            raise CellFailed(error.exec_count or self._cell, error.ename, error.evalue) from None
        except DeadKernelError:
            self.raise_if_interrupted()
            message = (
                "the kernel died; it may have run out of memory, or crashed in native code. "
                "What it printed in its last moment may be missing."
            )
            raise CellFailed(self._cell, "DeadKernelError", message) from None
        except RuntimeError as error:
            self.raise_if_interrupted()
            if self._cell is not None:
                raise
            message = f"the kernel died during startup: {error}"  # nbclient has no class for this
            raise CellFailed(None, "DeadKernelError", message) from None
        finally:
            for cell, outputs in self.hidden:
                cell.outputs = outputs

    def raise_if_interrupted(self) -> None:
        """Raise :class:`Interrupted` if a stop was requested."""
        if self.interrupted:
            raise Interrupted("the notebook was interrupted") from None

    def interrupt(self) -> None:
        """Stop the running cell, as the stop button does; safe to call from a signal handler."""
        self.interrupted = True
        provisioner = getattr(self.kernel, "provisioner", None)
        pid = getattr(provisioner, "pid", None)
        if pid:
            import signal

            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def begin_cell(self, total: int) -> None:
        """Record that the next of ``total`` code cells starts."""
        if self._cell is None:
            self._cells = total
            self.report({"cells": True})
            processes.crash_point("kernel-ready")
        self._cell = (self._cell or 0) + 1
        self._say_progress(())

    def hear(self, message: Any) -> None:
        """Look for progress in a message from the kernel."""
        if not self.watch_bars:
            return
        if self._bars is None:
            self._bars = BarReader()
        if (bars := self._bars.feed(message)) is not None:
            self._say_progress(bars)

    def _say_progress(self, bars: tuple[Bar, ...]) -> None:
        now = time.monotonic()
        if not self.watch_bars or (bars and now - self._reported_at < REPORT_SECONDS):
            return
        self._reported_at = now
        shown = [bar._asdict() for bar in bars]
        cell = self._cell or 1
        self.report({"progress": {"done": cell - 1, "total": self._cells, "cell": cell, "bars": shown}})

    def _check(self) -> None:
        if not self.source.is_file():
            raise BadInput(f"notebook {str(self.source)!r} not found")
        # papermill inserts the names into code verbatim, so only names that the notebook declares may pass.
        declared = [parameter.name for parameter in declared_parameters(self.source)]
        unknown = sorted(set(self.parameters) - set(declared))
        if unknown:
            raise BadInput(
                f"{self.source.name} does not declare the parameter {', '.join(map(repr, unknown))}. "
                f"It declares: {', '.join(declared) or 'none'}"
            )


def warm_up() -> None:
    """Import what executing a notebook needs, ahead of time, and make it known to papermill."""
    from papermill.engines import papermill_engines

    from workbench.notebooks.client import Engine

    papermill_engines.register(ENGINE, Engine)
