"""One handle, two backends: a type checker reports what a run, job or workspace does not offer."""

import re
import subprocess
import sys
from pathlib import Path

import workbench as wb
from workbench.jobs.local import LocalJob
from workbench.remote.jobs import RemoteJob
from workbench.remote.runs import RemoteRun
from workbench.runs.local import LocalRun

ROOT = Path(__file__).parents[2]

#: What a user might write. The lines that a type checker must report end with what it says.
PROGRAM = """
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

Half(records.Job(type="eval"))  #: Cannot instantiate abstract class "Half"
"""


def test_a_type_checker_sees_what_a_handle_cannot_do(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    found = re.findall(r"program\.py:(\d+): error: (.*)", done.stdout)
    expected = [
        (number, line.partition("  #: ")[2])
        for number, line in enumerate(PROGRAM.split("\n"), 1)
        if "  #: " in line
    ]
    assert [int(number) for number, _ in found] == [number for number, _ in expected], (
        done.stdout + done.stderr
    )
    for (_, message), (_, text) in zip(found, expected, strict=True):
        assert text in message


def test_the_common_classes_are_abstract_and_each_backend_is_whole() -> None:
    for common, kinds in (
        (wb.Run, (LocalRun, RemoteRun)),
        (wb.Job, (LocalJob, RemoteJob)),
        (wb.BaseWorkspace, (wb.Workspace, wb.RemoteWorkspace)),
    ):
        assert common.__abstractmethods__
        for kind in kinds:
            assert issubclass(kind, common)
            assert not kind.__abstractmethods__
    assert not issubclass(RemoteRun, LocalRun)
    assert not issubclass(wb.RemoteWorkspace, wb.Workspace)
