"""Identify processes, find their descendants, and kill them.

Process ids are reused, so a process is identified by its id and its start time, a string that only this
module interprets.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

#: Environment variable set in every process of one attempt at a job, including grandchildren.
TOKEN = "WORKBENCH_JOB_TOKEN"  # noqa: S105  # a mark, not a secret


#: Environment variable for tests: ``name`` or ``name@file``; see :func:`crash_point`.
CRASH_AT = "WORKBENCH_CRASH_AT"


#: The PID namespace of a Linux host, outside any container.
_FIRST_NUMBERING = "4026531836"


#: Environment variable that counts worker deaths.
DEATHS = "WORKBENCH_WORKER_DEATHS"


class Process(NamedTuple):
    """One process of this host."""

    pid: int
    started: str


#: What stands for a boot that the system does not name.
_NO_BOOT = "-"


def host() -> str:
    """Return a name for this host and boot: no process survives a reboot.

    Containers on one machine may share its name but have their own PID namespaces, so a container's
    namespace is part of the name: ``name/boot`` or ``name/boot/namespace``.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        boot = _NO_BOOT
    own = numbering()
    return f"{socket.gethostname()}/{boot}{own and f'/{own}'}"


def numbering() -> str:
    """Return the PID namespace of this process; empty for that of the machine itself."""
    try:
        own = Path("/proc/self/ns/pid").readlink().name.partition("[")[2].rstrip("]")
        in_view = Path("/proc/self").readlink().name == str(os.getpid())
    except OSError:
        return ""
    if own == _FIRST_NUMBERING:
        return ""
    # A /proc of another namespace shows other processes under these numbers: nobody can check this one.
    return own if in_view else f"{own}.{os.getpid()}"


def why_gone(where: str, pid: int | None, when: str, *, one_machine: bool) -> str:
    """Return why a process is certainly gone; empty if it runs, or if that cannot be known from here.

    Parameters
    ----------
    where : str
        The :func:`host` of the process.
    pid, when : int, str
        The process, as :func:`this_process` returned it there.
    one_machine : bool
        Whether a host with the same name is the same machine. An SQLite file is used from one machine;
        clients of a database server may share a name.
    """
    here = host()
    if where == here:
        return "" if alive(pid, when) else "is gone"
    name, boot, inner = [*where.split("/"), "", ""][:3]
    my_name, my_boot, my_inner = [*here.split("/"), "", ""][:3]
    if name != my_name or _NO_BOOT in (boot, my_boot):
        return ""
    if boot != my_boot:
        return "ended when its host was restarted" if one_machine else ""
    # The same machine, another PID namespace. From outside all containers, its processes can be seen.
    if inner and not my_inner and (visible := _inner_processes()) is not None:
        lives = any((space, pid, when) in visible for space in (inner.partition(".")[0], ""))
        return "" if lives else "is gone from its container"
    return ""


def _inner_processes() -> set[tuple[str, int, str]] | None:
    """Return the processes in the PID namespaces below this one: namespace, id in it, and start time.

    The namespace is empty if it is hidden from this user. None if processes may be hidden, too.
    """
    found = set()
    try:
        Path("/proc/1/stat").read_bytes()  # with the mount option hidepid, only root may
        for entry in os.listdir("/proc"):  # noqa: PTH208  # a few hundred entries
            if not entry.isdigit():
                continue
            try:
                status = Path(f"/proc/{entry}/status").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            ids = re.search(r"^NSpid:(.*)$", status, re.MULTILINE)
            if ids is None:
                return None
            if len(numbers := ids[1].split()) > 1:
                try:
                    space = Path(f"/proc/{entry}/ns/pid").readlink().name.partition("[")[2].rstrip("]")
                except OSError:
                    space = ""
                found.add((space, int(numbers[-1]), started(int(entry))))
    except OSError:
        return None
    return found


def this_process() -> Process:
    """Return the current process."""
    pid = os.getpid()
    try:
        # Not by number: that may be another process's if /proc belongs to another PID namespace.
        seen = int(Path("/proc/self").readlink().name)
    except (OSError, ValueError):
        seen = pid
    return Process(pid, started(seen))


