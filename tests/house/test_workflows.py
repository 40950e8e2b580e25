"""The workflows that check each change: what they run, on which Pythons, and what they may do."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

#: The Python versions that the package's classifiers promise.
PYTHONS = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.M)


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def only_job(name: str) -> dict[str, Any]:
    (job,) = load(name)["jobs"].values()
    return job


def action(job: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the inputs of the one step that uses an action."""
    (step,) = (step for step in job["steps"] if step.get("uses", "").startswith(f"actions/{name}@"))
    return step["with"]


def scripts(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


every_workflow = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_one_workflow_tests_and_one_builds_the_wheel() -> None:
    assert {path.name for path in FILES} == {"tests.yml", "wheel.yml"}


@every_workflow
def test_a_workflow_checks_pull_requests_and_main(path: Path) -> None:
    triggers = load(path.name)[True]  # YAML 1.1 reads `on` as a truth value
    assert triggers == {"push": {"branches": ["main"]}, "pull_request": None}


@every_workflow
def test_a_workflow_may_only_read_the_code(path: Path) -> None:
    workflow = load(path.name)
    assert workflow["permissions"] == {"contents": "read"}
    assert [name for name, job in workflow["jobs"].items() if "permissions" in job] == []
    assert "secrets." not in path.read_text(encoding="utf-8")
    for job in workflow["jobs"].values():
        assert action(job, "checkout")["persist-credentials"] is False


@every_workflow
def test_a_workflow_ends_and_gives_way_to_a_newer_push(path: Path) -> None:
    workflow = load(path.name)
    group = workflow["concurrency"]["group"]
    assert "github.workflow" in group
    assert "github.ref" in group
    assert "pull_request" in workflow["concurrency"]["cancel-in-progress"]
    assert all(0 < job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


@every_workflow
def test_actions_are_pinned_to_commits_and_kept_up_to_date(path: Path) -> None:
    uses = re.findall(r"uses: (\S+)(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert uses
    for name, comment in uses:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", name)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{name}: which release is it?"
    dependabot = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    updated = [(entry["package-ecosystem"], entry["directory"]) for entry in dependabot["updates"]]
    assert ("github-actions", "/") in updated


@every_workflow
def test_packages_are_cached_by_what_decides_about_them(path: Path) -> None:
    for job in load(path.name)["jobs"].values():
        inputs = action(job, "setup-python")
        assert inputs["cache"] == "pip"
        assert inputs["cache-dependency-path"] == "pyproject.toml"


@every_workflow
def test_the_steps_are_bash_that_parses(path: Path) -> None:
    for script in scripts(only_job(path.name)):
        subprocess.run(["bash", "-n"], input=re.sub(r"\$\{\{.*?\}\}", "x", script), text=True, check=True)


def test_ci_runs_on_each_python_the_package_promises() -> None:
    job = only_job("tests.yml")
    assert PYTHONS == ["3.11", "3.12", "3.13"]
    assert job["strategy"]["matrix"] == {"python": PYTHONS}
    assert job["strategy"]["fail-fast"] is False
    assert action(job, "setup-python")["python-version"] == "${{ matrix.python }}"
    assert scripts(job)[-1] == ".ci/run"
    # The script uses the python3 that the step before put first on the path.
    assert "\n(python3 -m venv" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_wheel_is_built_checked_installed_and_examined_in_this_order() -> None:
    job = only_job("wheel.yml")
    assert action(job, "setup-python")["python-version"] in PYTHONS
    whole = "\n".join(scripts(job))
    needed = (
        "-m build\n",
        "twine check --strict dist/*",
        "-m venv ",
        '/pip" install dist/*.whl',
        "workbench doctor",
    )
    places = [whole.index(command) for command in needed]
    assert places == sorted(places)
    # What is examined is the wheel: nothing is installed from the checkout, and the doctor runs elsewhere.
    assert "-e ." not in whole
    (examined,) = (step for step in job["steps"] if "workbench doctor" in step.get("run", ""))
    assert examined["working-directory"] == "${{ runner.temp }}"
