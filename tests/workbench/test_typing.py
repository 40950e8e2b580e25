"""What a type checker tells somebody who uses the workbench, far from this checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.adapter.scaffold import write_adapter

ROOT = Path(__file__).parents[2]

USER = """
import workbench as wb
from adapters.vlm_quantization.data import open_collection

home = wb.Workspace("results")
with home.start_run("emoji", config={"lr": 0.1}) as run:
    run.log({"loss": 0.5}, step=1)
reveal_type(home.start_run("emoji"))
reveal_type(home.submit("eval"))
reveal_type(home.open_search("emoji"))
reveal_type(wb.get_adapter("toy"))
reveal_type(home.runs())
reveal_type(wb.panels.ComparePanel(home))
reveal_type(open_collection("emoji"))
wb.Workspaces
"""

REVEALED = [
    "workbench.runs.local.LocalRun",
    "workbench.jobs.local.LocalJob",
    "workbench.search.searcher.Searcher",
    "workbench.adapter.contract.BaseAdapter",
    "list[workbench.runs.local.LocalRun]",
    "workbench.panels.compare.panel.ComparePanel",
    "adapters.vlm_quantization.data.collection.CaptionedImages",
]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of a user's file, and of a package as `workbench new adapter` writes it."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "mine.py").write_text(USER, encoding="utf-8")
    package, _ = write_adapter("my_model", folder)
    # On the interpreter's path, and not on mypy's: so it is seen as what is installed is.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "mine.py", str(package / "my_model")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
    )
    return done.stdout.splitlines()


def test_the_types_of_the_face_reach_a_user(said: list[str]) -> None:
    revealed = [
        match[1] for line in said if (match := re.search(r'Revealed type is "(?:builtins\.)?(.+)"', line))
    ]
    assert revealed == REVEALED, said


def test_the_only_error_is_the_users_slip(said: list[str]) -> None:
    errors = [line for line in said if ": error:" in line]
    assert len(errors) == 1, said
    assert errors[0].startswith("mine.py:15: error: Module has no attribute")
    assert "Workspaces" in errors[0]
