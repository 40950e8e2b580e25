"""Heartbeats: when a server marks a run from another machine as lost, and when it does not."""

from __future__ import annotations

import time

import pytest

import workbench as wb
from workbench.runs.heartbeats import ABANDONED_SECONDS, SILENT_SECONDS, Hearing
from workbench.store import records


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ahead(workspace: wb.Workspace, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The store's clock follows the other one."""
    start = time.time()
    monkeypatch.setattr(workspace.store, "clock", lambda: start + clock.now - 1000.0)
    return clock


def sent(home: wb.Workspace, key: str = "k") -> int:
    return home.store.add_sent_run(records.RunRecord(experiment_id=0), "e", key).id or 0


def test_a_run_that_is_silent_for_too_long_is_lost(workspace: wb.Workspace, ahead: Clock) -> None:
    workspace.hearing = Hearing(timer=ahead)
    run_id = sent(workspace)
    workspace.hearing.heard(run_id)
    ahead.now += SILENT_SECONDS - 1
    assert workspace.run(run_id).status == "running"
    ahead.now += 2
    run = workspace.run(run_id)
    assert run.status == "lost"
    assert run.error == {
        "type": "Lost",
        "message": "no heartbeat for 90 s from the process that logs the run",
    }
    assert workspace.runs()[0].outcome["status"] == "lost"


def test_a_sign_of_life_is_enough(workspace: wb.Workspace, ahead: Clock) -> None:
    workspace.hearing = Hearing(timer=ahead)
    run_id = sent(workspace)
    for _ in range(10):
        ahead.now += SILENT_SECONDS - 1
        workspace.hearing.heard(run_id)
        assert workspace.runs()[0].status == "running"


def test_while_a_server_is_stopped_nobody_is_silent(workspace: wb.Workspace, ahead: Clock) -> None:
    run_id = sent(workspace)
    ahead.now += 10 * SILENT_SECONDS  # workers and other readers receive no heartbeats, and know it
    assert workspace.run(run_id).status == "running"
    workspace.hearing = Hearing(timer=ahead)  # restarted: silence is counted from now on
    assert workspace.run(run_id).status == "running"
    ahead.now += SILENT_SECONDS + 1
    assert workspace.run(run_id).status == "lost"


def test_what_another_server_hears_counts(workspace: wb.Workspace, ahead: Clock) -> None:
    workspace.hearing = Hearing(timer=ahead)
    run_id = sent(workspace)
    ahead.now += SILENT_SECONDS + 1
    with workspace.store._writing() as connection:
        connection.exec_driver_sql("update sender set heard_at = ?", (workspace.store.clock(),))
    assert workspace.run(run_id).status == "running"


def test_a_clock_that_jumps_ahead_ends_nothing(
    workspace: wb.Workspace, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.hearing = Hearing(timer=clock)
    run_id = sent(workspace)
    monkeypatch.setattr(workspace.store, "clock", lambda: time.time() + 10 * SILENT_SECONDS)
    assert workspace.run(run_id).status == "running"


def test_after_a_day_of_silence_any_reader_marks_it_lost(workspace: wb.Workspace, ahead: Clock) -> None:
    run_id = sent(workspace)
    ahead.now += ABANDONED_SECONDS - 5
    assert workspace.run(run_id).status == "running"
    ahead.now += 10
    assert workspace.run(run_id).status == "lost"


def test_one_that_spoke_between_the_look_and_the_end_goes_on(workspace: wb.Workspace) -> None:
    run_id = sent(workspace)
    seen = workspace.store.heard_of([run_id])[run_id]
    workspace.store.take_batch(run_id, "k", 0, {}, {})
    assert not workspace.store.end_run(run_id, "lost", heard_at=seen)
    assert workspace.run(run_id).status == "running"


def test_runs_of_this_machine_and_imported_ones_are_not_listened_for(
    workspace: wb.Workspace, ahead: Clock
) -> None:
    workspace.hearing = Hearing(timer=ahead)
    local = workspace.start_run("e")
    imported = workspace.store.put_run(records.RunRecord(experiment_id=0, origin="mlflow:1"), "e")
    assert workspace.store.take_batch(local.id, "guest", 0, {}, {}) == 0  # a guest is not the owner
    ahead.now += 2 * ABANDONED_SECONDS
    assert local.refresh().status == "running"
    assert workspace.run(imported.id or 0).status == "running"
