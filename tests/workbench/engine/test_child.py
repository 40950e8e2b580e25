"""The process that performs tasks."""

from __future__ import annotations

import importlib
import pickle
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.waiting import until
from workbench.engine.child import Child, Stopped, ending_of, perform
from workbench.engine.task import Task


@pytest.fixture
def work(task_path: None) -> Any:
    return importlib.import_module("engine_tasks")


def task_in(folder: Path, function: Any, number: int = 3) -> Task:
    return Task("part", function, {"folder": str(folder), "number": number}, str(folder / f"{number}"))


def test_a_process_that_was_idle_ends_and_another_takes_its_place(tmp_path: Path, work: Any) -> None:
    child = Child(idle=0.2)
    try:
        assert child.perform("part", pickle.dumps(task_in(tmp_path, work.square))).ending == "done"
        first = child.pid
        assert first
        until(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE, despite=psutil.Error)
        assert child.perform("part", pickle.dumps(task_in(tmp_path, work.square, 4))).ending == "done"
        assert child.pid != first
    finally:
        child.end()
    assert child.pid is None


def test_a_task_that_is_not_wanted_any_more_is_killed(tmp_path: Path, work: Any) -> None:
    child = Child()
    with pytest.raises(Stopped):
        child.perform(
            "part", pickle.dumps(task_in(tmp_path, work.sleep_long)), lambda: not work.noted(tmp_path)
        )
    assert not psutil.pid_exists(int(work.noted(tmp_path)[0].split()[1]))


def test_a_task_that_cannot_be_read_names_the_reason(task_path: None) -> None:
    child = Child()
    try:
        outcome = child.perform("part", b"cno_such_module\nname\n.")
    finally:
        child.end()
    assert (outcome.name, outcome.ending) == ("part", "failed")
    assert "a worker cannot read the task: ModuleNotFoundError" in outcome.reason
    assert "Install the same packages" in outcome.hint


def test_the_last_words_of_a_process_are_part_of_the_reason(tmp_path: Path, work: Any) -> None:
    child = Child()
    outcome = child.perform("part", pickle.dumps(task_in(tmp_path, work.complain_and_exit)))
    assert (outcome.ending, outcome.reason) == ("died", "its process ended (exit code 7): out of luck")


def test_a_full_disk_is_no_reason_to_try_again(tmp_path: Path, work: Any) -> None:
    assert perform(task_in(tmp_path, work.fill_the_disk)).ending == "failed"
    assert perform(task_in(tmp_path, work.break_once)).ending == "broken"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "exit code 3"),
        (None, "exit code unknown"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (-signal.SIGKILL, "SIGKILL, perhaps for want of memory"),
        (-99, "signal 99"),
    ],
)
def test_endings_are_words(code: int | None, words: str) -> None:
    assert ending_of(code) == words
