import subprocess
from pathlib import Path

import pytest

import workbench as wb
from workbench.runs import provenance


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "code 강"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "new/branch")
    (folder / "a.py").write_text("1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_the_revision_says_commit_branch_and_changes(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    clean = {"commit": commit, "branch": "new/branch", "dirty": False}
    (repository / "not added").write_text("x")
    assert provenance.git_revision(repository) == clean
    (repository / "sub").mkdir()
    assert provenance.git_revision(repository / "sub") == clean
    (repository / "a.py").write_text("2\n")
    assert provenance.git_revision(repository) == {**clean, "dirty": True}
    git(repository, "checkout", "-q", "--detach")
    assert provenance.git_revision(repository) == {**clean, "branch": None, "dirty": True}


def test_a_run_keeps_the_revision_it_was_started_at(
    repository: Path, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    workspace.start_run("e")
    found = workspace.run(1)
    assert found.git["commit"] == git(repository, "rev-parse", "HEAD")
    assert found.environment["cwd"] == str(repository)


def test_where_git_takes_too_long_the_commit_is_kept(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = provenance._git
    monkeypatch.setattr(
        provenance,
        "_git",
        lambda folder, *words, **how: None if words[0] == "status" else ask(folder, *words, **how),
    )
    assert provenance.git_revision(repository) == {
        "commit": git(repository, "rev-parse", "HEAD"),
        "branch": "new/branch",
        "dirty": None,
    }


@pytest.mark.parametrize("what", ["no repository", "no commit", "no git", "no folder"])
def test_what_cannot_be_found_out_fails_no_run(
    tmp_path: Path, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    if what == "no commit":
        git(folder, "init", "-q")
    if what == "no git":
        monkeypatch.setenv("PATH", str(folder))
    monkeypatch.chdir(folder)
    if what == "no folder":
        folder.rmdir()
    assert workspace.start_run("e").git == {}


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["python", "train.py", "--lr=0.1"], ["python", "train.py", "--lr=0.1"]),
        (["t", "--api-key=abc", "--lr", "1"], ["t", "--api-key=***", "--lr", "1"]),
        (["t", "--token", "abc", "x"], ["t", "--token", "***", "x"]),
        (["t", "--token", "--lr", "1"], ["t", "--token", "--lr", "1"]),
        (["t", "--DB_PASSWORD=abc"], ["t", "--DB_PASSWORD=***"]),
        (["t", "postgresql://me:abc@host/x"], ["t", "postgresql://***@host/x"]),
        (["t", "x" * 1000], ["t", "x" * 500]),
    ],
)
def test_a_command_is_kept_without_its_secrets(words: list[str], kept: list[str]) -> None:
    assert provenance.command(words) == kept
