"""The compare panel's half in Python."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import workbench as wb
from workbench.panels.compare import ComparePanel


def log(workspace: wb.Workspace, name: str, loss: float, **config: Any) -> int:
    with workspace.start_run("tries", name=name, config=config, better={"loss": "lower"}) as run:
        run.log({"loss": loss}, step=1)
    return run.id


@pytest.fixture
def panel(workspace: wb.Workspace) -> Iterator[ComparePanel]:
    panel = ComparePanel(workspace)
    yield panel
    panel.close()


def test_an_empty_workspace_compares_nothing(panel: ComparePanel) -> None:
    assert panel.state == {"runs": [], "chosen": [], "comparison": None, "problem": None}
    assert "No runs to compare yet." in panel.to_html()


def test_the_newest_runs_are_chosen_until_somebody_chooses(
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


def test_the_static_page_marks_the_best_and_what_differs(workspace: wb.Workspace) -> None:
    first, second = log(workspace, "<plain>", 0.5, lr=1, seed=1), log(workspace, "second", 0.25, lr=2, seed=1)
    with_panel = ComparePanel(workspace, [first, second])
    html = with_panel.to_html()
    with_panel.close()
    assert "🏆 <b>0.250</b>" in html
    assert "&lt;plain&gt;" in html
    assert "↓ best" in html
    assert "<b>2</b>" in html
    assert "seed" not in html


def test_a_run_that_is_not_there_is_said_and_the_list_stays(workspace: wb.Workspace) -> None:
    log(workspace, "first", 0.5)
    panel = ComparePanel(workspace, [99])
    assert "no run 99" in panel.state["problem"]["message"]
    assert len(panel.state["runs"]) == 1
    assert "no run 99" in panel.to_html()
    panel.close()


def test_a_metric_logged_while_the_panel_is_shown_arrives_by_itself(
    panel: ComparePanel, workspace: wb.Workspace
) -> None:
    panel._on_message({"type": "view", "view": "one", "open": True})
    log(workspace, "first", 0.5)
    deadline = time.monotonic() + 30
    while not panel.state["comparison"]:
        assert time.monotonic() < deadline, "the table did not move"
        time.sleep(0.02)
    assert panel.state["comparison"]["final"][0]["texts"] == ["0.500"]
    panel.close()
    assert not panel.alive


@pytest.mark.parametrize("content", [None, [], {"type": "choose", "runs": "12"}, {"type": "other"}])
def test_what_is_no_choice_changes_nothing(panel: ComparePanel, content: Any) -> None:
    before = panel.state
    panel._on_message(content)
    assert panel.state == before
