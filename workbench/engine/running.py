"""Run tasks to the end, through whatever happens to workers, schedulers and disks."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from workbench.engine import storage
from workbench.engine.engine import Engine
from workbench.engine.task import Outcome, Task
from workbench.errors import BadInput, TaskFailed

#: A task is given up when this many of its processes have died, since it may be what kills them.
MOST_DEATHS = 8

#: A task is given up when the disk or the network has failed it this many times.
MOST_BREAKS = 5

#: Tasks that are submitted ahead, per worker and at least: few, so that cancelling is quick.
_AHEAD, _LEAST_AHEAD = 4, 16

#: TasksProgress is reported at least this often, in seconds, also while nothing ends.
_TELL_SECONDS = 0.5


@dataclass
class TasksProgress:
    """How far tasks have come.

    Attributes
    ----------
    tasks, tasks_total : int
        Tasks that are done, and all of them.
    items, items_total : int
        The same in items.
    present : int
        Tasks whose file was there before.
    again : int
        How often a task was started again, because its worker, its disk or its scheduler failed.
    workers : int
        How many tasks the engine can perform at once.
    waiting : str
        What it waits for, in words; empty if for nothing.
    """

    tasks_total: int
    items_total: int
    tasks: int = 0
    items: int = 0
    present: int = 0
    again: int = 0
    workers: int = 0
    waiting: str = ""
    _began: float = field(default_factory=time.monotonic)
    _made: int = 0

    @property
    def per_second(self) -> float | None:
        """Items per second since the start, without those that were there; None until one is done."""
        seconds = time.monotonic() - self._began
        return self._made / seconds if self._made and seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time left at that pace, in seconds; None while unknown."""
        pace = self.per_second
        return None if not pace else (self.items_total - self.items) / pace

    @property
    def words(self) -> str:
        """Tasks, workers and what is waited for; a job adds items, pace and time left."""
        people = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        text = f"{self.tasks:,} of {self.tasks_total:,} parts, {people}"
        return f"{text}; {self.waiting}" if self.waiting else text

    def was_there(self, tasks: int, items: int) -> None:
        """Count tasks that were done before, and are not among those to run."""
        self.tasks += tasks
        self.present += tasks
        self.items += items

    def ended(self, task: Task, *, present: bool) -> None:
        """Count a task as done."""
        self.tasks += 1
        self.items += task.size
        if present:
            self.present += 1
        else:
            self._made += task.size


def run_tasks(
    tasks: Iterable[Task],
    engine: Engine,
    progress: Callable[[TasksProgress], None] | None = None,
    state: TasksProgress | None = None,
) -> TasksProgress:
    """Perform all tasks whose files are missing.

    A task whose worker dies, whose scheduler is lost or whose disk fails is started again, a bounded number
    of times; before that its file is looked for, so that nothing is done twice.

    Parameters
    ----------
    tasks : iterable of Task
        Their names differ. Taken as they are needed, so that few of many are in memory.
    engine : Engine
        Performs them; an error ends all of them.
    progress : callable, optional
        Called with the state at least twice per second; an exception cancels all tasks.
    state : TasksProgress, optional
        Counts the tasks, and has the totals; needed where ``tasks`` is no list.

    Returns
    -------
    TasksProgress
        The state at the end.

    Raises
    ------
    workbench.BadInput
        Two tasks have the same name, a task cannot be sent, or one refused its input.
    workbench.TaskFailed
        A task raised an error, or failed too often; the message has its reason.
    workbench.EngineLost
        The scheduler is gone, and was waited for in vain.
    """
    if state is None:
        tasks = list(tasks)
        state = TasksProgress(len(tasks), sum(task.size for task in tasks))
    tell = progress or (lambda state: None)
    try:
        _Work(tasks, engine, state, tell).finish()
    except BaseException:
        engine.cancel()
        raise
    state.workers, state.waiting = engine.workers, ""
    tell(state)
    return state


class _Work:
    """What is left to do, and what is being done."""

    def __init__(
        self,
        tasks: Iterable[Task],
        engine: Engine,
        state: TasksProgress,
        tell: Callable[[TasksProgress], None],
    ) -> None:
        self._left = iter(tasks)
        self._engine = engine
        self._state = state
        self._tell = tell
        self._again: deque[Task] = deque()
        self._at_work: dict[str, Task] = {}
        self._failures: Counter[tuple[str, str]] = Counter()
        self._folders: set[Path] = set()

    def finish(self) -> None:
        """Do all of it."""
        while self._submit_some() or self._at_work:
            self._look()
            for outcome in self._engine.as_completed(_TELL_SECONDS):
                task = self._at_work.pop(outcome.name)
                if _is_done(task, outcome, self._failures):
                    self._state.ended(task, present=False)
                else:
                    self._state.again += 1
                    self._again.append(task)
                self._look()
                self._submit_some()
        for folder in self._folders:
            storage.clear_parts(folder)

    def _look(self) -> None:
        self._state.workers, self._state.waiting = self._engine.workers, self._engine.waiting
        self._tell(self._state)

    def _submit_some(self) -> bool:
        """Submit as many tasks as the engine has use for; return whether there was any."""
        before = len(self._at_work)
        while len(self._at_work) < max(_AHEAD * self._state.workers, _LEAST_AHEAD):
            task = self._again.popleft() if self._again else self._next()
            if task is None:
                break
            if task.name in self._at_work:
                raise BadInput(f"two tasks have the name {task.name!r}")
            self._engine.submit(task)
            self._at_work[task.name] = task
        return len(self._at_work) > before

    def _next(self) -> Task | None:
        """Return the next task whose file is missing."""
        for task in self._left:
            if (path := storage.local_path(task.output)) is not None:
                self._folders.add(path.parent)
            if not storage.holds(task.output):
                return task
            self._state.ended(task, present=True)
        return None


def _is_done(task: Task, outcome: Outcome, failures: Counter[tuple[str, str]]) -> bool:
    """Return whether a task is done, and False if it is to be started again."""
    if outcome.ending == "refused":
        raise BadInput(outcome.reason, hint=outcome.hint)
    if outcome.ending == "failed":
        raise _failed(task, outcome)
    if storage.holds(task.output):  # one that died or was lost may have come to its end before
        return True
    if outcome.ending in ("done", "present"):
        raise TaskFailed(
            f"{task.name}: a worker has written {task.output}, and it is not there",
            hint="Workers must see the same folder under the same path; or keep results under a URL.",
        )
    if outcome.ending != "lost":
        failures[task.name, outcome.ending] += 1
        most = MOST_DEATHS if outcome.ending == "died" else MOST_BREAKS
        if failures[task.name, outcome.ending] >= most:
            raise _failed(task, outcome, f", {most} times")
    return False


def _failed(task: Task, outcome: Outcome, often: str = "") -> TaskFailed:
    error = TaskFailed(f"{task.name} failed{often}: {outcome.reason}", hint=outcome.hint)
    if outcome.trace:
        error.add_note(f"Where it ran:\n{outcome.trace}")
    return error
