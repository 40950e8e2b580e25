"""Curves that grow below a running cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import workbench as wb
from workbench.panels.results import live


class Display:
    """What a notebook shows: each display with all its drawings."""

    def __init__(self) -> None:
        self.shown: list[list[Any]] = []

    def __call__(self, drawn: Any, *, display_id: bool) -> Any:
        assert display_id
        drawings = [drawn]
        self.shown.append(drawings)

        class Handle:
            update = staticmethod(drawings.append)

        return Handle


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Display]:
    """A notebook in which a drawing is due at every call."""
    display = Display()
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(live, "shell", lambda: object())
    monkeypatch.setattr(live, "SECONDS", 0.0)
    monkeypatch.setattr(live, "SHARE", 1e9)
    return display


def curves() -> wb.panels.LiveCurves:
    return wb.panels.LiveCurves({"Loss": "train/loss", "Validation": ["val/R@*", "val/mAP"]})


def test_curves_grow_in_one_place_until_the_run_ends(workspace: wb.Workspace, shown: Display) -> None:
    watch = curves()
    with workspace.start_run("e", "first") as run:
        run.flush()
        watch(run)
        for step in range(3):
            run.log({"train/loss": 1 / (step + 1), "other": 1.0}, step=step)
        run.flush()
        watch(run)
        run.log({"val/R@10": 0.5, "val/mAP": float("nan")}, step=2)
    watch(run)
    (drawings,) = shown.shown
    assert repr(drawings[0]) == "first: nothing logged yet"
    assert "nothing logged yet" in drawings[0]._repr_html_()
    assert repr(drawings[1]) == "first: train/loss 0.3333"
    assert repr(drawings[-1]) == "first: train/loss 0.3333, val/R@10 0.5, val/mAP nan"
    html = drawings[-1]._repr_html_()
    assert html.count("<img") == 2
    assert 'alt="curves of Loss"' in html
    assert "other" not in html
    assert watch.plots["Loss"] == {"train/loss": [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]}


def test_each_run_has_a_drawing_of_its_own(workspace: wb.Workspace, shown: Display) -> None:
    watch = curves()
    for name in ("one", "two"):
        with workspace.start_run("e", name) as run:
            run.log({"train/loss": 1.0}, step=1)
        watch(run)
    assert [repr(drawings[-1]) for drawings in shown.shown] == ["one: train/loss 1", "two: train/loss 1"]


def test_it_draws_seldom_and_always_at_the_end(
    workspace: wb.Workspace, shown: Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SECONDS", 1e6)
    watch = curves()
    with workspace.start_run("e") as run:
        for step in range(5):
            run.log({"train/loss": 1.0}, step=step)
            watch(run)
    assert shown.shown == []
    watch(run)
    assert len(shown.shown) == 1


def test_names_of_metrics_are_escaped(workspace: wb.Workspace, shown: Display) -> None:
    watch = wb.panels.LiveCurves({"<b>All</b>": "*"})
    with workspace.start_run("e") as run:
        run.log({f"<i>{place}</i>": 1.0 for place in range(12)}, step=1)
    watch(run)
    html = shown.shown[0][-1]._repr_html_()
    assert "<i>" not in html
    assert "<b>All" not in html
    assert "and 2 more" in html


def test_outside_of_a_notebook_nothing_is_drawn(workspace: wb.Workspace) -> None:
    watch = curves()
    with workspace.start_run("e") as run:
        run.log({"train/loss": 1.0}, step=1)
    watch(run)
    assert watch.plots == {}


@pytest.mark.parametrize("plots", [{}, "train/loss", None])
def test_plots_must_be_named(plots: Any) -> None:
    with pytest.raises(wb.BadInput, match="plots must map titles to metrics"):
        wb.panels.LiveCurves(plots)
