"""The Python half of the compare panel."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sqlite3
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.waiting import until
from tests.workbench.points import Point, add_points
from tests.workbench.stored_times import BAD_TIMES, add_bad_times
from workbench.compare.curves import smoothed
from workbench.panels.base.assets import TROPHY
from workbench.panels.compare import view as module
from workbench.panels.compare.panel import ComparePanel
from workbench.store import records


def log(workspace: wb.Workspace, name: str, loss: float, **config: Any) -> int:
    with workspace.start_run("tries", name=name, config=config, better={"loss": "lower"}) as run:
        run.log({"loss": loss}, step=1)
    return run.id


def curve(workspace: wb.Workspace, values: list[float], name: str = "loss", **config: Any) -> int:
    with workspace.start_run("tries", config=config) as run:
        for step, value in enumerate(values):
            run.log({name: value}, step=step)
    return run.id


def lines(payload: dict[str, Any]) -> list[dict[str, Any]]:
    """Decode lines as the page does."""
    numbers = np.frombuffer(payload.get("data", b""), "<f4")
    out = []
    for line in payload.get("lines", []):
        at, count = line["at"], line["count"]
        arrays = [
            numbers[at + part * count : at + (part + 1) * count].tolist()
            for part in range(4 if line["band"] else 2)
        ]
        arrays[0] = [line["x0"] + x for x in arrays[0]]
        out.append({**line, "arrays": arrays})
    return out


@pytest.fixture
def panel(workspace: wb.Workspace) -> Iterator[ComparePanel]:
    panel = ComparePanel(workspace)
    yield panel
    panel.close()


@pytest.fixture
def opened() -> Iterator[list[ComparePanel]]:
    """Collect panels, which are closed at the end."""
    panels: list[ComparePanel] = []
    yield panels
    for panel in panels:
        panel.close()


def test_an_empty_workspace_compares_nothing(panel: ComparePanel) -> None:
    assert panel.state["runs"] == panel.state["chosen"] == []
    assert panel.state["comparison"] is None
    assert panel.state["problem"] is None
    assert panel.comparison is None
    assert re.search(r"no runs", panel.to_html(), re.IGNORECASE)


def test_the_newest_runs_are_chosen_until_the_reader_chooses(
    panel: ComparePanel, workspace: wb.Workspace
) -> None:
    ids = [log(workspace, f"run {number}", 1 / number) for number in range(1, 5)]
    panel.refresh()
    assert [run["id"] for run in panel.state["runs"]] == ids[::-1]
    assert panel.state["chosen"] == ids[1:]
    panel._on_message({"type": "choose", "runs": [ids[3], ids[0], True, "x"]})
    assert panel.state["chosen"] == [ids[3], ids[0]]
    log(workspace, "one more", 0.1)
    panel.refresh()
    assert panel.state["chosen"] == [ids[3], ids[0]]
    panel._on_message({"type": "choose", "runs": []})
    assert panel.state["comparison"] is None


def test_a_run_that_stays_keeps_its_colour(panel: ComparePanel, workspace: wb.Workspace) -> None:
    one, two, three = (log(workspace, f"run {number}", 1.0) for number in range(3))
    panel.choose([one, two, three])
    assert panel.state["slots"] == [0, 1, 2]
    panel.choose([three, two])
    assert panel.state["slots"] == [2, 1]
    panel.choose([three, two, one])
    assert panel.state["slots"] == [2, 1, 0]


def test_the_list_shows_tags_state_duration_and_the_best_of_a_metric(
    panel: ComparePanel, workspace: wb.Workspace
) -> None:
    with workspace.start_run(
        "tries", name="first", tags={"owner": "민지", "base": True}, notes="왜 했나", better={"loss": "lower"}
    ) as first:
        for step, value in enumerate((0.5, 0.25, 0.75)):
            first.log({"loss": value, "speed": value}, step=step)
    log(workspace, "second", 0.3)
    panel.refresh()
    second, first_row = panel.state["runs"]
    assert first_row["tags"] == ["owner=민지", "base"]
    assert first_row["notes"] == "왜 했나"
    assert first_row["status"] == "succeeded"
    assert first_row["ended"] >= first_row["began"]
    assert panel.state["column"] == "loss"  # the first with a direction
    assert (first_row["value"], second["value"]) == ("0.250", "0.300")  # its best, not its last
    assert (first_row["best"], second["best"]) == (True, False)
    assert second["reason"] == ""
    panel.set(column="speed")
    assert [run["value"] for run in panel.state["runs"]] == ["", "0.750"]  # no direction: the last


def test_the_list_says_why_a_run_failed(panel: ComparePanel, workspace: wb.Workspace) -> None:
    with pytest.raises(RuntimeError), workspace.start_run("tries"):
        raise RuntimeError("CUDA out of memory:\n tried to allocate <2 GiB>")
    panel.refresh()
    assert panel.state["runs"][0]["status"] == "failed"
    assert panel.state["runs"][0]["reason"] == "RuntimeError: CUDA out of memory: tried to allocate <2 GiB>"


def test_the_first_charts_are_of_validation_metrics_with_a_curve(
    panel: ComparePanel, workspace: wb.Workspace
) -> None:
    with workspace.start_run("tries") as run:
        for step in range(3):
            run.log({"train/loss": 1.0, "val/b": 1.0, "val/a": 1.0}, step=step)
        run.log({"val/only once": 1.0}, step=3)
    panel.refresh()
    assert panel.state["view"]["metrics"] == ["val/a", "val/b"]
    assert [line["metric"] for line in lines(panel.curves)] == ["val/a", "val/b"]


def test_curves_arrive_as_numbers_in_the_order_logged(panel: ComparePanel, workspace: wb.Workspace) -> None:
    with workspace.start_run("tries") as run:
        for step, value in ((10, 0.5), (12, math.nan), (11, 0.25)):  # a step that goes back
            run.log({"x": value}, step=step)
    panel.refresh()
    (line,) = lines(panel.curves)
    assert line["runs"] == [run.id]
    assert line["arrays"][0] == [10, 12, 11]
    assert np.array_equal(line["arrays"][1], [0.5, math.nan, 0.25], equal_nan=True)


def test_a_curve_over_wall_time_keeps_its_seconds(panel: ComparePanel, workspace: wb.Workspace) -> None:
    row = workspace.store.add_run(records.RunRecord(experiment_id=0, name="slow"), "tries")
    start = 1_790_000_000.0
    points = [Point(row.id or 0, "x", step, start + 0.25 * step, float(step)) for step in range(5)]
    add_points(workspace.store, points)
    panel.refresh()
    panel.set(axis="time")
    assert lines(panel.live)[0]["arrays"][0] == [start + 0.25 * step for step in range(5)]
    panel.set(axis="no such metric")
    assert lines(panel.live) == []
    assert panel.state["problem"] is None


def test_times_that_are_none_break_no_panel(panel: ComparePanel, workspace: wb.Workspace) -> None:
    ids = add_bad_times(workspace)
    panel.refresh()
    rows = [row for row in panel.state["runs"] if row["id"] in ids]
    assert [(row["began"], row["ended"]) for row in rows] == [(None, None)] * len(BAD_TIMES)
    json.dumps(panel.state, allow_nan=False)
    panel.choose(ids)
    for axis in ("time", "relative"):
        panel.set(axis=axis)
        (line, *_) = lines(panel.curves)
        low, high = min(line["arrays"][0]), max(line["arrays"][0])
        assert 0 <= high - low < 1500
        assert "at 1.7e+12" in panel.to_html()


def test_smoothing_averaging_and_a_window_change_the_lines(
    panel: ComparePanel, workspace: wb.Workspace
) -> None:
    curve(workspace, [1.0, 3.0, 5.0], seed=1, lr=1)
    curve(workspace, [3.0, 5.0, 7.0], seed=2, lr=1)
    curve(workspace, [0.0, 0.0, 0.0], seed=1, lr=2)
    panel.refresh()
    panel.set(smoothing=0.5)
    assert lines(panel.curves)[0]["arrays"][1] == pytest.approx([1.0, 7 / 3, 27 / 7])
    panel.set(smoothing=0.0, average="seed")
    mean, alone = lines(panel.curves)
    assert (mean["runs"], alone["runs"]) == ([1, 2], [3])
    assert mean["arrays"][1] == [2.0, 4.0, 6.0]
    assert mean["arrays"][3] == pytest.approx([2 + math.sqrt(2), 4 + math.sqrt(2), 6 + math.sqrt(2)])
    panel.set(average=None, window=[0.9, 1.1])
    assert lines(panel.curves)[0]["arrays"][0] == [0, 1, 2]  # one point on either side, to draw the line
    panel.set(axis="relative")
    assert panel.view.window is None  # the range belonged to the old axis


def test_a_curve_is_smoothed_over_all_of_its_points_before_it_is_thinned(
    panel: ComparePanel, workspace: wb.Workspace
) -> None:
    values = np.sin(np.arange(5000.0))
    row = workspace.store.add_run(records.RunRecord(experiment_id=0, name="long"), "tries")
    points = [Point(row.id or 0, "x", step, float(step), value) for step, value in enumerate(values.tolist())]
    add_points(workspace.store, points)
    panel.refresh()
    panel.set(smoothing=0.9)
    (line,) = lines(panel.live)
    x, y = line["arrays"][:2]
    assert len(x) < 2000
    assert y == pytest.approx(smoothed(values, 0.9)[np.array(x, int)])


def test_the_reader_sets_directions_and_the_baseline(panel: ComparePanel, workspace: wb.Workspace) -> None:
    one, two = log(workspace, "first", 0.5, lr=1), log(workspace, "second", 0.25, lr=2)
    panel.refresh()
    (row,) = panel.state["comparison"]["final"]
    assert (row["better"], row["best"], row["deltas"]) == ("lower", [1], ["", "−0.250"])
    panel._on_message({"type": "set", "change": {"better": {"loss": "higher"}, "baseline": two}})
    (row,) = panel.state["comparison"]["final"]
    assert (row["better"], row["best"], row["deltas"]) == ("higher", [0], ["+0.250", ""])
    assert panel.state["comparison"]["base"] == 1
    assert panel.comparison is not None
    assert panel.comparison.baseline == two
    panel.choose([one])
    assert panel.view.baseline is None  # the baseline is no longer chosen


def test_the_state_says_which_messages_of_the_page_arrived(panel: ComparePanel) -> None:
    panel._on_message({"type": "set", "change": {"log": True}, "view": "a", "number": 3})
    panel._on_message({"type": "set", "change": {"no": 1}, "view": "b", "number": 1})
    assert panel.state["heard"] == {"a": 3, "b": 1}
    for number in range(20):
        panel._on_message({"type": "choose", "runs": [], "view": f"view {number}", "number": 1})
    assert len(panel.state["heard"]) == 8


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"colour": 1}, "'colour'"),
        ({"smoothing": 1.0}, "smoothing=1.0"),
        ({"smoothing": True}, "smoothing=True"),
        ({"metrics": "loss"}, "metrics='loss'"),
        ({"metrics": ["x"] * 13}, "metrics="),
        ({"window": [2, 1]}, "window="),
        ({"window": [math.nan, 1]}, "window="),
        ({"better": {"x": "up"}}, "better="),
        ({"baseline": "1"}, "baseline='1'"),
        ({"statistic": "mean"}, "statistic='mean'"),
    ],
)
def test_an_invalid_change_is_refused_and_changes_nothing(
    panel: ComparePanel, change: dict[str, Any], named: str
) -> None:
    before = panel.view
    with pytest.raises(wb.BadInput, match=re.escape(named)):
        panel.set(**change)
    panel._on_message({"type": "set", "change": change})
    assert panel.view == before


@pytest.mark.parametrize("content", [None, [], {"type": "choose", "runs": "12"}, {"type": "other"}])
def test_an_invalid_message_changes_nothing(panel: ComparePanel, content: Any) -> None:
    before = panel.state
    panel._on_message(content)
    assert panel.state == before


@pytest.mark.parametrize(("kind", "begins"), [("csv", "id,name"), ("md", "| Config"), ("tex", "% \\use")])
def test_a_comparison_is_sent_to_the_page_as_a_file(
    panel: ComparePanel, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, kind: str, begins: str
) -> None:
    log(workspace, "first", 0.5, lr=1)
    log(workspace, "second", 0.25, lr=2)
    panel.refresh()
    sent: list[Any] = []
    monkeypatch.setattr(panel, "send", lambda content, buffers=None: sent.append(content))
    panel._on_message({"type": "export", "kind": kind})
    panel._on_message({"type": "export", "kind": "exe"})
    (file,) = sent
    assert file["name"] == f"comparison.{kind}"
    assert file["text"].startswith(begins)


class Tags(HTMLParser):
    """All tags and attributes of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attributes]


