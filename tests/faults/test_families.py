"""Processes that are hard to end, and hosts that are hard to tell apart."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time

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
        until(lambda: processes.carriers(token), 10, "it lives")
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
