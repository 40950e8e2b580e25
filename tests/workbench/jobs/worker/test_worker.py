import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_core.paths import jupyter_data_dir
from nbformat.sign import NotebookNotary

import workbench as wb
from tests.conftest import installed, workspace_in
from tests.waiting import GUARD, until
from workbench.host import processes
from workbench.host.locks import is_locked
from workbench.jobs import settling, submission, workers
from workbench.jobs.worker import background
from workbench.jobs.worker import worker as worker_module
from workbench.jobs.worker.keeper import Keeper, keep
from workbench.jobs.worker.worker import Worker
from workbench.store import records


@pytest.fixture(scope="module")
def home(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    """One workspace with the toy for the tests that need real jobs, so that its worker starts once."""
    with installed(toy_package), workspace_in(tmp_path_factory.mktemp("jobs") / "results") as home:
        yield home


def endless(home: wb.Workspace, **more: int) -> wb.Job:
    """A job that goes on for a minute; returned when its cell is running."""
    job = submission.submit(home, "eval", "toy", {"seconds": 60}, **more)
    until(lambda: job.refresh().progress.message == "waiting")
    return job


def row(home: wb.Workspace, job: wb.Job) -> records.JobRecord:
    found = home.store.job(job.id)
    assert found is not None
    return found


def is_trusted(path: Path | None) -> bool:
    """Whether this user's Jupyter server trusts what a notebook shows."""
    assert path is not None
    with contextlib.closing(NotebookNotary(data_dir=jupyter_data_dir())) as notary:
        return bool(notary.check_signature(nbformat.read(path, as_version=4)))


# Real jobs ------------------------------------------------------------------------------------------


def test_a_running_job_is_cancelled_and_nothing_of_it_is_left(home: wb.Workspace) -> None:
    job = endless(home)
    token = row(home, job).token
    assert len(processes.family(None, token)) >= 2  # the runner and the kernel
    assert job.cancel().status in ("cancelling", "cancelled")
    assert job.cancel().wait(GUARD, check=False).status == "cancelled"
    assert processes.family(None, token) == []
    assert job.error is None
    assert job.notebook is not None
    assert "toy" in job.logs()


def test_a_runner_that_is_killed_fails_its_job_with_the_signal(home: wb.Workspace) -> None:
    job = endless(home)
    now = row(home, job)
    assert now.pid is not None
    os.kill(now.pid, signal.SIGKILL)
    assert job.wait(GUARD, check=False).status == "failed"
    assert job.error is not None
    assert "signal 9" in job.error["message"]
    assert processes.family(None, now.token) == []
    assert job.attempt == 1  # what kills its own process is not tried again
    assert is_trusted(job.notebook)


def test_a_job_whose_worker_is_killed_is_settled_by_the_next_worker(home: wb.Workspace) -> None:
    job = endless(home, max_attempts=1)
    now = row(home, job)
    assert now.worker_pid is not None
    os.kill(now.worker_pid, signal.SIGKILL)
    assert job.wait(GUARD, check=False).status == "failed"
    assert job.error is not None
    assert "worker that ran it vanished" in job.error["message"]
    assert processes.family(None, now.token) == []
    until(lambda: is_trusted(job.notebook))  # by this process or by the next worker


def test_what_was_printed_until_the_worker_was_killed_is_kept_apart(
    home: wb.Workspace, tmp_path: Path
) -> None:
    printing = (
        "import pathlib, time\n"
        "endless = not pathlib.Path('again').exists()\n"
        "for number in range(10_000_000 if endless else 50):\n"
        "    print('line', number, flush=True)\n"
        "    if number % 100 == 99: time.sleep(0.02)"
    )
    path = tmp_path / "mine.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(printing)]), path)
    job = submission.submit_notebook(home, path)
    until(lambda: job.output is not None and job.output.size > 20_000)
    (tmp_path / "again").touch()
    now = row(home, job)
    assert now.worker_pid is not None
    os.kill(now.worker_pid, signal.SIGKILL)
    assert job.wait(GUARD).attempt == 2
    first, second = (
        (job.folder / name).read_text().splitlines() for name in ("output.attempt-1.txt", "output.txt")
    )
    assert len(first) > 1000
    assert first == [f"line {number}" for number in range(len(first))]  # as printed, without a gap
    assert second == [f"line {number}" for number in range(50)]
    begins = "Attempt 2 begins here. Attempt 1 did not end; its files are"
    log = job.logs(10_000)
    assert f"{begins} notebook.attempt-1.ipynb, output.attempt-1.txt.\n" in log
    assert log.rpartition(begins)[2].count("  line ") == 50


# Settling what others left --------------------------------------------------------------------------


@pytest.fixture
def lost(workspace: wb.Workspace) -> Callable[..., records.JobRecord]:
    """Add a job that is running as far as anybody said."""

    def add(**columns: object) -> records.JobRecord:
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
        return workspace.store.add_job(records.JobRecord(**{**before, **columns}))

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
    workspace: wb.Workspace, lost: Callable[..., records.JobRecord], columns: dict[str, object], status: str
) -> None:
    job = lost(**columns)
    run = workspace.start_run("e", job_id=job.id)
    settling.Watch(workspace.store).look()
    found = workspace.job(job.id or 0)
    assert found.status == status
    if status in ("queued", "failed"):
        assert found.error is not None
        assert any(word in found.error["message"] for word in ("vanished", "gone", "silent"))
    ended = {"running": "running", "cancelled": "cancelled"}.get(status, "lost")
    assert workspace.run(run.id).status == ended