def test_the_static_page_holds_tables_and_curves_without_scripts_or_links(
    workspace: wb.Workspace, opened: list[ComparePanel]
) -> None:
    for name, top, config in (("<plain>", 0.5, {"lr": 1, "seed": 1}), ("둘째", 0.25, {"lr": 2, "seed": 1})):
        with workspace.start_run("tries", name=name, config=config, better={"loss": "lower"}) as run:
            for step in range(50):
                run.log({"loss": top}, step=step)
    opened.append(ComparePanel(workspace))
    html = opened[0].to_html()
    assert f"{TROPHY}<b>0.250</b>" in html
    assert "&lt;plain&gt;" in html
    assert "둘째" in html
    assert "↓ best" in html
    assert "<b>2</b>" in html
    assert "seed" not in html
    page = Tags(html)
    assert {"svg", "path", "table"} <= page.tags
    assert not {"script", "a", "link", "iframe", "object", "foreignobject"} & page.tags
    assert [value for name, value in page.attributes if name in ("href", "xlink:href")] == []
    assert all(value.startswith("data:image/svg+xml") for name, value in page.attributes if name == "src")
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_a_missing_run_is_reported_and_the_list_stays(workspace: wb.Workspace) -> None:
    log(workspace, "first", 0.5)
    panel = ComparePanel(workspace, [99])
    message = panel.state["problem"]["message"]
    assert "run 99" in message
    assert len(panel.state["runs"]) == 1
    assert message in panel.to_html()
    panel.close()


