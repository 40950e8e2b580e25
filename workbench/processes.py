"""Which process is which, what came from it, and how to end all of it.

A process id alone names nobody: ids are used again. A process is known by its id together with the moment
it started, as text that only this module reads.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

#: Environment variable that every process of one attempt at a job carries, the grandchildren included.
TOKEN = "WORKBENCH_JOB_TOKEN"  # noqa: S105  # a mark, not a secret


class Process(NamedTuple):
    """One process of this host."""

    pid: int
    started: str


def host() -> str:
    """Return a name for this host and this start of it: after a reboot no process of before is alive."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        boot = "-"
    return f"{socket.gethostname()}/{boot}"


def this_process() -> Process:
    """Return the process that asks."""
    return Process(os.getpid(), started(os.getpid()))


def started(pid: int) -> str:
    """Return when a process started, as text to compare; empty if there is no such process (or a zombie)."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return ""
        # The name may hold spaces and brackets; what follows its last bracket is numbered from 3.
        fields = stat[stat.rindex(")") + 2 :].split()
        return "" if fields[0] in "ZX" else fields[19]
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


def alive(pid: int | None, when: str) -> bool:
    """Say whether the process that had this id and started then is still running."""
    return pid is not None and bool(when) and started(pid) == when


def family(root: Process | None, token: str = "") -> list[Process]:
    """Return a process, its descendants, and every process that carries a token; never the caller.

    The token finds those whose parents are gone already.
    """
    import psutil

    found: dict[int, Process] = {}
    if root is not None and alive(*root):
        found[root.pid] = root
        try:
            children = psutil.Process(root.pid).children(recursive=True)
        except psutil.Error:
            children = []
        found.update({child.pid: Process(child.pid, started(child.pid)) for child in children})
    if token:
        for process in psutil.process_iter():
            if process.pid not in found and _carries(process, token):
                found[process.pid] = Process(process.pid, started(process.pid))
    found.pop(os.getpid(), None)
    return [process for process in found.values() if process.started]


def _carries(process: Any, token: str) -> bool:
    import psutil

    try:
        return bool(process.environ().get(TOKEN) == token)
    except (psutil.Error, OSError):
        return False  # another user's, or gone


def kill(processes: Iterable[Process]) -> None:
    """Send SIGKILL to each process that is still the one meant."""
    for process in processes:
        if alive(*process):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def kill_family(root: Process | None, token: str = "", *, seconds: float = 5.0) -> list[Process]:
    """Kill a process and all that came from it; return those still alive after ``seconds``.

    Looks again after each round, since a process may be born between the look and the kill.
    """
    deadline = time.monotonic() + seconds
    known: set[Process] = set()
    while True:
        known.update(family(root, token))
        left = [process for process in known if alive(*process)]
        if not left or time.monotonic() > deadline:
            return left
        kill(left)
        time.sleep(0.02)


def dies_with_parent(command: list[str]) -> list[str]:
    """Return a command that the system kills when its parent dies, where the system can do that.

    Even a process stuck in C code that holds Python's lock: nothing in it has to run.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command
