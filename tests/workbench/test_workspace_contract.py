"""The workspace contract, tested with the local workspace and with the client of a server."""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import sqlalchemy as sa
from nbformat.v4 import new_code_cell, new_notebook

import workbench as wb
from tests.conftest import installed, workspace_in
from tests.workbench.conftest import job_row, live_server, make_index, until
from workbench import cli
from workbench.host import processes
from workbench.remote.runs import RemoteRun
from workbench.runs import provenance
from workbench.runs.local import LocalRun
from workbench.store.records import DAMAGED

PATIENCE = 120


@dataclass
class Both:
    """The workspace under test, and the same workspace opened locally."""

    ws: wb.BaseWorkspace
    home: wb.Workspace


@pytest.fixture(scope="module", params=["local", "remote"])
def both(
    request: pytest.FixtureRequest, toy_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp(request.param)
    with installed(toy_package), workspace_in(folder / "results") as home:
        make_index(home.path, "words")
        if request.param == "local":
            yield Both(home, home)
        else:
            served = live_server(home.path, folder / "state", base="/some/base/")
            with served as live, wb.connect(live.url, live.token) as ws:
                yield Both(ws, home)


@pytest.fixture
def ws(both: Both) -> wb.BaseWorkspace:
    return both.ws


def known(both: Both, status: str, **columns: Any) -> wb.Job:
    """A job in a given state that no worker runs, read through the workspace under test."""
    return both.ws.job(job_row(both.home, status, **columns))


def test_both_are_what_their_common_classes_say(both: Both) -> None:
    run = both.ws.start_run("kinds")
    run.finish()
    assert isinstance(both.ws, wb.BaseWorkspace)
    assert isinstance(run, wb.Run)
    assert isinstance(known(both, "succeeded"), wb.Job)
    assert isinstance(both.ws, wb.Workspace) is (both.ws is both.home)
    assert both.ws.location == (str(both.home.path) if both.ws is both.home else both.ws.door.base)  # type: ignore[attr-defined]
    assert not [name for kind in (type(both.ws), type(run)) for name in kind.__abstractmethods__]


def test_the_newest_index_is_found(both: Both) -> None:
    assert both.ws.newest_index() == "words"


# Jobs -----------------------------------------------------------------------------------------------


def test_a_job_is_submitted_watched_and_read(ws: wb.BaseWorkspace, tmp_path: Path) -> None:
    seen: list[tuple[str, float | None]] = []
    job = ws.submit("train", adapter="toy", options={"steps": 4})
    assert isinstance(job, wb.Job)
    assert job.options == {"steps": 4, "k": 3, "run": None, "name": "words", "fail": "", "seconds": 0.0}
    assert job.wait(PATIENCE, on_progress=lambda now: seen.append((now.status, now.progress.fraction))) is job
    assert (job.status, job.done, job.summary, job.error) == ("succeeded", True, "counted to 4", None)
    assert seen[-1] == ("succeeded", 1.0)
    assert job.result is not None
    assert job.result.made == {"run": job.run_id}
    assert (job.type, job.adapter, job.attempt, job.source) == ("train", "toy", 1, "")
    assert job.created_at <= job.started_at <= job.finished_at  # type: ignore[operator]
    assert job.seconds is not None
    assert job.notebook is not None
    assert job.notebook.name == "notebook.ipynb"
    assert "셋까지 counted\n" in job.logs()
    assert "\n".join(job.follow_logs()) + "\n" == job.logs()
    assert job.logs(tail=1).count("\n") <= 1
    assert job.output is not None
    assert (job.output.name, job.output.path.parent) == ("output.txt", job.notebook.parent)
    with job.output.open() as file:
        assert "셋까지 counted\n" in file.read().decode()
    assert job.output.save(tmp_path).stat().st_size == job.output.size
    assert job.output_note == ""
    again = ws.job(job.id)
    assert (again.id, again.result) == (job.id, job.result)
    assert json.loads(json.dumps(again.to_json()))["result"]["summary"] == "counted to 4"


def test_options_may_be_a_model_and_floors_hold(ws: wb.BaseWorkspace, both: Both) -> None:
    adapter = wb.get_adapter("toy")
    options = adapter.options("eval")(k=4)
    job = ws.submit("eval", adapter, options, fail_below={"R@4": 0.9})
    assert (job.options["k"], job.floors) == (4, {"R@4": 0.9})
    with pytest.raises(wb.JobFailed, match=r"R@4") as raised:
        job.wait(PATIENCE)
    assert raised.value.job_id == job.id
    assert job.result is not None
    assert job.wait(check=False).status == "failed"


def test_a_job_that_raises_says_in_which_cell(ws: wb.BaseWorkspace) -> None:
    job = ws.submit("eval", "toy", {"fail": "no <b>data</b>"})
    with pytest.raises(wb.JobFailed, match="ValueError: no <b>data</b>") as raised:
        job.wait(PATIENCE)
    assert raised.value.cell
    assert job.error is not None
    assert job.error["type"] == "ValueError"
    assert job.result is None


def test_a_job_is_cancelled_while_it_runs_and_that_twice_is_the_same(ws: wb.BaseWorkspace) -> None:
    job = ws.submit("eval", "toy", {"seconds": 60})
    until(lambda: job.refresh().status == "running")
    assert job.cancel().status in ("cancelling", "cancelled")
    with pytest.raises(wb.JobCancelled):
        job.wait(PATIENCE)
    assert job.cancel().status == "cancelled"


def test_data_are_checked_by_a_job(ws: wb.BaseWorkspace) -> None:
    job = ws.submit("data_check", "toy", {"source": "words"}).wait(PATIENCE)
    assert (job.status, job.summary) == ("succeeded", "3 words")
    assert job.result is not None
    assert job.result.made["options"] == {"train": {"name": "words"}}
    assert [job.type for job in ws.jobs(type="data_check")] == ["data_check"]


@pytest.mark.parametrize(
    ("kind", "adapter", "options", "error", "says"),
    [
        ("eval", "toy", {"k": "many"}, wb.BadOptions, "k: .*'many'"),
        ("eval", "toy", {"kk": 1}, wb.BadOptions, "kk: unknown option; did you mean 'k'"),
        ("eval", "toy", [1], wb.BadOptions, "dictionary"),
        ("data_check", "toy", {}, wb.BadOptions, "source: "),
        ("dance", "toy", {}, wb.BadInput, "job type 'dance'"),
        ("eval", "tory", {}, wb.UnknownAdapter, "did you mean 'toy'"),
        ("eval", "../toy", {}, wb.UnknownAdapter, "Known: toy"),
        ("eval", "toy", {"k": object()}, (wb.BadInput), "."),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_queued(
    ws: wb.BaseWorkspace, kind: str, adapter: str, options: Any, error: type[Exception], says: str
) -> None:
    before = [job.id for job in ws.jobs()]
    with pytest.raises(error, match=says):
        ws.submit(kind, adapter, options)
    assert [job.id for job in ws.jobs()] == before


def test_problems_of_options_come_each_with_its_field(ws: wb.BaseWorkspace) -> None:
    with pytest.raises(wb.BadOptions) as raised:
        ws.submit("eval", "toy", {"k": "x", "steps": "y"})
    assert {field for field, _ in raised.value.problems} == {"k", "steps"}


@pytest.mark.parametrize("floor", ["x", True, None])
def test_a_floor_that_is_no_number_is_refused(ws: wb.BaseWorkspace, floor: Any) -> None:
    with pytest.raises(wb.BadOptions, match="fail_below"):
        ws.submit("eval", "toy", fail_below={"R@3": floor})


def test_jobs_are_filtered_and_paged(both: Both) -> None:
    made = [job_row(both.home, "cancelled", type=kind) for kind in ("train", "eval", "eval", "index_build")]
    made.append(job_row(both.home, "running"))
    ws = both.ws
    assert [job.id for job in ws.jobs(limit=5)] == made[::-1]
    assert [job.id for job in ws.jobs(limit=2, offset=1)] == [made[3], made[2]]
    assert ws.jobs(type="index_build", limit=1)[0].id == made[3]
    assert ws.jobs(status="running", limit=1)[0].id == made[4]
    assert made[0] in [job.id for job in ws.jobs(limit=None)]
    assert ws.jobs(limit=0) == []
    assert ws.jobs(type="dance") == []
    for wrong in ({"status": "done"}, {"limit": -1}, {"offset": -1}):
        with pytest.raises(wb.BadInput):
            ws.jobs(**wrong)  # type: ignore[arg-type]
    both.home.store.move_job(made[4], expect="running", to="cancelled")


def test_waiting_says_that_the_job_goes_on(both: Both) -> None:
    job = known(both, "running")
    with pytest.raises(TimeoutError, match=r"running after 0\.2 s"):
        job.wait(0.2)
    both.home.store.move_job(job.id, expect="running", to="cancelled")


def test_how_an_old_job_ended(both: Both) -> None:
    job = known(both, "failed", error={"cell": 3, "type": "ValueError", "message": "bad"})
    with pytest.raises(wb.JobFailed, match=r"failed in cell \[3\]: ValueError: bad"):
        job.wait()
    assert known(both, "cancelled").wait(check=False).status == "cancelled"
    assert (job.logs(), list(job.follow_logs()), job.notebook) == ("", [], None)
    assert (job.output, job.output_note) == (None, "")


@pytest.mark.parametrize(
    "value", [10**6, "1000000", 0, -1, "x", "", "..", "%2e%2e", "1/../1", "²", None, True, 2**40, "1\0"]
)
def test_an_id_that_is_not_there_is_unknown_whatever_it_is(ws: wb.BaseWorkspace, value: Any) -> None:
    with pytest.raises(wb.UnknownRun):
        ws.run(value)
    with pytest.raises(wb.UnknownJob):
        ws.job(value)


def test_a_result_may_hold_what_is_no_number(both: Both) -> None:
    job_id = job_row(both.home, "running")
    metrics = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.5}
    both.home.store.save_result(job_id, 1, wb.Result(metrics=metrics).model_dump())
    both.home.store.move_job(job_id, expect="running", to="succeeded")
    result = both.ws.job(job_id).result
    assert result is not None
    assert math.isnan(result.metrics.pop("a"))
    assert result.metrics == {"b": math.inf, "c": -math.inf, "d": 0.5}


# Runs -----------------------------------------------------------------------------------------------


def logged(both: Both, experiment: str, **config: Any) -> int:
    with both.home.start_run(experiment, config=config, better={"m": "higher"}, tags={"who": "나"}) as run:
        for step, value in enumerate((0.5, math.nan, 0.25, math.inf)):
            run.log({"m": value, "other": step}, step=step)
        (both.home.cache / "x.bin").write_bytes(b"12345")
        run.log_checkpoint("epoch 1 가.bin", both.home.cache / "x.bin", step=3)
    return run.id


def test_a_run_is_read(both: Both) -> None:
    run = both.ws.run(logged(both, "reading", lr=0.1, deep={"a": [1, None]}))
    assert (run.experiment, run.status, run.error, run.job_id) == ("reading", "succeeded", None, None)
    assert (run.config, run.tags) == ({"lr": 0.1, "deep": {"a": [1, None]}}, {"who": "나"})
    assert run.directions == [("m", "higher")]
    assert run.name == f"run-{run.id}"
    summary = run.summary["m"]
    assert (summary["best"], summary["best_step"], summary["count"], summary["nonfinite"]) == (0.5, 0, 4, 2)
    assert summary["last"] == math.inf
    assert list(run.summary) == ["m", "other"]
    values = [value for _, _, value in run.metric_points("m")]
    assert (values[0], values[2], values[3]) == (0.5, 0.25, math.inf)
    assert math.isnan(values[1])
    assert [step for step, _, _ in run.metric_points("m", after=1)] == [2, 3]
    assert run.metric_points("never") == []
    kept = run.checkpoints()
    assert [(file.name, file.size, file.step) for file in kept] == [("epoch 1 가.bin", 5, 3)]
    assert run.created_at <= run.finished_at  # type: ignore[operator]


def test_runs_come_newest_first_and_by_experiment(both: Both) -> None:
    made = [logged(both, experiment) for experiment in ("order a", "order/b", "order a")]
    ws = both.ws
    assert [run.id for run in ws.runs()][:3] == made[::-1]
    assert [run.id for run in ws.runs("order a")] == [made[2], made[0]]
    assert {"order a", "order/b"} <= set(ws.experiments())
    assert ws.experiments() == sorted(ws.experiments())
    with pytest.raises(wb.UnknownExperiment, match="order a"):
        ws.runs("order c")


def test_runs_are_compared(both: Both) -> None:
    first, second = logged(both, "comparing", lr=1), logged(both, "comparing", lr=2)
    comparison = both.ws.compare([first, second])
    assert [run.id for run in comparison.runs] == [first, second]
    assert [row.key for row in comparison.differences] == ["lr"]
    assert comparison.to_json() == both.home.compare([first, second]).to_json()
    assert {row.name: row.better for row in comparison.final}["m"] == "higher"
    turned = {"statistic": "min", "baseline": second, "better": {"m": "lower"}}
    comparison = both.ws.compare([first, second], **turned)
    assert comparison.to_json() == both.home.compare([first, second], **turned).to_json()
    assert {row.name: row.better for row in comparison.final}["m"] == "lower"
    for wrong, error in (([], wb.BadInput), ([first, first], wb.BadInput), ([first, 10**6], wb.UnknownRun)):
        with pytest.raises(error):
            both.ws.compare(wrong)


def test_runs_are_compared_in_a_panel(both: Both) -> None:
    first, second = logged(both, "in a panel", lr=1), logged(both, "in a panel", lr=2)
    panel = wb.panels.ComparePanel(both.ws, [first, second])
    assert panel.state["problem"] is None
    assert [row["key"] for row in panel.state["comparison"]["config"] if row["which"]] == ["lr"]
    assert [(line["metric"], line["runs"], line["count"]) for line in panel.curves["lines"]] == [
        (name, [run_id], 4) for name in ("m", "other") for run_id in (first, second)
    ]
    assert {run["id"]: run["tags"] for run in panel.state["runs"]}[first] == ["who=나"]
    panel.close()


def test_every_door_names_the_same_winner(both: Both, capsys: pytest.CaptureFixture[str]) -> None:
    """An adapter's directions hold for its own runs only, wherever one looks."""
    job = both.home.submit("train", "toy", {"steps": 2}).wait(PATIENCE)  # its adapter says: loss is lower
    assert job.run_id is not None
    ids = []
    for loss in (0.2, 0.9):
        with both.ws.start_run("mine", name=f"loss {loss}", better={"loss": "higher"}) as run:
            run.log({"loss": loss, "R@1": loss}, step=0)
        ids.append(run.id)
    panel = wb.panels.ComparePanel(both.ws, runs=ids)  # which lists the adapter's run too
    shown = {row["name"]: (row["better"], row["best"]) for row in panel.state["comparison"]["final"]}
    panel.close()
    assert cli.run(["--workspace", str(both.home.path), "compare", *map(str, ids), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["final"]
    assert shown == {"loss": ("higher", [1]), "R@1": (None, [])}
    for rows in (printed, both.ws.compare(ids).to_json()["final"]):
        found = {
            row["name"]: (row["better"], [at for at, best in enumerate(row["best"]) if best]) for row in rows
        }
        assert found == shown
    together = {row.name: row for row in both.ws.compare([*ids, job.run_id]).final}
    assert together["loss"].better is None  # its runs disagree
    assert together["R@1"].better is None  # the adapter's run has none


def test_what_was_stored_wrongly_is_shown_and_can_be_mended(both: Both) -> None:
    """Version 0.2.0 stored tags and settings of any kind, and could then show no run at all."""
    ids = [logged(both, "odd", number=number) for number in range(4)]
    odd = [("tags", '["baseline", "b"]'), ("tags", '"x"'), ("config", "[1, 2]"), ("config", "{damaged")]
    with both.home.store._writing() as connection:
        for run_id, (column, text) in zip(ids, odd, strict=True):
            statement = sa.text(f"update run set {column} = :text where id = :id")  # noqa: S608
            connection.execute(statement, {"text": text, "id": run_id})
    tags = {run.id: run.tags for run in both.ws.runs()}
    assert (tags[ids[0]], tags[ids[1]]) == ({"baseline": True, "b": True}, {DAMAGED: "x"})
    configs = {run.id: run.config for run in both.ws.runs()}
    assert (configs[ids[2]], configs[ids[3]]) == ({DAMAGED: "[1, 2]"}, {DAMAGED: "{damaged"})
    panel = wb.panels.ComparePanel(both.ws, runs=ids)
    assert panel.state["problem"] is None
    assert {run["id"]: run["tags"] for run in panel.state["runs"]}[ids[0]] == ["baseline", "b"]
    panel.close()
    assert both.ws.run(ids[0]).annotate(tags={"a": 1}).tags == {"baseline": True, "b": True, "a": 1}


def test_tags_may_be_words_and_settings_what_parsers_return(both: Both) -> None:
    settings = argparse.Namespace(lr=0.5, device=Path)
    with pytest.warns(UserWarning, match=r"kept as text.*config\.device"):
        run = both.ws.start_run("words", tags=["baseline", "강"], config=settings, name="caf\udce9")
    with run:
        run.log({"m": 1.0}, step=0)
    found = both.home.run(run.id)
    assert (found.tags, found.config) == (
        {"baseline": True, "강": True},
        {"lr": 0.5, "device": "pathlib.Path"},
    )
    assert found.name == "caf\\udce9"
    assert run.annotate(tags="late").tags == {"baseline": True, "강": True, "late": True}
    before = len(both.home.runs())
    for wrong in ({"tags": 5}, {"tags": [1]}, {"config": [1]}, {"config": "x"}, {"better": [1]}, {"name": 7}):
        with pytest.raises(wb.BadInput, match=next(iter(wrong))):
            both.ws.start_run("words", **wrong)  # type: ignore[arg-type]
    with pytest.raises(wb.BadInput, match="experiment"):
        both.ws.start_run("caf\udce9")
    assert len(both.home.runs()) == before


def test_a_reader_reads_what_a_workspace_says(both: Both) -> None:
    run_id = logged(both, "read", lr=1)
    reader = both.ws.run_reader()
    listed, rows = reader.look(1, [run_id, 10**6])
    assert (listed, list(rows)) == (range(run_id, run_id + 1), [run_id])
    assert (rows[run_id].config, rows[run_id].directions) == ({"lr": 1}, [["m", "higher"]])
    assert reader.summaries(rows.values())[run_id]["m"]["last"] == math.inf
    assert reader.summaries(rows.values())[run_id]["m"]["better"] == "higher"
    assert reader.declared(rows.values()) == {}  # no adapter logged it
    curves = both.ws.curve_reader().series({(run_id, "other"): 4, (run_id, "none"): 1})
    assert curves[run_id, "other"].value.tolist() == [0, 1, 2, 3]
    assert len(curves[run_id, "none"]) == 0


# Logging --------------------------------------------------------------------------------------------


def test_every_method_of_the_run_of_a_server_takes_what_the_local_one_takes() -> None:
    of_runs = ("log", "log_many", "log_checkpoint", "log_artifact", "annotate", "finish")
    for remote, local, names in (
        (wb.RemoteWorkspace, wb.Workspace, ("start_run", "submit_notebook")),
        (RemoteRun, LocalRun, of_runs),
    ):
        for name in names:
            mine, theirs = (inspect.signature(getattr(one, name)) for one in (remote, local))
            assert mine.parameters == theirs.parameters, name


def test_a_run_is_started_logged_and_ended(ws: wb.BaseWorkspace, both: Both) -> None:
    config = {"lr": 0.1, "deep": {"a": [1, None], "path": Path("a/b")}, "seed": 2**70}
    started = ws.start_run(
        " logging ",
        name="first 가",
        config=config,
        tags={"who": "나"},
        notes="tried\nonce",
        better={"m*": "lower"},
    )
    assert isinstance(started, wb.Run)
    with started as run:
        assert (run.status, run.name, run.experiment) == ("running", "first 가", "logging")
        for step, value in enumerate((0.5, math.nan, 0.25, math.inf, -math.inf)):
            run.log({"m": value, "other": np.float32(step)}, step=step)
        run.log({"m": 7})  # one more than the last
        run.log({"m": 8}, step=-5)
        assert [step for step, _, _ in run.metric_points("m")] == [0, 1, 2, 3, 4, 5, -5]
        assert (run.summary["m"]["best"], run.summary["m"]["best_step"]) == (0.25, 2)
        run.log_many({"curve": np.arange(30_000) / 4}, times=np.arange(30_000.0))
    assert (run.status, run.error) == ("succeeded", None)
    assert run.created_at <= run.finished_at  # type: ignore[operator]
    for found in (ws.run(run.id), both.home.run(run.id), ws.runs("logging")[0]):
        assert (found.name, found.status, found.notes) == ("first 가", "succeeded", "tried\nonce")
        assert found.config == {"lr": 0.1, "deep": {"a": [1, None], "path": "a/b"}, "seed": 2**70}
        assert (found.tags, found.seed, found.job_id, found.origin) == ({"who": "나"}, 2**70, None, None)
        assert found.directions == [("m*", "lower")]
        assert found.git == provenance.git_revision()
        assert found.environment == json.loads(json.dumps(provenance.environment(processes.host())))
        values = [value for _, _, value in found.metric_points("m")]
        assert [values[0], *values[2:]] == [0.5, 0.25, math.inf, -math.inf, 7.0, 8.0]
        assert math.isnan(values[1])
        points = found.metric_points("curve")
        assert [step for step, _, _ in points] == list(range(-4, 29_996))  # continues after the last one
        assert [value for _, _, value in points] == [at / 4 for at in range(30_000)]
        assert [time for _, time, _ in points[:2]] == [0.0, 1.0]
        assert (found.summary["m"]["count"], found.summary["m"]["nonfinite"]) == (7, 3)
        assert found.outcome["points"] == 30_012
        assert found.outcome["status"] == "succeeded"


def test_a_block_that_raises_fails_its_run(ws: wb.BaseWorkspace, both: Both) -> None:
    for error, status in (
        (ValueError("half a character \ud800 and\0"), "failed"),
        (KeyboardInterrupt(), "cancelled"),
    ):
        run = ws.start_run("ending")
        with pytest.raises(type(error)), run:  # noqa: PT012
            run.log({"m": 1})
            raise error
        found = both.home.run(run.id)
        assert (run.status, found.status) == (status, status)
        assert run.error == found.error
        assert found.error is not None
        assert found.error["type"] == type(error).__name__
        assert found.summary["m"]["count"] == 1
        with pytest.raises(wb.WrongState, match=f"run .* is {status}"):
            run.log({"m": 2})
        run.finish()  # the status does not change
        assert run.status == status


@pytest.mark.parametrize(
    ("log", "says"),
    [
        (lambda run: run.log({"m": "x"}), "metric 'm' is 'x'"),
        (lambda run: run.log({"m": None}), "metric 'm'"),
        (lambda run: run.log({"m": 1, "n": 1j}), "metric 'n'"),
        (lambda run: run.log({"m": [1, 2]}), "metric 'm' is a list"),
        (lambda run: run.log({"": 1}), "metric name ''"),
        (lambda run: run.log({" ": 1}), "metric name ' '"),
        (lambda run: run.log({"m" * 251: 1}), "metric name"),
        (lambda run: run.log({"a\0": 1}), "metric name"),
        (lambda run: run.log({"\ud800": 1}), "metric name"),
        (lambda run: run.log({3: 1}), "metric name 3"),
        (lambda run: run.log({"m": 1}, step=1.5), r"step must be a whole number, got 1\.5"),
        (lambda run: run.log({"m": 1}, step=2**63), "step"),
        (lambda run: run.log_many({"m": [1, 2]}, steps=[1]), "equal length"),
        (lambda run: run.log_many({"m": ["x"]}), "metric 'm' must be .* real numbers"),
        (lambda run: run.annotate(notes=5), "notes must be"),
        (lambda run: run.annotate(tags=5), "tags must be"),
        (lambda run: run.annotate(tags=["a", 1]), "tags must be"),
    ],
)
def test_what_cannot_be_logged_is_refused_and_nothing_of_it_is_kept(
    ws: wb.BaseWorkspace, log: Any, says: str
) -> None:
    with ws.start_run("refusing") as run, pytest.raises(wb.BadInput, match=says):
        log(run)
    assert run.summary == {}


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"experiment": ""}, "experiment must be"),
        ({"experiment": 5}, "experiment must be"),
        ({"experiment": "e", "config": ["f"]}, "config must be"),
        ({"experiment": "e", "seed": "x"}, "seed must be a whole number, got 'x'"),
        ({"experiment": "e", "notes": 5}, "notes must be"),
        ({"experiment": "e", "better": {"m": "up"}}, "better must be .* got 'up'"),
    ],
)
def test_a_run_that_cannot_be_is_not_started(ws: wb.BaseWorkspace, value: Any, says: str) -> None:
    before = [run.id for run in ws.runs()]
    with pytest.raises(wb.BadInput, match=says):
        ws.start_run(**value)
    assert [run.id for run in ws.runs()] == before