@pytest.mark.parametrize("part", ["metric_summary", "metric_point"])
def test_a_damaged_part_of_the_database_is_told_and_hides_no_other(
    workspace: wb.Workspace, part: str
) -> None:
    curve(workspace, [3.0, 2.0, 1.0], lr=1)
    workspace.close()
    file = workspace.path / "workbench.db"
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("pragma wal_checkpoint(truncate)")
        page = database.execute("select rootpage from sqlite_master where name = ?", (part,)).fetchone()[0]
        size = database.execute("pragma page_size").fetchone()[0]
    with file.open("r+b") as damaged:
        damaged.seek((page - 1) * size)
        damaged.write(b"\xff" * size)
    with wb.Workspace(workspace.path) as home:
        panel = ComparePanel(home)
        try:
            state = panel.state
            assert [run["experiment"] for run in state["runs"]] == ["tries"]
            assert [row["key"] for row in state["comparison"]["config"]] == ["lr"]
            assert state["problem"]["message"].startswith("some of these runs' data cannot be read: ")
            assert "damaged" in state["problem"]["hint"]
            assert not state["problem"].get("stale")
            # No claim about what cannot be read, here or in a saved panel.
            assert "not logged" not in state["no_metrics"]
            assert "not logged" not in panel.to_html()
        finally:
            panel.close()


