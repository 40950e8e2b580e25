"""A disk that is full for a while, on a small file system of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.report import Report

HERE = Path(__file__).parent

# By name, since some package among those installed may be called `tests` as well.
RUN = f"""
import json, pathlib, sys, types
tests = sys.modules["tests"] = types.ModuleType("tests")
tests.__path__ = [{str(HERE.parent)!r}]
from tests.faults.small_disk import scenario
print(json.dumps(scenario(pathlib.Path(sys.argv[1]))))
"""


def test_a_disk_that_is_full_while_jobs_run(tmp_path: Path, own_mounts: list[str], report: Report) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [*own_mounts, sys.executable, "-c", RUN, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    seen = json.loads(done.stdout)

    # Who submits is told what to do, and nothing is half queued (the scenario counted the rows).
    assert len(seen["refused"]) == 2
    for said in seen["refused"]:
        assert "full" in said or "No space left" in said, said
        assert "Free some" in said

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
