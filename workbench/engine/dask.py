"""Tasks on a Dask cluster.

A worker of Dask performs each task in a process of its own (:mod:`workbench.engine.child`), so that a task
which is cancelled is killed at once, and one that crashes takes no worker with it. What a task returns to the
scheduler is how it ended, some hundred bytes; its file goes to storage.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from workbench.engine.certificates import Certificates
from workbench.engine.child import Child
from workbench.engine.engine import Engine
from workbench.engine.local import pickled
from workbench.engine.task import Outcome, Task
from workbench.errors import BadInput, EngineLost, MissingExtra

if TYPE_CHECKING:
    from distributed import Client, Future

#: A scheduler that is gone, or not there yet, is waited for this long, in seconds.
PATIENCE = 300.0

#: One try to connect, and one question, take at most this long, in seconds.
_CONNECT_SECONDS, _ASK_SECONDS = 2.0, 3.0

#: Workers are counted at most this often, in seconds.
_COUNT_SECONDS = 1.0

#: The process that performs tasks for a worker ends when none has come for this long, in seconds.
IDLE_SECONDS = 20.0


class DaskEngine(Engine):
    """A Dask scheduler and its workers.

    Parameters
    ----------
    address : str
        ``tcp://host:port`` or ``tls://host:port``.
    certificates : Certificates, optional
        For TLS.
    patience : float
        How long a scheduler that is gone is waited for, in seconds. Workers are waited for without limit:
        a queue may hold them for hours; progress says so.

    Raises
    ------
    workbench.MissingExtra
        dask.distributed is not installed.
    """

    def __init__(
        self, address: str, certificates: Certificates | None = None, *, patience: float = PATIENCE
    ) -> None:
        try:
            import distributed  # noqa: F401  # whether it is there
        except ImportError:
            raise MissingExtra("dask.distributed", "dask") from None
        self._address = address
        self._security = None if certificates is None else certificates.security()
        self._patience = patience
        self._client: Client | None = None
        self._borrowed = False
        self._lost_at: float | None = None
        self._prefix = f"workbench-{uuid.uuid4().hex[:12]}"
        self._number = 0
        self._futures: dict[str, tuple[str, Future]] = {}
        self._ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._unsent: list[tuple[str, bytes]] = []
        self._counted: tuple[float, int] = (float("-inf"), 0)
        self._quiet = _Quiet()

    @classmethod
    def of_client(cls, client: Client, *, patience: float = PATIENCE) -> Self:
        """Return the engine of a client, which stays open afterwards.

        Raises
        ------
        workbench.BadInput
            It is no client of dask.distributed, or an asynchronous one.
        """
        if not hasattr(client, "scheduler") or getattr(client, "asynchronous", True):
            raise BadInput(
                f"an engine is an address or a dask.distributed.Client, got {type(client).__name__}",
                hint="Of an asynchronous client, give the scheduler's address.",
            )
        engine = cls(client.scheduler.address, patience=patience)
        engine._client, engine._borrowed = client, True
        return engine

    def submit(self, task: Task) -> None:
        """Send a task, or keep it until the scheduler is there."""
        self._unsent.append((task.name, pickled(task)))
        if self._lost_at is None:
            self._send()

    def as_completed(self, seconds: float) -> Iterator[Outcome]:
        """Yield each task as it ends; those whose scheduler is gone end as lost, and it is waited for."""
        deadline = time.monotonic() + seconds
        while self._futures or self._unsent:
            if not self._send():
                lost = [name for name, _ in self._futures.values()]
                self._futures.clear()
                for name in lost:
                    yield Outcome(name, "lost", "the scheduler is gone")
                self._wait_for_scheduler(seconds)
                return
            try:
                key = self._ended.get(timeout=min(max(deadline - time.monotonic(), 0.01), 0.2))
            except queue.Empty:
                if time.monotonic() >= deadline:
                    return
                continue
            if key not in self._futures:  # of an earlier round
                continue
            name, future = self._futures.pop(key)
            yield _outcome_of(name, future)
            deadline = time.monotonic() + seconds

    def cancel(self) -> None:
        """Drop all tasks; workers kill those that they perform."""
        futures = [future for _, future in self._futures.values()]
        self._futures.clear()
        self._unsent.clear()
        client = self._client
        if futures and client is not None and client.status == "running":
            with contextlib.suppress(Exception):  # gone: its workers drop the tasks of a client that is, too
                client.sync(client._cancel, futures, force=True, callback_timeout=_ASK_SECONDS)

    def close(self) -> None:
        """Cancel, and disconnect."""
        self.cancel()
        if not self._borrowed:
            self._disconnect()
        self._quiet.end()

    @property
    def workers(self) -> int:
        """The number of threads of all workers; 0 while nobody answers."""
        if self._lost_at is not None:
            return 0
        when, count = self._counted
        if time.monotonic() - when >= _COUNT_SECONDS:
            count = self._count()
            self._counted = (time.monotonic(), count)
        return count

    @property
    def waiting(self) -> str:
        """Whether it waits for the scheduler, or for workers."""
        if self._lost_at is not None:
            return f"waiting for the scheduler, for {time.monotonic() - self._lost_at:.0f} s so far"
        return "" if self.workers else "waiting for workers"

    def _count(self) -> int:
        client = self._connected()
        if client is None:
            return 0
        try:
            threads = client.sync(client.scheduler.ncores, callback_timeout=_ASK_SECONDS)
        except Exception:  # the connection breaks while it is asked: the next look says so
            return 0
        return sum(threads.values())

    def _send(self) -> bool:
        """Send what is unsent; return whether the scheduler is there."""
        client = self._connected()
        if client is None:
            return False
        while self._unsent:
            name, data = self._unsent[0]
            self._number += 1
            key = f"{self._prefix}-{self._number}"
            try:
                future = client.submit(perform_on_worker, name, data, key=key, pure=False)
            except Exception:  # the connection broke just now
                return False
            del self._unsent[0]
            self._futures[key] = (name, future)
            future.add_done_callback(lambda ended, key=key: self._ended.put(key))
        return True

    def _connected(self) -> Client | None:
        """Return a client that is connected; None if the scheduler does not answer now."""
        client = self._client
        if client is not None and client.status == "running":
            self._lost_at = None
            return client
        if self._lost_at is None:
            self._lost_at = time.monotonic()
            if client is not None:  # just lost: report that before waiting
                return None
        if self._borrowed:
            return None
        self._disconnect()
        self._quiet.begin()
        self._client = _connect(self._address, self._security)
        if self._client is not None:
            self._lost_at = None
        return self._client

    def _wait_for_scheduler(self, seconds: float) -> None:
        """Wait a little; a caller that is to show progress comes back for more."""
        client = self._client
        if self._borrowed and client is not None and client.status == "closed":
            raise EngineLost("the Dask client was closed, or has given up its scheduler")
        if self._lost_at is not None and time.monotonic() - self._lost_at > self._patience:
            raise EngineLost(
                f"the scheduler {self._address} has not answered for {self._patience:.0f} s",
                hint="Start it again and run the job again: what was finished is not done again.",
            )
        if self._lost_at is not None:
            time.sleep(min(seconds, 0.2))

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # nobody is there to say goodbye to
                client.close(timeout=_ASK_SECONDS)


class _Quiet:
    """Keeps Dask from printing the tracebacks of connections that break: progress and errors say it."""

    _NAMES = ("distributed.client", "distributed.utils", "distributed.core", "distributed.comm")

    def __init__(self) -> None:
        self._levels: dict[str, int] = {}

    def begin(self) -> None:
        import distributed  # noqa: F401  # which sets its own levels when it is imported

        for name in self._NAMES:
            logger = logging.getLogger(name)
            self._levels.setdefault(name, logger.level)
            logger.setLevel(logging.CRITICAL + 1)

    def end(self) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
        self._levels.clear()


def _connect(address: str, security: Any) -> Client | None:
    from distributed import Client

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # versions that differ a little
            return Client(
                address,
                security=security,
                timeout=_CONNECT_SECONDS,
                set_as_default=False,
                name="workbench",
            )
    except (OSError, TimeoutError):
        return None


def _outcome_of(name: str, future: Future) -> Outcome:
    if future.status == "finished":
        try:
            outcome = future.result(timeout=_ASK_SECONDS)
        except Exception:  # its worker or the scheduler has died since; its file says whether it is done
            return Outcome(name, "lost", "the worker that had performed it is gone")
        if isinstance(outcome, Outcome):
            return outcome
        return Outcome(name, "failed", "a worker of another version has answered")
    if future.status == "error":
        from distributed.scheduler import KilledWorker

        error = future.exception()
        if isinstance(error, KilledWorker):
            return Outcome(name, "died", "the workers that performed it died")
        if isinstance(error, ImportError):
            return Outcome(
                name,
                "failed",
                f"a worker cannot read the task: {error}",
                "Install the same packages on every worker as on this machine.",
            )
        return Outcome(name, "broken", f"{type(error).__name__}: {error}")
    return Outcome(name, "lost", "the scheduler is gone")


# --- on a worker --------------------------------------------------------------------------------------------


class _Children:
    """The processes of one worker, each lent to one of its threads at a time."""

    def __init__(self) -> None:
        self._idle: list[Child] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def child(self) -> Iterator[Child]:
        with self._lock:
            child = self._idle.pop() if self._idle else Child(idle=IDLE_SECONDS)
        try:
            yield child
        except BaseException:
            child.end()
            raise
        with self._lock:
            self._idle.append(child)


_CHILDREN = _Children()


def perform_on_worker(name: str, task: bytes) -> Outcome:
    """Perform a pickled task in a process beside this worker, and kill it when the task is cancelled."""
    from distributed import get_worker
    from distributed.core import Status

    worker = get_worker()
    key = worker.get_current_task()

    def wanted() -> bool:
        # The worker keeps a cancelled task until its thread is done with it. One whose scheduler is gone
        # closes, and would wait for this thread.
        state = worker.state.tasks.get(key)
        alive = worker.status in (Status.running, Status.paused)
        return alive and state is not None and state.state in ("executing", "long-running")

    with _CHILDREN.child() as child:
        return child.perform(name, task, wanted)