def test_a_metric_logged_while_the_panel_is_shown_appears_by_itself(
    panel: ComparePanel, workspace: wb.Workspace
) -> None:
    panel._on_message({"type": "view", "view": "one", "open": True})
    log(workspace, "first", 0.5)
    until(lambda: panel.state["comparison"], "the table updates")
    assert panel.state["comparison"]["final"][0]["texts"] == ["0.500"]
    panel.close()
    assert not panel.alive


def test_only_the_curves_of_running_runs_are_sent_again(panel: ComparePanel, workspace: wb.Workspace) -> None:
    curve(workspace, [1.0, 2.0])
    with workspace.start_run("tries") as run:
        run.log({"loss": 1.0}, step=0)
        run.log({"loss": 2.0}, step=1)
        panel.refresh()
        finished = panel.curves
        changes: list[str] = []
        panel.observe(lambda change: changes.append(change["name"]), ["curves", "live"])
        run.log({"loss": 3.0}, step=2)
        panel.refresh()
        assert lines(panel.live)[0]["arrays"][1] == [1.0, 2.0, 3.0]
        assert changes == ["live"]
        assert panel.curves is finished
        panel.refresh()
        assert changes == ["live"]  # nothing new, nothing sent
    panel.refresh()
    assert len(lines(panel.curves)) == 2  # it has finished now
    assert lines(panel.live) == []


