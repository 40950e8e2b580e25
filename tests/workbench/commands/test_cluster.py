"""``workbench cluster certs``, ``start`` and ``join``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import workbench as wb
from tests.waiting import until
from workbench import cli
from workbench.engine.certificates import make_certificates
from workbench.engine.dask import DaskEngine
from workbench.engine.opening import open_engine
from workbench.engine.running import run_tasks
from workbench.engine.task import Task


def test_a_pair_is_made_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "certs"
    assert cli.run(["cluster", "certs", str(folder), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"certificate": str(folder / "cluster.crt"), "key": str(folder / "cluster.key")}
    assert stat.S_IMODE((folder / "cluster.key").stat().st_mode) == 0o600
    assert cli.run(["cluster", "certs", str(folder)]) == 1
    assert "already has cluster.crt and cluster.key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["certs", "x", "--days", "0"], "days must be 1 to 3,650"),
        (["start", "--host", "0.0.0.0"], "could be used by anybody on the network"),  # noqa: S104
        (["start", "--certs", "/nowhere"], "/nowhere/cluster.crt: no such file"),
        (["start", "--workers", "1000"], "--workers must be at most 256, got 1,000"),
        (["join", "dask://10.0.0.5:8786"], "without TLS anybody on the way"),
        (["join", "local:2"], "'local:2' is no scheduler"),
        (["join", "tls://10.0.0.5:8786", "--certs", "/nowhere"], "no such file"),
    ],
)
def test_what_cannot_work_is_refused_in_words(
    words: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["cluster", *words]) == 2
    assert problem in capsys.readouterr().err


def listening(pid: int) -> list[str]:
    return [one.laddr.ip for one in psutil.Process(pid).net_connections("inet") if one.status == "LISTEN"]


def test_a_cluster_of_ours_with_tls_is_this_machines_only_and_ends_whole(tmp_path: Path) -> None:
    """Also a worker that has joined it ends, when it is asked to."""
    assert cli.run(["cluster", "certs", str(tmp_path / "certs")]) == 0
    command = [sys.executable, "-m", "workbench.cli", "cluster"]
    more = ["--certs", str(tmp_path / "certs"), "--workers", "1", "--json"]
    start = subprocess.Popen(
        [*command, "start", "--port", "0", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert start.stdout is not None
    lines = [start.stdout.readline() for _ in range(4)]
    engine = json.loads("".join(lines))["engine"]
    assert engine.startswith("tls://127.0.0.1:")
    join = subprocess.Popen([*command, "join", engine, "--workers", "1"], stderr=subprocess.DEVNULL)
    try:
        with open_engine(engine) as opened:
            until(lambda: opened.workers == 2)
        stranger = make_certificates(tmp_path / "others")
        address = engine.partition("?")[0]
        refused = DaskEngine(address, stranger, patience=0.1)
        with refused, pytest.raises(wb.EngineLost):
            run_tasks([Task("part", shutil.copyfile, "", str(tmp_path / "part"))], refused)
        nodes = [child.pid for one in (start, join) for child in psutil.Process(one.pid).children()]
        assert len(nodes) == 3
        assert {ip for pid in nodes for ip in listening(pid)} == {"127.0.0.1"}
    finally:
        join.send_signal(signal.SIGTERM)
        os.kill(start.pid, signal.SIGKILL)
    assert join.wait(60) == 0
    start.wait()
    start.stdout.close()
    until(lambda: not any(map(psutil.pid_exists, nodes)))
