"""Whoever looks many times per second asks the database only when it may have changed."""

from __future__ import annotations

import time

import pytest

import workbench as wb
from workbench.store import database
from workbench.store.database import Changes


@pytest.fixture
def changes(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> Changes:
    """Changes that have been looked at, and that trust the files for a minute."""
    monkeypatch.setattr(database, "UNSEEN_SECONDS", 60.0)
    out = Changes(workspace.store)
    assert out.due()
    return out


def test_nothing_is_due_until_somebody_commits(workspace: wb.Workspace, changes: Changes) -> None:
    assert not changes.due()
    assert workspace.runs() == []
    assert not changes.due()
    workspace.start_run("e").finish()
    assert changes.due()
    assert not changes.due()


def test_what_another_process_commits_is_due(workspace: wb.Workspace, changes: Changes) -> None:
    with wb.Workspace(workspace.path) as other:  # connections of its own, as in a process of its own
        other.start_run("e").finish()
    assert changes.due()


def test_it_is_due_after_a_second_in_any_case(
    workspace: wb.Workspace, changes: Changes, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.monotonic() + 61
    monkeypatch.setattr(database.time, "monotonic", lambda: later)
    assert changes.due()
    assert not changes.due()


def test_a_server_is_asked_every_time() -> None:
    class Server:
        written = staticmethod(lambda: None)

    changes = Changes(Server())
    assert changes.due()
    assert changes.due()


def test_a_waiting_process_reads_its_job_when_it_changes(
    workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.jobs.workers.ensure_worker", lambda home: False)
    job = workspace.submit("train", adapter="toy")
    reads: list[int] = []
    read = job.refresh
    monkeypatch.setattr(job, "refresh", lambda: reads.append(1) or read())
    monkeypatch.setattr(database, "UNSEEN_SECONDS", 60.0)
    with pytest.raises(TimeoutError):
        job.wait(timeout=0.6)
    assert len(reads) <= 2  # one, and perhaps one for what the submission committed last
    workspace.job(job.id).cancel()
    assert job.wait(check=False).status == "cancelled"
