"""A cluster of our own: a scheduler and workers on this machine, started again when they die."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

from workbench.engine.certificates import Certificates
from workbench.engine.child import ending_of
from workbench.engine.node import NO_SCHEDULER
from workbench.engine.opening import is_loopback
from workbench.errors import BadInput, EngineLost, MissingExtra

#: A node that has died this often, each time within :data:`_EARLY_SECONDS` of its start, is given up.
_MOST_EARLY_DEATHS, _EARLY_SECONDS = 10, 3.0

#: How often nodes are looked at, in seconds, and how long the scheduler has to start.
_LOOK_SECONDS, _START_SECONDS = 0.2, 90.0

#: Time that a node has to end by itself, in seconds.
_ENDING_SECONDS = 3.0


class Cluster:
    """A scheduler and workers, all processes of this machine; they end with this process, whatever ends it.

    Parameters
    ----------
    workers : int
        Number of workers, each with one task at a time; 0: only the scheduler.
    host : str
        Where the scheduler listens; other than loopback only with certificates.
    port : int
        Its port; 0: one that is free.
    certificates : Certificates, optional
        For TLS.
    scheduler : str
        The address of a scheduler that runs already; only workers are started then.

    Raises
    ------
    workbench.BadInput
        Another host without certificates, or certificates that cannot be used.
    workbench.EngineLost
        The scheduler does not start.
    workbench.MissingExtra
        dask.distributed is not installed.
    """

    def __init__(
        self,
        workers: int = 2,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        certificates: Certificates | None = None,
        scheduler: str = "",
    ) -> None:
        try:
            import distributed  # noqa: F401  # whether it is there
        except ImportError:
            raise MissingExtra("dask.distributed", "dask") from None
        if certificates is not None:
            certificates = certificates.absolute()
            certificates.check()
        elif not scheduler and not is_loopback(host):
            raise BadInput(
                f"a scheduler on {host} could be used by anybody on the network to run code here",
                hint="Give it a TLS pair: make one with `workbench cluster certs DIR`, then --certs DIR.",
            )
        self._certificates = certificates
        self._closed = threading.Event()
        self._nodes: list[_Node] = []
        protocol = "tls" if certificates else "tcp"
        #: The address of the scheduler, as Dask writes it.
        self.scheduler = scheduler or f"{protocol}://{host}:{port or _free_port(host)}"
        local = is_loopback(_host_of(self.scheduler))
        try:
            if not scheduler:
                self._start("scheduler")
                self._wait_for_scheduler()
            for number in range(workers):
                self._start("worker", "--name", f"{socket.gethostname()}-{os.getpid()}-{number}", local=local)
        except BaseException:
            self.close()
            raise
        self._keeper = threading.Thread(target=self._keep, daemon=True, name="workbench-cluster")
        self._keeper.start()

    @property
    def address(self) -> str:
        """The address of the engine, for the option ``engine``."""
        if self._certificates is None:
            return self.scheduler.replace("tcp://", "dask://", 1)
        return f"{self.scheduler}?{self._certificates.query}"

    @property
    def pids(self) -> dict[str, list[int]]:
        """The processes that run now, by their role: ``scheduler`` and ``worker``."""
        found: dict[str, list[int]] = {"scheduler": [], "worker": []}
        for node in self._nodes:
            if node.process is not None and node.process.poll() is None:
                found[node.role].append(node.process.pid)
        return found

    @property
    def problem(self) -> str:
        """Why a node was given up; empty if none was."""
        return next((node.given_up for node in self._nodes if node.given_up), "")

    def close(self) -> None:
        """End all nodes."""
        self._closed.set()
        nodes = [node for node in reversed(self._nodes) if node.process is not None]
        for node in nodes:
            node.ask_to_end()
        deadline = time.monotonic() + _ENDING_SECONDS
        for node in nodes:
            node.end(max(deadline - time.monotonic(), 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, role: str, *words: str, local: bool = False) -> None:
        command = [sys.executable, "-m", "workbench.engine.node", role, "--address", self.scheduler]
        command += ["--parent", str(os.getpid()), *words]
        if (pair := self._certificates) is not None:
            command += ["--authority", str(pair.authority), "--certificate", str(pair.certificate)]
            command += ["--key", str(pair.key)]
        command += ["--host", _host_of(self.scheduler)] if local else []
        node = _Node(role, command)
        node.start()
        self._nodes.append(node)

    def _wait_for_scheduler(self) -> None:
        node, deadline = self._nodes[0], time.monotonic() + _START_SECONDS
        host, _, port = self.scheduler.partition("://")[2].rpartition(":")
        while time.monotonic() < deadline:
            if (code := node.code()) is not None:
                raise EngineLost(
                    f"the scheduler ended at once ({ending_of(code)})", hint="Is its port in use?"
                )
            with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), 1):
                return
            time.sleep(0.05)
        raise EngineLost(f"the scheduler does not answer at {self.scheduler}")

    def _keep(self) -> None:
        """Start nodes again that have died."""
        while not self._closed.wait(_LOOK_SECONDS):
            for node in self._nodes:
                if node.code() is not None and not node.given_up and not self._closed.is_set():
                    node.start_again()


class _Node:
    """A process that is started again when it dies."""

    def __init__(self, role: str, command: list[str]) -> None:
        self.role = role
        self.given_up = ""
        self.process: subprocess.Popen[bytes] | None = None
        self._command = command
        self._began = 0.0
        self._early = 0

    def start(self) -> None:
        self._began = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603  # our own program
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the one who started it
        )

    def start_again(self) -> None:
        if self.code() == NO_SCHEDULER:
            self.given_up = "the scheduler is gone, and was waited for in vain"
            return
        self._early = self._early + 1 if time.monotonic() - self._began < _EARLY_SECONDS else 0
        if self._early >= _MOST_EARLY_DEATHS:
            self.given_up = f"a {self.role} ends at once each time ({ending_of(self.code())})"
            return
        if self._early:
            time.sleep(0.2)
        self.start()

    def code(self) -> int | None:
        return None if self.process is None else self.process.poll()

    def ask_to_end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self, seconds: float) -> None:
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _host_of(address: str) -> str:
    return address.partition("://")[2].rpartition(":")[0].strip("[]")


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
