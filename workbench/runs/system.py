"""What the machine does while a run is logged: processor, memory, disk, network and GPUs.

One thread per workspace samples every :data:`SAMPLE_SECONDS` and logs the values as metrics under
``system/``, by whole seconds since the run began. They are apart from what the training logs: no automatic
step, summary, outcome, best checkpoint or table of a comparison knows them. They are read by ``run.system``
and ``run.metric_points("system/cpu")``, and a chart of the compare panel can be made of them.

====================================  ======================================================
system/cpu, system/process.cpu        percent of all cores; of this process alone, of one core
system/memory                         percent of the machine's memory
system/process.memory                 GiB of this process
system/disk.read, system/disk.write   MiB per second, of the machine
system/network.received, .sent        MiB per second, of the machine
system/gpu.0, system/gpu.0.memory     percent of the GPU's time and memory, for each GPU
system/gpu.0.power                    W
====================================  ======================================================

GPUs need the package ``nvidia-ml-py`` (the extra ``gpu``) and NVIDIA's driver; without either there are none.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from workbench.errors import WorkbenchError
from workbench.store.outcome import SYSTEM

#: Seconds between two samples.
SAMPLE_SECONDS = 10.0

#: Environment variable that turns samples off for runs that do not ask for them: ``0``.
SWITCH = "WORKBENCH_SYSTEM_METRICS"

_MIB, _GIB = 2**20, 2**30

#: Counters of the machine, and the metrics of their growth per second.
_RATES = {
    "disk": ("disk_io_counters", {"read": "read_bytes", "write": "write_bytes"}),
    "network": ("net_io_counters", {"received": "bytes_recv", "sent": "bytes_sent"}),
}


class Queue(Protocol):
    """Where samples are put: the writer of a run's points."""

    def put(self, item: Any, points: int) -> None:
        """Queue logged values; see :class:`workbench.store.writer.Writer`."""


def switched_on(system: bool | None) -> bool:
    """Return whether a run is sampled, as ``start_run`` was told; None leaves it to the environment."""
    return os.environ.get(SWITCH, "1") != "0" if system is None else bool(system)


class Machine:
    """Reads the state of the machine; the first reading begins the periods of the rates."""

    def __init__(self) -> None:
        import psutil

        self._psutil = psutil
        self._process = psutil.Process()
        self._counters: dict[str, int] = {}
        self._read_at = 0.0
        self._gpus = _gpus()
        self.sample()

    def sample(self) -> dict[str, float]:
        """Return the current values by metric; what this machine does not tell is left out."""
        now = time.monotonic()
        out = {
            "cpu": self._psutil.cpu_percent(None),
            "memory": self._psutil.virtual_memory().percent,
            "process.cpu": self._process.cpu_percent(None),
            "process.memory": self._process.memory_info().rss / _GIB,
        }
        for name, (read, fields) in _RATES.items():
            counters: Any = None
            with contextlib.suppress(OSError, RuntimeError):  # a container may hide them
                counters = getattr(self._psutil, read)()
            for field, attribute in fields.items() if counters is not None else ():
                key, count = f"{name}.{field}", int(getattr(counters, attribute))
                if key in self._counters and now > self._read_at:
                    # Counters of a device that is gone go back.
                    grown = max(count - self._counters[key], 0)
                    out[key] = grown / _MIB / (now - self._read_at)
                self._counters[key] = count
        self._read_at = now
        out.update(self._gpus())
        return {f"{SYSTEM}{name}": float(value) for name, value in out.items()}


def _gpus() -> Callable[[], Mapping[str, float]]:
    """Return what reads the GPUs of this machine; it returns nothing where there is none."""
    try:
        import pynvml  # type: ignore[import-untyped,unused-ignore]

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(at) for at in range(pynvml.nvmlDeviceGetCount())]
    except Exception:  # the package, the driver or the GPU is missing: each has an error of its own
        return dict

    def read() -> dict[str, float]:
        return dict(_gpu_values(pynvml, handles))

    return read


def _gpu_values(pynvml: Any, handles: list[Any]) -> Iterator[tuple[str, float]]:
    for at, handle in enumerate(handles):
        with contextlib.suppress(pynvml.NVMLError):  # not every GPU tells everything
            yield f"gpu.{at}", float(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)
        with contextlib.suppress(pynvml.NVMLError):
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            yield f"gpu.{at}.memory", 100.0 * memory.used / memory.total
        with contextlib.suppress(pynvml.NVMLError):
            yield f"gpu.{at}.power", pynvml.nvmlDeviceGetPowerUsage(handle) / 1000.0


class Sampler:
    """Samples the machine for the open runs of a workspace, in one thread.

    Parameters
    ----------
    seconds : float
        Between two samples.
    machine : callable
        Makes what is sampled, in the thread.
    """

    def __init__(self, seconds: float = SAMPLE_SECONDS, machine: Callable[[], Any] = Machine) -> None:
        self._seconds, self._machine = seconds, machine
        self._runs: dict[int, tuple[Queue, float]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._wake = threading.Event()

    def begin(self, run_id: int, queue: Queue, began: float) -> None:
        """Sample for a run from now on.

        Parameters
        ----------
        run_id : int
            The run.
        queue : Queue
            Takes its samples.
        began : float
            When it began, in seconds since 1970.
        """
        with self._lock:
            if self._pid != os.getpid():  # in a forked child: the runs are its parent's
                self._runs.clear()
                self._thread, self._pid, self._wake = None, os.getpid(), threading.Event()
            self._runs[run_id] = queue, began
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="workbench-system", daemon=True)
                self._thread.start()

    def end(self, run_id: int) -> None:
        """Sample no longer for a run that has ended."""
        with self._lock:
            self._runs.pop(run_id, None)
            if not self._runs:
                self._wake.set()  # the thread ends

    def stop(self) -> None:
        """Sample no longer for any run: the workspace is closed."""
        with self._lock:
            self._runs.clear()
            self._wake.set()

    def _run(self) -> None:
        wake = self._wake
        with contextlib.suppress(Exception):  # what cannot be sampled must not disturb a training
            machine = self._machine()
            while True:
                wake.wait(self._seconds)
                wake.clear()
                with self._lock:
                    runs = list(self._runs)
                    if not runs:
                        self._thread = None
                        return
                pairs = list(machine.sample().items())
                for run_id in runs:
                    self._put(run_id, pairs)

    def _put(self, run_id: int, pairs: list[tuple[str, float]]) -> None:
        with self._lock, contextlib.suppress(WorkbenchError):  # the training meets the error as well
            if run_id in self._runs:  # nothing is logged to a run that has ended
                queue, began = self._runs[run_id]
                now = time.time()
                queue.put((run_id, max(int(now - began), 0), now, pairs), len(pairs))
