"""Every problem that ``workbench doctor`` can report, provoked, and the command's exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import namedtuple
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace

import pytest

import workbench as wb
from workbench import cli
from workbench.commands import examination
from workbench.commands.examination import LITTLE_FREE, Problem, examine
from workbench.host import mounts
from workbench.jobs import submission
from workbench.notebooks import shipped
from workbench.store import database, engines

GIB = 2**30


@pytest.fixture(autouse=True)
def jupyter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jupyter folders for this test alone, with both extensions enabled."""
    folder = tmp_path / "jupyter"
    for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(folder))
    config = {"ServerApp": {"jpserver_extensions": {examination.SERVER_EXTENSION: True}}}
    (folder / "jupyter_server_config.d").mkdir(parents=True)
    (folder / "jupyter_server_config.d" / "workbench.json").write_text(json.dumps(config))
    shutil.copytree(
        Path(wb.__file__).parent / "labextension", folder / "labextensions" / examination.LAB_EXTENSION
    )
    return folder


def problems_of(home: wb.Workspace | Path, check: str) -> list[Problem]:
    """Return the problems that one check reports for a workspace."""
    path = home.path if isinstance(home, wb.Workspace) else home
    return [problem for problem in examine(path).problems if problem.check == check]


def only(home: wb.Workspace | Path, check: str) -> Problem:
    (problem,) = problems_of(home, check)
    return problem


