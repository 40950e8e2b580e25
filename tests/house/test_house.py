"""The top level of the repository, and files that must agree with each other."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOP = {
    "notebooks",
    "workbench",
    "adapters",
    "results",
    "tests",
    "environment.yml",
    "pyproject.toml",
    "README.md",
}


def tracked() -> list[str]:
    return subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()


def requirement_name(line: str) -> str:
    return re.match(r"[A-Za-z0-9_.-]+", line)[0].lower()


def test_the_top_level_has_only_the_agreed_entries() -> None:
    tops = {Path(name).parts[0] for name in tracked()}
    assert {top for top in tops if not top.startswith(".")} == TOP


def test_results_keeps_only_its_readme() -> None:
    assert [name for name in tracked() if name.startswith("results/")] == ["results/README.md"]


def test_adapters_is_a_namespace_package() -> None:
    assert not (ROOT / "adapters" / "__init__.py").exists()


def test_the_conda_environment_matches_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, nested = environment["dependencies"]
    assert pip == "pip"
    assert python == "python" + PYPROJECT["project"]["requires-python"]
    extras = PYPROJECT["project"]["optional-dependencies"]
    listed = nested["pip"]
    # each requirement by name, so that the file lists all packages, then the project itself
    assert listed[-1] == "-e ."
    required = PYPROJECT["project"]["dependencies"] + [line for extra in extras.values() for line in extra]
    assert listed[:-1] == sorted({line for line in required if not line.startswith("notebook-workbench[")})


@pytest.mark.parametrize("extra", sorted(PYPROJECT["project"]["optional-dependencies"]))
def test_each_requirement_is_named_once(extra: str) -> None:
    names = [requirement_name(line) for line in PYPROJECT["project"]["optional-dependencies"][extra]]
    names += [requirement_name(line) for line in PYPROJECT["project"]["dependencies"]]
    assert len(names) == len(set(names))


def test_the_readme_shows_its_two_commands_first() -> None:
    first_screen = (ROOT / "README.md").read_text()[:3000]
    for command in (
        'python3 -m venv .venv && .venv/bin/pip install -e ".[demo]" && .venv/bin/workbench demo',
        'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest',
    ):
        assert command in first_screen


def test_the_readme_ends_with_its_changes() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert headings[-1] == "Changes"


def test_the_readmes_links_and_pictures_exist() -> None:
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r'src="([^":]+)"', text)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
