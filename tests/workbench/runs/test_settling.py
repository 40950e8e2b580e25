"""Runs whose process is gone end as lost; those whose process is there, or cannot be seen, go on."""

from __future__ import annotations

import subprocess
import sys

import workbench as wb
from workbench.host import processes
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
