"""Running tasks to the end, on an engine that a test moves by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import workbench as wb
from workbench.engine import running
from workbench.engine.child import perform
from workbench.engine.engine import Engine
from workbench.engine.running import TasksProgress, run_tasks
from workbench.engine.task import Ending, Outcome, Task


class ByHand(Engine):
    """Performs tasks here, or ends them as a test says."""

    def __init__(self, *endings: Ending, performs: bool = True) -> None:
        self.endings = list(endings)
        self.performs = performs
        self.waits = ""
        self.submitted: list[str] = []
        self.most_open = 0
        self.cancelled = 0
        self._open: list[Task] = []

    def submit(self, task: Task) -> None:
        self._open.append(task)
        self.submitted.append(task.name)
        self.most_open = max(self.most_open, len(self._open))

    def as_completed(self, seconds: float) -> Iterator[Outcome]:
        while self._open:
            task = self._open.pop(0)
            ending = self.endings.pop(0) if self.endings else None
            if ending is None:
                yield perform(task) if self.performs else Outcome(task.name, "done")
            else:
                yield Outcome(task.name, ending, "a reason", "a hint")

    def cancel(self) -> None:
        self.cancelled += 1

    def close(self) -> None:
        self.cancel()

    @property
    def workers(self) -> int:
        return 1

    @property
    def waiting(self) -> str:
        return self.waits


def copy(text: str, path: Path) -> None:
    path.write_text(text)


def tasks_in(folder: Path, count: int) -> list[Task]:
    return [Task(f"part {n}", copy, f"text {n}", str(folder / f"{n}")) for n in range(count)]


def test_tasks_that_were_lost_are_performed_again_however_often(tmp_path: Path) -> None:
    engine = ByHand(*["lost"] * 20)
    state = run_tasks(tasks_in(tmp_path, 1), engine)
    assert (state.tasks, state.again) == (1, 20)


def test_a_lost_task_whose_file_is_there_is_not_performed_again(tmp_path: Path) -> None:
    engine = ByHand("lost")
    tasks = tasks_in(tmp_path, 1)

    def finished_meanwhile(state: TasksProgress) -> None:
        if engine.submitted or not state.tasks:
            (tmp_path / "0").write_text("by the lost worker")

    state = run_tasks(tasks, engine, finished_meanwhile)
    assert engine.submitted in ([], ["part 0"])
    assert (state.tasks, state.again) == (1, 0)


@pytest.mark.parametrize(("ending", "most"), [("died", "MOST_DEATHS"), ("broken", "MOST_BREAKS")])
def test_trying_again_has_an_end(tmp_path: Path, ending: Ending, most: str) -> None:
    times = getattr(running, most)
    engine = ByHand(*[ending] * times)
    with pytest.raises(wb.TaskFailed, match=f"part 0 failed, {times} times: a reason\na hint"):
        run_tasks(tasks_in(tmp_path, 1), engine)
    assert engine.cancelled == 1
    assert run_tasks(tasks_in(tmp_path, 1), ByHand(*[ending] * (times - 1))).tasks == 1


def test_a_file_that_only_the_worker_sees_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(wb.TaskFailed, match="it is not there\nWorkers must see the same folder"):
        run_tasks(tasks_in(tmp_path, 1), ByHand(performs=False))


def test_only_some_tasks_are_sent_ahead(tmp_path: Path) -> None:
    engine = ByHand()
    assert run_tasks(tasks_in(tmp_path, 100), engine).tasks == 100
    assert engine.most_open <= 16


def test_an_error_of_the_one_who_watches_cancels_everything(tmp_path: Path) -> None:
    def stop(state: TasksProgress) -> None:
        raise wb.JobCancelled(1, "enough")

    engine = ByHand()
    with pytest.raises(wb.JobCancelled):
        run_tasks(tasks_in(tmp_path, 3), engine, stop)
    assert engine.cancelled == 1


def test_two_tasks_must_not_have_one_name(tmp_path: Path) -> None:
    with pytest.raises(wb.BadInput, match="two tasks have the name 'part 0'"):
        run_tasks([*tasks_in(tmp_path, 1), *tasks_in(tmp_path, 1)], ByHand())


def test_what_killed_workers_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".0.abc.taskpart").write_text("half")
    run_tasks(tasks_in(tmp_path, 1), ByHand())
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_progress_says_what_is_waited_for() -> None:
    state = TasksProgress(4, 400, tasks=1, items=100, workers=1, waiting="waiting for workers")
    assert state.words == "1 of 4 parts, 1 worker; waiting for workers"
    assert state.per_second is None
    assert state.seconds_left is None
    state.was_there(2, 200)
    assert (state.tasks, state.items, state.present) == (3, 300, 2)


def test_tasks_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    taken: list[Task] = []

    def endless() -> Iterator[Task]:
        for task in tasks_in(tmp_path, 40):
            taken.append(task)
            yield task

    engine = ByHand()
    state = TasksProgress(40, 40)

    def look(state: TasksProgress) -> None:
        assert len(taken) <= state.tasks + 17

    assert run_tasks(endless(), engine, look, state) is state
    assert (state.tasks, state.items) == (40, 40)


def test_progress_says_that_workers_are_missing(tmp_path: Path) -> None:
    engine = ByHand()
    engine.waits = "waiting for workers"
    words: list[str] = []
    run_tasks(tasks_in(tmp_path, 1), engine, lambda state: words.append(state.words))
    assert words[0] == "0 of 1 parts, 1 worker; waiting for workers"
    assert words[-1] == "1 of 1 parts, 1 worker"
