"""The panel notebooks run from top to bottom, in an empty workspace and in one with results."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import workbench as wb

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
PANELS = ("start_here", "jobs", "search_demo", "compare")
PATIENCE = 240


def nbval(home: wb.Workspace) -> None:
    """Run the notebooks under nbval, which fails if a cell raises."""
    paths = [str(NOTEBOOKS / f"{name}.ipynb") for name in PANELS]
    flags = ["-p", "nbval", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=60"]
    flags += ["-q", "-n0", "-p", "no:cacheprovider"]
    # Warnings of nbval's own kernel client are not the notebooks' fault.
    flags += ["-o", "filterwarnings=default"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *flags, *paths],
        env={**os.environ, "WORKBENCH_HOME": str(home.path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    cells = sum(path.read_text().count('"cell_type": "code"') for path in map(Path, paths))
    assert f"{cells} passed" in done.stdout


@pytest.mark.usefixtures("toy")
def test_they_run_in_an_empty_workspace(workspace: wb.Workspace) -> None:
    nbval(workspace)


@pytest.mark.usefixtures("toy")
def test_they_run_on_results(workspace: wb.Workspace) -> None:
    for job_type in ("train", "eval", "index_build"):
        workspace.submit(job_type, adapter="toy").wait(timeout=PATIENCE)
    nbval(workspace)
