"""The compare panel in JupyterLab: use by mouse and by keyboard, and live updates."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

import workbench as wb
from tests.browser.conftest import PATIENCE, Visit, jupyter_lab, run_all
from tests.conftest import workspace_in

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)

TRAINING = """
import pathlib, time
with ws.start_run("live", name="still going") as run:
    step = 0
    while not pathlib.Path({stop!r}).exists():
        run.log({{"val/loss": 1 / (step + 1)}}, step=step)
        step += 1
        time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    with workspace_in(tmp_path_factory.mktemp("compared") / "results") as workspace:
        for number, (name, lr) in enumerate((("first", 1e-3), ("두 번째 실행", 1e-3), ("third", 5e-2))):
            config = {"optim": {"lr": lr, "name": "adamw"}, "seed": number}
            tags = {"owner": "민지"} if number == 1 else {}
            directions = {"val/loss": "lower", "val/score": "higher"}
            with workspace.start_run("tries", name, config, tags=tags, better=directions) as run:
                for step in range(0, 1000, 10):
                    run.log(
                        {
                            "val/loss": (1 + number / 4) * math.exp(-step / 300) + 0.1 * (2 - number),
                            "val/score": (0.4 + 0.1 * number) * (1 - math.exp(-step / 200)),
                            "train/loss": 2 * math.exp(-step / 250),
                        },
                        step=step,
                    )
        yield workspace


