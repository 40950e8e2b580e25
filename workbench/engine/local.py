"""Tasks in processes of this machine."""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Callable, Iterator

from workbench.engine.child import Child, Stopped
from workbench.engine.engine import Engine
from workbench.engine.storage import cores
from workbench.engine.task import Outcome, Task, check_task
from workbench.errors import BadInput

#: Maximum number of processes.
MOST_WORKERS = 256


class LocalProcesses(Engine):
    """A bounded number of processes, each watched by a thread; one that dies is replaced.

    Parameters
    ----------
    workers : int
        Number of processes, 1 to :data:`MOST_WORKERS`. They are started for the first tasks, and share the
        processors.

    Raises
    ------
    workbench.BadInput
        The number is out of range.
    """

    def __init__(self, workers: int) -> None:
        if not 1 <= workers <= MOST_WORKERS:
            raise BadInput(f"the number of local workers must be 1 to {MOST_WORKERS}, got {workers}")
        self._count = workers
        self._tasks: queue.SimpleQueue[tuple[int, str, bytes] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self._round = 0
        self._open = 0
        self._closed = False
        self._threads: list[threading.Thread] = []

    @property
    def workers(self) -> int:
        """The number of processes."""
        return self._count

    def submit(self, task: Task) -> None:
        """Take a task."""
        data = pickled(task)
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._work, daemon=True, name="workbench-engine")
            self._threads.append(thread)
            thread.start()
        self._open += 1
        self._tasks.put((self._round, task.name, data))

    def as_completed(self, seconds: float) -> Iterator[Outcome]:
        """Yield each task as it ends."""
        while self._open:
            try:
                number, outcome = self._ended.get(timeout=seconds)
            except queue.Empty:
                return
            if number == self._round:
                self._open -= 1
                yield outcome

    def cancel(self) -> None:
        """Drop all tasks; processes at work are killed."""
        self._round += 1
        self._open = 0

    def close(self) -> None:
        """Cancel, and end the processes."""
        self.cancel()
        self._closed = True
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _wants(self, number: int) -> Callable[[], bool]:
        return lambda: number == self._round

    def _work(self) -> None:
        child = Child(threads=max(cores() // self._count, 1))
        try:
            while (one := self._tasks.get()) is not None:
                number, name, data = one
                try:
                    if number != self._round:
                        continue
                    outcome = child.perform(name, data, self._wants(number))
                except Stopped:
                    continue
                except OSError as error:  # no process, no pipe or no memory left for another
                    outcome = Outcome(name, "broken", f"a worker could not be started: {error}")
                self._ended.put((number, outcome))
        finally:
            child.end()


def pickled(task: Task) -> bytes:
    """Return a task as bytes.

    Raises
    ------
    workbench.BadInput
        No other process can import its function, or its input cannot be pickled.
    """
    check_task(task)
    try:
        return pickle.dumps(task)
    except Exception as error:  # a class may raise anything here
        raise BadInput(
            f"task {task.name!r}: its input cannot be sent to another process ({error})",
            hint="Give paths, numbers and text instead of open files, models or connections.",
        ) from None
