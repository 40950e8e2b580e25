"""Runs whose process is gone end as lost; those whose process is there, or cannot be seen, go on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import workbench as wb
from workbench.host import processes
from workbench.runs.heartbeats import ABANDONED_SECONDS
from workbench.runs.settling import settle_runs
from workbench.store import records


def add(home: wb.Workspace, host: str, pid: int, started: str) -> int:
    row = records.RunRecord(experiment_id=0, host=host, pid=pid, pid_started=started)
    return home.store.add_run(row, "e").id or 0


def test_a_run_is_lost_with_its_process(workspace: wb.Workspace) -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine, here = processes.this_process(), processes.host()
    kept = add(workspace, here, mine.pid, mine.started)
    elsewhere = add(workspace, "another-host/1", 1, "1")
    gone = add(workspace, here, process.pid, processes.started(process.pid))
    assert not settle_runs(workspace.store)
    process.communicate(b"\n")
    assert settle_runs(workspace.store)
    rows = {run.id: run for run in workspace.store.runs()}
    assert [rows[number].status for number in (kept, elsewhere, gone)] == ["running", "running", "lost"]
    assert "gone" in str(rows[gone].error)
    assert not settle_runs(workspace.store)  # once is enough


def test_only_the_runs_that_are_given_are_looked_at(workspace: wb.Workspace) -> None:
    first, second = (add(workspace, processes.host(), 2**22 + 5, "never") for _ in range(2))
    row = workspace.store.run(first)
    assert row is not None
    assert settle_runs(workspace.store, [row])
    states = {run.id: run.status for run in workspace.store.runs()}
    assert (states[first], states[second]) == ("lost", "running")


#: Two machines with one name, one machine before a restart, and two containers on it.
NAME, BOOT = "node", "00000001"


@pytest.mark.parametrize(
    ("here", "where", "lost"),
    [
        (
            f"{NAME}/{BOOT}",
            f"{NAME}/{BOOT}/4026532221",
            False,
        ),  # processes are hidden
        (f"{NAME}/{BOOT}/4026532221", f"{NAME}/{BOOT}", False),  # seen from a container
        (f"{NAME}/{BOOT}/4026532221", f"{NAME}/{BOOT}/4026532222", False),  # from another container
        (f"{NAME}/{BOOT}", f"{NAME}/00000002", True),
        (f"{NAME}/{BOOT}/4026532221", f"{NAME}/00000002/4026532221", True),
        (f"{NAME}/{BOOT}", f"{NAME}/-", False),  # a system that names no boot
        (f"{NAME}/{BOOT}", f"other/{BOOT}", False),
    ],
)
def test_only_another_boot_of_the_same_host_ends_a_run_that_cannot_be_seen(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, here: str, where: str, lost: bool
) -> None:
    run_id = add(workspace, where, 7, "123")
    monkeypatch.setattr(processes, "host", lambda: here)
    monkeypatch.setattr(processes, "_inner_processes", lambda: None)
    assert settle_runs(workspace.store) == lost
    assert workspace.run(run_id).status == ("lost" if lost else "running")


def test_from_outside_its_container_a_process_is_seen_to_live_and_to_be_gone(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = f"{NAME}/{BOOT}/4026532221"
    lives, gone = add(workspace, inner, 7, "123"), add(workspace, inner, 7, "45")
    # In containers many processes have one number, and may have begun in the same hundredth of a second.
    twin, hidden = add(workspace, inner, 1, "6"), add(workspace, inner, 2, "6")
    own, other = "4026532221", "4026532299"
    seen = {(own, 7, "123"), (own, 1, "45"), (other, 1, "6"), ("", 2, "6")}
    monkeypatch.setattr(processes, "host", lambda: f"{NAME}/{BOOT}")
    monkeypatch.setattr(processes, "_inner_processes", lambda: seen)
    settle_runs(workspace.store)
    states = [workspace.run(one).status for one in (lives, gone, twin, hidden)]
    assert states == ["running", "lost", "lost", "running"]
    assert "gone from its container" in str(workspace.run(gone).error)


def test_a_run_in_a_container_is_lost_after_a_day_without_a_note(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = workspace.store.clock()
    where = f"{processes.host()}/1"
    monkeypatch.setattr(processes, "_inner_processes", lambda: None)
    silent, noted = add(workspace, where, 1, "1"), add(workspace, where, 2, "2")
    monkeypatch.setattr(workspace.store, "clock", lambda: now)
    workspace.store.note_alive([silent, noted], "key")
    monkeypatch.setattr(workspace.store, "_clock", lambda _: now + ABANDONED_SECONDS)
    workspace.store.note_alive([noted], "key")
    monkeypatch.setattr(workspace.store, "clock", lambda: now + ABANDONED_SECONDS + 10)
    settle_runs(workspace.store)
    assert [workspace.run(one).status for one in (silent, noted)] == ["lost", "running"]
    assert "no heartbeat for 24 h" in str(workspace.run(silent).error)


def test_processes_in_containers_can_be_listed() -> None:
    """This process is in none, unless the tests themselves run in one."""
    seen = processes._inner_processes()
    own = (os.getpid(), processes.started(os.getpid()))
    assert seen is None or processes.numbering() or own not in {process[1:] for process in seen}
