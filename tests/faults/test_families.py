"""Processes that are hard to end, and hosts that are hard to tell apart."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import workbench as wb
from tests.faults.stack import until
from workbench.host import processes

#: Each begins four others.
SWARMS = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
left = 4
while True:
    if left and os.fork() == 0:
        os.setsid()
    left = max(left - 1, 0)
    time.sleep(0.05)
"""


def test_a_family_that_breeds_is_ended() -> None:
    token = secrets.token_hex(8)
    command = [sys.executable, "-S", "-c", SWARMS]
    with subprocess.Popen(command, env={processes.TOKEN: token}, start_new_session=True):
        until(lambda: processes.carriers(token), "it lives")
        time.sleep(0.3)
        assert processes.kill_family(None, token, seconds=20.0) == []
        time.sleep(0.2)
        assert processes.carriers(token) == []


def test_processes_that_are_numbered_anew_are_on_another_host(own_mounts: list[str]) -> None:
    command = [sys.executable, "-c", "from workbench.host import processes; print(processes.host())"]
    inside = [*own_mounts, "--pid", "--fork", "--mount-proc", *command]
    here, there = (
        subprocess.run(each, capture_output=True, text=True, check=True).stdout.strip()
        for each in (command, inside)
    )
    assert here == processes.host()
    assert there.startswith(here)
    assert there != here


LOGS_IN_A_CONTAINER = """
import sys, time
import workbench as wb
home = wb.Workspace(sys.argv[1])
with home.start_run("e", name=sys.argv[2]) as run:
    for step in range(10):
        run.log({"loss": float(step)}, step=step)
        run.flush()
        print(step, flush=True)
        sys.stdin.readline()
print(home.run(run.id).status, len(run.metric_points("loss")))
"""


def test_a_run_in_a_container_is_alive_for_all_who_look(tmp_path: Path, own_mounts: list[str]) -> None:
    """Same host name, same boot, another numbering of processes, as with ``docker run --net=host``."""
    inside = [*own_mounts, "--pid", "--fork", "--mount-proc", sys.executable, "-c", LOGS_IN_A_CONTAINER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with wb.Workspace(tmp_path / "results") as home:
        path = str(home.path)
        lives = subprocess.Popen([*inside, path, "lives"], start_new_session=True, **pipes)
        dies = subprocess.Popen([*inside, path, "dies"], start_new_session=True, **pipes)
        assert lives.stdin
        assert lives.stdout
        assert dies.stdout
        try:
            lives.stdout.readline()
            dies.stdout.readline()
            states = {run.name: run.status for run in home.runs()}
            assert states == {"lives": "running", "dies": "running"}
            os.killpg(dies.pid, signal.SIGKILL)
            dies.wait(300)
            if not processes.numbering():  # who is in a container cannot see that another one is gone
                until(lambda: home.runs()[0].status + home.runs()[1].status != "running" * 2, "one ends")
                lost = next(run for run in home.runs() if run.status == "lost")
                assert lost.name == "dies"
                assert "gone from its container" in str(lost.error)
            out, _ = lives.communicate("\n" * 10, timeout=300)
            assert out.split()[-2:] == ["succeeded", "10"]
            (run,) = (run for run in home.runs() if run.name == "lives")
            assert (run.status, len(run.metric_points("loss"))) == ("succeeded", 10)
        finally:
            for process in (lives, dies):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
