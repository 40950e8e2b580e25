"""Each thing that can be wrong, provoked; what the doctor says of it, and how the command ends."""

from __future__ import annotations

import json
import os
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
    """Jupyter's folders of this test's own, in which both extensions are enabled."""
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


def found(home: wb.Workspace | Path, check: str) -> list[Problem]:
    """Return what one check says of a workspace."""
    path = home.path if isinstance(home, wb.Workspace) else home
    return [problem for problem in examine(path).problems if problem.check == check]


def only(home: wb.Workspace | Path, check: str) -> Problem:
    (problem,) = found(home, check)
    return problem


@pytest.mark.usefixtures("toy")
def test_a_sound_installation_has_nothing_wrong(
    workspace: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    report = examine(workspace.path)
    assert [problem for problem in report.problems if problem.check != "extras"] == []
    assert report.found["database"].startswith("SQLite 3.")
    assert "toy" in report.found["adapters"]
    assert report.found["workspace"] == str(workspace.path)
    assert (report.found["server extension"], report.found["lab extension"]) == ("enabled", "enabled")
    assert cli.run(["doctor", "--workspace", str(workspace.path)]) == 0
    assert "wrong" in capsys.readouterr().out.splitlines()[-1]


def test_a_warning_exits_0_and_what_is_broken_exits_1(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    for free, code, level in ((LITTLE_FREE - 1, 0, "warning"), (examination.LEAST_FREE - 1, 1, "broken")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage(100 * GIB, 0, free))
        assert cli.run(["doctor", "--workspace", str(workspace.path)]) == code
        assert f"{level}: the disk is nearly full" in capsys.readouterr().out
        assert cli.run(["doctor", "--json", "--workspace", str(workspace.path)]) == code
        said = json.loads(capsys.readouterr().out)["problems"]
        assert [one["level"] for one in said if one["check"] == "disk"] == [level]


def test_looking_makes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    examine(tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
    report = examine(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    assert report.found["workspace"].endswith("(not there yet)")
    assert report.found["database"].startswith("SQLite 3.")


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let some packages not be installed."""
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
    problems = found(workspace, "python")
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


def test_a_package_that_is_only_a_folder_is_said(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, examination.DISTRIBUTION)
    assert "not installed as a package" in only(workspace, "packages").message


def test_an_old_sqlite_is_a_warning(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        sqlite_version = "3.40.1"

    monkeypatch.setattr(examination, "sqlite_module", lambda: Old)
    problem = only(workspace, "database")
    assert problem.level == "warning"
    assert "can corrupt databases" in problem.message
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
    assert "network file system (nfs4)" in problem.message
    assert "WORKBENCH_DATABASE_URL" in problem.hint
    assert examine(far).found["file system"] == "nfs4 (network)"
    # the same folder with its database elsewhere is fine
    near = examine(far, database_url=f"sqlite:///{tmp_path / 'near.db'}")
    assert [one for one in near.problems if one.check == "database"] == []


def test_a_missing_browser_is_a_warning(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    problem = only(workspace, "browser")
    assert problem.level == "warning"
    assert "no Chromium" in problem.message
    assert "apt-get install chromium" in problem.hint


def test_a_database_out_of_reach_is_broken(workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_SECONDS", 0.1)
    monkeypatch.setenv("WORKBENCH_DATABASE_URL", "postgresql://me:secret@127.0.0.1:9/none")
    report = examine(workspace.path)
    (problem,) = (one for one in report.problems if one.check == "database")
    assert problem.level == "broken"
    assert "out of reach" in problem.message
    assert "Does its server run" in problem.hint
    assert "secret" not in json.dumps(report.to_json())


def test_a_database_that_is_none_is_broken(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "workbench.db").write_bytes(b"this is no database " * 500)
    assert only(tmp_path / "home", "database").level == "broken"


def test_a_disabled_server_extension_is_a_warning(workspace: wb.Workspace, jupyter: Path) -> None:
    (jupyter / "jupyter_server_config.json").write_text(
        json.dumps({"ServerApp": {"jpserver_extensions": {examination.SERVER_EXTENSION: False}}})
    )
    problem = only(workspace, "jupyter")
    assert problem.level == "warning"
    assert f"{examination.SERVER_EXTENSION} is disabled" in problem.message
    assert problem.hint == f"jupyter server extension enable {examination.SERVER_EXTENSION}"


def test_a_lab_extension_that_is_disabled_or_missing_is_a_warning(
    workspace: wb.Workspace, jupyter: Path
) -> None:
    (jupyter / "labconfig").mkdir()
    (jupyter / "labconfig" / "page_config.json").write_text(
        json.dumps({"disabledExtensions": {examination.LAB_EXTENSION: True}})
    )
    problem = only(workspace, "jupyter")
    assert (problem.level, problem.hint) == (
        "warning",
        f"jupyter labextension enable {examination.LAB_EXTENSION}",
    )


def test_a_lab_extension_that_is_nowhere_is_a_warning(
    workspace: wb.Workspace, jupyter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_core.paths.ENV_JUPYTER_PATH", [])
    shutil.rmtree(jupyter / "labextensions")
    assert "does not find the extension" in only(workspace, "jupyter").message


def test_a_workspace_that_cannot_be_is_broken(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    report = examine(tmp_path / "file" / "results")
    assert report.broken
    assert "is a file" in next(one for one in report.problems if one.check == "workspace").message


def test_a_workspace_that_cannot_be_written_is_broken(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    assert "cannot be written" in only(workspace, "workspace").message


@pytest.mark.usefixtures("toy")
def test_a_queue_that_nobody_serves_is_broken(workspace: wb.Workspace) -> None:
    submission.submit(workspace, "eval", "toy", start_worker=False)
    problem = only(workspace, "jobs")
    assert (problem.level, problem.message) == ("broken", "1 job is queued and no worker runs")
    assert "workbench worker" in problem.hint


def test_adapters_that_are_missing_or_ill_are_broken(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "adapters", lambda: ["ill"])

    def ill(name: str) -> None:
        raise wb.AdapterBroken(name, "module 'torch', which it needs, not found", hint="Install it.")

    monkeypatch.setattr(examination, "get_adapter", ill)
    problem = only(workspace, "adapters")
    assert problem.message == "adapter 'ill' cannot be loaded: module 'torch', which it needs, not found"
    assert (problem.level, problem.hint) == ("broken", "Install it.")
    assert examine(workspace.path).found["adapters"] == "none; cannot be loaded: ill"
    monkeypatch.setattr(examination, "adapters", list)
    assert "no adapter is installed" in only(workspace, "adapters").message


def test_missing_notebooks_are_broken(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shipped, "notebooks_folder", lambda: tmp_path)
    assert len(found(workspace, "notebooks")) == len(shipped.JOB_NOTEBOOKS)


def test_a_check_that_falls_ill_does_not_stop_the_others(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ill(_: object) -> list[Problem]:
        raise RuntimeError("out of my depth")

    monkeypatch.setitem(examination.CHECKS, "disk", ill)
    report = examine(workspace.path)
    assert "out of my depth" in next(one for one in report.problems if one.check == "disk").message
    assert "notebooks" in report.found