def test_notes_and_tags_are_written_also_when_it_is_over(ws: wb.BaseWorkspace, both: Both) -> None:
    with ws.start_run("notes", tags={"a": 1, "b": 2}) as run:
        run.annotate(notes="한 번")
    assert run.annotate(tags={"a": None, "c": [1.5, "x"]}) is run
    for found in (run, both.home.run(run.id)):
        assert (found.notes, found.tags) == ("한 번", {"b": 2, "c": [1.5, "x"]})
    assert ws.run(run.id).annotate(notes="").notes == ""


def test_a_run_found_while_it_goes_on_can_be_logged_to_and_ended(ws: wb.BaseWorkspace) -> None:
    run = ws.start_run("found")
    run.log({"m": 1})
    found = ws.run(run.id)
    found.log({"m": 2})
    run.log({"m": 3}, step=9)
    found.log({"m": 4}, step=10)
    assert [value for _, _, value in run.metric_points("m")] == [1, 2, 3, 4]
    found.finish("cancelled")
    assert run.refresh().status == "cancelled"
    with pytest.raises(wb.WrongState, match="cancelled"):
        run.log({"m": 5})


def test_a_run_of_a_job_is_the_jobs(ws: wb.BaseWorkspace, both: Both) -> None:
    job = job_row(both.home, "cancelled")
    with ws.start_run("of a job", job_id=job) as run:
        pass
    assert (run.job_id, ws.job(job).run_id) == (job, run.id)


