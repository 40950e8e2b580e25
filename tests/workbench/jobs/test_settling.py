"""Leases: who is lost and who is not, also when clocks jump; and what a stale worker may still do."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

import workbench as wb
from workbench.host import processes
from workbench.jobs import settling, workers
from workbench.jobs.settling import LEASE_SECONDS, Watch
from workbench.store import records


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def claimed(workspace: wb.Workspace) -> Callable[..., int]:
    """Add a job and claim it for a worker, here or elsewhere."""

    def claim(host: str, pid: int | None = None, started: str = "") -> int:
        job = workspace.store.add_job(records.JobRecord(type="eval", max_attempts=2))
        who = {"worker_id": f"{host}:w", "host": host, "worker_pid": pid, "worker_pid_started": started}
        assert workspace.store.claim_job(who, LEASE_SECONDS) is not None
        return job.id or 0

    return claim


def status(workspace: wb.Workspace, job_id: int) -> str:
    row = workspace.store.job(job_id)
    assert row is not None
    return row.status


def test_a_vanished_host_is_noticed_when_its_lease_has_run_out(
    workspace: wb.Workspace, claimed: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, timer, ahead = claimed("elsewhere"), Clock(), 0.0
    monkeypatch.setattr(workspace.store, "clock", lambda: time.time() + ahead)
    watch = Watch(workspace.store, timer=timer)
    while status(workspace, job_id) == "running":
        watch.look()
        timer.now += 2
        ahead += 2
        assert ahead < 50
    assert LEASE_SECONDS <= ahead - 2 <= 45
    assert status(workspace, job_id) == "queued"


def test_at_the_start_a_lease_that_has_run_out_is_enough(
    workspace: wb.Workspace, claimed: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = claimed("elsewhere")
    monkeypatch.setattr(workspace.store, "clock", lambda: time.time() + LEASE_SECONDS + 1)
    Watch(workspace.store).look()
    assert status(workspace, job_id) == "queued"


def test_a_clock_that_jumps_ahead_takes_nobodys_job(
    workspace: wb.Workspace, claimed: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, timer = claimed("elsewhere"), Clock()
    watch = Watch(workspace.store, timer=timer)
    watch.look()
    monkeypatch.setattr(workspace.store, "clock", lambda: time.time() + 86400)
    for _ in range(30):  # the worker goes on beating by its own, older time
        timer.now += 2
        time.sleep(0.002)
        workspace.store.renew_leases("elsewhere:w", LEASE_SECONDS)
        watch.look()
    assert status(workspace, job_id) == "running"
    timer.now += 6  # then it stops
    watch.look()
    assert status(workspace, job_id) == "queued"


def test_a_clock_that_was_set_back_does_not_keep_a_dead_workers_job(
    workspace: wb.Workspace, claimed: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, timer = claimed("elsewhere"), Clock()
    monkeypatch.setattr(workspace.store, "clock", lambda: time.time() - 86400)
    watch = Watch(workspace.store, timer=timer)
    watch.look()
    timer.now += LEASE_SECONDS - 1
    watch.look()
    assert status(workspace, job_id) == "running"
    timer.now += 2
    watch.look()
    assert status(workspace, job_id) == "queued"


def test_a_worker_that_is_stopped_but_alive_is_given_a_leases_time(
    workspace: wb.Workspace, claimed: Callable[..., int]
) -> None:
    with subprocess.Popen(["sleep", "600"]) as worker:
        worker.send_signal(signal.SIGSTOP)
        job_id = claimed(processes.host(), worker.pid, processes.started(worker.pid))
        timer = Clock()
        watch = Watch(workspace.store, timer=timer)
        watch.look()
        timer.now += LEASE_SECONDS - 1
        watch.look()
        assert status(workspace, job_id) == "running"
        timer.now += 2
        watch.look()
        assert status(workspace, job_id) == "queued"
        worker.kill()


def test_a_stale_worker_that_wakes_up_changes_nothing(
    workspace: wb.Workspace, claimed: Callable[..., int]
) -> None:
    store, job_id = workspace.store, claimed("elsewhere")
    stale = store.job(job_id)
    assert stale is not None
    settling.settle(store, stale, "it was silent")
    assert store.claim_job({"worker_id": "new", "host": "elsewhere"}, 30) is not None
    assert store.save_result(job_id, 2, {"summary": "new"})
    assert store.renew_leases("elsewhere:w", 30) == {}
    assert store.held_jobs("elsewhere:w") == {}
    assert store.update_job(job_id, attempt=1, progress_done=9.0, progress_message="stale") is None
    assert not store.save_result(job_id, 1, {"summary": "stale"})
    for to in ("succeeded", "failed", "cancelled", "queued"):
        assert not store.move_job(job_id, expect="running", to=to, attempt=1)
    settling.settle(store, stale, "again")
    row = store.job(job_id)
    assert row is not None
    assert (row.status, row.attempt, row.progress_message, row.summary) == ("running", 2, "", "new")


def test_the_last_failure_is_kept_when_attempts_run_out(
    workspace: wb.Workspace, claimed: Callable[..., int]
) -> None:
    job_id = claimed("elsewhere")
    for attempt in (1, 2):
        row = workspace.store.job(job_id)
        assert row is not None
        settling.settle(workspace.store, row, f"reason {attempt}")
        if attempt == 1:
            assert workspace.store.claim_job({"worker_id": "w", "host": "elsewhere"}, 30) is not None
    job = workspace.job(job_id)
    assert (job.status, job.attempt) == ("failed", 2)
    assert job.error == {"cell": None, "type": "Lost", "message": "reason 2, at attempt 2"}


# Nobody is left but who looks -----------------------------------------------------------------------


@pytest.mark.parametrize("look", ["job", "jobs", "refresh"])
def test_readers_see_the_true_state_when_no_worker_is_left(
    workspace: wb.Workspace, claimed: Callable[..., int], look: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ensure_worker", lambda home: started.append(home))
    started: list[wb.Workspace] = []
    me = processes.this_process()
    job_id = claimed(processes.host(), me.pid, me.started)
    handle = workspace.job(job_id)
    assert handle.status == "running"
    columns = {"worker_pid_started": "long ago"}  # the number was used again, by somebody else
    workspace.store.update_job(job_id, attempt=1, **columns)
    found = {
        "job": lambda: workspace.job(job_id),
        "jobs": lambda: workspace.jobs()[0],
        "refresh": handle.refresh,
    }[look]()
    assert found.status == "queued"
    assert started  # once or twice: the second finds the lock taken
    assert all(home is workspace for home in started)


def test_jobs_that_wait_here_get_a_worker_and_others_do_not(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[wb.Workspace] = []
    monkeypatch.setattr(workers, "ensure_worker", lambda home: started.append(home))
    workspace.store.add_job(records.JobRecord(type="eval"))  # queued by somebody who wanted no worker
    workspace.jobs()
    assert started == []
    workspace.store.add_job(records.JobRecord(type="eval", host=processes.host()))
    workspace.jobs()
    assert started == [workspace]
    with workers.worker_lock(workspace).open("ab") as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)
        workspace.jobs()
    assert started == [workspace]
    assert os.getpid()


def test_silence_is_counted_anew_where_the_database_refuses_everybody(
    workspace: wb.Workspace, claimed: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> bool:
        raise wb.StoreError("the database refused: database or disk is full")

    me = processes.this_process()
    job_id, timer = claimed(processes.host(), me.pid, me.started), Clock()
    watch = Watch(workspace.store, timer=timer)
    watch.look()
    timer.now += LEASE_SECONDS + 1
    with monkeypatch.context() as patch:
        patch.setattr(workspace.store, "move_job", refuse)
        patch.setattr(processes, "kill_family", lambda *_, **__: [])
        with pytest.raises(wb.StoreError):
            watch.look()
    watch.look()  # there is room again, and its worker had no chance to say anything
    assert status(workspace, job_id) == "running"
    timer.now += LEASE_SECONDS + 1
    monkeypatch.setattr(processes, "kill_family", lambda *_, **__: [])
    watch.look()
    assert status(workspace, job_id) == "queued"


@pytest.mark.parametrize(
    ("where", "silent", "reason"),
    [
        (f"{processes.host()}", 0.0, "is gone"),
        (f"{processes.host().partition('/')[0]}/earlier", 0.0, "its host was restarted"),
        ("another/host", 90_000.0, "silent for 24 h"),
        ("another/host", 80_000.0, ""),
        (f"{processes.host()}/1", 80_000.0, ""),
    ],
)
def test_a_job_that_was_run_by_hand_is_lost_only_if_that_is_known(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, where: str, silent: float, reason: str
) -> None:
    monkeypatch.setattr(processes, "_inner_processes", lambda: None)
    row = records.JobRecord(
        type="eval",
        adapter="toy",
        status="running",
        attempt=1,
        host=where,
        pid=2**22 + 5,
        pid_started="never",
        heartbeat_at=time.time() - silent,
    )
    job_id = workspace.store.add_job(row).id or 0
    Watch(workspace.store).look()
    found = workspace.store.job(job_id)
    assert found is not None
    assert found.status == ("failed" if reason else "running")
    assert reason in str(found.error)
