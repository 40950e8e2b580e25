"""The kernel of a job's notebook, and the client that reads its messages, for papermill's engine.

The client differs from papermill's in what it promises: no message is lost, however slow the reader; the
memory it takes does not grow with what is printed; and a cell does not fail because its output takes long to
arrive. It is slow to import, so :mod:`workbench.notebooks.execution` imports it when it is needed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import zmq
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient.exceptions import CellExecutionComplete
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine

from workbench.host import processes
from workbench.notebooks.output import NUMBER_PREFIX, note_output
from workbench.notebooks.saving import SAVE_SECONDS

if TYPE_CHECKING:
    from workbench.notebooks.output import KeptOutput
    from workbench.notebooks.saving import NotebookSaver

#: Messages that wait in this process; the kernel keeps those that do not fit, and then waits.
WAITING_MESSAGES = 100

#: Seconds that a kernel has to start, on a busy machine too; one that dies meanwhile is noticed at once.
KERNEL_SECONDS = 300

#: Seconds without any message, after a cell has ended, until its missing end is given up.
END_SECONDS = 60.0

#: Seconds of reading without a break; other tasks, such as saving, run in between.
_TURN_SECONDS = 0.05

#: Seconds between two looks at whether a silent cell has ended.
_LOOK_SECONDS = 1.0

#: Maximum seconds of reading what still waits when the kernel has ended.
_LAST_SECONDS = 10.0

#: Tag of cells that are expected to raise.
_RAISES = "raises-exception"


class Watcher(Protocol):
    """What the client tells of an execution, and asks of it."""

    runtime: Path
    kernel: Any
    hidden: list[tuple[Any, Any]]

    def raise_if_interrupted(self) -> None:
        """Raise if the notebook is to stop."""

    def begin_cell(self, total: int) -> None:
        """Record that the next of ``total`` code cells starts."""

    def hear(self, message: Any) -> None:
        """Look at a message from the kernel."""


class Kernel(AsyncKernelManager):
    """A kernel of this interpreter; the machine's ``python3`` kernel may differ, or be missing."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """How the kernel is started."""
        launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        launch += ["--IPKernelApp.outstream_class=workbench.notebooks.kernel_output.Stream"]
        return KernelSpec(argv=processes.dies_with_parent(launch), display_name="Python 3", language="python")

    def client(self, **keywords: Any) -> Any:
        """Return a client whose sockets keep few messages waiting."""
        client = super().client(**keywords)
        client.context.rcvhwm = WAITING_MESSAGES  # of every socket that it makes from now on
        return client

    async def _async_interrupt_kernel(self) -> None:
        # Shutdown starts with an interrupt, which an idle kernel reports as an error; that would appear in
        # the job's log.
        if not self.shutting_down:
            await super()._async_interrupt_kernel()


