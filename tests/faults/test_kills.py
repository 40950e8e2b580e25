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
from tests.faults.stack import KINDS, kill_at_random, stack, until

#: Where a process of the stack dies: the worker, the runner, the kernel.
POINTS = (
    "worker-claimed",
    "worker-gave",
    "worker-collects",
    "worker-ends",
    "worker-ended",
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


@pytest.mark.parametrize("point", POINTS)
def test_a_crash_at_a_named_point(point: str, tmp_path: Path, report: Report) -> None:
    with stack(tmp_path, report, crash_at=point) as broken:
        job = broken.submit(steps=5)
        until(lambda: (tmp_path / "crashed").exists(), 30, f"a process reaches {point}")
        broken.settle()
        if point.startswith("worker"):
            # The worker was to blame, not the job: it is done all the same.
            assert (job.refresh().status, job.attempt) == ("succeeded", 1 if point == "worker-ended" else 2)
        else:
            # What kills its own process is not tried again.
            assert (job.refresh().status, job.attempt) == ("failed", 1)
            assert job.error is not None
            assert job.error["type"] in ("RunnerDied", "DeadKernelError")
        if job.status == "succeeded":
            assert job.result is not None
        for run in broken.home.runs():
            assert run.status != "running"
        broken.stop_workers()
        assert broken.survivors() == []
        report.kills[f"at {point}"] += 1
        report.ends[f"{job.status}, attempt {job.attempt}"] += 1


def test_kills_at_random_moments(tmp_path: Path, long_form: bool, report: Report) -> None:
    dice = random.Random(time.time_ns() if long_form else 7)
    with stack(tmp_path, report) as broken:
        kill_at_random(broken, LONG if long_form else SHORT, dice)
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
