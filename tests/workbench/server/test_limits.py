"""What one request may cost: the points of an answer, the length of a body, the length of an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import workbench as wb
from tests.workbench.conftest import in_a_loop
from workbench import wire
from workbench.remote.runs import RemoteRun
from workbench.server.api import comparing, runs
from workbench.server.api.route import Call
from workbench.server.handlers import content_length


class Desk:
    """The desk of a server, without its threads."""

    def __init__(self, home: wb.Workspace) -> None:
        self.home = home

    async def run(self, work: Callable[[wb.Workspace], Any]) -> Any:
        return work(self.home)


@pytest.fixture
def home(workspace: wb.Workspace) -> wb.Workspace:
    """A workspace with two runs: 25 points of one metric, and 3 of another."""
    for _ in range(2):
        with workspace.start_run("e") as run:
            for step in range(25):
                run.log({"loss": float("nan") if step == 7 else step / 10}, step=step)
            for step in range(3):
                run.log({"acc": step}, step=step)
    return workspace


def points(home: wb.Workspace, **query: Any) -> Any:
    call = Call({"run_id": "1"}, runs.PointsQuery(name="loss", **query))
    return in_a_loop(runs.run_points(Desk(home), call))  # type: ignore[arg-type]


def test_points_come_in_parts_of_any_size(home: wb.Workspace) -> None:
    read, after, parts = [], -1, 0
    while True:
        part = points(home, after=after, limit=10)
        read, after, parts = read + part["points"], part["next"], parts + 1
        if not part["more"]:
            break
    assert (parts, len(read), after) == (3, 25, 24)
    assert [point[0] for point in read] == list(range(25))
    assert (read[7][2], read[24][2]) == (None, 2.4)
    assert points(home, after=after) == {"name": "loss", "points": [], "more": False, "next": 24}
    assert read == points(home)["points"]
    runs.PointsOut.model_validate(points(home))


def test_more_points_than_fit_are_refused_and_never_cut_silently(
    home: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MOST_POINTS", 24)
    with pytest.raises(wb.TooLarge, match="over 24 points") as raised:
        points(home)
    assert "limit=24" in raised.value.hint
    assert wire.status_of(raised.value) == 413
    assert len(points(home, after=0)["points"]) == 24
    with pytest.raises(ValueError, match="limit"):
        runs.PointsQuery(name="loss", limit=100_001)


def test_a_client_pages_where_one_answer_is_not_enough(
    home: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "MOST_POINTS", 24)
    monkeypatch.setattr("workbench.remote.runs.PAGE_POINTS", 10)
    asked: list[dict[str, Any]] = []

    class Door:
        def get(self, path: str, **query: Any) -> Any:
            asked.append(query)
            return points(home, **{key: value for key, value in query.items() if key != "name"})

    class Sender:
        def flush(self) -> None:
            pass

    run = RemoteRun.__new__(RemoteRun)
    run._door, run._sender = Door(), Sender()  # type: ignore[assignment]
    monkeypatch.setattr(RemoteRun, "id", 1)
    read = run.metric_points("loss")
    assert [one["limit"] for one in asked] == [None, 10, 10, 10]
    assert repr(read) == repr(home.run(1).metric_points("loss"))


@pytest.mark.parametrize(
    ("wanted", "curves", "buckets"), [(400, 12, 400), (2000, 40, 2000), (2000, 800, 109), (400, 10_000, 8)]
)
def test_many_curves_share_the_points_of_an_answer(wanted: int, curves: int, buckets: int) -> None:
    assert comparing.buckets_of(wanted, curves) == buckets
    assert 3 * buckets * curves <= comparing.COMPARED_POINTS


def test_a_comparison_says_how_far_its_curves_were_thinned(
    home: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Read in groups as well: one curve at a time.
    monkeypatch.setattr("workbench.compare.reading.READ_POINTS", 1)

    def compared() -> Any:
        body = comparing.CompareIn(runs=[1, 2], metrics=["loss", "acc", "never"], points=400)
        return in_a_loop(comparing.compare(Desk(home), Call({}, None, body)))  # type: ignore[arg-type]

    whole = compared()
    assert whole["buckets"] == 400
    assert [(one["run"], one["name"], len(one["step"])) for one in whole["series"]] == [
        (1, "loss", 25),
        (1, "acc", 3),
        (2, "loss", 25),
        (2, "acc", 3),
    ]
    monkeypatch.setattr(comparing, "COMPARED_POINTS", 36)
    thinned = compared()
    assert thinned["buckets"] == 2
    assert sum(len(one["step"]) for one in thinned["series"]) <= 36
    comparing.ComparisonOut.model_validate(thinned)


@pytest.mark.parametrize(("header", "length"), [(None, 0), ("", 0), ("12", 12), ("3, 3", 3)])
def test_a_body_has_one_length(header: str | None, length: int) -> None:
    assert content_length(header) == length


@pytest.mark.parametrize("header", ["3,4", "-1", "+5", "abc", "0x10", "1e3", "３", "9" * 4_000, "3,"])
def test_any_other_length_is_refused(header: str) -> None:
    with pytest.raises(wb.BadInput, match="Content-Length must be one number"):
        content_length(header)


def test_an_error_is_short_whatever_it_quotes() -> None:
    error = wb.BadOptions("x" * 10_000_000, [("item", "y" * 10_000_000)], hint="z" * 10_000_000)
    assert len(wire.dumps(wire.error_json(error))) < 4 * (wire.MESSAGE_CHARACTERS + 100)
    assert "10,000,000 characters" in wire.error_json(error)["message"]
    assert wire.error_from(wire.error_json(wb.BadInput("short", hint="do"))).hint == "do"