def test_checkpoints_are_kept_read_and_deleted(ws: wb.BaseWorkspace, both: Both, tmp_path: Path) -> None:
    big = os.urandom(3 * 2**20 + 1)
    (tmp_path / "file").write_bytes(big)
    with ws.start_run("keeping", better={"m": "higher"}) as run:
        run.log({"m": 0.5, "n": math.nan}, step=3)
        assert run.log_checkpoint("epoch 1 가+@=.bin", tmp_path / "file").name == "epoch 1 가+@=.bin"
        (tmp_path / "file").write_bytes(b"")
        run.log_checkpoint("empty.bin", tmp_path / "file", step=4)
    first, second = run.checkpoints()
    assert (first.name, first.size, first.step, first.metrics["m"]) == ("epoch 1 가+@=.bin", len(big), 3, 0.5)
    assert math.isnan(first.metrics["n"])
    assert (second.name, second.size, second.step, second.metrics) == ("empty.bin", 0, 4, {})
    kept = run.checkpoint("epoch 1 가+@=.bin")
    with kept.open() as file:
        assert file.read(7) == big[:7]
        assert file.read() == big[7:]
    assert kept.save(tmp_path) == tmp_path / "epoch 1 가+@=.bin"
    assert kept.save(tmp_path / "other").read_bytes() == big
    with ws.run(run.id).checkpoint("empty.bin").open() as file:
        assert file.read() == b""
    assert both.home.run(run.id).checkpoint("epoch 1 가+@=.bin").path.read_bytes() == big
    (tmp_path / "file").write_bytes(b"new")
    run.log_checkpoint("empty.bin", tmp_path / "file", step=5)  # replaces the one with that name
    assert [(one.size, one.step) for one in run.checkpoints()] == [(len(big), 3), (3, 5)]
    run.delete_checkpoint("empty.bin")
    assert [one.name for one in run.checkpoints()] == ["epoch 1 가+@=.bin"]
    for wrong, error in (("../a", wb.BadName), ("a/b", wb.BadName), ("none", wb.UnknownCheckpoint)):
        with pytest.raises(error):
            run.checkpoint(wrong)
        with pytest.raises(error):
            run.delete_checkpoint(wrong)


