"""What panels show can be read and named: enough contrast in both themes, names with the words seen."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser

import workbench as wb
from tests.browser.bridge import Bridge
from tests.workbench.conftest import job_row
from workbench.panels import ComparePanel
from workbench.panels.base.assets import assets
from workbench.panels.data.panel import DataPanel
from workbench.panels.jobs.panel import JobsPanel

pytestmark = pytest.mark.browser

#: Controls whose name for screen readers and voice control lacks the words that are seen on them.
MISNAMED = """() => [...document.querySelectorAll("button[aria-label], a[aria-label]")]
    .filter((one) => one.checkVisibility())
    .filter((one) => {
        const texts = [one.getAttribute("aria-label"), one.innerText];
        const [name, seen] = texts.map((text) => text.toLowerCase());
        return !name.includes(seen.trim());
    })
    .map((one) => `${one.innerText}: ${one.getAttribute("aria-label")}`)"""

#: Texts with a contrast below 4.5 to 1 (WCAG 1.4.3); what is disabled is exempt.
PALE = """() => {
    const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const pixel = (color) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data].map((part) => part / 255);
    };
    const over = ([r, g, b, a], below) => [r, g, b].map((part, place) => part * a + below[place] * (1 - a));
    const ground = (node) => {
        const color = pixel(getComputedStyle(node).backgroundColor);
        const page = document.body.dataset.jpThemeLight === "false" ? [0.067, 0.067, 0.067] : [1, 1, 1];
        return color[3] === 1 ? color : over(color, node.parentElement ? ground(node.parentElement) : page);
    };
    const clarity = (node) => (node ? getComputedStyle(node).opacity * clarity(node.parentElement) : 1);
    const light = (color) => {
        const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        const [r, g, b] = color.map(linear);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const pale = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
        if (node.closest("option, script, .wb-apart, svg")) continue;
        if (node.closest("button:disabled, fieldset:disabled, label:has(:disabled)")) continue;
        const below = ground(node);
        const [r, g, b, a] = pixel(getComputedStyle(node).color);
        const lights = [light(over([r, g, b, a * clarity(node)], below)), light(below)].sort((x, y) => y - x);
        const ratio = (lights[0] + 0.05) / (lights[1] + 0.05);
        if (ratio < 4.5) pale.push(`${walker.currentNode.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return pale;
}"""


@pytest.fixture
def filled(workspace: wb.Workspace, toy: wb.BaseAdapter) -> wb.Workspace:
    """A workspace with two runs and a job in every state."""
    for number in range(2):
        with workspace.start_run("e", f"run {number}", {"lr": number}, better={"loss": "lower"}) as run:
            for step in range(3):
                run.log({"loss": number + step, "other": number}, step=step)
    with wb.job_scope("data_check", toy, {"source": "words"}, workspace=workspace) as job:
        job.finish(job.check_data())
    for status in ("queued", "running", "cancelling", "succeeded", "failed", "cancelled"):
        job_row(
            workspace, status, started_at=1.0, error={"message": "it broke"} if status == "failed" else None
        )
    return workspace


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("kind", [JobsPanel, ComparePanel, DataPanel])
def test_texts_can_be_read_and_controls_are_named_as_they_are_seen(
    chromium: Browser, filled: wb.Workspace, kind: Any, dark: bool
) -> None:
    bridge = Bridge(chromium, kind(filled), dark=dark)
    try:
        bridge.look()
        assert bridge.page.locator(".wb-pill:visible").count() >= (1 if kind is DataPanel else 2)
        assert bridge.page.evaluate(MISNAMED) == []
        assert bridge.page.evaluate(PALE) == []
        # What is no longer current is still read.
        problem = {"message": "The disk is full.", "hint": "Free some space.", "stale": True}
        bridge.panel.state = {**bridge.panel.state, "problem": problem}
        bridge.deliver()
        assert bridge.page.locator(".wb-stale").count() == 1
        bridge.page.wait_for_function(
            "() => document.getAnimations().every((one) => one.playState !== 'running')"
        )
        assert bridge.page.evaluate(PALE) == []
    finally:
        bridge.close()


def test_the_list_of_runs_says_which_value_it_shows(chromium: Browser, filled: wb.Workspace) -> None:
    """The best one where a direction is known, else the last; the table below may show another."""
    bridge = Bridge(chromium, ComparePanel(filled))
    try:
        bridge.look()
        for metric, says in (("loss", "best"), ("other", "final")):
            bridge.page.get_by_label("Metric shown for each run").select_option(metric)
            bridge.look()
            assert bridge.page.locator(".wb-which").inner_text().strip() == says
    finally:
        bridge.close()


def test_pictures_of_any_shape_take_the_same_place(chromium: Browser) -> None:
    hits = ""
    for width, height in ((240, 320), (100, 100), (640, 90), (60, 900)):
        drawing = f"%3Csvg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'/%3E"
        picture = f'<div class="wb-pic"><img src="data:image/svg+xml,{drawing}"></div>'
        hits += f'<li class="wb-hit"><figure>{picture}<figcaption>a</figcaption></figure></li>'
    page = chromium.new_page(viewport={"width": 900, "height": 700})
    try:
        style = assets("base/theme.css", "search/search.css")
        page.set_content(
            f'<style>{style}</style><div class="wb wb-search"><ul class="wb-results">{hits}</ul></div>'
        )
        sizes = page.evaluate(
            """() => [...document.querySelectorAll(".wb-pic")].map((one) => {
                const { width, height } = one.getBoundingClientRect();
                return [Math.round(width), Math.round(height)];
            })"""
        )
        assert len(sizes) == 4
        assert {width == height for width, height in sizes} == {True}
        assert len({tuple(size) for size in sizes}) == 1
    finally:
        page.close()
