"""What a workspace is, held by the local one and by the client of a server alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import workbench as wb

from ..conftest import installed, workspace_in
from .conftest import job_row, live_server, make_index, until

PATIENCE = 120


@dataclass
class Both:
    """The workspace under test, and the folder of it opened as its owner does."""

    ws: wb.Workspace
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
def ws(both: Both) -> wb.Workspace:
    return both.ws


def known(both: Both, status: str, **columns: Any) -> wb.Job:
    """A job in a state, which no worker touches, as the workspace under test sees it."""
    return both.ws.job(job_row(both.home, status, **columns))


# Jobs -----------------------------------------------------------------------------------------------


def test_a_job_is_submitted_watched_and_read(ws: wb.Workspace) -> None:
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
    again = ws.job(job.id)
    assert (again.id, again.result) == (job.id, job.result)
    assert json.loads(json.dumps(again.to_json()))["result"]["summary"] == "counted to 4"


def test_options_may_be_a_model_and_floors_hold(ws: wb.Workspace, both: Both) -> None:
    adapter = wb.get_adapter("toy")
    options = adapter.options("eval")(k=4)
    job = ws.submit("eval", adapter, options, fail_below={"R@4": 0.9})
    assert (job.options["k"], job.floors) == (4, {"R@4": 0.9})
    with pytest.raises(wb.JobFailed, match=r"R@4") as raised:
        job.wait(PATIENCE)
    assert raised.value.job_id == job.id
    assert job.result is not None
    assert job.wait(check=False).status == "failed"


def test_a_job_that_raises_says_in_which_cell(ws: wb.Workspace) -> None:
    job = ws.submit("eval", "toy", {"fail": "no <b>data</b>"})
    with pytest.raises(wb.JobFailed, match="ValueError: no <b>data</b>") as raised:
        job.wait(PATIENCE)
    assert raised.value.cell
    assert job.error is not None
    assert job.error["type"] == "ValueError"
    assert job.result is None


def test_a_job_is_cancelled_while_it_runs_and_that_twice_is_the_same(ws: wb.Workspace) -> None:
    job = ws.submit("eval", "toy", {"seconds": 60})
    until(lambda: job.refresh().status == "running", PATIENCE)
    assert job.cancel().status in ("cancelling", "cancelled")
    with pytest.raises(wb.JobCancelled):
        job.wait(PATIENCE)
    assert job.cancel().status == "cancelled"


@pytest.mark.parametrize(
    ("kind", "adapter", "options", "error", "says"),
    [
        ("eval", "toy", {"k": "many"}, wb.BadOptions, "k: .*'many'"),
        ("eval", "toy", {"kk": 1}, wb.BadOptions, "kk: unknown option; allowed: steps"),
        ("eval", "toy", [1], wb.BadOptions, "dictionary"),
        ("dance", "toy", {}, wb.BadInput, "no job type 'dance'"),
        ("eval", "tory", {}, wb.UnknownAdapter, "did you mean 'toy'"),
        ("eval", "../toy", {}, wb.UnknownAdapter, "Known: toy"),
        ("eval", "toy", {"k": object()}, (wb.BadInput), "."),
    ],
)
def test_what_cannot_run_is_refused_before_anything_is_queued(
    ws: wb.Workspace, kind: str, adapter: str, options: Any, error: type[Exception], says: str
) -> None:
    before = [job.id for job in ws.jobs()]
    with pytest.raises(error, match=says):
        ws.submit(kind, adapter, options)
    assert [job.id for job in ws.jobs()] == before


def test_problems_of_options_come_each_with_its_field(ws: wb.Workspace) -> None:
    with pytest.raises(wb.BadOptions) as raised:
        ws.submit("eval", "toy", {"k": "x", "steps": "y"})
    assert {field for field, _ in raised.value.problems} == {"k", "steps"}


@pytest.mark.parametrize("floor", ["x", True, None])
def test_a_floor_that_is_no_number_is_refused(ws: wb.Workspace, floor: Any) -> None:
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
    with pytest.raises(TimeoutError, match=r"running after 0\.2 s; it goes on"):
        job.wait(0.2)
    both.home.store.move_job(job.id, expect="running", to="cancelled")


def test_how_an_old_job_ended(both: Both) -> None:
    job = known(both, "failed", error={"cell": 3, "type": "ValueError", "message": "bad"})
    with pytest.raises(wb.JobFailed, match=r"failed in cell \[3\]: ValueError: bad"):
        job.wait()
    assert known(both, "cancelled").wait(check=False).status == "cancelled"
    assert (job.logs(), list(job.follow_logs()), job.notebook) == ("", [], None)


@pytest.mark.parametrize(
    "given", [10**6, "1000000", 0, -1, "x", "", "..", "%2e%2e", "1/../1", "²", None, True, 2**40, "1\0"]
)
def test_an_id_that_is_not_there_is_unknown_whatever_it_is(ws: wb.Workspace, given: Any) -> None:
    with pytest.raises(wb.UnknownRun):
        ws.run(given)
    with pytest.raises(wb.UnknownJob):
        ws.job(given)


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


def test_a_reader_reads_what_a_workspace_says(both: Both) -> None:
    run_id = logged(both, "read", lr=1)
    reader = both.ws.run_reader()
    listed, rows = reader.look(1, [run_id, 10**6])
    assert (listed, list(rows)) == (range(run_id, run_id + 1), [run_id])
    assert (rows[run_id].config, rows[run_id].directions) == ({"lr": 1}, [["m", "higher"]])
    assert reader.summaries(rows.values())[run_id]["m"]["last"] == math.inf
    assert [(one.name, one.better) for one in reader.declared(rows.values())] == [("m", "higher")]
    curves = both.ws.curve_reader().series({(run_id, "other"): 4, (run_id, "none"): 1})
    assert curves[run_id, "other"].value.tolist() == [0, 1, 2, 3]
    assert len(curves[run_id, "none"]) == 0


# Search ---------------------------------------------------------------------------------------------


def test_an_index_is_searched(ws: wb.Workspace) -> None:
    assert "words" in ws.index_names()
    searcher = ws.open_search("words")
    assert isinstance(searcher, wb.Searcher)
    assert (searcher.name, searcher.adapter.name) == ("words", "toy")
    assert [query.text for query in searcher.sample_queries()] == ["dog", "강아지"]
    assert searcher.describe()["title"] == "words"
    assert searcher.schema["properties"] == {}
    found = searcher.by_text("강아지", k=2)
    assert [(hit.id, hit.caption) for hit in found] == [("강아지", "강아지"), ("강", "강")]
    assert found.took_ms["total"] >= 0
    assert searcher.by_image(b"pizza", k=1)[0].id == "pizza"
    assert searcher.adapter.offers("search_by_text")
    assert not searcher.adapter.offers("search_by_item")


@pytest.mark.parametrize(
    ("ask", "error", "says"),
    [
        (lambda s: s.by_text("  "), wb.BadInput, "the query is empty"),
        (lambda s: s.by_text("x" * 2001), wb.BadInput, "2,001 characters"),
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
    ws: wb.Workspace, ask: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        ask(ws.open_search("words"))


@pytest.mark.parametrize(
    "name", ["wods", "../words", "", "/etc", "..", "%2e%2e%2fwords", "words/", "강", "a" * 300]
)
def test_an_unknown_index_lists_the_known(ws: wb.Workspace, name: str) -> None:
    with pytest.raises(wb.UnknownIndex, match="words"):
        ws.open_search(name)


def test_a_manifest_that_names_no_adapter_is_corrupt(both: Both) -> None:
    (both.home.indexes / "corrupt").mkdir(exist_ok=True)
    (both.home.indexes / "corrupt" / "manifest.json").write_text("[]")
    with pytest.raises(wb.CorruptFile, match="manifest"):
        both.ws.open_search("corrupt")