def test_cached_points_are_not_read_again(
    panel: ComparePanel, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []
    store = type(workspace.store)
    read = store.curves
    monkeypatch.setattr(
        store,
        "curves",
        lambda self, keys, after: reads.append((list(keys), dict(after))) or read(self, keys, after),
    )
    with workspace.start_run("tries") as run:
        run.log({"x": 1.0}, step=0)
        run.log({"x": 2.0}, step=1)
        panel.refresh()
        run.log({"x": 3.0}, step=2)
        panel.refresh()
    panel.refresh()
    assert reads == [([(run.id, "x")], {}), ([(run.id, "x")], {(run.id, "x"): 1})]


def test_changes_and_looks_from_several_threads_do_not_interfere(
    panel: ComparePanel, workspace: wb.Workspace
) -> None:
    for number in range(3):
        curve(workspace, [1.0, 2.0, float(number)], lr=number)
    stop = threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            while not stop.is_set():
                panel.refresh()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(40):
        panel.set(smoothing=number / 50)
        panel.choose([1, 2, 3][: number % 3 + 1])
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert panel.state["chosen"] == [1]
    assert {line["runs"][0] for line in lines(panel.curves)} == {1}


class Wire:
    """Records the size of each message that a panel sends to its pages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[int] = []
        import comm.base_comm

        def publish(
            comm: Any, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **_: Any
        ) -> None:
            size = len(json.dumps([data, metadata], default=str)) + sum(
                memoryview(one).nbytes for one in buffers or ()
            )
            self.messages.append(size)

        monkeypatch.setattr(comm.base_comm.BaseComm, "publish_msg", publish)
        monkeypatch.setattr("comm.create_comm", lambda *a, **k: comm.base_comm.BaseComm(*a, **k))


def test_a_hundred_runs_of_seventy_columns_take_few_messages_and_half_a_megabyte(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, opened: list[ComparePanel]
) -> None:
    for number in range(100):
        config = {f"part{part}": {f"key{key}": number * key + part for key in range(10)} for part in range(5)}
        row = workspace.store.add_run(records.RunRecord(experiment_id=0, config=config), "sweep")
        points = [
            Point(row.id or 0, f"val/metric{metric}", step, float(step), number / (step + 1) + metric)
            for metric in range(20)
            for step in range(30)
        ]
        add_points(workspace.store, points)
        workspace.store.end_run(row.id or 0, "succeeded")
    wire = Wire(monkeypatch)
    panel = ComparePanel(workspace, range(1, 101))
    opened.append(panel)
    bundle, _ = panel._repr_mimebundle_()
    assert len(panel.state["comparison"]["config"]) == 50
    assert len(panel.state["comparison"]["final"]) == 20
    assert len(lines(panel.curves)) == 200
    assert len(wire.messages) + 1 <= 10
    assert sum(wire.messages) > 50_000, "no messages were recorded"
    assert sum(wire.messages) + len(json.dumps(bundle)) <= 500_000


def test_twenty_curves_of_many_points_are_thinned_to_what_a_chart_can_show(
    workspace: wb.Workspace, opened: list[ComparePanel]
) -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        row = workspace.store.add_run(records.RunRecord(experiment_id=0), "long")
        values = generator.normal(size=3_000)
        values[1_234] = 50.0
        add_points(
            workspace.store,
            [Point(row.id or 0, "x", step, float(step), float(v)) for step, v in enumerate(values)],
        )
        workspace.store.end_run(row.id or 0, "succeeded")
    opened.append(ComparePanel(workspace, range(1, 21)))
    drawn = lines(opened[0].curves)
    assert len(drawn) == 20
    assert all(max(line["arrays"][1]) == 50.0 for line in drawn)  # no outlier is lost
    assert len(opened[0].curves["data"]) <= 8 * module.MAX_SENT_POINTS


def test_runs_are_found_archived_restored_renamed_and_deleted(workspace: wb.Workspace) -> None:
    for number in range(3):
        with workspace.start_run("e", f"r{number}", config={"lr": number}) as run:
            run.log({"m": 1.0})
    panel = wb.panels.ComparePanel(workspace, runs=[1, 2])

    def listed() -> list[int]:
        return [row["id"] for row in panel.state["runs"]]

    panel.answer({"type": "find", "where": "config.lr >= 2", "view": "v", "number": 1})
    assert listed() == [3, 2, 1]  # those that match, and the chosen ones
    assert panel.state["found"] == {"where": "config.lr >= 2", "count": 1, "problem": ""}
    panel.find("config.lr >")
    assert "column 12" in panel.state["found"]["problem"]
    panel.find("")
    assert panel.state["found"] is None
    panel.answer({"type": "order", "verb": "archive", "runs": [2, 3]})
    assert listed() == [1]
    assert panel.state["ordered"] == {"text": "Archived 2 runs", "hint": "", "undo": [2, 3]}
    assert panel.state["chosen"] == [1]
    panel.find("archived:true")
    assert [row["archived"] for row in panel.state["runs"]] == [True, True, False]
    panel.find("")
    panel.answer({"type": "order", "verb": "restore", "runs": [2, 3]})
    assert listed() == [3, 2, 1]
    panel.answer({"type": "order", "verb": "rename", "runs": [3], "name": "new"})
    assert panel.state["runs"][0]["name"] == "new"
    panel.order("rename", [3], "")
    assert "name of a run" in panel.state["ordered"]["text"]
    with workspace.start_run("e"):
        panel.order("delete", [3, 4])
    assert panel.state["ordered"]["text"] == "Deleted 1 run. run 4 is running"
    assert panel.state["ordered"]["undo"] is None
    for wrong in (
        {"verb": "close", "runs": [1]},
        {"verb": "delete", "runs": "all"},
        {"verb": "delete", "runs": [True, "1"]},
    ):
        panel.answer({"type": "order", **wrong})
    assert workspace.run(1).status == "succeeded"
    panel.close()
