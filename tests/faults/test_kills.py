"""SIGKILL of runner, kernel, worker and all of them, at named points and at random moments.

After each the jobs have to end by themselves, or because somebody looks; nothing may run on, be lost, or be
told and later untold. The short form is part of every test run; ``pytest tests/faults --long`` is longer.
"""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.report import Report
from tests.faults.stack import KINDS, Stack, kill_at_random, stack, until

#: Where the worker dies: the job was not to blame, and is done all the same.
WORKER_POINTS = ("worker-claimed", "worker-gave", "worker-collects", "worker-ends", "worker-ended")

#: Where the runner dies, or the kernel: what kills its own process is not tried again.
JOB_POINTS = (
    "runner-began",
    "kernel-ready",
    "notebook-written",
    "runner-done",
    "scope-entered",
    "result-before",
    "result-after",
)

#: Random kills with one worker on SQLite, in the short form one of each kind; and with two on PostgreSQL.
SHORT, LONG, LONG_ON_POSTGRESQL = len(KINDS), 300, 100


def crashed(folder: Path) -> set[str]:
    """Return the points at which a process has died."""
    return {path.name for path in (folder / "crashed").iterdir()}


def nothing_is_left(broken: Stack) -> None:
    for job in broken.handles.values():
        if job.status == "succeeded":
            assert job.result is not None
    for run in broken.home.runs():
        assert run.status != "running"
    broken.stop_workers()
    assert broken.survivors() == []


@pytest.mark.parametrize("point", WORKER_POINTS)
def test_a_worker_crashes_at_a_named_point(point: str, tmp_path: Path, report: Report) -> None:
    with stack(tmp_path, report, crash_at=[point]) as broken:
        job = broken.submit(steps=5)
        until(lambda: crashed(tmp_path), f"a process reaches {point}")
        broken.settle()
        assert (job.refresh().status, job.attempt) == ("succeeded", 1 if point == "worker-ended" else 2)
        nothing_is_left(broken)
        report.kills[f"at {point}"] += 1
        report.ends[f"{job.status}, attempt {job.attempt}"] += 1


def test_a_job_crashes_at_each_named_point(tmp_path: Path, report: Report) -> None:
    """Each job gets past the points at which those before it died, and dies at the next."""
    with stack(tmp_path, report, crash_at=JOB_POINTS) as broken:
        for _ in JOB_POINTS:
            before = crashed(tmp_path)
            job = broken.submit(steps=5)
            broken.settle()
            (point,) = crashed(tmp_path) - before
            assert (job.refresh().status, job.attempt) == ("failed", 1), point
            assert job.error is not None, point
            assert job.error["type"] in ("RunnerDied", "DeadKernelError"), point
            report.kills[f"at {point}"] += 1
            report.ends[f"{job.status}, attempt {job.attempt}"] += 1
        assert crashed(tmp_path) == set(JOB_POINTS)
        last = broken.submit(steps=5)
        broken.settle()
        assert last.refresh().status == "succeeded"
        nothing_is_left(broken)


def test_kills_at_random_moments(tmp_path: Path, long_form: bool, report: Report) -> None:
    dice = random.Random(time.time_ns() if long_form else 7)
    with stack(tmp_path, report) as broken:
        kill_at_random(broken, LONG if long_form else SHORT, dice, ahead=4 if long_form else 2)
        ends = broken.finish()
        print(f"{len(broken.kills)} kills of {len(broken.handles)} jobs: {dict(ends)}")
        assert {kill.kind for kill in broken.kills} == set(KINDS)


@pytest.mark.endurance
def test_kills_with_two_workers_on_postgresql(tmp_path: Path, report: Report, postgres: Any) -> None:
    dice = random.Random(time.time_ns())
    with stack(tmp_path, report, database_url=postgres.new_database()) as broken:
        kill_at_random(broken, LONG_ON_POSTGRESQL, dice, ahead=6, workers=2)
        ends = broken.finish()
        print(f"{len(broken.kills)} kills of {len(broken.handles)} jobs: {dict(ends)}")
        assert {kill.kind for kill in broken.kills} == set(KINDS)
