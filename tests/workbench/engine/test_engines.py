"""What every engine does: one suite for all of them."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import workbench as wb
from tests.waiting import until
from workbench.engine.engine import Engine
from workbench.engine.running import TasksProgress, run_tasks
from workbench.engine.task import Task


@pytest.fixture
def work(task_path: None) -> Any:
    return importlib.import_module("engine_tasks")


def tasks_in(folder: Path, function: Any, count: int = 6, **given: Any) -> list[Task]:
    return [
        Task(
            f"part {n}",
            function,
            {"folder": str(folder), "number": n, **given},
            str(folder / f"{n}"),
            size=10,
        )
        for n in range(count)
    ]


def test_tasks_are_performed_and_none_of_them_twice(engine: Engine, tmp_path: Path, work: Any) -> None:
    tasks = tasks_in(tmp_path, work.square)
    seen: list[TasksProgress] = []
    first = run_tasks(tasks[:4], engine, seen.append)
    assert (first.tasks, first.items, first.present, first.again) == (4, 40, 0, 0)
    assert first.per_second
    assert first.seconds_left == 0
    assert "4 of 4 parts, 2 workers" in seen[-1].words
    second = run_tasks(tasks, engine)
    assert (second.tasks, second.present) == (6, 4)
    assert [(tmp_path / f"{n}").read_text() for n in range(6)] == ["0", "1", "4", "9", "16", "25"]
    assert sum(line.startswith("began") for line in work.noted(tmp_path)) == 6
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_task_whose_process_dies_is_performed_again(engine: Engine, tmp_path: Path, work: Any) -> None:
    state = run_tasks(tasks_in(tmp_path, work.die_once, 3), engine)
    assert (state.tasks, state.again) == (3, 3)
    assert (tmp_path / "2").read_text() == "4"


def test_one_that_kills_every_process_is_given_up_with_the_reason(
    engine: Engine, tmp_path: Path, work: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.engine.running.MOST_DEATHS", 2)
    with pytest.raises(wb.TaskFailed, match=r"part 0 failed, 2 times: its process ended \(SIGKILL"):
        run_tasks(tasks_in(tmp_path, work.die, 1), engine)
    assert work.noted(tmp_path) == ["died", "died"]


def test_a_disk_that_failed_once_is_tried_again(engine: Engine, tmp_path: Path, work: Any) -> None:
    state = run_tasks(tasks_in(tmp_path, work.break_once, 1), engine)
    assert (state.tasks, state.again) == (1, 1)


def test_an_error_in_a_task_stops_everything_and_is_shown(engine: Engine, tmp_path: Path, work: Any) -> None:
    with pytest.raises(wb.TaskFailed, match="part 0 failed: ZeroDivisionError: a slip") as failed:
        run_tasks(tasks_in(tmp_path, work.slip, 1), engine)
    assert "engine_tasks.py" in failed.value.__notes__[0]
    assert work.noted(tmp_path) == ["slipped"]


def test_what_a_task_refuses_is_refused_in_its_words(engine: Engine, tmp_path: Path, work: Any) -> None:
    with pytest.raises(wb.BadInput, match="0 is no number to square\nTry another"):
        run_tasks(tasks_in(tmp_path, work.refuse, 1), engine)


def test_a_task_must_write_its_file(engine: Engine, tmp_path: Path, work: Any) -> None:
    with pytest.raises(wb.BadInput, match="the task wrote no file"):
        run_tasks(tasks_in(tmp_path, work.write_nothing, 1), engine)


def test_cancelling_ends_work_at_once_and_the_engine_goes_on(
    engine: Engine, tmp_path: Path, work: Any
) -> None:
    class Enough(Exception):
        pass

    def stop_when_both_work(state: TasksProgress) -> None:
        if len(work.noted(tmp_path)) >= 2:
            raise Enough

    with pytest.raises(Enough):
        run_tasks(tasks_in(tmp_path, work.sleep_long), engine, stop_when_both_work)
    pids = [int(line.split()[1]) for line in work.noted(tmp_path)]
    until(lambda: not any(map(psutil.pid_exists, pids)))  # without that they would sleep ten minutes
    began = len(work.noted(tmp_path))
    run_tasks(tasks_in(tmp_path, work.square, 2), engine)
    assert not any(
        line.split()[0] == "began" and len(line.split()) == 2 for line in work.noted(tmp_path)[began:]
    )


def test_a_function_that_no_worker_can_import_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(wb.BadInput, match="cannot be imported elsewhere\nUse a function at the top"):
        run_tasks([Task("x", lambda given, path: None, 0, str(tmp_path / "x"))], engine)


def test_input_that_cannot_be_sent_is_refused(engine: Engine, tmp_path: Path, work: Any) -> None:
    with pytest.raises(wb.BadInput, match="its input cannot be sent to another process"):
        run_tasks(
            [Task("x", work.square, time.sleep.__class__ and (n for n in ()), str(tmp_path / "x"))], engine
        )
