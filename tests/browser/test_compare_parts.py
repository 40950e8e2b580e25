"""The compare panel's page without Jupyter: drawing, messages, and a busy kernel."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

import workbench as wb
from tests.browser.bridge import Bridge
from tests.browser.conftest import PATIENCE
from tests.workbench.conftest import live_server
from tests.workbench.panels.results.test_panel import finished
from tests.workbench.stored_times import add_bad_times
from workbench.panels import ComparePanel, ResultsComparePanel
from workbench.panels.compare import panel

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)

Show = Callable[..., Bridge]


@pytest.fixture
def show(chromium: Browser, workspace: wb.Workspace) -> Iterator[Show]:
    shown: list[Bridge] = []

    def open_page(*runs: int, **how: Any) -> Bridge:
        shown.append(Bridge(chromium, ComparePanel(workspace, runs or None), **how))
        return shown[-1]

    yield open_page
    for bridge in shown:
        errors = bridge.errors
        bridge.close()
        assert errors == []


def runs(
    workspace: wb.Workspace, count: int, name: str = "a name that goes on and on, 그리고 계속된다"
) -> None:
    for number in range(count):
        config = {"lr": 10.0 ** -(number % 4), "seed": number}
        with workspace.start_run(
            "tries", f"{name} {number}", config, better={"val/loss": "lower"}, tags={"round": number % 3}
        ) as run:
            for step in range(40):
                run.log({"val/loss": math.exp(-step / (5 + number)) + number / 50}, step=step)


def test_an_empty_workspace_says_how_to_create_runs(show: Show) -> None:
    page = show().page
    expect(page.get_by_text("No runs yet")).to_be_visible()
    expect(page.get_by_text("ws.start_run(…)")).to_be_visible()
    expect(page.get_by_role("button", name="CSV")).to_be_hidden()


def test_a_missing_run_is_reported_and_another_can_be_selected(show: Show, workspace: wb.Workspace) -> None:
    runs(workspace, 2)
    bridge = show(99)
    expect(bridge.page.get_by_role("alert")).to_contain_text("run 99")
    bridge.page.get_by_role("button", name="Select none").click()
    bridge.deliver()
    expect(bridge.page.get_by_text("No runs selected")).to_be_visible()
    bridge.page.get_by_label("Compare run 2").check()
    bridge.deliver()
    expect(bridge.page.get_by_role("alert")).to_be_hidden()
    expect(bridge.page.locator(".wb-chart .wb-line")).to_have_count(1)


def test_twenty_runs_are_drawn_in_distinguishable_lines(show: Show, workspace: wb.Workspace) -> None:
    runs(workspace, 20)
    page = show(*range(1, 21)).page
    looks = page.locator(".wb-chart .wb-line").evaluate_all(
        "lines => lines.map((line) => line.getAttribute('stroke') + line.getAttribute('stroke-dasharray'))"
    )
    assert len(set(looks)) == 20
    # many runs become rows, with the full name on hover
    head = page.get_by_role("region", name="Final values").get_by_role("rowheader").nth(3)
    expect(head).to_have_attribute("title", "run 4: a name that goes on and on, 그리고 계속된다 3")
    expect(page.get_by_role("region", name="Final values").locator("tbody tr")).to_have_count(20)
    # nothing but scroll containers is wider than the panel
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_search_says_what_it_searched_and_of_which_words(
    show: Show, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel, "LISTED_RUNS", 3)
    runs(workspace, 5, "r")
    page = show(5).page
    search, note = page.get_by_label("Search runs"), page.locator(".wb-run-tools [role=status]")
    expect(note).to_have_text("The 3 newest runs · 1 selected")
    search.fill("#1 ")  # it exists, and is older than those listed
    expect(note).to_have_text(
        "None of the 3 newest runs matches “#1” · older runs are not searched · 1 selected"
    )
    search.fill("nothing")
    expect(note).to_contain_text("matches “nothing”")
    search.fill("#4")
    expect(note).to_have_text("1 of the 3 newest runs · older runs are not searched · 1 selected")


def test_one_point_is_a_dot_above_one_whole_step(show: Show, workspace: wb.Workspace) -> None:
    with workspace.start_run("tries", "one") as run:
        run.log({"loss": 0.3}, step=0)
    page = show(1).page
    expect(page.locator("circle.wb-lone")).to_have_count(1)
    across = page.locator("svg.wb-plot > text[y='206']")
    expect(across).to_have_text(["0"])


def test_a_run_without_a_usable_time_is_listed_without_a_duration(
    show: Show, workspace: wb.Workspace
) -> None:
    ids = add_bad_times(workspace)
    runs(workspace, 1)
    bridge = show(*ids)
    page = bridge.page
    for run_id in ids:
        row = page.locator(f"[data-run-row='{run_id}']")
        expect(row.locator("td").nth(5)).to_have_text("–")
    page.get_by_label("Sort runs").select_option("duration")
    expect(page.locator("[data-run-row]").first).to_contain_text("a name that goes on")
    for axis in ("time", "relative"):
        bridge.panel.set(axis=axis)  # type: ignore[attr-defined]
        bridge.deliver()
        expect(page.locator(".wb-chart .wb-line")).to_have_count(len(ids))
    expect(page.locator(".wb-chart").first).not_to_contain_text("NaN")


def test_requests_to_a_busy_kernel_stay_as_they_were_made(show: Show, workspace: wb.Workspace) -> None:
    runs(workspace, 3)
    bridge = show(1, 2, 3)
    page = bridge.page
    busy = re.compile("kernel is busy", re.IGNORECASE)
    bridge.is_busy = True
    bridge.becomes(status="busy")
    page.get_by_label("Compare run 2").uncheck()
    page.get_by_label("log scale").check()
    expect(page.get_by_role("status").filter(has_text=busy)).to_be_visible()
    with workspace.start_run("tries", "newer") as run:
        run.log({"val/loss": 1.0})
    bridge.look()  # the thread keeps running while a cell runs
    expect(page.get_by_text("newer")).to_be_visible()
    expect(page.get_by_label("Compare run 2")).not_to_be_checked()
    expect(page.get_by_label("log scale")).to_be_checked()
    bridge.is_busy = False
    bridge.settle()
    bridge.deliver()
    expect(page.get_by_text(busy)).to_be_hidden()
    expect(page.locator(".wb-chart .wb-line")).to_have_count(2)
    assert bridge.panel.view.log  # type: ignore[attr-defined]


def test_values_without_a_logarithm_are_gaps_and_a_chart_of_only_those_says_so(
    show: Show, workspace: wb.Workspace
) -> None:
    with workspace.start_run("tries", "signs") as run:
        for step, value in enumerate((1.0, -1.0, 2.0, math.nan, 3.0)):
            run.log({"val/a": value, "val/b": -1.0}, step=step)
    bridge = show(1)
    page = bridge.page
    lines = page.locator(".wb-chart .wb-line")
    path = lines.first.get_attribute("d")
    assert path
    assert path.count("M") == 2  # NaN is a gap
    page.get_by_label("log scale").check()
    bridge.deliver()
    path = lines.first.get_attribute("d")
    assert path
    assert path.count("M") == 3  # and so is a value that is not above zero
    notice = page.locator(".wb-chart-none:visible")
    expect(notice).to_have_count(1)
    expect(notice).to_contain_text("scale")


def test_zooming_in_shows_more_points(show: Show, workspace: wb.Workspace) -> None:
    with workspace.start_run("tries", "long") as run:
        for step in range(6000):
            run.log({"val/x": math.sin(step / 3) + (9.0 if step == 3001 else 0.0)}, step=step)
    bridge = show(1)
    page = bridge.page
    line = page.locator(".wb-chart .wb-line")
    before = line.get_attribute("d")
    assert before
    assert before.count("L") < 2200  # of 6,000: as many as a thousand pixels can show
    stage = page.get_by_role("application", name="val/x")
    box = stage.bounding_box()
    assert box
    for across in (0.5, 0.55):
        page.mouse.move(box["x"] + box["width"] * across, box["y"] + 90)
        page.mouse.down() if across == 0.5 else page.mouse.up()
    bridge.deliver()
    after = line.get_attribute("d")
    assert after
    low, high = bridge.panel.view.window  # type: ignore[attr-defined]
    assert after.count("L") >= min(high - low, 1000) * 0.9  # every point of the window is drawn now
    stage.dblclick(position={"x": 300, "y": 90})
    bridge.deliver()
    assert bridge.panel.view.window is None  # type: ignore[attr-defined]


def test_a_run_under_the_pointer_is_highlighted_everywhere(show: Show, workspace: wb.Workspace) -> None:
    runs(workspace, 3, "run")
    page = show(1, 2, 3).page
    page.get_by_role("group", name="Runs in the charts").get_by_role("button", name="run 1").hover()
    expect(page.locator(".wb-chart .wb-line.wb-hot")).to_have_attribute("data-runs", "2")
    expect(page.locator(".wb-parallel .wb-line.wb-hot")).to_have_attribute("data-runs", "2")
    expect(page.locator("th.wb-warm")).to_have_count(2)


def test_every_control_has_a_name(show: Show, workspace: wb.Workspace) -> None:
    runs(workspace, 3)
    page = show(1, 2, 3).page
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, select, input, [tabindex]')].filter((node) => {
            const labelled = node.getAttribute('aria-labelledby');
            const text = node.getAttribute('aria-label') || node.labels?.[0]?.textContent
                || (labelled && document.getElementById(labelled)?.textContent)
                || (node.matches('button') && node.textContent);
            return !text?.trim();
        }).map((node) => node.outerHTML.slice(0, 90))"""
    )
    assert nameless == []
    heads = page.locator("table").evaluate_all(
        "tables => tables.every((table) => [...table.querySelectorAll('th')].every((head) => head.scope))"
    )
    assert heads


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(show: Show, workspace: wb.Workspace, dark: bool) -> None:
    runs(workspace, 3)
    page = show(1, 2, 3, dark=dark).page
    # WCAG 2.2, 1.4.3 and 1.4.11: 4.5 to 1 for text, 3 to 1 for a line in a chart
    too_faint = page.evaluate(
        """() => {
          const probe = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
          const rgb = (colour, under) => {
            probe.fillStyle = under ?? '#fff'; probe.fillRect(0, 0, 1, 1);
            probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
            return `rgb(${[...probe.getImageData(0, 0, 1, 1).data.slice(0, 3)].join(' ')})`;
          };
          const light = (colour) => {
            const [r, g, b] = colour.match(/\\d+/g).map((part) => {
              const c = part / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const contrast = (a, b) => {
            const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05);
          };
          const root = document.querySelector('.wb-compare');
          const card = rgb(getComputedStyle(root).backgroundColor);
          const out = [];
          for (const node of root.querySelectorAll('.wb-odd, .wb-muted, .wb-delta, td, .wb-pill, .wb-way')) {
            const style = getComputedStyle(node);
            const own = style.backgroundColor;
            const ground = own === 'rgba(0, 0, 0, 0)' ? card : rgb(own, card);
            const ratio = contrast(rgb(style.color, ground), ground);
            if (ratio < 4.5) out.push([node.className, ratio]);
          }
          for (let slot = 0; slot < 10; slot++) {
            const ratio = contrast(rgb(getComputedStyle(root).getPropertyValue(`--wb-s${slot}`)), card);
            if (ratio < 3) out.push([slot, ratio]);
          }
          return out;
        }"""
    )
    assert too_faint == []