def test_the_best_checkpoints_outlive_the_others(ws: wb.BaseWorkspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with ws.start_run("ranking", better={"m": "higher"}) as run:
        kept = []
        for step, value in enumerate((0.1, 0.3, 0.2, math.nan, 0.4)):
            run.log({"m": value, "free": 1}, step=step)
            place = run.log_checkpoint(f"{step}.bin", tmp_path / "file", step, keep_best=2, metric="m")
            kept.append(place is not None)
        assert kept == [True, True, True, False, True]
        assert [one.name for one in run.checkpoints()] == ["1.bin", "4.bin"]
        for more, says in (
            ({"keep_best": 2}, "keep_best and metric"),
            ({"metric": "m"}, "keep_best and metric"),
            ({"keep_best": 0, "metric": "m"}, "keep_best must be .* got 0"),
            ({"keep_best": True, "metric": "m"}, "keep_best must be .* got True"),
            ({"keep_best": 2, "metric": "free"}, "no direction is declared"),
            ({"keep_best": 2, "metric": "m", "step": 77}, "no 'm' at step 77"),
        ):
            with pytest.raises(wb.BadInput, match=says):
                run.log_checkpoint("x.bin", tmp_path / "file", **more)


def test_artifacts_are_kept_and_read(ws: wb.BaseWorkspace, both: Both, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"pages")
    with ws.start_run("making") as run:
        assert run.log_artifact("report 가.html", tmp_path / "file").name == "report 가.html"
    assert [(one.name, one.size) for one in run.artifacts()] == [("report 가.html", 5)]
    with run.artifact("report 가.html").open() as file:
        assert file.read() == b"pages"
    assert both.home.run(run.id).artifact("report 가.html").path.read_bytes() == b"pages"
    with pytest.raises(wb.UnknownArtifact, match="report"):
        run.artifact("none")


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "/etc/passwd", "..", "", ".hidden", "con", "a\0b", "x" * 300]
)
def test_a_name_that_could_mean_another_place_is_refused(
    ws: wb.BaseWorkspace, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    run = ws.start_run("hostile")
    for keep in (run.log_checkpoint, run.log_artifact):
        with pytest.raises(wb.BadName):
            keep(name, tmp_path / "file")
    run.finish()
    assert (run.checkpoints(), run.artifacts()) == ([], [])


@pytest.mark.parametrize("what", ["no such file", "."])
def test_what_is_no_file_is_not_kept(ws: wb.BaseWorkspace, tmp_path: Path, what: str) -> None:
    with ws.start_run("no file") as run:
        for keep in (run.log_checkpoint, run.log_artifact):
            with pytest.raises(wb.BadInput, match="no file"):
                keep("x.bin", tmp_path / what)


# Notebooks ------------------------------------------------------------------------------------------


def notebook(folder: Path, *cells: str) -> Path:
    page = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    page.cells[0].metadata["tags"] = ["parameters"]
    path = folder / "mine 가.ipynb"
    nbformat.write(page, path)
    return path


def test_a_notebook_of_this_machine_is_a_job(ws: wb.BaseWorkspace, tmp_path: Path) -> None:
    path = notebook(tmp_path, "n: int = 1  # how many\nword = 'a'", "print('counted', n, word)\nassert n < 5")
    job = ws.submit_notebook(path, {"n": 3, "word": "나"})
    path.write_text("{}")  # the submitted copy is executed
    assert (job.type, job.options, Path(job.source).name) == ("notebook", {"n": 3, "word": "나"}, path.name)
    job.wait(PATIENCE)
    assert "counted 3 나" in job.logs()
    again = job.retry()
    assert again.id != job.id
    again.wait(PATIENCE)
    assert "counted 3 나" in again.logs()


def test_infinite_parameters_arrive_as_numbers(ws: wb.BaseWorkspace, tmp_path: Path) -> None:
    """They arrived as text, and a comparison with them raised, or worse did not."""
    cells = [
        "limit: float = 1.0\nmore: dict = {}",
        "print(limit > 1e300, more['k'] != more['k'], more['word'])",
    ]
    path = notebook(tmp_path, *cells)
    job = ws.submit_notebook(path, {"limit": math.inf, "more": {"k": math.nan, "word": "inf"}})
    assert job.wait(PATIENCE).status == "succeeded"
    assert "True True inf" in job.logs()
    assert job.options["limit"] == math.inf
    assert math.isnan(ws.job(job.id).options["more"]["k"])


def test_a_notebook_that_raises_is_a_job_that_failed(ws: wb.BaseWorkspace, tmp_path: Path) -> None:
    job = ws.submit_notebook(notebook(tmp_path, "n = 1", "raise ValueError('no')"))
    with pytest.raises(wb.JobFailed, match=r"cell \[2\]: ValueError: no"):
        job.wait(PATIENCE)


@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ({"n": "many"}, wb.BadOptions, "n: .*'many'"),
        ({"nn": 1}, wb.BadOptions, "nn: unknown option"),
        ([1], wb.BadOptions, "dictionary"),
        ({"n": print}, wb.BadInput, "."),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_anything_is_queued(
    ws: wb.BaseWorkspace, tmp_path: Path, value: Any, error: type[Exception], says: str
) -> None:
    before = ws.count_jobs()
    with pytest.raises(error, match=says):
        ws.submit_notebook(notebook(tmp_path, "n: int = 1"), value)
    assert ws.count_jobs() == before


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("none.ipynb", None, r"none\.ipynb' not found"),
        ("a.txt", "{}", r"a\.txt' is not a notebook"),
        ("a.ipynb", "no json", "cannot be read as a notebook"),
        ("a.ipynb", "[]", "not a notebook of format 4"),
        ("a.ipynb", '{"cells": [], "nbformat": 3}', "not a notebook of format 4"),
        ("http://h/a.ipynb", None, "'http://h/a.ipynb' is not a local path"),
    ],
)
def test_what_is_no_notebook_is_refused(
    ws: wb.BaseWorkspace, tmp_path: Path, name: str, text: str | None, says: str
) -> None:
    before = ws.count_jobs()
    path = name if "://" in name else str(tmp_path / name)
    if text is not None:
        Path(path).write_text(text)
    with pytest.raises(wb.BadInput, match=says):
        ws.submit_notebook(path)
    assert ws.count_jobs() == before