def test_a_finished_job_is_never_settled_again(
    workspace: wb.Workspace, lost: Callable[..., records.JobRecord]
) -> None:
    job = lost()
    workspace.store.move_job(job.id or 0, expect="running", to="succeeded", attempt=1)
    settling.settle(workspace.store, job, "a sweeper that comes late")
    assert workspace.job(job.id or 0).status == "succeeded"


def test_a_run_whose_process_vanished_is_lost(workspace: wb.Workspace) -> None:
    gone = records.RunRecord(experiment_id=0, host=processes.host(), pid=os.getpid(), pid_started="long ago")
    run_id = workspace.store.add_run(gone, "e").id or 0
    alive = workspace.start_run("e")
    settling.Watch(workspace.store).look()
    assert workspace.run(run_id).status == "lost"
    assert alive.status == "running"


# Coming and going -----------------------------------------------------------------------------------


def test_a_worker_with_nothing_to_do_leaves(workspace: wb.Workspace) -> None:
    Worker(workspace, idle_seconds=0).run()
    assert not is_locked(workers.worker_lock(workspace))


def test_a_second_worker_in_the_background_leaves_at_once(workspace: wb.Workspace) -> None:
    first, second = (Worker(workspace, idle_seconds=600) for _ in range(2))
    assert first._take_lock()
    assert is_locked(workers.worker_lock(workspace))
    assert not workers.ensure_worker(workspace)
    second.run()
    first._drop_lock()
    assert not is_locked(workers.worker_lock(workspace))