def test_results_are_shown_side_by_side(chromium: Browser, workspace: wb.Workspace) -> None:
    for number in range(3):
        finished(workspace, f"시도 {number}", number / 10)
    bridge = Bridge(chromium, ResultsComparePanel(workspace))
    page = bridge.page
    expect(page.get_by_role("heading", name="Compare 2 results")).to_be_visible()
    page.get_by_role("checkbox", name="#1 시도 0").check()
    bridge.deliver()
    expect(page.get_by_role("heading", name="Compare 3 results")).to_be_visible()
    page.get_by_label("baseline").select_option(label="#1 시도 0")
    bridge.deliver()
    row = page.get_by_role("row").filter(has_text="score")
    expect(row.get_by_role("cell").nth(1)).to_contain_text("+0.200")
    expect(row.get_by_role("cell").nth(1)).to_contain_text("real")
    assert bridge.errors == []
    bridge.close()


def test_a_lost_server_is_reported_and_choices_made_meanwhile_are_applied(
    chromium: Browser, workspace: wb.Workspace, tmp_path: Path
) -> None:
    runs(workspace, 3, "far 멀리")
    with live_server(workspace.path, tmp_path / "one") as first:
        remote = wb.connect(first.url, first.token)
        bridge = Bridge(chromium, ComparePanel(remote, [1, 2]))
        page = bridge.page
        expect(page.locator(".wb-chart .wb-line")).to_have_count(2)
        address = (int(first.url.split(":")[2].strip("/")), first.token)
    bridge.look()
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.get_by_role("alert")).to_contain_text("server is running")
    expect(page.locator(".wb-chart .wb-line")).to_have_count(2)  # the last known curves stay
    page.get_by_label("Compare run 3").check(force=True)
    bridge.deliver()
    expect(page.locator(".wb-waiting")).to_be_hidden()  # the kernel is not reported as busy
    late = Bridge(chromium, ComparePanel(remote))
    expect(late.page.get_by_role("alert")).to_contain_text("does not answer")
    with live_server(workspace.path, tmp_path / "two", address=address):
        for one in (bridge, late):
            one.look()
            expect(one.page.get_by_role("alert")).to_be_hidden()
            expect(one.page.get_by_role("heading", name="Compare 3 runs")).to_be_visible()
            expect(one.page.locator(".wb-chart .wb-line")).to_have_count(3)
    for one in (bridge, late):
        assert one.errors == []
        one.close()
    remote.close()


