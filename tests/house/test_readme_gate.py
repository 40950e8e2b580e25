"""The README's workflow for CI: its steps run, and its gate lets a result pass or stops it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

import workbench as wb
from tests.conftest import workspace_in
from tests.house.readme import BLOCKS, checkout, run, shorter


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    (block,) = (block for block in BLOCKS if block.language == "yaml")
    return yaml.safe_load(shorter(block.text))


def steps(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    (job,) = workflow["jobs"].values()
    return job["steps"]


def test_the_workflow_is_valid(workflow: dict[str, Any]) -> None:
    assert workflow[True] == ["pull_request"]  # YAML 1.1 reads `on` as a truth value
    (job,) = workflow["jobs"].values()
    assert job["runs-on"] == "ubuntu-latest"
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert [name.partition("@")[0] for name in used] == [
        "actions/checkout",
        "actions/setup-python",
        "actions/upload-artifact",
    ]
    assert all("run" in step or "uses" in step for step in steps(workflow))
    assert [step["run"] for step in steps(workflow) if "pip" in step.get("run", "")] == [
        'pip install -e ".[demo]"'
    ]


def test_its_steps_run_and_its_artifacts_exist(
    workflow: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = checkout(tmp_path_factory.mktemp("ci") / "project")
    scripts = [step["run"] for step in steps(workflow) if "run" in step and "pip" not in step["run"]]
    with workspace_in(folder / "results"):
        for script in scripts:
            run(folder, script)
        kept = steps(workflow)[-1]["with"]["path"].split()
        assert [pattern for pattern in kept if not list(folder.glob(pattern))] == []
        assert (
            json.loads((folder / "runs.json").read_text(encoding="utf-8"))["runs"][0]["experiment"]
            == "photos"
        )

        # The same gate a little too high: the step fails, reports by how much, and its report is kept.
        (gate,) = (script for script in scripts if "--fail-below" in script)
        high = re.sub(r"\{.*\}", '{"t2i/R@10@128": 1.01}', gate)
        assert high != gate
        run(folder, high, code=1)
    with wb.Workspace(folder / "results") as home:
        failed, passed = home.jobs(type="eval")
        assert (failed.status, passed.status) == ("failed", "succeeded")
        assert re.search(r"t2i/R@10@128.*1\.01", failed.error["message"])
        assert failed.notebook is not None
        # The rest says how long searches took, which differs.
        assert failed.result.metrics == passed.result.metrics
