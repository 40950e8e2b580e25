"""Names, notes, settings, errors and hits that are markup: they are shown as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

import workbench as wb
from tests.browser.bridge import Bridge
from tests.workbench.conftest import install, job_row, on_path
from workbench.panels import ComparePanel, ResultsComparePanel, SearchPanel
from workbench.panels.jobs.panel import JobsPanel
from workbench.panels.results.show import render_html

pytestmark = pytest.mark.browser

#: Markup that runs a script if any of it becomes an element, closing what it may stand in.
MARKUP = (
    "'\"></td></title></style></script><img src=x onerror=ran()><script>ran()</script>"
    "<svg onload=ran()></svg><a href=javascript:ran()>{{7*7}}${ran()}"
)

ADAPTER = f"""
from pydantic import Field

import workbench as wb
TEXT = {MARKUP!r}

class Options(wb.Options):
    plain: str = Field(TEXT, title=TEXT, description=TEXT)

class Evil(wb.BaseAdapter):
    name, title = "evil", TEXT
    metrics = (wb.Metric(TEXT, better="lower"),)

    def options(self, task):
        return Options if task in ("eval", "search") else super().options(task)

    def evaluate(self, options, job):
        return wb.Result()

    def describe_index(self, index):
        return {{"title": TEXT, "subtitle": TEXT, "credits": [TEXT]}}

    def search_samples(self, index):
        return [TEXT]

    def search_by_text(self, index, query, k, options):
        hits = [wb.Hit(id=TEXT, score=1.0, caption=TEXT, subtitle=TEXT, label=TEXT, meter=0.5)]
        return wb.SearchResult(hits, {{"total": 1.0}}, note=TEXT)

adapter = Evil()
"""

#: Counts calls of the script, and elements that only the markup could have made.
WATCH = "() => { window.ranTimes = 0; window.ran = () => { window.ranTimes += 1; }; }"
MADE = """() => [...document.querySelectorAll("img[src='x'], [onerror], [onload], a[href^='javascript:']")]
          .map((one) => one.outerHTML)"""


@pytest.fixture
def evil(tmp_path: Path) -> Iterator[wb.BaseAdapter]:
    (folder := tmp_path / "packages").mkdir()
    install(folder, "evil", ADAPTER)
    with on_path(folder):
        yield wb.get_adapter("evil")


def result() -> wb.Result:
    """A result whose every text is markup."""
    small = "<svg onload=ran()>"  # a figure has little room
    curve = {"x_label": small, "y_label": small, "x": [1, 2], "series": [{"name": small, "y": [0.1, 0.2]}]}
    rows = {"rows": [{"name": MARKUP, "value": 0.5, "note": MARKUP}]}
    return wb.Result(
        summary=MARKUP,
        metrics={MARKUP: 0.5},
        headline=(MARKUP,),
        warnings=[MARKUP],
        views=[
            wb.View(kind="curve", title=small, data=curve, notes=[MARKUP]),
            wb.View(kind="metrics_table", title=MARKUP, data=rows, notes=[MARKUP]),
        ],
    )


def look_everywhere(page: Page) -> None:
    """Open, focus and point at all that can be opened, focused or pointed at."""
    for one in page.locator("summary, button:not([disabled]), [tabindex='0'], svg, [title]").all()[:60]:
        if one.is_visible():
            one.hover(force=True, no_wait_after=True)
    page.keyboard.press("Tab")
    page.wait_for_timeout(50)


def check(page: Page, requested: list[str]) -> None:
    look_everywhere(page)
    assert page.evaluate("window.ranTimes") == 0
    assert page.evaluate(MADE) == []
    assert [url for url in requested if url.endswith("/x")] == []


def shown(chromium: Browser, panel: Any) -> tuple[Bridge, list[str]]:
    requested: list[str] = []
    bridge = Bridge(chromium, panel)
    bridge.page.on("request", lambda request: requested.append(request.url))
    bridge.page.evaluate(WATCH)
    return bridge, requested


def test_the_markup_would_run_if_it_were_not_text(chromium: Browser) -> None:
    page = chromium.new_page()
    page.evaluate(WATCH)
    page.evaluate("(html) => { document.body.innerHTML = html }", f"<table><tr><td title='{MARKUP}'></table>")
    page.wait_for_function("window.ranTimes > 0")
    assert page.evaluate(MADE) != []
    page.close()


def test_runs_and_results_are_compared(chromium: Browser, workspace: wb.Workspace) -> None:
    short = MARKUP[:200]
    for value in (0.5, 0.25):
        with workspace.start_run(
            short, short, {MARKUP: MARKUP, "value": value}, tags={short: MARKUP}, notes=MARKUP
        ) as run:
            run.log({short: value, "loss": value}, step=0)
            run.log({short: value / 2, "loss": value / 2}, step=1)
    done = [job_row(workspace, "running", started_at=1.0) for _ in range(2)]
    for job_id in done:
        assert workspace.store.save_result(job_id, 1, result().model_dump(mode="json"))
        assert workspace.store.move_job(job_id, expect="running", to="succeeded")
    for panel in (ComparePanel(workspace), ResultsComparePanel(workspace, done)):
        bridge, requested = shown(chromium, panel)
        try:
            bridge.look()
            assert "onerror" in bridge.page.locator("body").inner_text()
            check(bridge.page, requested)
        finally:
            bridge.close()


def test_jobs_and_their_forms(chromium: Browser, workspace: wb.Workspace, evil: wb.BaseAdapter) -> None:
    error = {"cell": 1, "type": MARKUP, "message": MARKUP}
    job_row(workspace, "failed", adapter="evil", error=error, options={"plain": MARKUP}, started_at=1.0)
    job_row(workspace, "running", adapter="evil", progress_message=MARKUP, summary=MARKUP, started_at=1.0)
    bridge, requested = shown(chromium, JobsPanel(workspace))
    try:
        bridge.look()
        bridge.page.get_by_role("button", name="Evaluate").first.click()
        bridge.deliver()
        assert bridge.page.locator("form").is_visible()
        assert "onerror" in bridge.page.locator("body").inner_text()
        check(bridge.page, requested)
    finally:
        bridge.close()


def test_an_index_and_its_hits(chromium: Browser, evil: wb.BaseAdapter) -> None:
    panel = SearchPanel(wb.Searcher(evil, None, "evil"))
    receive = panel._on_message
    panel._on_message = lambda content: receive(content, [])  # type: ignore[method-assign, misc, assignment]
    bridge, requested = shown(chromium, panel)
    try:
        bridge.page.get_by_role("searchbox").or_(bridge.page.locator("input[type=text]")).first.fill(MARKUP)
        bridge.page.keyboard.press("Enter")
        bridge.deliver()
        bridge.until(lambda: bridge.page.locator("body").inner_text().count("onerror") >= 3)
        check(bridge.page, requested)
        assert bridge.page.locator("body").inner_text().count("onerror") >= 3
    finally:
        bridge.close()


def test_a_report(chromium: Browser) -> None:
    page = chromium.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto("about:blank")
    page.evaluate(WATCH)
    page.set_content(render_html(result()))
    assert "onerror" in page.locator("body").inner_text()
    check(page, requested)
    page.close()
