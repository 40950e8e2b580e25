"""SIGKILL at every write of an import: importing again completes it, and no half of a run looks finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.faults.report import Report
from tests.workbench.runs.imports.event_files import NOW, losses, restart, settings, write
from tests.workbench.runs.imports.test_mlflow_files import GOOD, add_run

SCRIPT = Path(__file__).with_name("import_kills.py")


def record(folder: Path, *, later: bool) -> None:
    """Write what TensorBoard and MLflow recorded; later: one run went on, one restarted, one is new."""
    tb, mlruns = folder / "tb", folder / "mlruns"
    write(tb / "grows", 1, [settings(lr=0.5), *losses(0, [1, 2, 3, 4, *([5, 6, 7, 8] if later else [])])])
    write(tb / "restarts", 2, losses(0, [9, 8, 7, 6]))
    if later:
        write(tb / "restarts", 3, [restart(2, NOW + 100), *losses(2, [1, 2], NOW + 100)], NOW + 100)
        write(tb / "new", 4, losses(0, [3, 2, 1, 0]))
    metric = add_run(mlruns, GOOD) / "metrics" / "loss"
    metric.write_text("".join(f"17000000000{at:02} {at}.5 {at}\n" for at in range(9 if later else 5)))


#: Every write with ``--long``; else every third, which is before and after a commit in turn.
EVERY = 3


def test_an_import_that_is_killed_at_any_write_is_completed_by_the_next(
    tmp_path: Path, long_form: bool, report: Report
) -> None:
    every = 1 if long_form else EVERY
    record(tmp_path / "first", later=False)
    record(tmp_path / "then", later=True)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), str(every)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["faults"] == []
    assert told["kills"] >= 50 // every
    assert len(told["runs"]) == 4
    assert {run["status"] for run in told["runs"].values()} == {"succeeded"}
    report.kills["at a write of an import"] += told["kills"]
