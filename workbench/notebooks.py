"""Find a job's notebook and execute it.

papermill puts the parameters in and runs the cells. What is ours: the kernel is this interpreter, whatever
kernels are installed; it dies with the process that started it; the executed notebook is saved at least
every :data:`SAVE_SECONDS` and is readable JSON at every moment; what the cells print is kept in a log with
the time; and a failure names its cell.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench import processes
from workbench.errors import BadInput, NotFound, WorkbenchError
from workbench.parameters import declared_parameters

#: Notebook of each job type that every workbench knows.
JOB_NOTEBOOKS: Mapping[str, str] = {
    "train": "train.ipynb",
    "eval": "evaluate.ipynb",
    "index_build": "build_index.ipynb",
}

#: The executed notebook on disk is at most this much older than what has come from the kernel, in seconds.
SAVE_SECONDS = 2.0

#: A log ends here, with a word about it, in bytes; the notebook keeps everything.
LOG_BYTES = 32 * 2**20


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
    """

    source: Path
    output: Path
    parameters: Mapping[str, Any]
    log: Path
    runtime: Path
    cwd: Path | None = None
    interrupted: bool = field(default=False, init=False)
    _kernel: Any = field(default=None, init=False)
    _cell: int | None = field(default=None, init=False)

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
        import papermill
        from nbclient.exceptions import DeadKernelError
        from papermill.exceptions import PapermillExecutionError

        self._check()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        saver = _Saver(self.output)
        with _Log(self.log) as log:
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
            finally:
                saver.save(force=True)

    def interrupt(self) -> None:
        """Stop at the running cell, as the stop button does; safe to call from a signal handler."""
        self.interrupted = True
        provisioner = getattr(self._kernel, "provisioner", None)
        pid = getattr(provisioner, "pid", None)
        if pid:
            import signal

            os.kill(pid, signal.SIGINT)

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

    class Client(PapermillNotebookClient):  # type: ignore[misc]
        execution: Execution
        saver: _Saver
        job_log: _Log

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
                self.execution._cell = (self.execution._cell or 0) + 1
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

        def process_message(self, *given: Any, **keywords: Any) -> Any:
            self.saver.changed = True
            return super().process_message(*given, **keywords)

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
        import nbformat.v4

        # Without nbformat's validation, which costs more than the rest: papermill validated what came in.
        text: str = nbformat.v4.writes(self.notebook)  # type: ignore[no-untyped-call]
        beside = self.path.with_name(f".{self.path.name}.part")
        with beside.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            if force:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(self.path)
        self.changed = False
        self._saved_at = time.monotonic()


class _Log:
    """Lines with the time in front of each; a progress bar that redraws itself leaves its last state only."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._line = ""
        self._full = False

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line:
            self.write("\n")
        self._file.close()

    def write(self, text: str) -> None:
        *lines, self._line = (self._line + text).split("\n")
        # A lone carriage return starts the line again.
        self._line = self._line.rpartition("\r")[2] if not self._line.endswith("\r") else self._line
        for line in lines:
            self._put(line.rstrip("\r").rpartition("\r")[2])

    def _put(self, line: str) -> None:
        if self._full:
            return
        if self._file.tell() > LOG_BYTES:
            self._full = True
            line = f"… the log ends here, at {LOG_BYTES // 2**20} MiB; the notebook has the rest"
        self._file.write(f"{time.strftime('%H:%M:%S')}  {line}\n")


def write_outcome(path: Path, outcome: Mapping[str, Any]) -> None:
    """Leave word for the worker: a small JSON file that is there whole or not at all."""
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(json.dumps(outcome), encoding="utf-8")
    beside.replace(path)
