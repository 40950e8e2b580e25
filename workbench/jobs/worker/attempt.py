"""A worker's side of one attempt at a job: its process, its pipes, its log.

A runner is started ahead of time and given its work later, since imports take most of a short job's time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from workbench.host import processes
from workbench.host.log import LogFile
from workbench.host.processes import Process

#: Maximum size of the output that a runner prints before it has work, in bytes.
_EARLY_BYTES = 64 * 2**10


class Runner:
    """A process that executes one notebook: idle at first, then given its work.

    All its descendants have ``token`` in their environment, and die with this process.
    """

    def __init__(self) -> None:
        self.token = secrets.token_hex(8)
        read_end, write_end = os.pipe()
        fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_NONBLOCK)
        self._reports = os.fdopen(read_end, "rb", buffering=0)
        self._unread = b""
        command = processes.dies_with_parent(
            [sys.executable, "-m", "workbench.jobs.worker.runner", str(write_end)]
        )
        self.process = subprocess.Popen(  # noqa: S603  # this interpreter and our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
            env={
                **os.environ,
                processes.TOKEN: self.token,
                "PYTHONUNBUFFERED": "1",
                # Threads that spin while they wait starve everything else: they made two concurrent jobs
                # twenty times slower. Sleeping threads make a single job about a third slower. Set the
                # variable to override this.
                "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
            },
            start_new_session=True,
        )
        os.close(write_end)
        self.me = Process(self.process.pid, processes.started(self.process.pid))
        self._known: set[Process] = set()
        self._early = b""
        self._log: LogFile | None = None
        self._lock = threading.Lock()
        assert self.process.stdout is not None  # noqa: S101  # it was asked for
        # Its output outside the notebook's cells: warnings from libraries, the traceback of a crash.
        self._printing = threading.Thread(
            target=self._keep_prints, args=(self.process.stdout,), name="workbench-log", daemon=True
        )
        self._printing.start()

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self.process.poll() is None

    def give(self, todo: Mapping[str, Any]) -> None:
        """Give it its work. If it has died, its exit code tells."""
        with self._lock:
            self._log = LogFile(Path(todo["log"]))
            if self._early:
                self._log.write(self._early.decode(errors="replace"))
                self._early = b""
        assert self.process.stdin is not None  # noqa: S101  # it was asked for
        with contextlib.suppress(BrokenPipeError), self.process.stdin as pipe:
            pipe.write(json.dumps(todo).encode() + b"\n")

    def reports(self) -> list[dict[str, Any]]:
        """Return its reports since the last call."""
        while True:
            try:
                chunk = self._reports.read(65536)
            except (BlockingIOError, ValueError):
                break
            if not chunk:
                break
            self._unread += chunk
        *lines, self._unread = self._unread.split(b"\n")
        return [json.loads(line) for line in lines if line]

    def interrupt(self) -> None:
        """Request it to stop at the current cell, and record its current processes."""
        self._known.update(processes.family(self.me, self.token))
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)

    def end(self) -> list[Process]:
        """Kill it and all its descendants; return those that could not be killed."""
        left = processes.kill_family(self.me, self.token, known=self._known)
        if self.me not in left:  # a process blocked on a dead disk dies when the disk responds
            self.process.wait()
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        self._printing.join(timeout=10.0)  # it ends with the last process that holds the pipe
        processes.remove_runtime(self.token)
        with self._lock:
            if self._log is not None:
                self._log.close()
        return left

    def close(self) -> None:
        """Close the pipe of its reports, which are no longer read."""
        self._reports.close()

    def _keep_prints(self, pipe: IO[bytes]) -> None:
        with pipe:
            while chunk := os.read(pipe.fileno(), 65536):
                with self._lock:
                    if self._log is not None:
                        self._log.write(chunk.decode(errors="replace"))
                    else:
                        self._early = (self._early + chunk)[-_EARLY_BYTES:]


class Seldom:
    """Limits how often something happens.

    Parameters
    ----------
    seconds : float
        Minimum interval.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at = float("-inf")

    def due(self) -> bool:
        """Return whether the interval has passed; if so, start the next one now."""
        now = time.monotonic()
        if now - self._at < self._seconds:
            return False
        self._at = now
        return True