def test_jobs_are_retried_with_what_they_had(ws: wb.BaseWorkspace) -> None:
    job = ws.submit("eval", "toy", {"k": 2}, fail_below={"R@2": 0.0})
    with pytest.raises(wb.WrongState, match="Cancel it first"):
        job.retry()
    job.wait(PATIENCE, check=False)
    again = job.retry()
    assert (again.options, again.floors) == (job.options, job.floors)
    again.cancel()


# Search ---------------------------------------------------------------------------------------------


def test_an_index_is_searched(ws: wb.BaseWorkspace) -> None:
    assert "words" in ws.index_names()
    searcher = ws.open_search("words")
    assert isinstance(searcher, wb.Searcher)
    assert (searcher.name, searcher.adapter.name) == ("words", "toy")
    assert [query.text for query in searcher.sample_queries()] == ["dog", "강아지"]
    assert searcher.describe()["title"] == "words"
    assert set(searcher.schema["properties"]) == {"filter"}
    found = searcher.by_text("강아지", k=2)
    assert [(hit.id, hit.caption) for hit in found] == [("강아지", "강아지"), ("강", "강")]
    assert found.took_ms["total"] >= 0
    assert searcher.by_image(b"pizza", k=1)[0].id == "pizza"
    assert searcher.adapter.offers("search_by_text")
    assert not searcher.adapter.offers("search_by_item")
    why = searcher.explain(wb.Term("image", b"dot", "a.png"), found[0])
    assert (why.left.by, why.right.id, why.views[0].kind) == ("image", "강아지", "cells")
    with pytest.raises(wb.NotFound, match="no item 'x'"):
        searcher.explain("dog", wb.Term("item", "x"))
    terms = [(1, "dot"), (-0.5, b"pizza"), (1, wb.Term("item", "dog"))]
    assert [hit.id for hit in searcher.compose(terms, k=2)] == ["dot", "강"]
    assert [hit.id for hit in searcher.compose("강아지 -강", k=1)] == ["강아지"]
    with pytest.raises(wb.BadInput, match="nothing is left to search for"):
        searcher.compose("-dog")


