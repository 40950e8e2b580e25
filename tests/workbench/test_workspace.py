import json
import os
import stat
from pathlib import Path

import pytest

import workbench as wb
from workbench.workspace import Workspace


def test_the_folder_is_the_one_given_or_the_environments_or_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, home, path in (
        (None, None, "results"),
        (None, "elsewhere", "elsewhere"),
        ("folder", "elsewhere", "folder"),
    ):
        if home:
            monkeypatch.setenv("WORKBENCH_HOME", home)
        with Workspace(folder) as found:
            assert found.path == tmp_path / path
            assert (found.path / "workbench.db").is_file()


def test_a_database_may_be_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_DATABASE_URL", f"sqlite:///{tmp_path}/there/x.db")
    with Workspace(tmp_path / "here") as home:
        home.start_run("e").finish()
    assert (tmp_path / "there" / "x.db").is_file()
    assert not (tmp_path / "here" / "workbench.db").exists()


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(wb.BadInput, match="cannot be a workspace"):
        Workspace(tmp_path / "file")


def test_the_folders_are_made_when_asked_for(workspace: wb.Workspace) -> None:
    assert not (workspace.path / "indexes").exists()
    assert workspace.indexes.is_dir()
    assert {workspace.cache.name, workspace.jobs_dir.name, workspace.runs_dir.name} == {
        "cache",
        "jobs",
        "runs",
    }


def test_runs_come_newest_first_and_by_experiment(workspace: wb.Workspace) -> None:
    for experiment in ("a", "b", "a"):
        workspace.start_run(experiment).finish()
    assert [run.id for run in workspace.runs()] == [3, 2, 1]
    assert [run.id for run in workspace.runs("a")] == [3, 1]
    assert workspace.experiments() == ["a", "b"]
    with pytest.raises(wb.UnknownExperiment, match="Known: a, b"):
        workspace.runs("c")


@pytest.mark.parametrize("value", [99, "99", 0, -1, "x", None, True, 2**40, "²"])
def test_an_id_that_is_not_there_is_unknown_whatever_it_is(workspace: wb.Workspace, value: int) -> None:
    workspace.start_run("e").finish()
    with pytest.raises(wb.UnknownRun, match="newest is 1"):
        workspace.run(value)
    with pytest.raises(wb.UnknownJob, match="no jobs yet"):
        workspace.job(value)


def test_an_id_may_be_typed(workspace: wb.Workspace) -> None:
    workspace.start_run("e").finish()
    assert workspace.run("1").id == 1  # type: ignore[arg-type]


def test_comparing_marks_the_best_where_a_direction_is_declared(workspace: wb.Workspace) -> None:
    for loss, lr in ((0.5, 1e-2), (0.2, 1e-3)):
        with workspace.start_run("e", config={"lr": lr}, better={"loss": "lower"}) as run:
            run.log({"loss": loss, "size": loss})
    comparison = workspace.compare([1, 2])
    best = {row.name: list(row.best) for row in comparison.final}
    assert best == {"loss": [False, True], "size": [False, False]}
    assert [row.key for row in comparison.differences] == ["lr"]
    with pytest.raises(wb.UnknownRun):
        workspace.compare([1, 3])


def test_search_opens_an_index_by_the_adapter_it_names(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    for name in ("words", ".words.building", "unfinished"):
        (workspace.indexes / name).mkdir()
    manifest = json.dumps({"adapter": "toy", "words": ["dog", "강아지"]})
    for name in ("words", ".words.building"):
        (workspace.indexes / name / "manifest.json").write_text(manifest)
    assert workspace.index_names() == ["words"]
    searcher = workspace.open_search("words")
    assert searcher.by_text("강아지")[0].id == "강아지"
    assert [query.language for query in searcher.sample_queries()] == ["en", "ko"]


@pytest.mark.parametrize("name", ["x", "../words", "", "/etc"])
def test_an_unknown_index_lists_the_known(workspace: wb.Workspace, name: str) -> None:
    (workspace.indexes / "words").mkdir()
    (workspace.indexes / "words" / "manifest.json").write_text("{}")
    with pytest.raises(wb.UnknownIndex, match="words"):
        workspace.open_search(name)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_manifest_that_names_no_adapter_is_corrupt(workspace: wb.Workspace, text: str) -> None:
    (workspace.indexes / "words").mkdir()
    (workspace.indexes / "words" / "manifest.json").write_text(text)
    with pytest.raises(wb.CorruptFile, match="manifest"):
        workspace.open_search("words")


def test_a_workspace_can_be_shared_by_processes(workspace: wb.Workspace) -> None:
    with Workspace(workspace.path) as other:
        run = other.start_run("e")
        run.log({"m": 1.0})
        run.finish()
        assert workspace.run(run.id).summary["m"]["last"] == 1.0


def test_a_new_workspace_is_private_and_a_shared_one_stays_shared(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        wb.Workspace(tmp_path / "new").close()
        (tmp_path / "shared").mkdir(mode=0o755)
        wb.Workspace(tmp_path / "shared").close()
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("new", "shared")]
    assert modes == [0o700, 0o755]
