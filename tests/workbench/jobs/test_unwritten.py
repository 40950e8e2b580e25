"""How a job ended is seen although it cannot be written, and is written later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

import workbench as wb
from workbench.errors import ReadOnly, StoreError
from workbench.host import processes
from workbench.jobs import unwritten
from workbench.jobs.unwritten import RESERVED_BYTES, End, Notes
from workbench.jobs.worker.worker import Worker
from workbench.store import records

FULL = StoreError("database error: database or disk is full")


@pytest.fixture
def worker(workspace: wb.Workspace) -> Iterator[Worker]:
    """A worker that holds the workspace's lock, and does nothing by itself."""
    made = Worker(workspace)
    assert made._take_lock()
    yield made
    made._drop_lock()


def running(home: wb.Workspace, worker: Worker | None = None, **columns: object) -> records.JobRecord:
    me = processes.this_process()
    row = records.JobRecord(
        type="eval",
        adapter="toy",
        status="running",
        attempt=1,
        host=processes.host(),
        worker_id="w",
        worker_pid=me.pid,
        worker_pid_started=me.started,
        lease_until=time.time() + 1e6,
        progress_done=0.62,
        progress_total=1.0,
    )
    return home.store.add_job(row.model_copy(update=columns))


@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_an_end_that_cannot_be_written_is_seen_and_written_later(
    workspace: wb.Workspace, worker: Worker, status: str
) -> None:
    row = running(workspace)
    error = {"cell": 3, "type": "OSError", "message": "No space left on device"}
    worker._ends.append(partial(worker._end, row, status, error if status == "failed" else None))
    worker._note_ends(FULL)
    with wb.Workspace(workspace.path) as other:
        for seen in (other.job(row.id or 0), other.jobs()[0]):
            assert seen.status == status
            if status == "failed":
                assert seen.error is not None
                assert seen.error["message"].startswith("No space left on device (this could not be written:")
                assert "disk is full" in seen.error["message"]
        assert other.job(row.id or 0).wait(1, check=False).status == status
        stored = other.store._one(records.JobRecord, _raw(row.id or 0))
        assert stored is not None
        assert stored.status == "running"
        worker._write_ends()  # there is space again
        assert other.job(row.id or 0).status == status
    with wb.Workspace(workspace.path) as later:
        job = later.job(row.id or 0)
        assert (job.status, job.error) == (status, error if status == "failed" else None)
    assert unwritten.read_ends(workspace) == []


def _raw(job_id: int) -> object:
    from sqlalchemy import select

    from workbench.store.tables import JOBS

    return select(JOBS).where(JOBS.c.id == job_id)


def test_notes_of_a_worker_that_is_gone_count_for_nothing(workspace: wb.Workspace, worker: Worker) -> None:
    row = running(workspace)
    worker._ends.append(partial(worker._end, row, "succeeded", None))
    worker._note_ends(FULL)
    worker._drop_lock()
    assert unwritten.read_ends(workspace) == []
    assert worker._take_lock()  # the next one begins with none
    assert unwritten.read_ends(workspace) == []


def test_notes_never_need_more_space_than_is_reserved(workspace: wb.Workspace, worker: Worker) -> None:
    notes = Notes(workspace)
    notes.reserve()
    error = {"cell": None, "type": "E", "message": "x" * 10_000}
    notes.write([End(number, 1, "failed", error, 0.0) for number in range(1, 200)], "full " * 1000)
    assert unwritten.notes_file(workspace).stat().st_size == RESERVED_BYTES
    read = unwritten.read_ends(workspace)
    assert len(read) > 10
    assert read[0].job_id == 1


@pytest.mark.parametrize("text", ["[", "{}", '{"ends": [{"job_id": 1}]}', '{"ends": 5, "why": ""}', "\0"])
def test_notes_that_cannot_be_read_count_for_nothing(
    workspace: wb.Workspace, worker: Worker, text: str
) -> None:
    unwritten.notes_file(workspace).write_text(text)
    assert unwritten.read_ends(workspace) == []


@pytest.mark.parametrize("gone", ["worker", "process"])
def test_a_job_whose_process_is_gone_is_seen_to_have_ended_in_a_workspace_that_can_only_be_read(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    dead = {"worker_pid": 2**22 + 5, "worker_pid_started": "never", "pid": 2**22 + 5, "pid_started": "never"}
    row = running(workspace, **dead, **({} if gone == "worker" else {"worker_id": ""}))
    run = records.RunRecord(experiment_id=0, host=processes.host(), pid=2**22 + 5, pid_started="never")
    run_id = workspace.store.add_run(run, "e").id or 0

    def refuse(*_: object, **__: object) -> None:
        raise ReadOnly("the workspace can only be read: it is on a read-only disk")

    monkeypatch.setattr(type(workspace.store), "_writing", refuse)
    for job in (workspace.job(row.id or 0), workspace.jobs()[0]):
        assert job.status == "failed"
        assert "this could not be written" in str(job.error)
    for found in (workspace.run(run_id), workspace.runs()[0]):
        assert found.status == "lost"
        assert "read-only disk" in str(found.error)
    assert workspace.compare([run_id]).runs[0].status == "lost"
    assert workspace.run(run_id).outcome["status"] == "lost"
