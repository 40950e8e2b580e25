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

from workbench.bars import Bar, BarReader
from workbench.errors import BadInput, NotFound, WorkbenchError
from workbench.host import processes
from workbench.host.log import LogFile
from workbench.parameters import declared_parameters

#: Notebook of each job type that every workbench knows.
JOB_NOTEBOOKS: Mapping[str, str] = {
    "train": "train.ipynb",
    "eval": "evaluate.ipynb",
    "index_build": "build_index.ipynb",
}

#: The executed notebook is saved this often while something comes from the kernel, in seconds.
SAVE_SECONDS = 1.0


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


class NotSaved(WorkbenchError):
    """A notebook was executed, and its last state could not be written."""


class Interrupted(WorkbenchError):
    """A notebook was stopped because somebody asked for it."""


def notebooks_folder() -> Path:
    """Return the folder of the job notebooks: the checkout's, or the copy inside an installed package."""
    package = Path(__file__).parent
    checkout = package.parent / "notebooks"
    # A folder of that name beside an installed package could be anybody's.
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "_notebooks"


def job_notebook(type: str) -> Path:  # noqa: A002
    """Return the notebook that runs jobs of a type.

    Raises
    ------
    NotFound
        There is none for that type, or it is not installed.
    """
    if type not in JOB_NOTEBOOKS:
        raise NotFound(f"no notebook for jobs of type {type!r}. There are: {', '.join(JOB_NOTEBOOKS)}")
    path = notebooks_folder() / JOB_NOTEBOOKS[type]
    if not path.is_file():
        raise NotFound(f"the notebook {path} is missing", hint="Install the package again.")
    return path


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
        saver = _Saver(self.output)
        try:
            with LogFile(self.log) as log:
                self._execute(saver, log)
        except BaseException as error:
            saver.save_at_last(error)
            raise
        saver.save_at_last()

    def _execute(self, saver: _Saver, log: LogFile) -> None:
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
        saver: _Saver
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
            saver: _Saver = keywords["saver"]
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


class _Saver:
    """Writes the notebook where it belongs, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notebook: Any = None
        self.changed = False
        self._saved_at = 0.0

    def save(self, *, force: bool = False, touch: bool = False) -> None:
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
        beside = self.path.with_name(f".{self.path.name}.part")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(text + "\n")
                file.flush()
                # Without this a power cut may leave the new name with nothing in it.
                os.fsync(file.fileno())
            processes.crash_point("notebook-written")
            beside.replace(self.path)
        except BaseException:
            # After a failed fsync nobody knows what of the file is on the disk: it is never tried again, the
            # next save writes a new one. And what is cut off only takes room on a full disk.
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
