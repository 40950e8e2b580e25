"""Find a job's notebook and execute it.

papermill injects the parameters and runs the cells. This module adds: the kernel is this interpreter,
regardless of the installed kernels; it dies with the process that started it; the executed notebook is saved
every :data:`SAVE_SECONDS` and is valid JSON at all times; the output of the cells is logged with timestamps;
and a failure names its cell.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, WorkbenchError
from workbench.host import processes
from workbench.host.log import LogFile
from workbench.notebooks.bars import Bar, BarReader
from workbench.notebooks.parameters import declared_parameters
from workbench.notebooks.saving import SAVE_SECONDS, NotebookSaver

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
        Path of the log of its cells' output.
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
    _kernel: Any = field(default=None, init=False)
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
            with LogFile(self.log) as log:
                self._execute(saver, log)
        except BaseException as error:
            saver.save_at_last(error)
            raise
        saver.save_at_last()

    def _execute(self, saver: NotebookSaver, log: LogFile) -> None:
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

        cwd = self.cwd if self.cwd and self.cwd.is_dir() else None
        if self.cwd and cwd is None:
            log.write(f"the folder {self.cwd} is gone: the kernel starts in {Path.cwd()}\n")
        try:
            _register_engine()
            papermill.execute_notebook(
                str(self.source),
                None,  # the saver writes the output atomically
                parameters=dict(self.parameters),
                engine_name=_ENGINE,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=None if cwd is None else str(cwd),
                execution=self,
                saver=saver,
                job_log=log,
            )
        except PapermillExecutionError as error:
            if self.interrupted:
                raise Interrupted("the notebook was interrupted") from None
            raise CellFailed(error.exec_count or self._cell, error.ename, error.evalue) from None
        except DeadKernelError:
            if self.interrupted:
                raise Interrupted("the notebook was interrupted") from None
            message = "the kernel died; it may have run out of memory, or crashed in native code"
            raise CellFailed(self._cell, "DeadKernelError", message) from None
        except RuntimeError as error:
            if self.interrupted:
                raise Interrupted("the notebook was interrupted") from None
            if self._cell is not None:
                raise
            message = f"the kernel died during startup: {error}"  # nbclient has no class for this
            raise CellFailed(None, "DeadKernelError", message) from None

    def interrupt(self) -> None:
        """Stop the running cell, as the stop button does; safe to call from a signal handler."""
        self.interrupted = True
        provisioner = getattr(self._kernel, "provisioner", None)
        pid = getattr(provisioner, "pid", None)
        if pid:
            import signal

            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def _begin_cell(self, page: Any) -> None:
        """Record that the next code cell starts."""
        if self._cell is None:
            self._cells = sum(cell.cell_type == "code" for cell in page.cells)
            self.report({"cells": True})
            processes.crash_point("kernel-ready")
        self._cell = (self._cell or 0) + 1
        self._say_progress(())

    def _hear(self, message: Any) -> None:
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


# What papermill and nbclient call ---------------------------------------------------------------

_ENGINE = "workbench"


def warm_up() -> None:
    """Import what executing a notebook needs, ahead of time."""
    import papermill  # noqa: F401

    _register_engine()


def _register_engine() -> None:
    from papermill.engines import papermill_engines

    papermill_engines.register(_ENGINE, _engine())


def _engine() -> Any:
    """Return papermill's engine with our kernel, our saving and our log.

    The classes are created in a function because their bases are slow to import.
    """
    import asyncio

    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class Kernel(AsyncKernelManager):
        """A kernel of this interpreter; the machine's ``python3`` kernel may differ, or be missing."""

        @property
        def kernel_spec(self) -> KernelSpec:
            launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(
                argv=processes.dies_with_parent(launch), display_name="Python 3", language="python"
            )

        async def _async_interrupt_kernel(self) -> None:
            # Shutdown starts with an interrupt, which an idle kernel reports as an error; that would appear
            # in the job's log.
            if not self.shutting_down:
                await super()._async_interrupt_kernel()

    class Client(PapermillNotebookClient):  # type: ignore[misc]
        execution: Execution
        saver: NotebookSaver
        job_log: LogFile

        def create_kernel_manager(self) -> Any:
            manager = super().create_kernel_manager()
            manager.transport = "ipc"
            manager.connection_file = str(self.execution.runtime / "kernel.json")
            self.execution._kernel = manager
            return manager

        async def async_execute_cell(self, cell: Any, index: int, **keywords: Any) -> Any:
            if self.execution.interrupted:
                raise Interrupted("the notebook was interrupted")
            if cell.cell_type == "code":
                self.execution._begin_cell(self.nb)
            saving = asyncio.ensure_future(self._save_now_and_then())
            try:
                return await super().async_execute_cell(cell, index, **keywords)
            finally:
                saving.cancel()

        execute_cell = run_sync(async_execute_cell)

        async def _save_now_and_then(self) -> None:
            while True:
                await asyncio.sleep(SAVE_SECONDS / 4)
                self.saver.save()

        def process_message(self, msg: Any, *given: Any, **keywords: Any) -> Any:
            self.saver.changed = True
            self.execution._hear(msg)
            return super().process_message(msg, *given, **keywords)

        def log_output_message(self, output: Any) -> None:
            if output.output_type == "stream":
                self.job_log.write("".join(output.text))

    class Engine(NBClientEngine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **keywords: Any) -> Any:
            saver: NotebookSaver = keywords["saver"]
            saver.notebook = nb_man.nb
            nb_man.save = lambda **_: saver.save(touch=True)
            nb_man.autosave_cell_every = 0
            saver.save(force=True)
            client = Client(
                nb_man,
                kernel_name=kernel_name,
                kernel_manager_class=Kernel,
                timeout=None,
                startup_timeout=60,
                log_output=False,
                # papermill checks this before it passes a message on.
                stdout_file=keywords["job_log"],
            )
            client.execution, client.saver, client.job_log = (
                keywords["execution"],
                saver,
                keywords["job_log"],
            )
            return client.execute()

    return Engine