def test_chosen_runs_are_put_in_order_and_any_run_is_found(
    show: Show, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(workspace, 6, "run")
    monkeypatch.setattr(panel, "LISTED_RUNS", 4)
    bridge = show(6)
    page = bridge.page
    where = page.get_by_role("textbox", name="Filter all runs by a condition")
    where.fill("config.seed < 2")  # those that the list of the newest does not have
    where.press("Enter")
    bridge.deliver()
    expect(page.locator("tr[data-run-row]")).to_have_count(3)  # and the chosen one
    where.fill("confg.seed < 2")
    where.press("Enter")
    bridge.deliver()
    expect(page.locator(".wb-wrong")).to_contain_text("'confg.seed' is no field of a run")
    where.fill("")
    where.press("Enter")
    bridge.deliver()
    expect(page.locator(".wb-wrong")).to_be_hidden()
    expect(page.locator("tr[data-run-row]")).to_have_count(4)
    page.locator("button[data-verb=rename]").click()
    page.get_by_role("textbox", name="New name").fill("다른 이름")
    page.get_by_role("textbox", name="New name").press("Enter")
    bridge.deliver()
    expect(page.locator("tr[data-run-row='6']")).to_contain_text("다른 이름")
    page.locator("button[data-verb=archive]").click()
    bridge.deliver()
    expect(page.locator(".wb-said")).to_contain_text("Archived 1 run")
    expect(page.locator("tr[data-run-row='6']")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    bridge.deliver()
    expect(page.locator("tr[data-run-row='6']")).to_be_visible()
    page.locator("input[data-run='6']").click()
    bridge.deliver()
    page.locator("button[data-verb=delete]").click()
    expect(page.get_by_role("group", name="Confirm")).to_contain_text("It cannot be undone")
    page.get_by_role("button", name="Cancel").click()
    assert workspace.run(6).status == "succeeded"
    page.locator("button[data-verb=delete]").click()
    page.get_by_role("button", name="Delete for good").click()
    bridge.deliver()
    expect(page.locator(".wb-said")).to_contain_text("Deleted 1 run")
    with pytest.raises(wb.UnknownRun):
        workspace.run(6)
