"""What a newcomer reads before taking part: the guides and the forms say what is true of this project."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
ADVISORY = PROJECT["urls"]["Source"] + "/security/advisories/new"

GUIDES = [
    GITHUB / "CONTRIBUTING.md",
    GITHUB / "SECURITY.md",
    ROOT / ".binder" / "README.md",
    ROOT / ".devcontainer" / "README.md",
]
TEMPLATE = GITHUB / "pull_request_template.md"
FORMS = [GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug_report", "feature_request")]

#: What GitHub's forms need for each kind of field, besides its label.
FIELDS: dict[str, set[str]] = {
    "markdown": {"value"},
    "textarea": set(),
    "input": set(),
    "dropdown": {"options"},
    "checkboxes": {"options"},
}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def form(path: Path) -> dict[str, Any]:
    return yaml.safe_load(text(path))


def shell_lines(path: Path) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", text(path), re.MULTILINE | re.DOTALL)
    return "".join(blocks).splitlines()


# Guides -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_links_and_files_a_guide_names_exist(path: Path) -> None:
    links = set(re.findall(r"\]\(([^)#]+)\)", text(path)))
    outside = {link for link in links if ":" in link}
    named = set(re.findall(r"`([\w.-]+/[\w./-]*|\.[a-z]\w+|\w+\.(?:toml|yml|json|ipynb))`", text(path)))
    assert links | named
    assert [link for link in outside if not link.startswith(PROJECT["urls"]["Source"] + "/")] == []
    assert [link for link in links - outside if not (path.parent / link).exists()] == []
    made = {".venv"}  # by the commands beside it
    places = (ROOT, path.parent)
    assert [name for name in named - made if not any((place / name).exists() for place in places)] == []


def test_commands_of_the_workbench_that_are_named_exist() -> None:
    words = "\n".join(text(path) for path in [*GUIDES, TEMPLATE, *FORMS])
    commands = set(re.findall(r"`workbench (--\w+|[a-z]+(?: [a-z]+)*)", words))
    assert commands >= {"doctor", "jobs logs", "--version"}
    for command in sorted(commands):
        line = [command] if command.startswith("--") else [*command.split(), "--help"]
        subprocess.run([sys.executable, "-m", "workbench.cli", *line], check=True, capture_output=True)


def test_contributing_sets_up_what_ci_sets_up_and_checks_what_ci_checks() -> None:
    guide = text(GITHUB / "CONTRIBUTING.md")
    lines = shell_lines(GITHUB / "CONTRIBUTING.md")
    assert 'pip install -e ".[test]"' in lines
    assert "pre-commit install" in lines
    checks = [line.removeprefix(".venv/bin/") for line in CI.splitlines() if line.startswith(".venv/bin/")]
    linters = {check.replace(" --check", "") for check in checks if not check.startswith("pytest")}
    assert linters == {"ruff check .", "ruff format .", "mypy"}
    assert linters <= set(lines)
    promised = re.findall(r":: Python :: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert re.findall(r"\b3\.\d+\b", guide) == promised
    packages = re.search(r"`apt-get install ([^`]+)`", guide)
    assert packages is not None
    assert sorted(packages[1].split()) == sorted(re.findall(r"missing\+=\((\S+)\)", CI))


def test_contributing_names_the_three_tiers_of_tests(pytestconfig: pytest.Config) -> None:
    tiers = re.findall(r"^\| `(pytest[^`]*)` \|", text(GITHUB / "CONTRIBUTING.md"), re.MULTILINE)
    assert tiers == ['pytest -m "not slow"', "pytest", "pytest --long"]
    pytestconfig.getoption("--long")  # an unknown option raises


def test_a_pull_request_is_asked_for_what_ci_will_check() -> None:
    template = text(TEMPLATE)
    for check in ("ruff check .", "ruff format --check .", "mypy"):
        assert f"\n.venv/bin/{check}\n" in CI
        assert f"`{check}`" in template
    assert re.search(r"`pytest\b", template)


def test_vulnerabilities_are_reported_privately() -> None:
    assert ADVISORY in text(GITHUB / "SECURITY.md")
    config = form(GITHUB / "ISSUE_TEMPLATE" / "config.yml")
    assert config["blank_issues_enabled"] is False
    assert [link["url"] for link in config["contact_links"]] == [ADVISORY]
    assert all(link["name"] and link["about"] for link in config["contact_links"])


# Forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_one_that_github_shows(path: Path) -> None:
    content = form(path)
    assert content["name"]
    assert content["description"]
    assert set(content["labels"]) <= {"bug", "enhancement"}  # labels that every repository has
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    for field in content["body"]:
        needed = FIELDS[field["type"]] | (set() if field["type"] == "markdown" else {"label"})
        assert needed <= field["attributes"].keys()
        assert field["attributes"].get("options", ["one"])
    names = [field["id"] for field in fields]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[\w-]+", name) for name in names)
    labels = [field["attributes"]["label"] for field in fields]
    assert len(labels) == len(set(labels))
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_a_bug_report_must_carry_the_doctors_words_and_the_steps() -> None:
    required = {
        field["id"] for field in form(FORMS[0])["body"] if field.get("validations", {}).get("required")
    }
    assert required == {"what-happened", "steps", "doctor"}
