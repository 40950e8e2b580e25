"""A disk that is full for a while, on a small file system of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import python_path
from tests.faults.report import Report

HERE = Path(__file__).parent

# By name, since some package among those installed may be called `tests` as well.
RUN = """
import json, pathlib, sys, types
tests = sys.modules["tests"] = types.ModuleType("tests")
tests.__path__ = [sys.argv[2]]
from tests.faults.{module} import scenario
print(json.dumps(scenario(pathlib.Path(sys.argv[1]))))
"""


def test_a_disk_that_is_full_while_jobs_run(tmp_path: Path, own_mounts: list[str], report: Report) -> None:
    environment = {**os.environ, "PYTHONPATH": python_path(HERE.parents[1])}
    done = subprocess.run(
        [*own_mounts, sys.executable, "-c", RUN.format(module="small_disk"), str(tmp_path), str(HERE.parent)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    seen = json.loads(done.stdout)

    # Who submits is told what to do, and nothing is half queued (the scenario counted the rows).
    assert len(seen["refused"]) == 2
    for said in seen["refused"]:
        assert "full" in said or "No space left" in said, said
        assert "Free some" in said

    # While it is full, others read what there is, and see that the job has ended before that can be written.
    assert seen["read"]["status"] in ("succeeded", "failed")
    for words, (code, out, err) in seen["read"]["read"].items():
        assert code == 0, f"{words}: {err}"
        assert out, words
    assert seen["ended"]["status"] == seen["read"]["status"]

    # Nothing is left running, by rows or by processes; reported states did not change (the judge checked).
    assert seen["survivors"] == []
    assert seen["after"] == "succeeded"

    # The executed notebook was readable at every look, and nothing half written lies about.
    assert seen["broken"] == []
    assert seen["reads"] > 20
    assert seen["left"] == []

    # A notebook that needs no disk meanwhile goes on; its log says what is missing, its report is whole.
    talks = seen["talks"]
    assert talks["status"] == "succeeded", talks["error"]
    assert "missing: the log could not be written" in talks["log"]
    assert "all said" in talks["log"]
    assert "all said" in seen["talked"]
    for said in (talks["log"], seen["talked"], seen["talked_note"]):
        assert "Missing from output.txt: " in said

    # One that ended meanwhile, and one that keeps numbers: done in full, or failed with that reason.
    for job in (seen["ended"], seen["logged"]):
        assert job["status"] in ("succeeded", "failed")
        if job["status"] == "failed":
            words = ("full", "No space left", "disk I/O error", "could not be saved")
            assert any(word in job["error"]["message"] for word in words), job

    report.faults["full disk"] += 1
    report.ends.update(seen["ends"])
    report.acknowledged += seen["acknowledged"]
    report.settled.append((seen["settled"], "a full disk"))


def test_a_disk_that_can_only_be_read(tmp_path: Path, own_mounts: list[str], toy_package: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": python_path(toy_package, HERE.parents[1])}
    done = subprocess.run(
        [*own_mounts, sys.executable, "-c", RUN.format(module="read_only"), str(tmp_path), str(HERE.parent)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    seen = json.loads(done.stdout)
    for name in ("closed", "killed", "alone"):
        for words, (code, out, err) in seen[name]["reads"].items():
            assert code == 0 or words == "doctor", f"{name}: {words}: {err}"
            assert "Traceback" not in err
            assert out
        for words, (code, _, err) in seen[name]["writes"].items():
            assert code != 0, words
            assert "read-only disk" in err or "no job" in err
            assert "Traceback" not in err
    for name in ("killed", "alone"):
        (line,) = (line for line in seen[name]["reads"]["runs"][1].splitlines() if "killed" in line)
        assert "lost" in line
        assert "m=2" in line
    for words, (code, text) in seen["http"].items():
        refused = words in ("start", "submit", "annotate")
        assert code == (409 if refused else 200), f"{words}: {text}"
        assert ("can only be read" in text) == refused
    assert sorted(path.name for path in (tmp_path / "closed").iterdir()) == [
        "indexes",
        "runs",
        "workbench.db",
    ]