def test_the_file_of_a_hit_is_saved_from_wherever_it_is(ws: wb.BaseWorkspace, tmp_path: Path) -> None:
    searcher = ws.open_search("words")
    dog = next(hit for hit in searcher.by_text("dog") if hit.id == "dog")
    saved = searcher.save_file(dog, tmp_path / "mine.jpg")
    assert saved.read_bytes() == b"\xff\xd8 a dog"
    assert searcher.save_file("dog", tmp_path / "again.jpg").read_bytes() == saved.read_bytes()
    for item in ("cat", "dot"):
        with pytest.raises(wb.NotFound):
            searcher.save_file(item, tmp_path / "none.jpg")
    assert not (tmp_path / "none.jpg").exists()
    assert [hit.caption for hit in searcher.sample_items()] == ["dog", "dot"]
    assert searcher.sample_items()[0].thumbnail == b"\x89PNG dog"


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda s: s.by_text("  "), wb.BadInput, "the query is empty"),
        (lambda s: s.by_text("x" * 2001), wb.BadInput, "2,000 characters, got 2,001"),
        (lambda s: s.by_text("dog", k=0), wb.BadInput, "k"),
        (lambda s: s.by_text("dog", k=True), wb.BadInput, "k"),
        (lambda s: s.by_text("dog", sharp=True), wb.BadOptions, "sharp: unknown option"),
        (lambda s: s.by_text("dog", sharp=object()), wb.BadInput, "."),
        (lambda s: s.by_image(b""), wb.BadInput, "0 bytes"),
        (lambda s: s.by_image(bytes(20 * 2**20 + 1)), wb.TooLarge, "at most 20 MiB"),
        (lambda s: s.by_item("dog"), wb.NotSupported, "'toy' does not offer search_by_item"),
    ],
)
def test_a_search_that_cannot_be_is_refused(
    ws: wb.BaseWorkspace, ask: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        ask(ws.open_search("words"))


@pytest.mark.parametrize(
    "name", ["wods", "../words", "", "/etc", "..", "%2e%2e%2fwords", "words/", "강", "a" * 300]
)
def test_an_unknown_index_lists_the_known(ws: wb.BaseWorkspace, name: str) -> None:
    with pytest.raises(wb.UnknownIndex, match="words"):
        ws.open_search(name)


def test_a_manifest_that_names_no_adapter_is_corrupt(both: Both) -> None:
    (both.home.indexes / "corrupt").mkdir(exist_ok=True)
    (both.home.indexes / "corrupt" / "manifest.json").write_text("[]")
    with pytest.raises(wb.CorruptFile, match="manifest"):
        both.ws.open_search("corrupt")
