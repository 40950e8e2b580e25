"""What only a Dask cluster does: schedulers that are not there, clients of other people, nodes that end."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import workbench as wb
from tests.waiting import until
from workbench.engine.cluster import Cluster
from workbench.engine.dask import DaskEngine
from workbench.engine.node import NO_SCHEDULER
from workbench.engine.opening import open_engine
from workbench.engine.running import run_tasks
from workbench.engine.task import Task


@pytest.fixture
def work(task_path: None) -> Any:
    return importlib.import_module("engine_tasks")


def nobody() -> int:
    """Return a port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tasks_in(folder: Path, function: Any, count: int, **given: Any) -> list[Task]:
    return [
        Task(f"part {n}", function, {"folder": str(folder), "number": n, **given}, str(folder / f"{n}"))
        for n in range(count)
    ]


def test_a_scheduler_that_does_not_answer_is_waited_for_a_while(tmp_path: Path, work: Any) -> None:
    words: list[str] = []
    tasks, lost = (
        tasks_in(tmp_path, work.square, 2),
        r"has not answered for 0 s\nStart it again and run the job",
    )
    engine = DaskEngine(f"tcp://127.0.0.1:{nobody()}", patience=0.5)
    with engine, pytest.raises(wb.EngineLost, match=lost):
        run_tasks(tasks, engine, lambda state: words.append(state.words))
    assert any("0 workers; waiting for the scheduler, for" in one for one in words)


def test_a_client_of_somebody_is_used_and_stays_open(cluster: Cluster, tmp_path: Path, work: Any) -> None:
    from distributed import Client

    with Client(cluster.scheduler, set_as_default=False) as client:
        with open_engine(client) as engine:
            assert run_tasks(tasks_in(tmp_path, work.square, 3), engine).tasks == 3
        assert client.status == "running"


def test_a_scheduler_that_is_killed_is_waited_for_and_nothing_is_done_twice(
    cluster: Cluster, tmp_path: Path, work: Any
) -> None:
    killed: list[int] = []

    def kill(state: wb.TasksProgress) -> None:
        if state.tasks >= 2 and not killed:
            killed.extend(cluster.pids["scheduler"])
            os.kill(killed[0], signal.SIGKILL)

    with open_engine(cluster.address) as engine:
        until(lambda: engine.workers == 2)
        state = run_tasks(tasks_in(tmp_path, work.square, 6, seconds=0.05), engine, kill)
    assert state.tasks == 6
    assert killed
    made = [line for line in work.noted(tmp_path) if line.startswith("made")]
    assert len(set(made)) == 6
    assert cluster.pids["scheduler"] != killed


def test_a_worker_without_its_scheduler_ends_by_itself() -> None:
    command = [sys.executable, "-m", "workbench.engine.node", "worker", "--patience", "1"]
    ended = subprocess.run([*command, "--address", f"tcp://127.0.0.1:{nobody()}"], check=False, timeout=120)
    assert ended.returncode == NO_SCHEDULER


def test_a_port_in_use_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(wb.EngineLost, match=r"the scheduler ended at once \(exit code 1\)\nIs its port"):
            Cluster(0, port=taken.getsockname()[1])


def test_the_process_of_a_worker_that_is_killed_ends_with_it(
    cluster: Cluster, tmp_path: Path, work: Any
) -> None:
    """And its task goes on elsewhere."""
    killed: list[int] = []

    def kill(state: wb.TasksProgress) -> None:
        began = [line for line in work.noted(tmp_path) if line.startswith("began")]
        if began and not killed:
            child = psutil.Process(int(began[0].split()[2]))
            killed.extend([child.pid, child.ppid()])
            os.kill(child.ppid(), signal.SIGKILL)

    with open_engine(cluster.address) as engine:
        assert run_tasks(tasks_in(tmp_path, work.square, 2, seconds=1), engine, kill).tasks == 2
    assert len(killed) == 2
    until(lambda: not any(map(psutil.pid_exists, killed)))
