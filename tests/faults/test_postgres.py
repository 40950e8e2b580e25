"""A PostgreSQL server that crashes, cuts connections or stays away, and workers that freeze."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

import workbench as wb
from tests.faults.report import Report
from tests.faults.stack import Stack, stack, until

#: A failure is true where it says that the database was away.
REASONS = ("cannot reach the database", "could not reach the database")


def attempt(broken: Stack, job_id: int) -> int:
    row = broken.home.store.job(job_id)
    return -1 if row is None else row.attempt


def running(broken: Stack, count: int = 1) -> bool:
    return len([row for row in broken.rows("running") if row.progress_done > 0]) >= count


def test_a_server_that_crashes_and_comes_back(tmp_path: Path, report: Report, postgres: Any) -> None:
    with stack(tmp_path, report, database_url=postgres.new_database()) as broken:
        broken.start_worker()
        goes_on = broken.submit(steps=80, pause=0.1)  # outlasts it
        ends = broken.submit(steps=12, pause=0.1)  # its result is due while there is no database
        until(lambda: running(broken, 2), "two jobs run")
        postgres.stop()
        try:
            report.faults["PostgreSQL crash"] += 1
            time.sleep(3)
        finally:
            postgres.start()
        broken.finish()
        assert [job.refresh().status for job in (goes_on, ends)] == ["succeeded"] * 2
        assert [job.attempt for job in (goes_on, ends)] == [1, 1]


def test_a_server_that_crashes_while_a_run_is_logged_loses_no_point(
    tmp_path: Path, report: Report, postgres: Any
) -> None:
    with wb.Workspace(tmp_path / "results", database_url=postgres.new_database()) as home:
        run = home.start_run("e")
        steps = 0

        def log(seconds: float) -> None:
            nonlocal steps
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                run.log({"loss": float(steps)}, step=steps)
                steps += 1
                time.sleep(0.001)

        for _ in range(2):
            log(0.6)
            postgres.stop()
            try:
                report.faults["PostgreSQL crash"] += 1
                log(0.3)
            finally:
                postgres.start()
        log(0.3)
        run.finish()
        assert [step for step, _, _ in run.metric_points("loss")] == list(range(steps))
        assert run.status == "succeeded"
        assert run.summary["loss"]["count"] == steps


@pytest.mark.endurance
def test_connections_are_cut_at_random_moments(tmp_path: Path, report: Report, postgres: Any) -> None:
    dice = random.Random(time.time_ns())
    url = postgres.new_database()
    goal, cut = 400, 0
    cutting = (
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where datname = current_database() and pid <> pg_backend_pid() order by random() limit %s"
    )
    with stack(tmp_path, report, database_url=url) as broken:
        broken.reasons = REASONS
        broken.keep_workers(2)
        deadline = time.monotonic() + 5 * goal
        with psycopg.connect(url, autocommit=True) as knife:
            while cut < goal:
                assert time.monotonic() < deadline, f"only {cut} cuts\n{broken.worker_log()}"
                if broken.try_to_look() or len(broken.handles) - len(broken.told) < 4:
                    broken.submit(steps=dice.choice((5, 20, 40)), max_attempts=4)
                time.sleep(dice.uniform(0.0, 0.3))
                cut += len(knife.execute(cutting, [dice.choice((1, 1, 2, 8))]).fetchall())
        report.faults["connection cut"] += cut
        assert all(worker.poll() is None for worker in broken.workers), broken.worker_log()
        ends = broken.finish()
        print(f"{cut} cuts, {len(broken.handles)} jobs: {dict(ends)}")


def test_a_server_that_is_away_for_longer_than_a_lease(tmp_path: Path, report: Report, postgres: Any) -> None:
    with stack(tmp_path, report, database_url=postgres.new_database()) as broken:
        worker = broken.start_worker(short_lease=True)
        job = broken.submit(steps=40, pause=0.1, max_attempts=3)
        until(lambda: running(broken), "the job runs")
        assert broken.children()
        postgres.stop()
        try:
            report.faults["PostgreSQL away"] += 1
            # Another worker could have taken it: what it started is ended, without anybody to ask.
            until(lambda: not broken.children(), "the job is stopped")
        finally:
            postgres.start()
        broken.settle()
        assert worker.poll() is None, broken.worker_log()
        broken.finish()
        assert (job.refresh().status, job.attempt) == ("succeeded", 2)


@pytest.mark.parametrize(
    "elsewhere",
    [pytest.param(False, marks=pytest.mark.endurance, id="here"), pytest.param(True, id="elsewhere")],
)
def test_a_worker_that_freezes_past_its_lease_changes_nothing(
    tmp_path: Path, report: Report, postgres: Any, request: pytest.FixtureRequest, elsewhere: bool
) -> None:
    inside = tuple(request.getfixturevalue("other_host")) if elsewhere else ()
    with stack(tmp_path, report, database_url=postgres.new_database()) as broken:
        frozen = broken.start_worker(slots=1, short_lease=True, inside=inside)
        job = broken.submit(steps=60, pause=0.1, max_attempts=3)
        until(lambda: running(broken), "the job runs")
        before = broken.rows("running")[0]
        assert before.host.startswith("elsewhere") == elsewhere
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            report.faults["frozen worker"] += 1
            broken.start_worker(slots=1, short_lease=True)
            until(lambda: attempt(broken, job.id) == 2 and running(broken), "another worker has it")
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        broken.settle()
        now = broken.home.store.job(job.id)
        assert now is not None
        assert (now.status, now.attempt) == ("succeeded", 2)
        assert now.worker_id != before.worker_id
        # It has noticed, and works on.
        more = [broken.submit(steps=10) for _ in range(3)]
        broken.settle()
        assert frozen.poll() is None, broken.worker_log()
        broken.finish()
        assert {one.refresh().status for one in more} == {"succeeded"}


def test_a_server_that_freezes_past_the_leases_and_goes_on(
    tmp_path: Path, report: Report, postgres: Any
) -> None:
    """Its connections stand, and nothing is ever answered: no call of the worker's returns."""
    with stack(tmp_path, report, database_url=postgres.new_database()) as broken:
        worker = broken.start_worker(slots=1, short_lease=True)
        job = broken.submit(steps=60, pause=0.1, max_attempts=3)
        until(lambda: running(broken), "the job runs")
        assert broken.children()
        server = postgres.processes()
        for pid in server:
            os.kill(pid, signal.SIGSTOP)
        try:
            report.faults["frozen PostgreSQL"] += 1
            until(lambda: not broken.children(), "the job is stopped")
        finally:
            for pid in server:
                os.kill(pid, signal.SIGCONT)
        broken.settle()
        assert worker.poll() is None, broken.worker_log()
        broken.finish()
        assert (job.refresh().status, job.attempt) == ("succeeded", 2)
