import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import workbench as wb
from tests.conftest import installed, workspace_in
from workbench import jobs, processes, records, settling
from workbench.worker import Worker


def until(happened: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def home(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    """One workspace with the toy for the tests that need real jobs, so that its worker starts once."""
    with installed(toy_package), workspace_in(tmp_path_factory.mktemp("jobs") / "results") as home:
        yield home


def endless(home: wb.Workspace, **more: int) -> wb.Job:
    """A job that goes on for a minute; returned when its cell is running."""
    job = jobs.submit(home, "eval", "toy", {"seconds": 60}, **more)
    until(lambda: job.refresh().progress.message == "waiting")
    return job


def row(home: wb.Workspace, job: wb.Job) -> records.Job:
    found = home.store.job(job.id)
    assert found is not None
    return found


# Real jobs ------------------------------------------------------------------------------------------


def test_a_running_job_is_cancelled_and_nothing_of_it_is_left(home: wb.Workspace) -> None:
    job = endless(home)
    token = row(home, job).token
    assert len(processes.family(None, token)) >= 2  # the runner and the kernel
    assert job.cancel().status in ("cancelling", "cancelled")
    assert job.cancel().wait(10, check=False).status == "cancelled"
    assert processes.family(None, token) == []
    assert job.error is None
    assert job.notebook is not None
    assert "toy" in job.logs()


def test_a_runner_that_is_killed_fails_its_job_with_the_signal(home: wb.Workspace) -> None:
    job = endless(home)
    now = row(home, job)
    assert now.pid is not None
    os.kill(now.pid, signal.SIGKILL)
    assert job.wait(20, check=False).status == "failed"
    assert job.error is not None
    assert "signal 9" in job.error["message"]
    assert processes.family(None, now.token) == []
    assert job.attempt == 1  # what kills its own process is not tried again


def test_a_job_whose_worker_is_killed_is_settled_by_the_next_worker(home: wb.Workspace) -> None:
    job = endless(home, max_attempts=1)
    now = row(home, job)
    assert now.worker_pid is not None
    os.kill(now.worker_pid, signal.SIGKILL)
    assert job.wait(20, check=False).status == "failed"
    assert job.error is not None
    assert "worker that ran it vanished" in job.error["message"]
    assert processes.family(None, now.token) == []


# Settling what others left --------------------------------------------------------------------------


@pytest.fixture
def lost(workspace: wb.Workspace) -> Callable[..., records.Job]:
    """Add a job that is running as far as anybody said."""

    def add(**columns: object) -> records.Job:
        before = {
            "type": "eval",
            "status": "running",
            "attempt": 1,
            "max_attempts": 2,
            "worker_id": "w",
            "host": processes.host(),
            "worker_pid": os.getpid(),
            "worker_pid_started": "long ago",  # this pid, but another process: the number was used again
            "lease_until": time.time() + 100,
        }
        return workspace.store.add_job(records.Job(**{**before, **columns}))

    return add


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({}, "queued"),
        ({"attempt": 2}, "failed"),
        ({"status": "cancelling"}, "cancelled"),
        ({"worker_pid_started": processes.this_process().started}, "running"),
        ({"worker_pid": None}, "queued"),
        ({"host": "elsewhere"}, "running"),
        ({"host": "elsewhere", "lease_until": 1.0}, "queued"),
        ({"host": "elsewhere", "lease_until": None}, "queued"),
        ({"worker_id": "", "pid": os.getpid(), "pid_started": "long ago"}, "failed"),
        ({"worker_id": "", "pid": os.getpid(), "pid_started": processes.this_process().started}, "running"),
        ({"worker_id": "", "host": "elsewhere", "lease_until": None}, "running"),
    ],
)
def test_what_a_vanished_process_left_is_settled(
    workspace: wb.Workspace, lost: Callable[..., records.Job], columns: dict[str, object], status: str
) -> None:
    job = lost(**columns)
    run = workspace.start_run("e", job_id=job.id)
    settling.Watch(workspace.store).look()
    found = workspace.job(job.id or 0)
    assert found.status == status
    if status in ("queued", "failed"):
        assert found.error is not None
        assert "vanished" in found.error["message"] or "silent" in found.error["message"]
    ended = {"running": "running", "cancelled": "cancelled"}.get(status, "lost")
    assert workspace.run(run.id).status == ended


def test_a_finished_job_is_never_settled_again(
    workspace: wb.Workspace, lost: Callable[..., records.Job]
) -> None:
    job = lost()
    workspace.store.move_job(job.id or 0, expect="running", to="succeeded", attempt=1)
    settling.settle(workspace.store, job, "a sweeper that comes late")
    assert workspace.job(job.id or 0).status == "succeeded"


def test_a_run_whose_process_vanished_is_lost(workspace: wb.Workspace) -> None:
    gone = records.Run(experiment_id=0, host=processes.host(), pid=os.getpid(), pid_started="long ago")
    run_id = workspace.store.add_run(gone, "e").id or 0
    alive = workspace.start_run("e")
    settling.Watch(workspace.store).look()
    assert workspace.run(run_id).status == "lost"
    assert alive.status == "running"


# Coming and going -----------------------------------------------------------------------------------


def test_a_worker_with_nothing_to_do_leaves(workspace: wb.Workspace) -> None:
    Worker(workspace, idle_seconds=0).run()
    assert not jobs.is_locked(jobs.worker_lock(workspace))


def test_a_second_worker_in_the_background_leaves_at_once(workspace: wb.Workspace) -> None:
    first, second = (Worker(workspace, idle_seconds=600) for _ in range(2))
    assert first._take_lock()
    assert jobs.is_locked(jobs.worker_lock(workspace))
    assert not jobs.ensure_worker(workspace)
    second.run()
    first._drop_lock()
    assert not jobs.is_locked(jobs.worker_lock(workspace))


def test_a_job_queued_while_a_worker_leaves_is_seen(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    leaving = Worker(workspace, idle_seconds=0)
    assert leaving._take_lock()
    jobs.submit(workspace, "eval", "toy", start_worker=False)
    assert not leaving._may_leave()
    assert jobs.is_locked(jobs.worker_lock(workspace))
    leaving._drop_lock()


def test_a_worker_leaves_a_workspace_that_is_gone(workspace: wb.Workspace) -> None:
    staying = Worker(workspace)
    assert staying._take_lock()
    assert not staying._may_leave()
    jobs.worker_lock(workspace).unlink()
    assert staying._may_leave()
    staying._drop_lock()


def test_a_job_that_cannot_begin_fails_with_the_reason(workspace: wb.Workspace) -> None:
    workspace.store.add_job(records.Job(type="dance", adapter="toy"))
    Worker(workspace, idle_seconds=0).run()
    job = workspace.job(1)
    assert job.status == "failed"
    assert job.error is not None
    assert "no notebook for jobs of type 'dance'" in job.error["message"]
