"""Order among runs, the same for a local workspace and one on a server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.conftest import installed, workspace_in
from tests.workbench.conftest import job_row, live_server, make_index
from workbench.runs.experiments import experiment_of
from workbench.runs.groups import grouped
from workbench.runs.order import check_new_name


@pytest.fixture(scope="module")
def home(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    """The workspace, opened locally."""
    with installed(toy_package), workspace_in(tmp_path_factory.mktemp("order") / "results") as home:
        make_index(home.path, "words")
        yield home


@pytest.fixture(scope="module")
def remote(home: wb.Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.RemoteWorkspace]:
    """The same workspace on a server."""
    state = tmp_path_factory.mktemp("state")
    with live_server(home.path, state) as live, wb.connect(live.url, live.token) as ws:
        yield ws


@pytest.fixture(params=["local", "remote"])
def ws(request: pytest.FixtureRequest, home: wb.Workspace) -> wb.BaseWorkspace:
    if request.param == "local":
        return home
    remote: wb.RemoteWorkspace = request.getfixturevalue("remote")
    return remote


def ended(ws: wb.BaseWorkspace, experiment: str, **more: Any) -> wb.Run:
    """A run that has ended, with one point."""
    with ws.start_run(experiment, **more) as run:
        run.log({"m": 0.5}, step=3)
    return run


def test_a_run_is_renamed_moved_archived_and_restored(ws: wb.BaseWorkspace) -> None:
    run = ended(ws, "one", name="first")
    assert run.rename("  second ").name == "second"
    assert run.move("other").experiment == "other"
    again = ws.run(run.id)
    assert (again.name, again.experiment, again.archived) == ("second", "other", False)
    assert run.archive().archived
    assert run.archived_at is not None
    assert run.id not in [one.id for one in ws.runs("other")]
    assert run.id in [one.id for one in ws.runs("other", archived=True)]
    assert run.id in [one.id for one in ws.runs(archived=None)]
    assert ws.run(run.id).summary["m"]["last"] == 0.5  # everything else works
    at = run.archived_at
    assert run.archive().archived_at == at
    assert not run.restore().archived
    assert run.id in [one.id for one in ws.runs("other")]
    for wrong in ("", "  ", "x" * 256, 5, "\ud800"):
        with pytest.raises(wb.BadInput, match="name of a run"):
            run.rename(wrong)  # type: ignore[arg-type]
    with pytest.raises(wb.BadInput, match="experiment"):
        run.move(" ")


def test_a_run_is_deleted_with_what_belongs_to_it_and_nothing_else(
    ws: wb.BaseWorkspace, home: wb.Workspace, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    other = ended(ws, "deleting")
    job = job_row(home, "succeeded")
    with ws.start_run("deleting", job_id=job) as run:
        run.log({"m": 1.0, "n": 2.0}, step=0)
        run.log_many({"m": [float(one) for one in range(2000)]})
        run.log_checkpoint("a.bin", tmp_path / "file")
        run.log_artifact("b.bin", tmp_path / "file")
        run.log_text("words", "abc")
    with ws.start_run("going on") as going_on, pytest.raises(wb.WrongState, match="is running"):
        going_on.delete()
    assert run.delete() == {
        "runs": 1, "metrics": 2, "points": 2002, "checkpoints": 1, "artifacts": 1, "media": 1, "bytes": 13,
    }  # fmt: skip
    assert not (home.runs_dir / str(run.id)).exists()
    with pytest.raises(wb.UnknownRun):
        ws.run(run.id)
    with pytest.raises(wb.WrongState):
        run.log({"m": 1.0})
    assert ws.job(job).run_id is None
    assert ws.run(other.id).metric_points("m")[0][2] == 0.5
    assert home.store.metric_names() != []


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_run_that_a_job_uses_is_not_deleted(ws: wb.BaseWorkspace, home: wb.Workspace, status: str) -> None:
    run = ended(ws, "used")
    job = job_row(home, status, options={"run": run.id, "k": 3})
    with pytest.raises(
        wb.WrongState, match=f"run {run.id} is used by job {job}, which is {status}"
    ) as raised:
        run.delete()
    assert "archive" in raised.value.hint
    home.store.move_job(job, expect=status, to="cancelled")
    assert run.delete()["runs"] == 1
    assert ws.job(job).options["run"] == run.id  # the job stays as it was


def test_experiments_are_renamed_archived_and_deleted(ws: wb.BaseWorkspace, home: wb.Workspace) -> None:
    kind = type(ws).__name__
    first, second = f"a {kind}", f"b {kind}"
    ids = [ended(ws, first).id for _ in range(2)]
    ended(ws, second)
    ws.rename_experiment(first, f"c {kind}")
    assert {run.experiment for run in ws.runs(f"c {kind}")} == {f"c {kind}"}
    with pytest.raises(wb.WrongState, match="already"):
        ws.rename_experiment(f"c {kind}", second)
    with pytest.raises(wb.UnknownExperiment, match="nothing"):
        ws.rename_experiment("nothing", "x")
    ws.archive_experiment(f"c {kind}")
    assert f"c {kind}" not in ws.experiments()
    assert f"c {kind}" in ws.experiments(archived=True)
    assert not {run.id for run in ws.runs()} & set(ids)
    assert len(ws.runs(f"c {kind}")) == 2  # who names it means its runs
    ws.restore_experiment(f"c {kind}")
    assert f"c {kind}" in ws.experiments()
    going_on = ws.start_run(f"c {kind}")
    with pytest.raises(wb.WrongState, match=f"running: {going_on.id}"):
        ws.delete_experiment(f"c {kind}")
    going_on.finish()
    counts = ws.delete_experiment(f"c {kind}")
    assert (counts["experiments"], counts["runs"], counts["points"]) == (1, 3, 2)
    assert f"c {kind}" not in ws.experiments(archived=None)
    assert second in ws.experiments()


def test_jobs_are_named_archived_and_deleted(ws: wb.BaseWorkspace, home: wb.Workspace) -> None:
    job = ws.job(job_row(home, "succeeded"))
    home.store.change_job(job.id, started_at=time.time())
    (home.jobs_dir / str(job.id)).mkdir()
    (home.jobs_dir / str(job.id) / "log.txt").write_text("12")
    assert job.rename("night").name == "night"
    assert ws.job(job.id).to_json()["name"] == "night"
    before = ws.count_jobs()
    assert job.archive().archived
    assert job.id not in [one.id for one in ws.jobs(limit=None)]
    assert job.id in [one.id for one in ws.jobs(archived=True)]
    assert job.id in [one.id for one in ws.jobs(archived=None)]
    assert (ws.count_jobs(), ws.count_jobs(archived=None)) == (
        before - 1,
        before + len(ws.jobs(archived=True)) - 1,
    )
    assert not job.restore().archived
    assert job.delete() == {"jobs": 1, "results": 0, "bytes": 2}
    assert not (home.jobs_dir / str(job.id)).exists()
    with pytest.raises(wb.UnknownJob):
        ws.job(job.id)
    waiting = ws.job(job_row(home, "queued"))
    with pytest.raises(wb.WrongState, match="queued"):
        waiting.archive()
    with pytest.raises(wb.WrongState, match="not ended"):
        waiting.delete()
    waiting.cancel()


def test_indexes_are_renamed_archived_and_deleted(ws: wb.BaseWorkspace, home: wb.Workspace) -> None:
    make_index(home.path, "photos")
    assert ws.rename_index("photos", "pictures 가") == "pictures 가"
    assert ws.open_search("pictures 가").by_text("dog", k=1)[0].id == "dog"
    with pytest.raises(wb.WrongState, match="'words' there already"):
        ws.rename_index("pictures 가", "words")
    for wrong in ("../x", "", ".hidden", "a/b"):
        with pytest.raises(wb.BadName):
            ws.rename_index("pictures 가", wrong)
    assert ws.archive_index("pictures 가") == "pictures 가"
    assert "pictures 가" not in ws.index_names()
    assert ws.index_names(archived=True) == ["pictures 가"]
    with pytest.raises(wb.UnknownIndex):
        ws.open_search("pictures 가")
    assert ws.restore_index("pictures 가") == "pictures 가"
    job = job_row(home, "queued", type="index_build", options={"name": "pictures 가"})
    for refused in (ws.delete_index, ws.archive_index, lambda name: ws.rename_index(name, "x")):
        with pytest.raises(wb.WrongState, match="builds index"):
            refused("pictures 가")
    home.store.move_job(job, expect="queued", to="cancelled")
    ws.archive_index("pictures 가")
    counts = ws.delete_index("pictures 가")
    assert counts["indexes"] == 1
    assert counts["bytes"] > 0
    assert ws.index_names(archived=True) == []
    with pytest.raises(wb.UnknownIndex, match="words"):
        ws.delete_index("pictures 가")


def test_a_run_goes_on_from_a_step_and_what_was_behind_it_is_set_aside(ws: wb.BaseWorkspace) -> None:
    run = ws.start_run("resuming", name="long", tags=["night"], better={"m": "higher"})
    for step in range(6):
        run.log({"m": step / 10, "late": 1.0} if step > 3 else {"m": step / 10}, step=step)
    with pytest.raises(wb.WrongState, match="is running"):
        ws.resume_run(run.id)
    run.finish("failed", ValueError("out of memory"))
    again = ws.resume_run(run.id, step=3)
    assert (again.id, again.status, again.error) == (run.id, "running", None)
    assert [step for step, _, _ in again.metric_points("m")] == [0, 1, 2, 3]
    assert (again.summary["m"]["best"], "late" in again.summary) == (0.3, False)
    again.log({"m": 0.9})  # the next step
    again.finish()
    assert again.metric_points("m")[-1][::2] == (4, 0.9)
    assert ws.run(run.id).status == "succeeded"
    (aside,) = ws.runs(where=f"tag.set_aside:{run.id}", archived=True)
    assert [step for step, _, _ in aside.metric_points("m")] == [4, 5]
    assert (aside.status, aside.name) == ("failed", "long, set aside behind step 3")
    assert aside.summary["m"]["best"] == 0.5
    (how,) = again.environment["resumed"]
    assert (how["step"], how["status"], how["set_aside"]) == (3, "failed", aside.id)
    more = ws.resume_run(run.id)  # without a step everything is kept
    more.log({"m": 1.0})
    more.finish()
    assert [step for step, _, _ in more.metric_points("m")] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(wb.UnknownRun):
        ws.resume_run(10**6)
    with pytest.raises(wb.BadInput, match="step"):
        ws.resume_run(run.id, step=1.5)  # type: ignore[arg-type]


def test_a_run_is_resumed_once_by_a_key_of_its_own(workspace: wb.Workspace) -> None:
    run, other = ended(workspace, "keys"), ended(workspace, "keys")
    process = {"host": "", "pid": None, "pid_started": ""}
    for _ in range(2):  # the answer may be lost
        assert workspace.store.resume_run(run.id, None, process, "k" * 32)[0].status == "running"
    with pytest.raises(wb.WrongState, match=f"logged run {run.id} already"):
        workspace.store.resume_run(other.id, None, process, "k" * 32)
    workspace.store.end_run(run.id, "failed")
    with pytest.raises(wb.WrongState, match="already"):
        workspace.store.resume_run(run.id, None, process, "k" * 32)


def test_long_curves_are_set_aside_too(workspace: wb.Workspace) -> None:
    run = workspace.start_run("long")
    run.log_many({"m": [float(one) for one in range(5000)]})
    run.finish("failed")
    again = workspace.resume_run(run.id, step=3999)
    again.log({"m": -1.0})
    again.finish()
    assert [len(again.metric_points("m")), again.metric_points("m")[-1][0]] == [4001, 4000]
    (aside,) = workspace.runs(archived=True)
    assert [value for _, _, value in aside.metric_points("m")] == [float(one) for one in range(4000, 5000)]


def test_runs_are_grouped(workspace: wb.Workspace) -> None:
    for lr, who in ((1, "a"), (2, "b"), (1, None), (True, "a")):
        tags = {} if who is None else {"owner": who}
        ended(workspace, "grouping", config={"lr": lr, "deep": {"n": [lr]}}, tags=tags)
    runs = workspace.runs(sort="id")
    assert {key: len(group) for key, group in workspace.group_runs("config.lr", runs).items()} == {
        1: 2, 2: 1, "true": 1,
    }  # fmt: skip
    assert list(grouped("tag.owner", runs)) == ["a", "b", None]
    assert list(grouped("config.deep.n", runs)) == ["[1]", "[2]", "[true]"]
    assert list(grouped("status", runs)) == ["succeeded"]
    with pytest.raises(wb.BadInput, match="grouped by 'lr'"):
        grouped("lr", runs)


def test_an_unknown_experiment_names_the_known(workspace: wb.Workspace) -> None:
    ended(workspace, "old")
    assert experiment_of(workspace.store, "old").name == "old"
    with pytest.raises(wb.UnknownExperiment, match="old"):
        experiment_of(workspace.store, "odl")


def test_a_new_name_is_trimmed() -> None:
    assert check_new_name(" 강 ", "a run") == "강"


def test_media_and_nested_metrics_are_the_same_everywhere(ws: wb.BaseWorkspace, tmp_path: Path) -> None:
    with ws.start_run("media") as run:
        run.log({"val": {"mAP": {"t2i": 0.5}}, "loss": 1.0}, step=4)
        run.log_table("강/tab le", [{"a": 1.5, "b": None}], caption="c")
        run.log_text("t", "words", step=2)
    assert set(run.summary) == {"val/mAP/t2i", "loss"}
    text, table = ws.run(run.id).media()
    assert (text.kind, text.label, text.step, text.value()) == ("text", "t", 2, "words")
    assert (table.label, table.step, table.caption) == ("강/tab le", 4, "c")
    assert table.value() == {"columns": ["a", "b"], "rows": [[1.5, None]], "left_out": 0}
    assert table.save(tmp_path).read_bytes().startswith(b"{")
    assert [one.label for one in run.media("table")] == ["강/tab le"]
    assert run.media(name="none") == []


def test_a_server_takes_no_file_that_is_not_what_it_says(remote: wb.RemoteWorkspace) -> None:
    run = remote.start_run("media")
    with pytest.raises(wb.BadInput, match="must be a PNG"):
        run._keep_media("image", "x", b"<script>", 0, "")
    assert run.media() == []
    run.finish()
