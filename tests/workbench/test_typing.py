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

#: What a user might write. The lines that a type checker must report end with what it says.
HANDLES = """
import workbench as wb
from workbench.store import records

def use(ws: wb.BaseWorkspace) -> float:
    run = ws.start_run("question", tags={"who": "me"})
    run.log({"loss": 0.5}, step=1)
    run.flush()
    kept = run.log_checkpoint("best.bin", "best.bin", keep_best=1, metric="loss")
    print(kept.name)  #: Item "None" of "Path | None" has no attribute "name"
    run.folder  #: "Run" has no attribute "folder"
    job = ws.submit("eval", "toy").wait()
    print(job.result, job.logs(), job.retry().id)
    job.folder  #: "Job" has no attribute "folder"
    return float(run.summary["loss"]["last"])

with wb.connect("http://localhost:8888") as remote:
    use(remote)
    remote.start_run("question").log({"loss": 0.5})
    remote.start_run("question").checkpoint_dir  #: "RemoteRun" has no attribute "checkpoint_dir"
    remote.job(1).folder  #: "RemoteJob" has no attribute "folder"
    remote.path  #: "RemoteWorkspace" has no attribute "path"
    local: wb.Workspace = remote  #: Incompatible types in assignment

with wb.Workspace("results") as home:
    use(home)
    print(home.path, home.start_run("question").checkpoint_dir, home.job(1).folder)

class Half(wb.Job):
    def retry(self) -> int:  #: Return type "int" of "retry" incompatible
        return 1

Half(records.JobRecord(type="eval"))  #: Cannot instantiate abstract class "Half"
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of a user's files, and of a package as `workbench new adapter` writes it."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "mine.py").write_text(USER, encoding="utf-8")
    (folder / "handles.py").write_text(HANDLES, encoding="utf-8")
    # Reading the types of these takes most of the time, and none of them reaches the face.
    heavy = "torch.*,sqlalchemy.*,matplotlib.*,IPython.*,scipy.*"
    (folder / "mypy.ini").write_text(f"[mypy]\n[mypy-{heavy}]\nfollow_imports = skip\n")
    package, _ = write_adapter("my_model", folder)
    # On the interpreter's path, and not on mypy's: so it is seen as what is installed is.
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "mine.py", "handles.py", str(package / "my_model")],
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
    errors = [line for line in said if ": error:" in line and not line.startswith("handles.py")]
    assert len(errors) == 1, said
    assert errors[0].startswith("mine.py:15: error: Module has no attribute")
    assert "Workspaces" in errors[0]


def test_a_handle_offers_what_its_backend_can_do(said: list[str]) -> None:
    found = re.findall(r"^handles\.py:(\d+): error: (.*)", "\n".join(said), re.MULTILINE)
    expected = [
        (number, line.partition("  #: ")[2])
        for number, line in enumerate(HANDLES.split("\n"), 1)
        if "  #: " in line
    ]
    assert [int(number) for number, _ in found] == [number for number, _ in expected], said
    for (_, message), (_, text) in zip(found, expected, strict=True):
        assert text in message
