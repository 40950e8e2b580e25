"""Find a job's notebook and execute it.

papermill puts the parameters in and runs the cells. What is ours: the kernel is this interpreter, whatever
kernels are installed; it dies with the process that started it; the executed notebook is saved every
:data:`SAVE_SECONDS` and is readable JSON at every moment; what the cells print is kept in a log with
the time; and a failure names its cell.
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

#: What a progress bar says is reported at most this often, in seconds.
REPORT_SECONDS = 0.2


class CellFailed(WorkbenchError):
    """A notebook stopped at a cell.

    Parameters
    ----------
    cell : int or None
        The number beside the cell, counted from 1.
    type : str
        Name of the exception's class.
    message : str
        What it said.
    """

    def __init__(self, cell: int | None, type: str, message: str) -> None:  # noqa: A002
        super().__init__(f"cell [{cell}]: {type}: {message}" if cell else f"{type}: {message}")
        self.cell = cell
        self.type = type
        self.said = message


class Interrupted(WorkbenchError):
    """A notebook was stopped because somebody asked for it."""


@dataclass
class Execution:
    """One execution of one notebook.

    Parameters
    ----------
    source : Path
        The notebook.
    output : Path
        Where the executed one is kept.
    parameters : mapping
        Values for the names its cell tagged ``parameters`` declares.
    log : Path
        Where the lines go that its cells print.
    runtime : Path
        A private folder for the kernel's sockets, with a short path: a socket's may have 107 bytes only.
        It is for who made it to remove, since a process that is killed removes nothing.
    cwd : Path, optional
        The folder its kernel starts in.
    report : callable
        Called with ``{"cells": True}`` when the first cell is about to begin, and with ``{"progress": …}``.
    watch_bars : bool
        Whether to report progress from outside: the cells that are done, and the progress bars that the
        running one draws. For notebooks that know nothing of jobs.
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
    _said_at: float = field(default=0.0, init=False)

    def run(self) -> None:
        """Execute the notebook; the executed one is whole on disk however this ends.

        Raises
        ------
        CellFailed
            A cell raised, or the kernel died.
        Interrupted
            :meth:`interrupt` was called.
        BadInput
            A parameter that the notebook does not declare, or a source that cannot be read.
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

        try:
            _register_engine()
            papermill.execute_notebook(
                str(self.source),
                None,  # the saver writes: beside the notebook, then one rename
                parameters=dict(self.parameters),
                engine_name=_ENGINE,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                cwd=str(self.cwd) if self.cwd and self.cwd.is_dir() else None,
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
            said = "the kernel died; it may have run out of memory, or crashed in native code"
            raise CellFailed(self._cell, "DeadKernelError", said) from None
        except RuntimeError as error:
            if self.interrupted:
                raise Interrupted("the notebook was interrupted") from None
            if self._cell is not None:
                raise
            said = f"the kernel died while it started: {error}"  # nbclient has no class for this
            raise CellFailed(None, "DeadKernelError", said) from None

    def interrupt(self) -> None:
        """Stop at the running cell, as the stop button does; safe to call from a signal handler."""
        self.interrupted = True
        provisioner = getattr(self._kernel, "provisioner", None)
        pid = getattr(provisioner, "pid", None)
        if pid:
            import signal

            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    def _begin_cell(self, page: Any) -> None:
        """Note that the next code cell begins."""
        if self._cell is None:
            self._cells = sum(cell.cell_type == "code" for cell in page.cells)
            self.report({"cells": True})
            processes.crash_point("kernel-ready")
        self._cell = (self._cell or 0) + 1
        self._say_progress(())

    def _hear(self, message: Any) -> None:
        """Look for progress in what comes from the kernel."""
        if not self.watch_bars:
            return
        if self._bars is None:
            self._bars = BarReader()
        if (bars := self._bars.feed(message)) is not None:
            self._say_progress(bars)

    def _say_progress(self, bars: tuple[Bar, ...]) -> None:
        now = time.monotonic()
        if not self.watch_bars or (bars and now - self._said_at < REPORT_SECONDS):
            return
        self._said_at = now
        shown = [bar._asdict() for bar in bars]
        cell = self._cell or 1
        self.report({"progress": {"done": cell - 1, "total": self._cells, "cell": cell, "bars": shown}})

    def _check(self) -> None:
        if not self.source.is_file():
            raise BadInput(f"no notebook {str(self.source)!r}")
        # papermill writes the names into code as they are: only names that the notebook declares pass.
        declared = [parameter.name for parameter in declared_parameters(self.source)]
        unknown = sorted(set(self.parameters) - set(declared))
        if unknown:
            raise BadInput(
                f"{self.source.name} declares no parameter {', '.join(map(repr, unknown))}. "
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

    A function makes the classes, since their bases are heavy to import and this module is not.
    """
    import asyncio

    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class Kernel(AsyncKernelManager):
        """A kernel of this interpreter; the ``python3`` of the machine may be another, or missing."""

        @property
        def kernel_spec(self) -> KernelSpec:
            launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(
                argv=processes.dies_with_parent(launch), display_name="Python 3", language="python"
            )

        async def _async_interrupt_kernel(self) -> None:
            # Shutting down begins with an interrupt, which a kernel that has nothing to do calls an error,
            # and that would stand in the job's log.
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
                # What papermill asks before it hands a message over.
                stdout_file=keywords["job_log"],
            )
            client.execution, client.saver, client.job_log = (
                keywords["execution"],
                saver,
                keywords["job_log"],
            )
            return client.execute()

    return Engine
