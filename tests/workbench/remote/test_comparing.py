"""Comparing over HTTP: the client reads the same as the owner, with few requests."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import workbench as wb
from tests.conftest import installed, workspace_in
from tests.workbench.conftest import Live, job_row, live_server, until
from workbench.compare.reading import Runs
from workbench.panels.compare.panel import ComparePanel
from workbench.panels.results.panel import ResultsComparePanel
from workbench.panels.results.side_by_side import comparison_html
from workbench.remote.comparing import _WHOLE, ALSO_ASKED, BYTES_ASKED, CURVES_ASKED, RUNS_ASKED
from workbench.server.api import comparing, route
from workbench.store import records
from workbench.store.outcome import STATISTICS
from workbench.store.points import SEAL, Batch


@dataclass
class Served:
    """A workspace opened locally and over HTTP, and its HTTP requests."""

    home: wb.Workspace
    remote: wb.RemoteWorkspace
    live: Live
    answers: list[tuple[str, int, int]] = field(default_factory=list)

    def listen(self) -> None:
        """Record path, status and size of every answer from now on."""

        def keep(answer: httpx.Response) -> None:
            answer.read()
            path = answer.request.url.path.partition("/workbench/api/")[2]
            self.answers.append((path, answer.status_code, len(answer.content)))

        self.remote.door._http.event_hooks = {"response": [keep]}

    def take(self) -> list[tuple[str, int]]:
        """Return paths and statuses of the requests since the last call."""
        out = [(path, status) for path, status, _ in self.answers]
        self.answers.clear()
        return out


@pytest.fixture(scope="module")
def served(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("remote-compare")
    with installed(toy_package), workspace_in(folder / "results") as home:
        fill(home)
        with (
            live_server(home.path, folder / "state", base="/a/base/") as live,
            wb.connect(live.url, live.token) as remote,
        ):
            made = Served(home, remote, live)
            made.listen()
            yield made


def fill(home: wb.Workspace) -> None:
    """Log edge cases: NaN, steps that go back, names in many scripts, no values."""
    job_id = job_row(home, "cancelled", type="train", adapter="toy")
    lost_family = job_row(home, "cancelled", type="train", adapter="nobody's")
    for number, lr in enumerate((0.1, 0.01, 0.1)):
        config = {"lr": lr, "deep": {"a": [1, None, "강"]}, "odd": math.nan, "seed": number}
        with home.start_run(
            "실험/하나",
            f"<run> {number}",
            config,
            better={"val/*": "higher"},
            tags={"who": "민지", "base": True},
        ) as run:
            for step in (0, 1, 2, 1, 3, -5, 2**62):
                run.log(
                    {"val/점수 %/?&=+": number + step / 7, "train/loss": 1 / (abs(step) + number + 1)},
                    step=step,
                )
            for step, value in enumerate((math.nan, math.inf, -math.inf, 0.1, math.nan)):
                run.log({"wild": value, "ends high": math.inf if step > 2 else step}, step=step)
        run.annotate(notes="왜 <했나>")
    with home.start_run("counting", job_id=job_id) as run:  # its adapter declares that a lower loss is better
        run.log({"loss": 0.5, "R@1": 0.25}, step=0)
        run.log({"loss": 0.25, "R@1": 0.5}, step=1)
    with home.start_run("counting", job_id=lost_family) as run:
        run.log({"loss": 1}, step=0)
    failed = home.start_run("failed")
    failed.log({"loss": 3.0})
    failed.finish("failed", ValueError("no <b>data</b>"))
    with home.start_run("silent"):
        pass
    with home.start_run("long", "long") as run:
        pass
    steps = np.arange(3 * SEAL + 5)
    batch = Batch(steps.tolist(), (1.79e9 + steps / 3).tolist(), np.sin(steps / 50).tolist())
    home.store.add_batches({(run.id, "sine"): batch}, {})


def everything(reader: Runs, limit: int, also: Any) -> Any:
    listed, rows = reader.look(limit, also)
    return listed, list(rows.items()), reader.summaries(rows.values()), reader.declared(rows.values())


def same(one: dict[Any, Any], other: dict[Any, Any]) -> None:
    assert one.keys() == other.keys()
    for key in one:
        for name in ("step", "time", "value"):
            np.testing.assert_array_equal(getattr(one[key], name), getattr(other[key], name), strict=True)


# Same data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "also"),
    [(300, ()), (1000, ()), (3, ()), (3, (1, 2)), (1, (1, 1, 5)), (2, (10**6, 2**40, 0, -1)), (0, (2,))],
)
def test_runs_are_read_as_their_owner_reads_them(served: Served, limit: int, also: Any) -> None:
    here, there = served.home.run_reader(), served.remote.run_reader()
    reply = everything(there, limit, also)
    assert reply == everything(here, limit, also)
    assert reply == everything(there, limit, also)  # and again, from the cache
    assert reply[1]


def test_curves_are_read_as_their_owner_reads_them(served: Served) -> None:
    reader = served.home.run_reader()
    _, rows = reader.look(1000)
    counts = {
        (run_id, name): entry["count"]
        for run_id, summary in reader.summaries(rows.values()).items()
        for name, entry in summary.items()
    }
    counts |= {(1, "never"): 3, (10**6, "sine"): 1}
    wild = served.remote.curve_reader().series(counts)[1, "wild"].value
    assert np.array_equal(wild, [math.nan, math.inf, -math.inf, 0.1, math.nan], equal_nan=True)
    same(served.home.curve_reader().series(counts), served.remote.curve_reader().series(counts))


def test_more_than_one_answer_holds_comes_in_several(served: Served) -> None:
    with served.home.start_run("huge", config={"text": "강" * 100_000}) as run:
        pass
    wide = [run.id]
    for _ in range(5):
        with served.home.start_run("wide", config={"text": "x" * 300_000}) as run:
            pass
        wide.append(run.id)
    half = comparing.ANSWER_POINTS // 2 + 10
    keys = [(run.id, name) for name in ("a", "b", "c")]
    numbers = np.arange(half)
    batch = Batch(numbers.tolist(), numbers.astype(float).tolist(), (numbers / 7).tolist())
    served.home.store.add_batches(dict.fromkeys(keys, batch), {})
    served.take()
    limit = len(wide)
    assert everything(served.remote.run_reader(), limit, ()) == everything(
        served.home.run_reader(), limit, ()
    )
    assert served.take().count(("runs/table", 200)) > 1
    counts = dict.fromkeys(keys, half)
    same(served.home.curve_reader().series(counts), served.remote.curve_reader().series(counts))
    assert served.take() == [("runs/points", 200)] * (3 * half // comparing.ANSWER_POINTS + 1)


def test_many_long_names_are_asked_for_in_several_questions(served: Served) -> None:
    with served.home.start_run("names") as run:
        run.log({f"{number} {'가' * 245}": number for number in range(400)})
    counts = dict.fromkeys(((run.id, name) for name in run.summary), 1)
    assert len(counts) == 400
    served.take()
    same(served.home.curve_reader().series(counts), served.remote.curve_reader().series(counts))
    assert served.take() == [("runs/points", 200)] * 3


def test_many_runs_that_are_not_among_the_newest_are_asked_for_in_several_addresses(served: Served) -> None:
    ids = [*range(1, 6), *range(10**9, 10**9 + 250)]
    assert list(served.remote.run_reader().look(0, ids)[1]) == [5, 4, 3, 2, 1]


def test_what_the_client_asks_at_once_the_server_takes() -> None:
    assert RUNS_ASKED <= comparing.MOST_TABLED
    assert CURVES_ASKED <= comparing.MOST_SERIES
    assert ALSO_ASKED <= comparing.MOST_ALSO
    assert 2 * BYTES_ASKED <= route.BODY_BYTES
    assert set(STATISTICS) >= _WHOLE


# Number and size of requests --------------------------------------------------------------------------


def test_a_run_that_is_over_is_read_once_and_of_another_what_is_new(served: Served) -> None:
    reader, curves = served.remote.run_reader(), served.remote.curve_reader()
    with served.home.start_run("live") as run:
        run.log({"x": 1.0}, step=0)
        run.flush()
        reader.look(300)
        curves.series({(run.id, "x"): 1})
        served.take()
        _, rows = reader.look(300)
        assert served.take() == [("runs/marks", 304)]
        run.log({"x": 2.0}, step=1)
        run.flush()
        _, rows = reader.look(300)
        assert reader.summaries([rows[run.id]])[run.id]["x"]["last"] == 2.0
        assert curves.series({(run.id, "x"): 2})[run.id, "x"].value.tolist() == [1.0, 2.0]
        assert [path for path, _, _ in served.answers] == ["runs/marks", "runs/table", "runs/points"]
        (_, _, table), (_, _, points) = served.answers[1:]
        assert table < 1500  # of this run only
        assert points < 200  # of this point only
    _, rows = reader.look(300)
    assert rows[run.id].status == "succeeded"
    curves.series({(run.id, "x"): 2})
    served.take()
    run.annotate(notes="edited later")
    assert reader.look(300)[1][run.id].notes == "edited later"
    assert served.take() == [("runs/marks", 200), ("runs/table", 200)]


def test_a_panel_that_idles_asks_once_a_look_and_gets_nothing(served: Served) -> None:
    panel = ComparePanel(served.remote, [1, 2, 3])
    served.take()
    for _ in range(3):
        panel.refresh()
    assert {one[1:] for one in served.answers} == {(304, 0)}
    assert served.take() == [("runs/marks", 304)] * 3
    panel.set(smoothing=0.5, axis="relative")  # the curves are cached
    assert served.take() == [("runs/marks", 304)]
    panel.close()


def test_adapters_are_asked_once_what_they_declare(served: Served) -> None:
    with wb.connect(served.live.url, served.live.token) as remote:
        other = Served(served.home, remote, served.live)
        other.listen()
        for _ in range(2):
            reader = remote.run_reader()
            _, rows = reader.look(1000)
            reply = reader.declared(rows.values())
            declared = [[(one.name, one.better) for one in metrics] for metrics in reply.values()]
            assert [("loss", "lower"), ("R@*", "higher")] in declared
        reply = [one for one in other.take() if one[0].startswith("adapters")]
        assert reply == [("adapters/nobody's", 404), ("adapters/toy", 200)]


# Panels -----------------------------------------------------------------------------------------------

VIEWS: list[dict[str, Any]] = [
    {},
    {"axis": "time"},
    {"axis": "relative", "smoothing": 0.6},
    {"axis": "train/loss", "log": True},
    {"axis": "nothing"},
    {"metrics": ["wild", "ends high", "val/점수 %/?&=+"]},
    {"window": [0, 2], "smoothing": 0.3},
    {"average": "seed"},
    {"baseline": 2, "statistic": "min", "differences": False},
    {"better": {"train/loss": "lower", "val/*": None}, "statistic": "best", "column": "train/loss"},
]


@pytest.fixture
def panels(served: Served) -> Iterator[tuple[ComparePanel, ComparePanel]]:
    here, there = ComparePanel(served.home, [1, 2, 3]), ComparePanel(served.remote, [1, 2, 3])
    yield here, there
    here.close()
    there.close()


@pytest.mark.parametrize("change", VIEWS, ids=str)
def test_a_panel_shows_what_the_owners_shows(
    panels: tuple[ComparePanel, ComparePanel], change: dict[str, Any]
) -> None:
    here, there = panels
    for panel in panels:
        panel.set(**change)
    assert there.state["problem"] is None
    assert there.state == here.state
    assert there.curves == here.curves
    assert there.live == here.live
    assert there.to_html() == here.to_html()
    if "nothing" not in change.values():
        assert there.curves["lines"]
        assert "<svg" in there.to_html()


@pytest.mark.parametrize("runs", [None, [4, 5], [6, 7, 8], [99_999], []], ids=str)
def test_whatever_is_chosen_is_shown_as_the_owner_sees_it(served: Served, runs: list[int] | None) -> None:
    here, there = ComparePanel(served.home, runs), ComparePanel(served.remote, runs)
    assert there.state == here.state
    assert there.to_html() == here.to_html()
    assert {run["id"] for run in there.state["runs"]} >= {1, 2, 3}
    assert (there.state["problem"] is not None) == (runs == [99_999])
    here.close()
    there.close()


@pytest.mark.parametrize("kind", ["csv", "md", "tex"])
def test_what_is_exported_is_the_same(
    panels: tuple[ComparePanel, ComparePanel], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    files: list[Any] = []
    for panel in panels:
        monkeypatch.setattr(panel, "send", lambda content, buffers=None: files.append(content))
        panel._on_message({"type": "export", "kind": kind})
    here, there = files
    assert here == there
    assert there["name"] == f"comparison.{kind}"
    assert "점수" in there["text"]


def test_a_curve_moves_while_its_run_logs(served: Served) -> None:
    with served.home.start_run("moving", better={"loss": "lower"}) as run:
        run.log({"loss": 1.0}, step=0)
        run.log({"loss": 0.5}, step=1)
        run.flush()
        panel = ComparePanel(served.remote, [run.id])
        panel._on_message({"type": "view", "view": "one", "open": True})
        for step in range(2, 4):
            run.log({"loss": 1 / (step + 1)}, step=step)
            until(lambda step=step: [line["count"] for line in panel.live.get("lines", [])] == [step + 1])
            until(
                lambda step=step: panel.state["comparison"]["final"][0]["texts"] == [f"{1 / (step + 1):.3f}"]
            )
        listed = next(one for one in panel.state["runs"] if one["id"] == run.id)
        assert listed["status"] == "running"
    until(lambda: next(one for one in panel.state["runs"] if one["id"] == run.id)["status"] == "succeeded")
    assert panel.live["lines"] == []
    assert panel.curves["lines"]
    panel.close()
    assert not panel.alive


def test_a_new_run_joins_a_list_that_nobody_chose_from(served: Served) -> None:
    panel = ComparePanel(served.remote)
    before = panel.state["chosen"]
    with served.home.start_run("new", "새 실행") as run:
        run.log({"loss": 1.0})
    panel.refresh()
    assert panel.state["chosen"] == [*before[1:], run.id]
    assert panel.state["runs"][0]["name"] == "새 실행"
    panel.close()


def test_a_server_that_goes_away_is_said_and_found_again(tmp_path: Path, toy_package: Path) -> None:
    with installed(toy_package), workspace_in(tmp_path / "results") as home:
        with live_server(home.path, tmp_path / "one") as first:
            ws = wb.connect(first.url, first.token)
            port = int(first.url.split(":")[2].strip("/"))
            panel, here = ComparePanel(ws), ComparePanel(home)
            assert panel.state == here.state  # nothing yet
            assert "No runs to compare yet." in panel.to_html()
            made = []
            for number in range(2):
                with home.start_run("e", config={"lr": number}) as run:
                    run.log({"loss": number + 0.5})
                made.append(run.id)
            panel.refresh()
            known = panel.state
        panel._poller.after_error = 0.2
        assert panel.refresh() == 0.2
        assert "does not answer" in panel.state["problem"]["message"]
        assert panel.state == {**known, "problem": panel.state["problem"]}  # known data stays
        assert "<table" in panel.to_html()
        panel._on_message({"type": "choose", "runs": made[:1], "view": "a", "number": 7})  # it is not lost
        assert panel.state["heard"] == {"a": 7}
        panel.set(statistic="min")
        late = ComparePanel(ws, made)  # a new panel has nothing to show
        assert "does not answer" in late.state["problem"]["message"]
        assert late.state.keys() == known.keys()
        assert "does not answer" in late.to_html()
        late._poller.after_error = 0.2
        for one in (panel, late):
            one._on_message({"type": "view", "view": "a", "open": True})
        with live_server(home.path, tmp_path / "two", address=(port, first.token)):
            until(lambda: panel.state["problem"] is None and late.state["problem"] is None)
            assert panel.state["chosen"] == made[:1]
            here.choose(made)
            assert late.state == {**here.state, "heard": late.state["heard"]}
            for one in (panel, late, here):
                one.close()
        ws.close()


def test_a_token_that_is_not_the_servers_any_more_is_said(served: Served) -> None:
    with wb.connect(served.live.url, served.live.token) as remote:
        panel = ComparePanel(remote, [1])
        remote.door._http.headers["Authorization"] = "token another"
        remote.door._http.cookies.clear()
        panel.refresh()
        assert "token" in panel.state["problem"]["hint"]
        assert panel.state["comparison"] is not None
        panel.close()


# Results of jobs ----------------------------------------------------------------------------------------


def finished(home: wb.Workspace, score: float, adapter: str = "toy") -> int:
    row = home.store.add_job(
        records.JobRecord(
            type="eval", adapter=adapter, status="running", options={"name": f"<{score}>", "강": 1}, attempt=1
        )
    )
    scores = [score + number / 1000 for number in range(40)]
    table = {"rows": [{"name": "loss", "value": score}, {"name": "none", "value": None}]}
    result = wb.Result(
        summary=f"scored {score}",
        metrics={"loss": sum(scores) / 40, "R@1": score},
        views=[wb.View(kind="metrics_table", title="수", data=table)],
        samples=[wb.Samples(ids=[f"q{number}" for number in range(40)], scores={"loss": scores})],
    )
    home.store.save_result(row.id or 0, 1, result.model_dump())
    home.store.move_job(row.id or 0, expect="running", to="succeeded")
    return row.id or 0


def test_results_are_compared_as_their_owner_compares_them(served: Served) -> None:
    jobs = [finished(served.home, 0.1), finished(served.home, 0.3), finished(served.home, 0.2, "nobody's")]
    for how in ({}, {"baseline": jobs[1]}, {"better": {"loss": "higher"}}):
        here, there = served.home.compare_results(jobs, **how), served.remote.compare_results(jobs, **how)
        assert comparison_html(there) == comparison_html(here)
        assert [row.verdicts for row in there.rows] == [row.verdicts for row in here.rows]
    assert (
        next(row for row in there.rows if row.final.name == "R@1").final.better == "higher"
    )  # says the adapter
    with pytest.raises(wb.UnknownJob):
        served.remote.compare_results([10**6])
    panels = [ResultsComparePanel(ws, jobs[:2]) for ws in (served.home, served.remote)]
    assert panels[0].state == panels[1].state
    assert panels[1].to_html() == panels[0].to_html()
    served.take()
    panels[1].refresh()
    assert served.take() == [("jobs", 304)]
    for panel in panels:
        panel.close()


def test_directions_are_the_servers_adapters(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    here = served.home.compare_results([(job := finished(served.home, 0.1))])
    monkeypatch.setattr("workbench.compare.reading.adapters", lambda: [])  # a laptop without them
    assert comparison_html(served.remote.compare_results([job])) == comparison_html(here)
    panel = ComparePanel(served.remote, [4])
    assert {row["name"]: row["better"] for row in panel.state["comparison"]["final"]} == {
        "R@1": "higher",
        "loss": "lower",
    }
    panel.close()


# The routes ---------------------------------------------------------------------------------------------


def test_a_program_reads_the_same(served: Served) -> None:
    marks = served.live.get("runs/marks?newest=1&also=1,99999").json()
    assert marks["first"] == marks["newest"] == max(served.home.run_reader().look(1)[1])
    assert marks["marks"].keys() == {"1", str(marks["newest"])}
    reply = served.live.post("runs/table", {"runs": [1, 99_999, 1]}).json()
    (run,) = reply["runs"]
    wild = dict(zip(reply["columns"], run["summary"]["wild"], strict=True))
    assert (wild["last"], wild["min"], wild["count"], wild["nonfinite"]) == (None, 0.1, 5, 4)
    assert dict(zip(reply["columns"], run["summary"]["ends high"], strict=True))["last"] == "Infinity"
    request = {"curves": [{"run": 1, "name": "wild", "after": 2}, {"run": 1, "name": "never"}]}
    (curve,) = (answer := served.live.post("runs/points", request).json())["curves"]
    assert (curve["run"], curve["name"], answer["more"]) == (1, "wild", False)
    assert served.live.post("runs/points", {"curves": []}).json() == {"curves": [], "more": False}
    assert served.live.get("adapters/toy").json()["metrics"][0]["name"] == "loss"