@pytest.mark.usefixtures("toy")
def test_a_sound_installation_has_no_problems(
    workspace: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    report = examine(workspace.path)
    assert [problem for problem in report.problems if problem.check != "extras"] == []
    assert report.found["database"].startswith("SQLite 3.")
    assert "toy" in report.found["adapters"]
    assert report.found["workspace"] == str(workspace.path)
    assert (report.found["server extension"], report.found["lab extension"]) == ("enabled", "enabled")
    assert cli.run(["doctor", "--workspace", str(workspace.path)]) == 0
    assert "broken:" not in capsys.readouterr().out


def test_a_warning_exits_0_and_a_broken_part_exits_1(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    for free, code, level in ((LITTLE_FREE - 1, 0, "warning"), (examination.LEAST_FREE - 1, 1, "broken")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(100 * GIB, 0, free))
        assert cli.run(["doctor", "--workspace", str(workspace.path)]) == code
        assert re.search(rf"{level}: .*disk.* {free / 2**20:.0f} MiB", capsys.readouterr().out)
        assert cli.run(["doctor", "--json", "--workspace", str(workspace.path)]) == code
        problems = json.loads(capsys.readouterr().out)["problems"]
        assert [one["level"] for one in problems if one["check"] == "disk"] == [level]


def test_examining_creates_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    examine(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
    report = examine(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert report.found["workspace"].startswith(f"{tmp_path / 'nowhere'} (")
    assert report.found["database"].startswith("SQLite 3.")


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make some packages look as if they were not installed."""
    real = examination.version

    def version(name: str) -> str:
        if name in names:
            raise examination.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(examination, "version", version)


@pytest.mark.parametrize(
    ("version", "supported"),
    [((3, 10, 14), False), ((3, 11, 0), True), ((3, 12, 1), True), ((3, 13, 9), True), ((3, 14, 0), False)],
)
def test_a_python_that_is_not_supported_is_a_warning(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...], supported: bool
) -> None:
    running = ".".join(map(str, version))
    monkeypatch.setattr(
        examination,
        "sys",
        SimpleNamespace(version=f"{running} (main)", version_info=version, executable="/py"),
    )
    assert examine(workspace.path).found["python"] == f"{running} at /py (supported: 3.11 to 3.13)"
    problems = problems_of(workspace, "python")
    assert [problem.level for problem in problems] == ([] if supported else ["warning"])
    for problem in problems:
        assert problem.message == f"Python {running} is not supported; supported versions are 3.11 to 3.13"
        assert "an environment with Python 3.13" in problem.hint


def test_a_missing_extra_is_named_with_its_command(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "postgres" in examine(workspace.path).found["extras"]
    without(monkeypatch, "psycopg")
    problem = only(workspace, "extras")
    assert problem.level == "warning"
    assert "postgres (psycopg)" in problem.message
    assert "notebook-workbench[" in problem.hint
    assert "postgres" in problem.hint
    assert "postgres" not in examine(workspace.path).found["extras"]


def test_a_missing_or_outdated_requirement_is_broken(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "papermill")
    problem = only(workspace, "packages")
    assert (problem.level, "papermill" in problem.message) == ("broken", True)
    assert "pip install 'papermill>=" in problem.hint
    monkeypatch.setattr(examination, "version", lambda name: "0.0.1")
    assert len(only(workspace, "packages").message.split(",")) > 10
    assert requires("notebook-workbench")


def test_a_package_that_is_only_a_folder_is_reported(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, examination.DISTRIBUTION)
    problem = only(workspace, "packages")
    assert problem.level == "broken"
    assert examination.DISTRIBUTION in problem.message
    assert "pip install" in problem.hint


def test_an_old_sqlite_is_a_warning(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        sqlite_version = "3.40.1"

    monkeypatch.setattr(examination, "sqlite_module", lambda: Old)
    problem = only(workspace, "database")
    assert problem.level == "warning"
    assert "3.40.1" in problem.message
    assert "corrupt" in problem.message
    assert "pysqlite3" in problem.hint
    assert engines.is_sound("3.53.0")


def test_sqlite_on_a_network_file_system_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = tmp_path / "far"
    far.mkdir()
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / / rw - ext4 d rw\n2 1 0:2 / {far} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(mounts, "_TABLE", table)
    problem = only(far, "database")
    assert problem.level == "broken"
    assert "nfs4" in problem.message
    assert "WORKBENCH_DATABASE_URL" in problem.hint
    assert examine(far).found["file system"] == "nfs4 (network)"
    # the same folder with its database elsewhere is fine
    near = examine(far, database_url=f"sqlite:///{tmp_path / 'near.db'}")
    assert [one for one in near.problems if one.check == "database"] == []


def test_a_missing_browser_is_a_warning(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    problem = only(workspace, "browser")
    assert problem.level == "warning"
    assert "Chromium" in problem.message
    assert "apt-get install chromium-headless-shell" in problem.hint


def test_a_database_out_of_reach_is_broken(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.1)
    monkeypatch.setenv("WORKBENCH_DATABASE_URL", "postgresql://me:secret@127.0.0.1:9/none")
    report = examine(workspace.path)
    (problem,) = (one for one in report.problems if one.check == "database")
    assert problem.level == "broken"
    assert "127.0.0.1" in problem.message
    assert "WORKBENCH_DATABASE_URL" in problem.hint
    assert "secret" not in json.dumps(report.to_json())


def test_a_file_that_is_not_a_database_is_broken(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "workbench.db").write_bytes(b"this is no database " * 500)
    assert only(tmp_path / "home", "database").level == "broken"


def test_a_disabled_server_extension_is_a_warning(workspace: wb.Workspace, jupyter: Path) -> None:
    (jupyter / "jupyter_server_config.json").write_text(
        json.dumps({"ServerApp": {"jpserver_extensions": {examination.SERVER_EXTENSION: False}}})
    )
    problem = only(workspace, "jupyter")
    assert problem.level == "warning"
    assert examination.SERVER_EXTENSION in problem.message
    assert "disabled" in problem.message
    assert problem.hint == f"jupyter server extension enable {examination.SERVER_EXTENSION}"


def test_a_disabled_lab_extension_is_a_warning(workspace: wb.Workspace, jupyter: Path) -> None:
    (jupyter / "labconfig").mkdir()
    (jupyter / "labconfig" / "page_config.json").write_text(
        json.dumps({"disabledExtensions": {examination.LAB_EXTENSION: True}})
    )
    problem = only(workspace, "jupyter")
    assert (problem.level, problem.hint) == (
        "warning",
        f"jupyter labextension enable {examination.LAB_EXTENSION}",
    )


def test_a_missing_lab_extension_is_a_warning(
    workspace: wb.Workspace, jupyter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_core.paths.ENV_JUPYTER_PATH", [])
    shutil.rmtree(jupyter / "labextensions")
    problem = only(workspace, "jupyter")
    assert problem.level == "warning"
    assert "JupyterLab" in problem.message
    assert "pip install" in problem.hint


def test_an_impossible_workspace_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = examine(tmp_path / "file" / "results")
    assert report.broken
    message = next(one for one in report.problems if one.check == "workspace").message
    assert message.endswith(f"{tmp_path / 'file'} is a file")


def test_a_read_only_workspace_is_broken(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    problem = only(workspace, "workspace")
    assert problem.level == "broken"
    assert str(workspace.path) in problem.message
    assert "writable" in problem.message + problem.hint


@pytest.mark.usefixtures("toy")
def test_a_queue_without_a_worker_is_broken(workspace: wb.Workspace) -> None:
    submission.submit(workspace, "eval", "toy", start_worker=False)
    problem = only(workspace, "jobs")
    assert problem.level == "broken"
    assert "1 job is queued" in problem.message
    assert "workbench worker" in problem.hint


def test_missing_or_failing_adapters_are_broken(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "adapters", lambda: ["failing"])

    def fail(name: str) -> None:
        raise wb.AdapterBroken(name, "module 'torch', which it needs, not found", hint="Install it.")

    monkeypatch.setattr(examination, "get_adapter", fail)
    problem = only(workspace, "adapters")
    assert problem.message == "adapter 'failing' cannot be loaded: module 'torch', which it needs, not found"
    assert (problem.level, problem.hint) == ("broken", "Install it.")
    assert examine(workspace.path).found["adapters"] == "none; cannot be loaded: failing"
    monkeypatch.setattr(examination, "adapters", list)
    problem = only(workspace, "adapters")
    assert (problem.level, "no adapter" in problem.message) == ("broken", True)


def test_missing_notebooks_are_broken(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shipped, "generic_folder", lambda: tmp_path)
    monkeypatch.setattr(shipped, "notebooks_folder", lambda: tmp_path)
    assert len(problems_of(workspace, "notebooks")) == len(shipped.JOB_NOTEBOOKS)


def test_a_missing_notebook_of_an_adapter_is_broken(
    workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(type(toy), "notebooks", lambda _: {"eval": tmp_path / "gone.ipynb"})
    problem = only(workspace, "notebooks")
    assert problem.level == "broken"
    assert "gone.ipynb of adapter 'toy' is missing" in problem.message


def test_a_check_that_raises_does_not_stop_the_others(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> list[Problem]:
        raise RuntimeError("a bug in the check")

    monkeypatch.setitem(examination.CHECKS, "disk", fail)
    report = examine(workspace.path)
    assert "a bug in the check" in next(one for one in report.problems if one.check == "disk").message
    assert "notebooks" in report.found
