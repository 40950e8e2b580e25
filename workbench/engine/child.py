"""A process that performs tasks, one after another; both engines have some.

It is started by ``python -m``, not by ``multiprocessing``, so that no script or notebook runs again in it. It
ends with the process that started it, whatever ends that one, and takes what it was doing with it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import BinaryIO

from workbench.engine import storage
from workbench.engine.task import Ending, Outcome, Task
from workbench.errors import WorkbenchError

#: How often a waiting thread looks whether its task is still wanted, in seconds.
LOOK_SECONDS = 0.1

#: How often a process looks whether the one that started it is still there, in seconds.
_WATCH_SECONDS = 0.5

#: Characters of what a process that died has printed last, for the reason.
_LAST_WORDS = 300


class Stopped(Exception):
    """A task was not wanted any more; its process was killed."""


class Child:
    """A process that performs tasks for one thread.

    Parameters
    ----------
    threads : int
        Number of threads that numeric libraries may use in it; 0: as many as they like.
    idle : float
        After this many seconds without a task the process ends; the next task starts another. 0: never.
    """

    def __init__(self, *, threads: int = 0, idle: float = 0) -> None:
        self._threads = threads
        self._idle = idle
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._printed: BinaryIO | None = None

    @property
    def pid(self) -> int | None:
        """Its id; None while there is no process."""
        return None if self._process is None else self._process.pid

    def perform(self, name: str, task: bytes, wanted: Callable[[], bool] = lambda: True) -> Outcome:
        """Perform a pickled task and return how it ended.

        Raises
        ------
        Stopped
            ``wanted()`` became false.
        """
        for _ in range(2):  # one that was idle for long may end just now
            connection = self._ready()
            with contextlib.suppress(OSError):
                connection.send_bytes(task)
                break
            self.end()
        try:
            while not wait([connection], LOOK_SECONDS):
                if not wanted():
                    self.end()
                    raise Stopped
            outcome = connection.recv()
            assert isinstance(outcome, Outcome)  # noqa: S101  # what our own program sends
            return outcome if outcome.name else replace(outcome, name=name)
        except (EOFError, OSError):
            return Outcome(name, "died", self._why_dead())

    def end(self) -> None:
        """Kill the process, if there is one."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is not None:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)  # and what it has started
            process.wait()
        if self._printed is not None:
            self._printed.close()
            self._printed = None

    def _ready(self) -> Connection:
        if self._process is not None and self._process.poll() is None and self._connection is not None:
            return self._connection
        self.end()
        ours, theirs = Pipe()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  # closed by end()
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own program
                [
                    *(sys.executable, "-m", "workbench.engine.child"),
                    *(str(theirs.fileno()), str(os.getpid()), str(self._idle)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=self._printed,
                stderr=self._printed,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the one who started it
                env=self._environment(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._connection = ours
        ours.send(list(sys.path))
        return ours

    def _environment(self) -> dict[str, str]:
        given = dict(os.environ)
        if self._threads:
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
                given[name] = str(self._threads)
        return given

    def _why_dead(self) -> str:
        """Return why the process ended; it is gone afterwards."""
        process, printed = self._process, ""
        code = None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(1)
        if self._printed is not None:
            self._printed.seek(0)
            printed = self._printed.read()[-_LAST_WORDS:].decode(errors="replace").strip()
        self.end()
        return f"its process ended ({ending_of(code)})" + (f": {printed}" if printed else "")


def ending_of(code: int | None) -> str:
    """Return how a process ended, in words."""
    if code is None or code >= 0:
        return "exit code unknown" if code is None else f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, perhaps for want of memory" if -code == signal.SIGKILL else name


def perform(task: Task) -> Outcome:
    """Perform a task here and now, unless its file is there."""
    began = time.perf_counter()
    try:
        if storage.holds(task.output):
            return Outcome(task.name, "present")
        # A second copy of a task, after a scheduler was lost, leaves the first one's file alone.
        storage.put(task.output, lambda path: task.function(task.input, path), again=False)
    except WorkbenchError as error:
        return Outcome(task.name, "refused", error.message, error.help)
    except OSError as error:
        ending: Ending = "broken" if storage.passes(error) else "failed"
        return Outcome(task.name, ending, _words(error), "", traceback.format_exc())
    except Exception as error:
        return Outcome(task.name, "failed", _words(error), "", traceback.format_exc())
    return Outcome(task.name, "done", seconds=time.perf_counter() - began)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _performed(data: bytes) -> Outcome:
    try:
        task = pickle.loads(data)  # noqa: S301  # from the process that started this one
    except Exception as error:  # a module that is missing here raises what it likes
        return Outcome(
            "",
            "failed",
            f"a worker cannot read the task: {_words(error)}",
            "Install the same packages on every worker as on this machine.",
        )
    return perform(task)


def watch(parent: int, *, then: Callable[[], None] = lambda: None) -> None:
    """End this process, from a thread of its own, as soon as another is not its parent any more."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        then()
        os._exit(1)

    threading.Thread(target=look, daemon=True, name="workbench-watch").start()


def main(words: Sequence[str]) -> int:
    """Perform tasks until the connection is closed, or none has come for a while."""
    number, parent, idle = int(words[0]), int(words[1]), float(words[2])
    group = os.getpid()
    watch(parent, then=lambda: os.killpg(group, signal.SIGKILL) if os.getpgid(0) == group else None)
    with Connection(number) as connection, contextlib.suppress(EOFError, OSError):
        sys.path[:] = connection.recv()
        while connection.poll(idle or None):
            connection.send(_performed(connection.recv_bytes()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
