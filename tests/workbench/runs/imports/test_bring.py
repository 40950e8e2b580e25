"""Runs of other tools in the store: continued, rewritten after a restart, never half brought in silence."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest

import workbench as wb
from workbench.runs.imports import ForeignRun, Imported, bring
from workbench.runs.imports.report import Report
from workbench.store.points import Batch


def batch(*values: float, first: int = 0) -> Batch:
    steps = range(first, first + len(values))
    return Batch(list(steps), [1e9 + step for step in steps], list(values))


def foreign(*metrics: tuple[str, Batch], **more: Any) -> ForeignRun:
    def read() -> Iterable[tuple[str, Batch]]:
        return metrics

    return ForeignRun("tool:1", "tries", "one", "succeeded", 1e9, 2e9, **{"metrics": read, **more})


def put(home: wb.Workspace, run: ForeignRun) -> tuple[Imported, wb.Run]:
    brought = bring(home.store, [run], Report())
    return brought, home.run(brought.run_ids[0])


def values(run: wb.Run, name: str = "m") -> list[float]:
    return [value for _, _, value in run.metric_points(name)]


def test_discarded_points_are_removed_and_the_summary_follows(workspace: wb.Workspace) -> None:
    _, run = put(workspace, foreign(("m", batch(9, 8, 1, 2)), ("n", batch(5))))
    new = Batch([0, 1, 2], [1e9, 1e9 + 1, 1e9 + 7], [9, 8, 7])
    gone = {"m": batch(1, 2, first=2), "n": batch(5)}
    brought, same = put(workspace, foreign(("m", new), discarded=gone))
    assert (brought.changed, brought.points, same.id) == (1, 1, run.id)
    assert values(same) == [9, 8, 7]
    assert same.summary["m"]["min"] == 7
    assert set(same.summary) == {"m"}
    assert same.outcome["points"] == 3
    again, _ = put(workspace, foreign(("m", new), discarded=gone))
    assert (again.unchanged, again.points) == (1, 0)


def test_packed_curves_are_rewritten_too(workspace: wb.Workspace) -> None:
    whole = batch(*range(3000))
    put(workspace, foreign(("m", whole)))
    kept = Batch(*(column[:1500] for column in whole))
    gone = Batch(*(column[1500:] for column in whole))
    _, run = put(workspace, foreign(("m", kept), discarded={"m": gone}))
    assert values(run) == list(range(1500))
    _, run = put(workspace, foreign(("m", batch(*range(1600))), discarded={"m": gone}))
    assert values(run) == list(range(1600))


def test_points_that_the_tool_no_longer_has_are_kept(workspace: wb.Workspace) -> None:
    put(workspace, foreign(("m", batch(1, 2, 3))))
    brought, run = put(workspace, foreign(("m", batch(1))))
    assert (brought.points, values(run)) == (0, [1, 2, 3])


@pytest.mark.parametrize("before", [(), (1.0,)])
def test_an_import_that_breaks_leaves_a_run_that_says_so(
    workspace: wb.Workspace, before: tuple[float]
) -> None:
    if before:
        put(workspace, foreign(("m", batch(*before))))

    def breaking() -> Iterable[tuple[str, Batch]]:
        yield "m", batch(1, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(workspace.store, [foreign(metrics=breaking)], Report())
    (run,) = workspace.runs()
    assert run.status == "lost"
    assert run.error is not None
    assert "Import it again" in run.error["message"]
    brought, run = put(workspace, foreign(("m", batch(1, 2)), ("n", batch(3))))
    assert (run.status, run.error) == ("succeeded", None)
    assert (values(run), values(run, "n")) == ([1, 2], [3])
    assert brought.changed == 1


def test_names_that_cannot_be_stored_are_changed_or_named(workspace: wb.Workspace) -> None:
    report = Report()
    long = "t" * 300
    run = foreign(
        ("caf\udce9\0", batch(1)), ("", batch(1)), (long, batch(1, 2)), config={"x": math.nan, "\udce9": "\0"}
    )
    run.name, run.experiment, run.notes = "\udce9", "\udce9", "\0"
    run.git = {"branch": "\udce9"}
    bring(workspace.store, [run], report)
    brought = bring(workspace.store, [run], report)
    found = workspace.run(brought.run_ids[0])
    assert (found.name, found.experiment, found.config) == (
        "\\udce9",
        "\\udce9",
        {"x": "nan", "\\udce9": "�"},
    )
    first, short = found.summary
    assert first == "caf\\udce9�"
    assert (len(short), short[:200]) == (250, long[:200])
    assert brought.points == 0
    assert report.left_out == {"a metric without a name": 2}
    assert len(report.notes) == 1
