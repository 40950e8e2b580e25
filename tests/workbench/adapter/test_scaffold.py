"""``workbench new adapter``: its package works, and existing files are never overwritten."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workbench as wb
from tests.conftest import python_path, workspace_in
from workbench import cli
from workbench.adapter import scaffold
from workbench.adapter.scaffold import write_adapter

PACKAGE = [
    "README.md",
    "my_model/__init__.py",
    "my_model/adapter.py",
    "my_model/py.typed",
    "pyproject.toml",
    "tests/test_adapter.py",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new adapter, written by the command."""
    into = tmp_path_factory.mktemp("new")
    assert cli.run(["new", "adapter", "my_model", "--into", str(into)]) == 0
    return into / "my_model"


@pytest.fixture(scope="module")
def installed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which it is installed, by pip, into a separate folder."""
    site = tmp_path_factory.mktemp("site")
    install = ["install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", str(site)]
    subprocess.run(
        [sys.executable, "-m", "pip", *install, str(made)], check=True, capture_output=True, text=True
    )
    return {**os.environ, "PYTHONPATH": python_path(site), "WORKBENCH_WORKER_IDLE": "5"}


def run(env: dict[str, str], cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_it_reports_the_files_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["new", "adapter", "my_model", "--into", str(tmp_path / "a" / "b"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "name": "my_model",
        "folder": str(tmp_path / "a" / "b" / "my_model"),
        "files": PACKAGE,
    }
    folder = Path(document["folder"])
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()) == PACKAGE
    assert list(folder.parent.iterdir()) == [folder]  # nothing is left beside it
    assert folder.stat().st_mode & 0o777 == 0o777 & ~scaffold._umask()
    assert "$" not in (folder / "pyproject.toml").read_text()


def test_its_own_tests_pass(made: Path, installed: dict[str, str]) -> None:
    done = run(installed, made, "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_its_test_is_the_contract_in_three_lines(made: Path) -> None:
    lines = list(filter(None, (made / "tests" / "test_adapter.py").read_text().splitlines()))
    assert lines == [
        "from workbench.testing import AdapterContract",
        "class TestContract(AdapterContract):",
        '    adapter = "my_model"',
    ]


def test_its_demo_runs_under_a_worker_and_its_index_is_built_again_and_searched(
    installed: dict[str, str], tmp_path: Path
) -> None:
    with workspace_in(tmp_path / "results"):
        done = run(
            installed, tmp_path, "workbench.cli", "demo", "--adapter", "my_model", "--no-serve", "--json"
        )
        assert done.returncode == 0, done.stderr
        document = json.loads(done.stdout)
        jobs = [(job["type"], job["status"]) for job in document["jobs"]]
        assert jobs == [(kind, "succeeded") for kind in ("train", "eval", "index_build")]
        assert document["metrics"]["R@1"] > 0.5
        words = ["jobs", "submit", "index_build", "--adapter", "my_model", "--wait", "--json"]
        done = run(installed, tmp_path, "workbench.cli", *words)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["status"] == "succeeded"
        done = run(installed, tmp_path, "workbench.cli", "search", "text", "blck cat", "--json")
        assert json.loads(done.stdout)["hits"][0]["caption"] == "a black cat on a sofa"
        assert [path.name for path in (tmp_path / "results" / "indexes").iterdir()] == ["my_model"]


def test_its_files_pass_the_linter(made: Path) -> None:
    for what in (
        ["check", "--select", "E,F,I,UP,B", "--line-length", "110"],
        ["format", "--check", "--line-length", "110"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *what, "--no-cache", "--isolated", "."],
            cwd=made,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("My-Model", "My-Model.*'my_model'"),
        ("2fast", "2fast.*'fast'"),
        ("", "''.*'my_model'"),
        ("../up", r"\.\./up.*'up'"),
        ("class", "'class'.*Python"),
        ("a" * 80, "name.*a{80}"),
        ("강아지", "name.*강아지"),
        ("json", "package 'json'"),
        ("numpy", "package 'numpy'"),
        ("workbench", "package 'workbench'"),
        ("vlm_quantization", "adapter 'vlm_quantization'.*installed"),
    ],
)
def test_an_invalid_name_is_refused(
    tmp_path: Path, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["new", "adapter", name, "--into", str(tmp_path), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "BadName"
    assert re.search(says, error["message"] + error["hint"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "link to nowhere"])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "my_model"
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    with pytest.raises(wb.BadInput, match=r"my_model.*exists"):
        write_adapter("my_model", tmp_path)
    assert list(tmp_path.iterdir()) == [target]
    assert kind != "file" or target.read_text() == "mine"


def test_an_impossible_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(wb.BadInput, match=r"file/my_model.*(File exists|Not a directory)"):
        write_adapter("my_model", tmp_path / "file")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, written = Path.write_text, []

    def write_text(path: Path, *args: object, **more: object) -> int:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return real(path, *args, **more)

    monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(wb.BadInput, match="No space left"):
        write_adapter("my_model", tmp_path)
    assert len(written) == 3
    assert list(tmp_path.iterdir()) == []
