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
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: Environment variable that every process of one attempt at a job carries, the grandchildren included.
TOKEN = "WORKBENCH_JOB_TOKEN"  # noqa: S105  # a mark, not a secret


#: Environment variable for tests: ``name`` or ``name@file``; see :func:`crash_point`.
CRASH_AT = "WORKBENCH_CRASH_AT"


#: The process numbering of a Linux machine itself, outside of every container.
_FIRST_NUMBERING = "4026531836"


#: Environment variable that counts those deaths.
DEATHS = "WORKBENCH_WORKER_DEATHS"


class Process(NamedTuple):
    """One process of this host."""

    pid: int
    started: str


def host() -> str:
    """Return a name for this host and this start of it: after a reboot no process of before is alive.

    Containers of one machine may share its name and number their processes each for itself: such a numbering
    of one's own is part of the name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        boot = "-"
    try:
        numbering = Path("/proc/self/ns/pid").readlink().name.partition("[")[2].rstrip("]")
    except OSError:
        numbering = _FIRST_NUMBERING
    own = "" if numbering == _FIRST_NUMBERING else f"/{numbering}"
    return f"{socket.gethostname()}/{boot}{own}"


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
    found: dict[int, Process] = {}
    if root is not None and alive(*root):
        import psutil

        found[root.pid] = root
        try:
            children = psutil.Process(root.pid).children(recursive=True)
        except psutil.Error:
            children = []
        found.update({child.pid: Process(child.pid, started(child.pid)) for child in children})
    if token:
        for pid in carriers(token):
            found.setdefault(pid, Process(pid, started(pid)))
    found.pop(os.getpid(), None)
    return [process for process in found.values() if process.started]


def carriers(token: str) -> list[int]:
    """Return the ids of the processes whose environment carries a token."""
    if sys.platform == "linux":
        mark = f"{TOKEN}={token}".encode()
        pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [pid for pid in pids if mark in _environment(pid).split(b"\0")]
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token:
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue  # another user's, or gone
    return found


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""  # another user's, or gone


def kill(processes: Iterable[Process]) -> None:
    """Send SIGKILL to each process that is still the one meant."""
    for process in processes:
        if alive(*process):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def kill_family(
    root: Process | None, token: str = "", *, seconds: float = 5.0, known: Iterable[Process] = ()
) -> list[Process]:
    """Kill a process and all that came from it; return those still alive after ``seconds``.

    Looks again after each round, since a process may be born between the look and the kill. ``known`` are
    descendants that were seen earlier: one that has left its parents and cleared its environment is found
    by nothing else.
    """
    deadline = time.monotonic() + seconds
    known = set(known)
    while True:
        known.update(family(root, token))
        left = [process for process in known if alive(*process)]
        if not left or time.monotonic() > deadline:
            return left
        kill(left)
        if token and sys.platform == "linux":
            _kill_on_sight(token)
        time.sleep(0.005)


def _kill_on_sight(token: str) -> None:
    """Kill each process that carries a token in the moment it is seen.

    Of processes that breed, some are gone and others there by the time a list of them is complete. One that
    does nothing but fork and exit every few milliseconds may still slip through.
    """
    mark = f"{TOKEN}={token}".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208  # this is a race
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        pid = int(entry)
        if mark in _environment(pid).split(b"\0") and started(pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def runtime_folder(token: str) -> Path:
    """Return the private folder of an attempt's sockets; a socket's path may have 107 bytes only."""
    return Path(tempfile.gettempdir(), f"wb-{token}")


def remove_runtime(token: str) -> None:
    """Remove what an attempt left in :func:`runtime_folder`."""
    if token.isalnum():
        shutil.rmtree(runtime_folder(token), ignore_errors=True)


def crash_point(name: str) -> None:
    """Die here, as if killed, where ``$WORKBENCH_CRASH_AT`` says so.

    With ``name@file`` only the first process that comes by dies: it makes the file.
    """
    wanted, _, once = os.environ.get(CRASH_AT, "").partition("@")
    if wanted != name:
        return
    if once:
        try:
            os.close(os.open(once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    os.kill(os.getpid(), signal.SIGKILL)


def dies_with_parent(command: list[str]) -> list[str]:
    """Return a command that the system kills when its parent dies, where the system can do that.

    Even a process stuck in C code that holds Python's lock: nothing in it has to run.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command
