"""The panel that shows results of jobs side by side, and the workspace's comparison behind it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import workbench as wb
from workbench.panels.results.panel import ResultsComparePanel
from workbench.store import records


def finished(workspace: wb.Workspace, name: str, score: float, status: str = "succeeded") -> int:
    row = workspace.store.add_job(
        records.JobRecord(
            type="eval", adapter="none", status="running", options={"name": name, "k": 10}, attempt=1
        )
    )
    assert row.id is not None
    if status == "succeeded":
        ids = [f"q{number}" for number in range(40)]
        scores = [score + number / 1000 for number in range(40)]
        result = wb.Result(
            summary=f"scored {score}",
            metrics={"score": sum(scores) / 40},
            samples=[wb.Samples(ids=ids, scores={"score": scores})],
        )
        workspace.store.save_result(row.id, 1, result.model_dump())
    workspace.store.move_job(row.id, expect="running", to=status)
    return row.id


@pytest.fixture
def panel(workspace: wb.Workspace) -> Iterator[ResultsComparePanel]:
    panel = ResultsComparePanel(workspace)
    yield panel
    panel.close()


def test_an_empty_workspace_has_no_results(panel: ResultsComparePanel) -> None:
    assert panel.state["jobs"] == []
    assert panel.state["html"] == ""
    assert "no results" in panel.to_html().lower()


def test_the_newest_two_are_compared_until_the_reader_chooses(
    panel: ResultsComparePanel, workspace: wb.Workspace
) -> None:
    one, two, three = (finished(workspace, f"try <{number}>", number / 10) for number in range(3))
    finished(workspace, "failed", 0.0, status="failed")
    panel.refresh()
    assert [job["id"] for job in panel.state["jobs"]] == [three, two, one]
    assert panel.state["chosen"] == [two, three]
    assert "try &lt;2&gt;" in panel.state["html"]
    assert "+0.100" in panel.state["html"]
    panel._on_message({"type": "choose", "jobs": [one, three, True, "x"], "view": "a", "number": 1})
    assert panel.state["chosen"] == [one, three]
    assert "+0.200" in panel.state["html"]
    panel._on_message({"type": "baseline", "job": three, "view": "a", "number": 2})
    assert "−0.200" in panel.state["html"]
    assert panel.state["heard"] == {"a": 2}
    panel._on_message({"type": "choose", "jobs": [one, two]})
    assert panel.state["baseline"] is None  # the baseline is no longer chosen


def test_a_job_without_a_result_is_reported_and_the_list_stays(workspace: wb.Workspace) -> None:
    job = finished(workspace, "first", 0.5)
    waiting = finished(workspace, "later", 0.5, status="queued")
    panel = ResultsComparePanel(workspace, [job, waiting])
    message = panel.state["problem"]["message"]
    assert [part for part in (f"job {waiting}", "queued", "result") if part not in message] == []
    assert len(panel.state["jobs"]) == 1
    panel.close()


@pytest.mark.parametrize("content", [None, {"type": "choose", "jobs": "1"}, {"type": "baseline", "job": "1"}])
def test_an_invalid_message_changes_nothing(panel: ResultsComparePanel, content: Any) -> None:
    before = panel.state
    panel._on_message(content)
    assert panel.state == before


def test_a_workspace_compares_results_with_their_options(workspace: wb.Workspace) -> None:
    one, two = finished(workspace, "a", 0.5), finished(workspace, "b", 0.25)
    comparison = workspace.compare_results([one, two], better={"score": "lower"})
    assert [one.name for one in comparison.results] == [f"#{one} a", f"#{two} b"]
    assert comparison.rows[0].final.best == (False, True)
    assert comparison.rows[0].verdicts == ("", "real")
    assert [row.key for row in comparison.config] == ["name"]
    with pytest.raises(wb.UnknownJob):
        workspace.compare_results([one, 99])
