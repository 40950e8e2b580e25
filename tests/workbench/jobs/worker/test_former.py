"""Workers of older schema versions: they claim nothing once the database was upgraded, and exit."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

import workbench as wb
from tests.conftest import installed, workspace_in
from tests.workbench.conftest import job_row, until
from workbench.host import processes
from workbench.host.locks import is_locked
from workbench.jobs import submission, workers
from workbench.jobs.worker.former import FIRST_LOCK, FormerWorkers
from workbench.jobs.worker.worker import Worker
from workbench.store import migrations
from workbench.store.records import JobRecord
from workbench.store.store import Store

#: What version 0.2.0 sends to claim a job (``Store.claim_job`` in ``workbench/store.py`` of commit 13b972c).
CLAIM_OF_0_2_0 = """
update job set status = 'running', attempt = attempt + 1, started_at = 5, finished_at = null,
    heartbeat_at = 5, lease_until = 45, pid = 7, pid_started = 'p', token = 't', error = null,
    summary = '', progress_done = 0,
    progress_total = null, progress_message = '', progress_stages = '[]', progress_rate = null,
    progress_left = null, worker_id = 'old:1:abcdef01', host = 'old', worker_pid = 1, worker_pid_started = 's'
where id = {job} and status = 'queued'
"""


#: How it ends a job whose notebook could not open the database, and how one that succeeded.
END_OF_0_2_0 = """
update job set status = '{to}', notebook = 'n', error = {error}, finished_at = 9
where id = {job} and status = 'running' and attempt = {attempt}
"""
TOO_NEW = {
    "cell": 3,
    "type": "StoreError",
    "message": "the database is at step 0005; this version knows steps up to 0003",
}

NEW = {"worker_id": "new", "host": "here", "worker_pid": 2, "worker_pid_started": "s"}


def sent(store: Store, statement: str) -> int:
    """Send a statement as another version does; return how many rows it changed."""
    with store._writing() as connection:
        return int(connection.execute(sa.text(statement)).rowcount)


def queued(store: Store, **columns: object) -> int:
    added = store.add_job(JobRecord(type="eval", adapter="toy", status="queued", **columns))  # type: ignore[arg-type]
    assert added.id is not None
    return added.id


def upgraded(store: Store, version: str = "9999") -> None:
    """Raise the version, as the migration of a newer version does."""
    sent(store, f"update alembic_version set version_num = '{version}'")  # noqa: S608  # ours


# The database ------------------------------------------------------------------------------------------


def test_a_worker_of_0_2_0_claims_nothing(store: Store) -> None:
    job = queued(store)
    assert sent(store, CLAIM_OF_0_2_0.format(job=job)) == 0
    assert (store.job(job).status, store.job(job).attempt) == ("queued", 0)  # type: ignore[union-attr]
    # Nor a job that this version claimed before, and that is queued for its second attempt.
    assert store.claim_job(NEW, 40) is not None
    assert store.move_job(job, expect="running", to="queued", worker_id="")
    assert sent(store, CLAIM_OF_0_2_0.format(job=job)) == 0
    again = store.claim_job(NEW, 40)
    assert again is not None
    assert (again.attempt, again.claim) == (2, f"{migrations.HEAD}/2")


def test_it_ends_the_job_that_it_ran_during_the_upgrade(database: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_migrate", lambda self: None)
        old = Store(database)
    with old._writing() as connection:
        migrations.upgrade(connection, "0004")
        connection.exec_driver_sql(
            "insert into job (id, type, adapter, status, options, progress_done, progress_message, summary,"
            " source, notebook, cwd, created_at, attempt, max_attempts, worker_id, host, worker_pid_started,"
            " pid_started, token) values (1, 'eval', 'a', 'queued', '{}', 0.0, '', '', '', '', '/', 5.5, 0,"
            " 2, '', '', '', '', '')"
        )
    assert sent(old, CLAIM_OF_0_2_0.format(job=1)) == 1
    new = Store(database)
    assert sent(old, "update job set lease_until = 50 where worker_id = 'old:1:abcdef01'") == 1
    assert sent(old, END_OF_0_2_0.format(job=1, attempt=1, to="succeeded", error="null")) == 1
    row = new.job(1)
    assert row is not None
    assert (row.status, row.attempt, row.claim) == ("succeeded", 1, "")
    old.close()
    new.close()


def test_a_job_whose_notebook_came_after_the_upgrade_is_queued_again(store: Store) -> None:
    job = queued(store, max_attempts=1)
    sent(store, "update alembic_version set version_num = '0003'")  # claimed before it
    with store._writing() as connection:
        connection.execute(sa.text("update job set claim = '0003/1'"))
        assert connection.execute(sa.text(CLAIM_OF_0_2_0.format(job=job))).rowcount == 1
        connection.execute(sa.text("update job set claim = ''"))
    upgraded(store, migrations.HEAD)
    error = f"'{json.dumps(TOO_NEW)}'".replace(":", r"\:")
    assert sent(store, END_OF_0_2_0.format(job=job, attempt=1, to="failed", error=error)) == 1
    row = store.job(job)
    assert row is not None
    assert (row.status, row.error, row.worker_id, row.finished_at, row.max_attempts) == (
        *("queued", None, "", None),
        2,
    )
    claimed = store.claim_job(NEW, 40)
    assert claimed is not None
    # Other failures stay failures.
    assert store.move_job(job, expect="running", to="failed", error={"message": "no", "type": "ValueError"})
    assert store.job(job).status == "failed"  # type: ignore[union-attr]


def test_todays_worker_claims_nothing_once_a_newer_version_upgraded(store: Store) -> None:
    """Holds for the next migration too: whatever it changes, this must pass at its HEAD."""
    job = queued(store)
    store.check_version()
    upgraded(store)
    assert store.claim_job(NEW, 40) is None
    assert store.job(job).status == "queued"  # type: ignore[union-attr]
    with pytest.raises(wb.NewerDatabase, match=f"9999.*at most {migrations.HEAD}"):
        store.check_version()


# The worker --------------------------------------------------------------------------------------------


def test_a_worker_exits_when_the_database_is_newer_than_it(
    workspace: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_row(workspace, "queued", host=processes.host())
    worker = Worker(workspace)
    upgraded(workspace.store)
    worker.run()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "schema version 9999" in lines[0]
    assert "the queued jobs wait for a newer one" in lines[0]
    assert workspace.store.job(job).status == "queued"  # type: ignore[union-attr]
    assert not is_locked(workers.worker_lock(workspace))
    # Whoever looks at the job from this version starts no worker, which could do nothing either.
    assert workspace.job(job).status == "queued"
    assert not is_locked(workers.worker_lock(workspace))


def test_a_worker_finishes_what_it_runs_before_it_exits(toy_package: Path, tmp_path: Path) -> None:
    with installed(toy_package), workspace_in(tmp_path / "results") as home:
        first = submission.submit(home, "eval", "toy", {"seconds": 60}, start_worker=False)
        command = [sys.executable, "-m", "workbench.cli", "--workspace", str(home.path), "worker"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
            until(lambda: first.refresh().progress.message == "waiting")
            second = queued(home.store)
            upgraded(home.store)
            first.cancel()
            assert worker.wait(300) == 0
            assert worker.stderr is not None
            said = worker.stderr.read()
        assert said.count("schema version 9999") == 1
        assert "Traceback" not in said
        assert first.refresh().status == "cancelled"
        assert home.store.job(second).status == "queued"  # type: ignore[union-attr]
        upgraded(home.store, migrations.HEAD)


# Its lock ----------------------------------------------------------------------------------------------


@pytest.fixture
def held(workspace: wb.Workspace) -> Iterator[Path]:
    """The lock of a worker of 0.2.0, as that version holds it."""
    path = workspace.path / FIRST_LOCK
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(file.fileno(), b"4321\n")
        yield path


def test_a_former_worker_without_a_job_loses_its_lock(workspace: wb.Workspace, held: Path) -> None:
    former = FormerWorkers(workspace)
    columns = {"worker_id": "w", "worker_pid": 4321, "host": processes.host()}
    job = job_row(workspace, "running", **columns)
    job_row(workspace, "running", **{**columns, "worker_pid": 1})
    assert former.running() == 1
    assert held.exists()
    workspace.store.move_job(job, expect="running", to="succeeded")
    assert former.running() == 0
    assert not held.exists()
    # From then on its servers start no other: the name is taken.
    assert former.running() == 0
    assert is_locked(held)
    FormerWorkers(workspace).running()  # another worker of this version knows whose it is
    assert held.read_text() == f"{os.getpid()} {migrations.HEAD}\n"
    former.close()
    assert not is_locked(held)


def test_a_worker_waits_for_the_job_of_a_former_one(workspace: wb.Workspace, held: Path) -> None:
    columns = {"worker_id": "w", "worker_pid": 4321, "host": processes.host()}
    job_row(workspace, "running", **columns)
    worker, two = Worker(workspace), Worker(workspace, slots=2)
    for one in (worker, two):
        one._check_version()
    assert not worker._may_claim()
    assert two._may_claim()
    held.unlink()
    worker._check_version()
    assert worker._may_claim()
    for one in (worker, two):
        one._former.close()


def test_the_lock_that_a_server_of_0_2_0_took_is_no_lock_of_todays_worker(workspace: wb.Workspace) -> None:
    first = workspace.path / FIRST_LOCK
    with first.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "workbench.background", "--workspace", str(workspace.path)]
        worker = subprocess.Popen(
            [*command, "--lock", str(file.fileno())],
            pass_fds=(file.fileno(),),
            env={**os.environ, "WORKBENCH_WORKER_IDLE": "1"},
        )
    with worker:
        until(lambda: is_locked(workers.worker_lock(workspace)))
        assert is_locked(first)
        assert worker.wait(300) == 0
    assert not is_locked(first)


def test_a_background_worker_that_cannot_open_a_newer_database_says_so_once(workspace: wb.Workspace) -> None:
    upgraded(workspace.store)
    done = subprocess.run(
        [sys.executable, "-m", "workbench.jobs.worker.background", "--workspace", str(workspace.path)],
        env={**os.environ, "WORKBENCH_WORKER_IDLE": "0.1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("schema version 9999") == 1
    assert "Traceback" not in done.stderr