@pytest.fixture(scope="module")
def lab(home: wb.Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    root = home.path.parent
    with jupyter_lab(root, home.path, tmp_path_factory.mktemp("state")) as url:
        yield url


def panel_of(page: Page) -> Locator:
    return page.get_by_role("region", name="Compare runs")


def fresh(page: Page, run: int) -> Locator:
    """Run the notebook of three cells for the n-th time; its panel has forgotten what was chosen before."""
    run_all(page)
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text(f"[{3 * run}]:")
    panel = panel_of(page)
    expect(panel.locator(".wb-chart .wb-line")).to_have_count(6)
    return panel


def final(panel: Locator, metric: str) -> Locator:
    table = panel.get_by_role("region", name="Final values")
    return table.get_by_role("row").filter(has_text=metric)


def chart(panel: Locator, metric: str) -> Locator:
    return panel.get_by_role("application", name=metric)


def point(stage: Locator, across: float, down: float = 0.5) -> tuple[float, float]:
    box = stage.bounding_box()
    assert box
    return box["x"] + box["width"] * across, box["y"] + box["height"] * down


def test_comparing_by_keyboard_alone_and_by_mouse(
    visit: Callable[..., Visit], lab: Callable[[str], str], tmp_path: Path
) -> None:
    seen = visit(lab("compare.ipynb"), viewport={"width": 1400, "height": 1900})
    _by_keyboard(seen.page, fresh(seen.page, 1))
    assert seen.errors == []
    _by_mouse(seen.page, fresh(seen.page, 2), tmp_path)
    assert seen.errors == []
    assert seen.strangers() == []


def _by_mouse(page: Page, panel: Locator, tmp_path: Path) -> None:
    # the first two validation metrics have a chart, and each metric with a direction has a trophy
    expect(panel.locator(".wb-chart-title")).to_have_text(["val/loss ↓ best", "val/score ↑ best"])
    expect(final(panel, "val/score").locator(".wb-best")).to_contain_text("0.596")
    expect(final(panel, "train/loss").locator(".wb-best")).to_have_count(0)
    odd = panel.get_by_role("region", name="Config").locator(".wb-odd")
    expect(odd).to_have_text(["0.05"])  # one of three; all seeds differ, so none of them is odd
    expect(panel.get_by_role("region", name="Config")).not_to_contain_text("adamw")
    panel.get_by_label("differences only").uncheck()
    expect(panel.get_by_role("region", name="Config")).to_contain_text("adamw")

    # chips
    panel.get_by_role("button", name="train/loss", exact=True).click()
    expect(panel.locator(".wb-chart")).to_have_count(3)
    panel.get_by_role("button", name="train/loss", exact=True).click()
    expect(panel.locator(".wb-chart")).to_have_count(2)

    # hovering shows the value and the settings that differ
    stage = chart(panel, "val/score")
    page.mouse.move(*point(stage, 0.9, 0.1))
    tip = stage.locator(".wb-tip")
    expect(tip.locator(".wb-tip-here")).to_contain_text("third")
    expect(tip.locator(".wb-tip-here")).to_contain_text(re.compile(r"0\.59\d"))
    expect(tip.locator(".wb-tip-here")).to_contain_text("optim.lr 0.05")
    expect(tip).to_contain_text("두 번째 실행")

    # zoom by dragging, and back
    page.mouse.move(*point(stage, 0.4))
    page.mouse.down()
    page.mouse.move(*point(stage, 0.6))
    page.mouse.up()
    ticks = stage.locator("svg.wb-plot > text")
    expect(ticks.filter(has_text=re.compile(r"^0$|^800$"))).to_have_count(0)
    expect(ticks.filter(has_text=re.compile(r"^400$"))).to_have_count(1)
    panel.get_by_role("button", name="Reset zoom").click()
    expect(ticks.filter(has_text=re.compile(r"^800$"))).to_have_count(1)

    # another axis, and a mean over seeds
    panel.get_by_label("x axis").select_option("train/loss")
    expect(ticks.filter(has_text=re.compile(r"^1.5$"))).to_have_count(1)
    panel.get_by_label("x axis").select_option("step")
    panel.get_by_label("mean over").select_option("seed")
    expect(panel.locator(".wb-chart .wb-line")).to_have_count(4)  # one mean, and one run without a partner
    panel.get_by_label("mean over").select_option("")
    expect(panel.locator(".wb-chart .wb-line")).to_have_count(6)

    # the legend hides a run, the list removes it
    panel.get_by_role("group", name="Runs in the charts").get_by_role("button", name="third").click()
    expect(panel.locator(".wb-chart .wb-line")).to_have_count(4)
    panel.get_by_role("group", name="Runs in the charts").get_by_role("button", name="third").click()
    panel.get_by_label("Search runs").fill("민지")
    rows = panel.get_by_role("region", name="Runs", exact=True).locator("tbody tr")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("owner=민지")
    rows.get_by_role("checkbox").uncheck()
    expect(panel.get_by_role("heading", name="Compare 2 runs")).to_be_visible()
    rows.get_by_role("checkbox").check()
    panel.get_by_label("Search runs").fill("")

    # flip a direction, choose a baseline
    expect(final(panel, "val/loss").locator(".wb-best").get_by_role("img", name="best")).to_be_visible()
    expect(final(panel, "val/loss").locator("td").nth(2)).not_to_have_class(re.compile("wb-best"))
    panel.get_by_role("button", name="val/loss: lower is better").click()
    expect(panel.get_by_role("button", name="val/loss: no direction")).to_be_visible()
    expect(final(panel, "val/loss").locator(".wb-best")).to_have_count(0)
    panel.get_by_role("button", name="val/loss: no direction").click()
    expect(final(panel, "val/loss")).to_contain_text("↑ best")
    expect(final(panel, "val/loss").locator(".wb-best")).to_have_count(1)
    panel.get_by_label("baseline").select_option(label="third")
    third = final(panel, "val/score").locator("td").nth(1)
    expect(third.locator(".wb-delta")).to_have_text("")
    expect(final(panel, "val/score").locator("td").nth(0).locator(".wb-delta")).to_contain_text("−0.199")
    expect(odd).to_have_count(4)  # each setting that differs from the baseline's, including seeds

    # saved files
    for label, name in (("CSV", "comparison.csv"), ("SVG", "curves.svg"), ("PNG", "curves.png")):
        with page.expect_download() as download:
            panel.get_by_role("button", name=label, exact=True).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    table = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text(encoding="utf-8"))))
    assert {row["name"] for row in table} == {"first", "두 번째 실행", "third"}
    assert float(table[0]["val/score"]) == pytest.approx(0.4, abs=0.01)
    drawing = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert "두 번째 실행" in drawing
    assert "var(" not in drawing
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def _by_keyboard(page: Page, panel: Locator) -> None:
    panel.get_by_label("Search runs").focus()

    def tab_to(label: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            focused = page.evaluate(
                "() => { const node = document.activeElement;"
                " return node.getAttribute('aria-label') || node.textContent"
                " || document.getElementById(node.getAttribute('aria-labelledby'))?.textContent || ''; }"
            )
            if label in focused:
                return
        pytest.fail(f"Tab never reached {label!r}")

    tab_to("Compare run 3")
    page.keyboard.press("Space")
    expect(panel.get_by_role("heading", name="Compare 2 runs")).to_be_visible()
    # the focus survives redrawing the list
    expect(panel.get_by_label("Compare run 3")).to_be_focused()
    page.keyboard.press("Space")
    expect(panel.get_by_role("heading", name="Compare 3 runs")).to_be_visible()

    tab_to("train/loss")
    page.keyboard.press("Enter")
    expect(panel.locator(".wb-chart")).to_have_count(3)
    expect(panel.get_by_role("button", name="train/loss", exact=True)).to_be_focused()

    stage = chart(panel, "val/loss")
    tab_to("first")  # the legend
    for _ in range(4):
        page.keyboard.press("Tab")
        if stage.evaluate("node => node === document.activeElement"):
            break
    expect(stage).to_be_focused()
    spoken = panel.locator("[aria-live=polite]")
    page.keyboard.press("ArrowRight")
    expect(spoken).to_contain_text("first, step 990: 0.2")
    page.keyboard.press("ArrowLeft")
    expect(spoken).to_contain_text("first, step 980:")
    page.keyboard.press("ArrowDown")
    expect(spoken).to_contain_text("두 번째 실행, step 980:")
    expect(spoken).to_contain_text("optim.lr 0.001")
    page.keyboard.press("+")
    expect(panel.get_by_role("button", name="Reset zoom")).to_be_visible()
    page.keyboard.press("0")
    expect(panel.get_by_role("button", name="Reset zoom")).to_be_hidden()

    tab_to("val/loss: lower is better")
    page.keyboard.press("Enter")
    expect(panel.get_by_role("button", name="val/loss: no direction")).to_be_focused()
    # no shortcut of JupyterLab was triggered on the way
    expect(page.locator(".jp-CodeCell")).to_have_count(3)


def write_notebook(home: wb.Workspace, name: str, cells: list[str]) -> None:
    notebook = {
        "cells": [
            {"cell_type": "code", "execution_count": None, "id": f"cell-{place}", "metadata": {},
             "outputs": [], "source": source}
            for place, source in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }  # fmt: skip
    (home.path.parent / "notebooks" / name).write_text(json.dumps(notebook), encoding="utf-8")


def test_a_curve_moves_while_the_cell_that_trains_runs(
    visit: Callable[..., Visit], lab: Callable[[str], str], home: wb.Workspace, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    cells = [
        f"import workbench as wb\nws = wb.Workspace({str(home.path)!r})\n"
        "panel = wb.panels.ComparePanel(ws)\npanel",
        TRAINING.format(stop=str(stop)),
    ]
    write_notebook(home, "live.ipynb", cells)
    page = visit(lab("live.ipynb"), viewport={"width": 1400, "height": 1500}).page
    try:
        expect(page.locator("#jp-main-statusbar")).to_contain_text("Python 3 | Idle")
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        panel = panel_of(page)
        going = panel.get_by_role("region", name="Runs", exact=True).locator("tr", has_text="still going")
        expect(going.get_by_text("running")).to_be_visible()
        line = chart(panel, "val/loss").locator(".wb-line[data-runs='4']")
        expect(line).to_have_count(1)
        for _ in range(3):
            before = line.get_attribute("d")
            assert before
            expect(line).not_to_have_attribute("d", before)
        # all of this happened while the cell was running
        expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text("[*]:")
        # a request to a busy kernel is not lost, and updates do not undo it
        panel.get_by_role("button", name="val/score", exact=True).click()
        expect(panel.get_by_role("button", name="val/score", exact=True)).to_have_attribute(
            "aria-pressed", "false"
        )
        expect(panel.locator(".wb-chart")).to_have_count(1)
        before = line.get_attribute("d")
        assert before
        expect(line).not_to_have_attribute("d", before)
        expect(panel.locator(".wb-chart")).to_have_count(1)
    finally:
        stop.touch()
    expect(going.get_by_text("succeeded")).to_be_visible()
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text(re.compile(r"\[\d+\]"))
    expect(panel.locator(".wb-chart")).to_have_count(1)
    shutil.rmtree(home.path.parent / "notebooks" / ".ipynb_checkpoints", ignore_errors=True)


def test_comparing_over_http(
    visit: Callable[..., Visit], lab: Callable[[str], str], home: wb.Workspace, tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    cells = [
        f"import workbench as wb\nfar = wb.connect({lab('x.ipynb')!r})\n"
        "wb.panels.ComparePanel(far, [1, 2, 3])",
        f"ws = wb.Workspace({str(home.path)!r})" + TRAINING.format(stop=str(stop)),
    ]
    write_notebook(home, "far.ipynb", cells)
    seen = visit(lab("far.ipynb"), viewport={"width": 1400, "height": 1900})
    page = seen.page
    try:
        expect(page.locator("#jp-main-statusbar")).to_contain_text("Python 3 | Idle")
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        panel = panel_of(page)
        expect(panel.locator(".wb-chart .wb-line")).to_have_count(6)
        expect(final(panel, "val/score").locator(".wb-best")).to_contain_text("0.596")
        expect(panel.get_by_role("region", name="Config").locator(".wb-odd")).to_have_text(["0.05"])
        expect(panel.get_by_role("region", name="Parallel coordinates").locator("svg")).to_be_visible()
        listed = panel.get_by_role("region", name="Runs", exact=True)
        expect(listed.locator("tr", has_text="두 번째 실행").get_by_text("owner=민지")).to_be_visible()
        # its cell still runs: the run it logs is added to the others, and its line moves
        going = listed.locator("tr", has_text="still going").filter(has_text="running")
        going.get_by_role("checkbox").check()
        expect(panel.get_by_role("heading", name="Compare 4 runs")).to_be_visible()
        line = chart(panel, "val/loss").locator(".wb-line").last
        for _ in range(3):
            before = line.get_attribute("d")
            assert before
            expect(line).not_to_have_attribute("d", before)
        panel.get_by_label("x axis").select_option("relative")
        panel.get_by_label("baseline").select_option(label="third")
        expect(final(panel, "val/score").locator("td").nth(0).locator(".wb-delta")).to_contain_text("−0.199")
        expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text("[*]:")
    finally:
        stop.touch()
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text(re.compile(r"\[\d+\]"))
    expect(listed.get_by_text("running")).to_have_count(0)
    assert seen.errors == []
    shutil.rmtree(home.path.parent / "notebooks" / ".ipynb_checkpoints", ignore_errors=True)