def test_a_job_queued_while_a_worker_leaves_is_seen(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    leaving = Worker(workspace, idle_seconds=0)
    assert leaving._take_lock()
    submission.submit(workspace, "eval", "toy", start_worker=False)
    assert not leaving._may_leave()
    assert is_locked(workers.worker_lock(workspace))
    leaving._drop_lock()


def test_a_worker_leaves_a_workspace_that_is_gone(workspace: wb.Workspace) -> None:
    staying = Worker(workspace)
    assert staying._take_lock()
    assert not staying._may_leave()
    workers.worker_lock(workspace).unlink()
    assert staying._may_leave()
    staying._drop_lock()


def test_a_job_that_cannot_begin_fails_with_the_reason(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    workspace.store.add_job(records.JobRecord(type="dance", adapter="toy"))
    Worker(workspace, idle_seconds=0).run()
    job = workspace.job(1)
    assert job.status == "failed"
    assert job.error is not None
    assert "no notebook for job type 'dance'" in job.error["message"]


# What goes wrong with the worker itself -------------------------------------------------------------


@pytest.fixture
def worker(workspace: wb.Workspace) -> Iterator[Worker]:
    """A worker that is driven step by step."""
    worker = Worker(workspace)
    yield worker
    worker._give_back(counts=False)
    worker._drop_spare()
    worker._drop_lock()
    worker._former.close()
    worker._keeper.goodbye()


def broken_off(store: object, name: str, *, done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a call of the store fail once, after it was done or before."""
    real, left = getattr(store, name), [1]

    def call(*given: object, **more: object) -> object:
        if not left:
            return real(*given, **more)
        left.clear()
        if done:
            real(*given, **more)
        raise wb.StoreError("the database is out of reach: the connection was closed")

    monkeypatch.setattr(store, name, call)


def test_the_next_runner_starts_when_there_is_time_or_work_for_it(
    workspace: wb.Workspace, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.step()
    assert worker._spare is None  # it may be about to get its first job, or to exit
    worker._busy_at -= worker_module.SPARE_IDLE_SECONDS
    assert worker._wants_spare(changed=False)

    workspace.store.add_job(records.JobRecord(type="dance"))
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_running", {1: "a job that has just begun"})
        worker._claimed_at = time.monotonic()
        assert worker._wants_spare(changed=True)
        assert not worker._wants_spare(changed=False)
        patch.setattr(worker.home.store, "count_jobs", lambda status: 0)
        assert not worker._wants_spare(changed=True)
        worker._claimed_at -= worker_module.SPARE_BUSY_SECONDS
        assert worker._wants_spare(changed=False)


def test_a_worker_that_leaves_soon_starts_no_runner_before_there_is_work(
    workspace: wb.Workspace, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.idle_seconds = 20.0
    worker._busy_at -= worker_module.SPARE_IDLE_SECONDS
    worker._claimed_at = time.monotonic() - worker_module.SPARE_BUSY_SECONDS
    assert not worker._wants_spare(changed=False)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_running", {1: "a job that takes its time"})
        assert not worker._wants_spare(changed=False)
        assert not worker._wants_spare(changed=True)
        workspace.store.add_job(records.JobRecord(type="dance"))
        assert worker._wants_spare(changed=True)
        worker.idle_seconds = worker_module.IDLE_SECONDS  # as without a setting
        assert worker._wants_spare(changed=False)


def test_a_claim_that_is_refused_costs_no_process(
    workspace: wb.Workspace, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "SPARE_IDLE_SECONDS", 0.0)
    until(lambda: worker.step() or worker._spare)
    spare = worker._spare
    assert spare is not None
    workspace.store.add_job(records.JobRecord(type="dance"))
    broken_off(workspace.store, "claim_job", done=False, monkeypatch=monkeypatch)
    with pytest.raises(wb.StoreError):
        worker.step()
    assert worker._spare is spare
    assert worker._keeper._tokens == set()


def test_a_claim_that_was_made_and_not_heard_of_is_given_back(
    workspace: wb.Workspace, toy: wb.BaseAdapter, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = workspace.store.add_job(records.JobRecord(type="dance", adapter="toy", max_attempts=1)).id or 0
    broken_off(workspace.store, "claim_job", done=True, monkeypatch=monkeypatch)
    with pytest.raises(wb.StoreError):
        worker.step()
    assert workspace.job(job_id).status == "running"
    spare = worker._spare  # its process stands in the row, and goes to whatever comes next
    assert spare is not None
    worker._renew()
    assert spare.alive
    assert workspace.job(job_id).status == "queued"
    until(lambda: worker.step() or workspace.job(job_id).status == "failed")
    job = workspace.job(job_id)
    assert job.attempt == 2  # one more than it was allowed: the first was nobody's fault
    assert job.error is not None
    assert "no notebook for job type 'dance'" in job.error["message"]


def test_an_end_that_was_written_and_not_heard_of_stays(
    workspace: wb.Workspace, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = workspace.store.add_job(records.JobRecord(type="dance", max_attempts=2)).id or 0
    run = workspace.start_run("e", job_id=job_id)
    broken_off(workspace.store, "move_job", done=True, monkeypatch=monkeypatch)

    def step() -> bool:
        try:
            worker.step()
        except wb.StoreError:
            return True
        return False

    until(step)
    assert (workspace.job(job_id).status, workspace.run(run.id).status) == ("failed", "failed")
    worker.step()
    assert worker._ends == []
    assert workspace.job(job_id).attempt == 1


@pytest.mark.parametrize(
    "error", [wb.StoreError("database or disk is full"), BlockingIOError(11, "no more processes")]
)
def test_a_worker_goes_on_when_the_system_refuses_something(
    workspace: wb.Workspace, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, seen = Worker(workspace, idle_seconds=0), []

    def refuse() -> bool:
        seen.append(1)
        if len(seen) < 3:
            raise error
        return True

    monkeypatch.setattr("workbench.jobs.worker.worker._PAUSE_AFTER_REFUSAL", 0.0)
    monkeypatch.setattr(worker, "_may_leave", refuse)
    with Path("/dev/full").open("w") as nowhere:  # and it cannot even say so
        monkeypatch.setattr("sys.stderr", nowhere)
        worker.run()
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            nowhere.close()
    assert len(seen) == 3
    assert not is_locked(workers.worker_lock(workspace))


def test_a_worker_that_fails_itself_uses_up_the_attempt(
    workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("a mistake of ours")

    job = submission.submit(workspace, "eval", "toy", {"seconds": 60}, start_worker=False, max_attempts=1)
    worker = Worker(workspace)
    monkeypatch.setattr(worker, "_heed_cancels", fail)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        worker.run()
    assert job.refresh().status == "failed"
    assert job.error is not None
    assert "the worker that ran it failed" in job.error["message"]


def test_a_lock_file_that_cannot_be_looked_at_is_not_gone(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    staying = Worker(workspace)
    assert staying._take_lock()

    def refuse(self: Path) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse)
        assert not staying._may_leave()
    staying._drop_lock()


def test_a_worker_says_the_same_once(workspace: wb.Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    worker = Worker(workspace)
    for _ in range(100):
        worker._say("the database refused")
    worker._say("something else")
    assert capsys.readouterr().err.count("\n") == 2


def test_a_worker_that_cannot_open_the_database_waits_for_it(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []

    def open_later(path: str) -> wb.Workspace:
        opened.append(path)
        if len(opened) < 3:
            raise wb.StoreError("the database refused: unable to open database file")
        return wb.Workspace(path)

    monkeypatch.setattr("workbench.home.Home", open_later)
    monkeypatch.setattr("workbench.jobs.worker.background.Runner", lambda: Spare())
    monkeypatch.setattr("workbench.jobs.worker.worker.Worker.run", lambda self: opened.append("ran"))
    assert background.main(["--workspace", str(workspace.path)]) == 0
    assert opened == [str(workspace.path)] * 3 + ["ran"]
    assert capsys.readouterr().err.count("unable to open") == 1
    opened.clear()
    monkeypatch.setenv("WORKBENCH_WORKER_IDLE", "0.0001")
    with pytest.raises(wb.StoreError):
        background.main(["--workspace", str(workspace.path)])


class Spare:
    """A runner that is not there."""

    def end(self) -> None: ...

    def close(self) -> None: ...


# The keeper -----------------------------------------------------------------------------------------


def test_a_keeper_ends_what_runs_when_it_hears_of_no_renewal() -> None:
    token = "a1b2c3d4"  # noqa: S105
    reading, writing = os.pipe()
    restarted: list[int] = []
    with subprocess.Popen(["sleep", "600"], env={processes.TOKEN: token}) as sleeping:
        # It begins late: what it finds in its pipe counts by the time at which it was written.
        os.write(writing, f"+{token}\n~{time.monotonic() - 3600}\n~{time.monotonic() + 3600}\n".encode())
        listening = threading.Thread(target=keep, args=(reading, lambda: restarted.append(1), 0.5))
        listening.start()
        time.sleep(1)
        assert sleeping.poll() is None
        os.write(writing, b"~")  # said piece by piece
        os.write(writing, b"\n")
        assert sleeping.wait(GUARD) == -signal.SIGKILL
        os.write(writing, b".\n")
        listening.join(GUARD)
    assert restarted == []
    os.close(reading)
    os.close(writing)


def test_a_keeper_that_is_stopped_holds_nobody_up() -> None:
    keeper = Keeper(["true"])
    keeper.check()
    first = keeper._process
    assert first is not None
    first.send_signal(signal.SIGSTOP)
    keeper.begin("a1")
    for _ in range(40_000):  # more than its pipe takes
        keeper.renewed()
    assert first.wait(GUARD) == -signal.SIGKILL
    keeper.check()
    assert keeper._process is not None
    keeper._process.send_signal(signal.SIGSTOP)
    keeper.goodbye()
    assert keeper._process is None