class Client(PapermillNotebookClient):  # type: ignore[misc]
    """Executes the cells of a notebook and keeps all that they print."""

    execution: Watcher
    saver: NotebookSaver
    kept: KeptOutput
    clear_before_next_output: bool

    def create_kernel_manager(self) -> Any:
        """Return the manager of a kernel that only this process can reach."""
        manager = super().create_kernel_manager()
        manager.transport = "ipc"
        manager.connection_file = str(self.execution.runtime / "kernel.json")
        self.execution.kernel = manager
        #: The cell of each request, since threads may print after their cell has ended.
        self._cells: dict[str, tuple[Any, int]] = {}
        return manager

    async def async_execute_cell(self, cell: Any, index: int, **keywords: Any) -> Any:
        """Execute a cell, saving the notebook now and then."""
        self.execution.raise_if_interrupted()
        if self._is_executed(cell):
            self.execution.begin_cell(sum(map(self._is_executed, self.nb.cells)))
        saving = asyncio.ensure_future(self._save_now_and_then())
        try:
            return await super().async_execute_cell(cell, index, **keywords)
        finally:
            saving.cancel()
            if cell.cell_type == "code" and (problem := self.kept.new_problem()):
                self._note(cell.outputs, problem)

    execute_cell = run_sync(async_execute_cell)

    def _is_executed(self, cell: Any) -> bool:
        """Return whether a cell is sent to the kernel: not an empty one, nor one to be skipped."""
        skipped = self.skip_cells_with_tag in cell.metadata.get("tags", ())
        return cell.cell_type == "code" and bool(cell.source.strip()) and not skipped

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS / 4)
            self.saver.save()
            self.kept.catch_up()

    # Messages ----------------------------------------------------------------------------------

    async def _async_poll_output_msg(self, parent_msg_id: str, cell: Any, cell_index: int) -> None:
        """Take messages until one says that the cell has ended."""
        self._cells[parent_msg_id] = (cell, cell_index)
        heard = time.monotonic()
        while True:
            if not await self.kc.iopub_channel.socket.poll(1000 * _LOOK_SECONDS):
                replied = "shell.execute_reply" in cell.metadata.get("execution", {})
                if replied and time.monotonic() - heard > END_SECONDS:
                    words = (
                        "The kernel did not report the end of this cell; some of its output may be missing."
                    )
                    self.kept.log.write(f"\n{words}\n")
                    self._note(cell.outputs, words)
                    return
                continue
            if await self._take_waiting(parent_msg_id):
                return
            heard = time.monotonic()
            await asyncio.sleep(0)

    async def _take_waiting(self, until: str = "") -> bool:
        """Take the messages that wait, for a moment; return whether the request ``until`` has ended."""
        channel = self.kc.iopub_channel
        stop_at = time.monotonic() + _TURN_SECONDS
        while time.monotonic() < stop_at:
            try:
                frames = await channel.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            names, parts = channel.session.feed_identities(frames)
            message = channel.session.deserialize(parts)
            request = message["parent_header"].get("msg_id", "")
            cell, index = self._cells.get(request, (None, 0))
            if names and names[0].startswith(NUMBER_PREFIX):
                lost = self.kept.count(int(names[0].removeprefix(NUMBER_PREFIX)))
                if lost and until in self._cells:
                    self._note(self._cells[until][0].outputs, lost)
            if message["msg_type"] == "stream":
                self.kept.write(message["content"]["text"])
            if cell is None:
                continue
            try:
                self.process_message(message, cell, index)
            except CellExecutionComplete:
                if request == until:
                    return True
        return False

    def process_message(self, msg: Any, *arguments: Any, **keywords: Any) -> Any:
        """Process a message for its cell."""
        self.saver.changed = True
        self.execution.hear(msg)
        return super().process_message(msg, *arguments, **keywords)

    def output(self, outs: list[Any], msg: Any, display_id: str | None, cell_index: int) -> Any:
        """Add an output to a cell; of long printed text the first and the last part."""
        captured = self.output_hook_stack[msg["parent_header"].get("msg_id")]  # by an Output widget
        if msg["msg_type"] != "stream" or captured:
            return super().output(outs, msg, display_id, cell_index)
        if self.clear_before_next_output:
            outs[:] = []
            self.clear_display_id_mapping(cell_index)
            self.clear_before_next_output = False
        content = msg["content"]
        self.kept.cell(cell_index, outs).add(content["name"], content["text"])
        return None

    def clear_display_id_mapping(self, cell_index: int) -> None:
        """Forget the places of a cell's outputs; called when they were cleared."""
        self.kept.clear_cell(cell_index)
        super().clear_display_id_mapping(cell_index)

    def _note(self, outputs: list[Any], words: str) -> None:
        outputs.append(note_output(words))
        self.saver.changed = True

    # The end -----------------------------------------------------------------------------------

    async def _async_cleanup_kernel(self) -> None:
        """Shut the kernel down, and take what its threads and exit handlers print meanwhile."""
        reading = asyncio.ensure_future(self._read_on())
        try:
            if self.kc is not None and await self.km.is_alive():
                await self.km.shutdown_kernel(now=self.shutdown_kernel == "immediate")
        finally:
            reading.cancel()
            stop_at = time.monotonic() + _LAST_SECONDS
            while self.kc is not None and await self.kc.iopub_channel.socket.poll(0):
                await self._take_waiting()
                if time.monotonic() > stop_at:
                    break  # what prints has outlived the kernel
            await super()._async_cleanup_kernel()

    _cleanup_kernel = run_sync(_async_cleanup_kernel)

    async def _read_on(self) -> None:
        while self.kc is not None:
            if await self.kc.iopub_channel.socket.poll(1000 * _LOOK_SECONDS):
                await self._take_waiting()
            await asyncio.sleep(0)


class Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine with our kernel, our saving and our log."""

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **keywords: Any) -> Any:
        """Execute a notebook, and hide the errors that its cells are expected to raise.

        papermill fails a notebook for every error among its outputs, also in a cell whose tag says that it
        raises. The execution puts the outputs back when papermill has looked.
        """
        done = super().execute_notebook(nb, kernel_name, **keywords)
        for cell in done.cells:
            if cell.cell_type == "code" and _RAISES in cell.metadata.get("tags", []):
                keywords["execution"].hidden.append((cell, cell.outputs))
                cell.outputs = [output for output in cell.outputs if output.output_type != "error"]
        return done

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **keywords: Any) -> Any:
        """Execute a notebook."""
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
            startup_timeout=KERNEL_SECONDS,
            log_output=False,
            # Output may take long to arrive; see END_SECONDS.
            iopub_timeout=2**31,
            on_cell_executed=lambda cell_index, **_: keywords["kept"].join_cell(cell_index),
        )
        client.execution, client.saver, client.kept = keywords["execution"], saver, keywords["kept"]
        return client.execute()
