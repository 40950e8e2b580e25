"""What can be done with a workspace on a read-only mount; ``test_disk`` runs it and says what has to hold."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import workbench as wb
from tests.workbench.conftest import live_server, make_index
from workbench import cli

LEFT_OPEN = """
import os, sys
import workbench as wb
home = wb.Workspace(sys.argv[1])
run = home.start_run("e", "killed")
run.log({"m": 2.0})
run.flush()
os.kill(os.getpid(), 9)
"""

#: What reads, and what writes.
READS = ("runs", "compare 1 2", "jobs list", "search text dog --index words", "doctor")
WRITES = ("jobs submit eval --adapter toy", "jobs cancel 1")


def commands(home: Path, words: tuple[str, ...]) -> dict[str, list[object]]:
    said: dict[str, list[object]] = {}
    for line in words:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.run([*line.split(), "--workspace", str(home)])
        said[line] = [code, out.getvalue(), err.getvalue()]
    return said


def scenario(folder: Path) -> dict[str, object]:
    """Read and write three workspaces: closed, left by a killed process, and that without shared memory."""
    homes = {name: folder / name for name in ("closed", "killed", "alone")}
    with wb.Workspace(homes["closed"]) as home:
        for name in ("one", "two"):
            with home.start_run("e", name) as run:
                run.log({"m": 1.0})
    make_index(homes["closed"], "words")
    shutil.copytree(homes["closed"], homes["killed"])
    left = subprocess.run([sys.executable, "-c", LEFT_OPEN, str(homes["killed"])], check=False)
    assert left.returncode == -signal.SIGKILL
    shutil.copytree(homes["killed"], homes["alone"])
    (homes["alone"] / "workbench.db-shm").unlink()
    seen: dict[str, object] = {}
    for name, home in homes.items():
        subprocess.run(["mount", "--bind", str(home), str(home)], check=True)
        # Flags that the mount below has may not be dropped here; more may be set.
        subprocess.run(["mount", "-o", "remount,ro,bind,nosuid,nodev,noexec", str(home)], check=True)
        reads = READS if name != "alone" else READS[:1]
        seen[name] = {"reads": commands(home, reads), "writes": commands(home, WRITES)}
    os.environ["JUPYTER_PLATFORM_DIRS"] = "1"
    with live_server(homes["closed"], folder / "state") as served:
        asked = {
            "runs": served.get("runs"),
            "jobs": served.get("jobs"),
            "compare": served.post("experiments/compare", {"runs": [1, 2]}),
            "search": served.post("search/text", {"index": "words", "query": "dog", "k": 1}),
            "start": served.post("runs", {"key": "k" * 32, "experiment": "e"}),
            "submit": served.post("jobs/eval", {"adapter": "toy"}),
            "annotate": served.ask("PATCH", "runs/1", json={"notes": "x"}),
        }
        seen["http"] = {name: [reply.status_code, reply.text] for name, reply in asked.items()}
    return seen