def started(pid: int) -> str:
    """Return when a process started, as text to compare; empty if it does not exist or is a zombie."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return ""
        # The name may contain spaces and brackets; the fields after its last bracket are numbered from 3.
        fields = stat[stat.rindex(")") + 2 :].split()
        return "" if fields[0] in "ZX" else fields[19]
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


def command_line(pid: int) -> list[str]:
    """Return the command line of a process; empty if it does not exist or may not be read."""
    import psutil

    try:
        return psutil.Process(pid).cmdline() if pid > 0 else []
    except psutil.Error:
        return []


def alive(pid: int | None, when: str) -> bool:
    """Return whether the process with this id and start time is still running."""
    return pid is not None and bool(when) and started(pid) == when


def family(root: Process | None, token: str = "") -> list[Process]:
    """Return a process, its descendants, and all processes with a token; never the caller.

    The token finds orphaned descendants.
    """
    members: dict[int, Process] = {}
    if root is not None and alive(*root):
        import psutil

        members[root.pid] = root
        try:
            children = psutil.Process(root.pid).children(recursive=True)
        except psutil.Error:
            children = []
        members.update({child.pid: Process(child.pid, started(child.pid)) for child in children})
    if token:
        for pid in carriers(token):
            members.setdefault(pid, Process(pid, started(pid)))
    members.pop(os.getpid(), None)
    return [process for process in members.values() if process.started]


def carriers(token: str) -> list[int]:
    """Return the ids of the processes with a token in their environment."""
    if sys.platform == "linux":
        mark = f"{TOKEN}={token}".encode()
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [pid for pid in numbers if mark in _environment(pid).split(b"\0")]
    import psutil

    pids = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(TOKEN) == token:
                pids.append(process.pid)
        except (psutil.Error, OSError):
            continue  # owned by another user, or gone
    return pids


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""  # owned by another user, or gone


def kill(processes: Iterable[Process]) -> None:
    """Send SIGKILL to each process that still exists."""
    for process in processes:
        if alive(*process):
            try:
                os.kill(process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def kill_family(
    root: Process | None, token: str = "", *, seconds: float = 5.0, known: Iterable[Process] = ()
) -> list[Process]:
    """Kill a process and its descendants; return those still alive after ``seconds``.

    Searches again after each round, since a process may start between the search and the kill. ``known``
    are descendants found earlier: one that was orphaned and cleared its environment cannot be found
    otherwise.
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
    """Kill each process with a token as soon as it is found.

    If processes keep forking, a complete list of them is outdated at once. One that only forks and exits
    every few milliseconds may still escape.
    """
    mark = f"{TOKEN}={token}".encode()
    for entry in os.listdir("/proc"):  # noqa: PTH208  # speed matters: this races with forks
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        pid = int(entry)
        if mark in _environment(pid).split(b"\0") and started(pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue


def runtime_folder(token: str) -> Path:
    """Return the private folder of an attempt's sockets; a socket path has at most 107 bytes."""
    return Path(tempfile.gettempdir(), f"wb-{token}")


def remove_runtime(token: str) -> None:
    """Remove the :func:`runtime_folder` of an attempt."""
    if token.isalnum():
        shutil.rmtree(runtime_folder(token), ignore_errors=True)


def crash_point(name: str) -> None:
    """Kill this process here if ``$WORKBENCH_CRASH_AT`` names this point, for tests.

    With ``name@file`` only the first process to get here is killed: it creates the file. Several points are
    separated by semicolons.
    """
    for one in os.environ.get(CRASH_AT, "").split(";"):
        target, _, once = one.partition("@")
        if target != name:
            continue
        if once:
            try:
                os.close(os.open(once, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return
        os.kill(os.getpid(), signal.SIGKILL)


def dies_with_parent(command: list[str]) -> list[str]:
    """Return a command whose process is killed when its parent dies, if the system supports it.

    It works even if the process is stuck in C code that holds the GIL.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "KILL", *command] if setpriv else command
