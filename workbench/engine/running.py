"""Run tasks to the end, through whatever happens to workers, schedulers and disks."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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

    def ended(self, task: Task, *, present: bool) -> None:
        """Count a task as done."""
        self.tasks += 1
        self.items += task.size
        if present:
            self.present += 1
        else:
            self._made += task.size


def run_tasks(
    tasks: Sequence[Task], engine: Engine, progress: Callable[[TasksProgress], None] | None = None
) -> TasksProgress:
    """Perform all tasks whose files are missing.

    A task whose worker dies, whose scheduler is lost or whose disk fails is started again, a bounded number
    of times; before that its file is looked for, so that nothing is done twice.

    Parameters
    ----------
    tasks : sequence of Task
        Their names and outputs differ.
    engine : Engine
        Performs them; whatever ends this call cancels them.
    progress : callable, optional
        Called with the same :class:`TasksProgress` at least twice per second; an exception cancels all tasks.

    Returns
    -------
    TasksProgress
        At its end.

    Raises
    ------
    workbench.BadInput
        Two tasks have the same name or output, a task cannot be sent, or one refused its input.
    workbench.TaskFailed
        A task raised an error, or failed too often; the message has its reason.
    workbench.EngineLost
        The scheduler is gone, and was waited for in vain.
    """
    by_name = {task.name: task for task in tasks}
    if len(by_name) < len(tasks) or len({task.output for task in tasks}) < len(tasks):
        raise BadInput("two tasks have the same name or the same output")
    state = TasksProgress(len(tasks), sum(task.size for task in tasks))
    tell = progress or (lambda state: None)
    missing: deque[Task] = deque()
    for task in tasks:
        if storage.holds(task.output):
            state.ended(task, present=True)
        else:
            missing.append(task)
    failures: Counter[tuple[str, str]] = Counter()
    at_work = 0
    try:
        while missing or at_work:
            state.workers, state.waiting = engine.workers, engine.waiting
            tell(state)
            while missing and at_work < max(_AHEAD * state.workers, _LEAST_AHEAD):
                engine.submit(missing.popleft())
                at_work += 1
            for outcome in engine.as_completed(_TELL_SECONDS):
                at_work -= 1
                task = by_name[outcome.name]
                if _is_done(task, outcome, failures):
                    state.ended(task, present=False)
                else:
                    state.again += 1
                    missing.append(task)
                if not at_work or len(missing) > at_work:
                    break
                state.workers, state.waiting = engine.workers, engine.waiting
                tell(state)
    except BaseException:
        engine.cancel()
        raise
    for folder in {path.parent for task in tasks if (path := storage.local_path(task.output)) is not None}:
        storage.clear_parts(folder)
    state.waiting = ""
    tell(state)
    return state


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
