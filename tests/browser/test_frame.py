"""The frame around panels, in a page without Jupyter: a kernel that is busy, silent, lost or out of reach."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, expect

import workbench as wb
from tests.browser.bridge import Bridge
from tests.browser.conftest import PATIENCE
from tests.browser.test_jobs_panel import running_row
from workbench.panels import ComparePanel, JobsPanel, ResultsComparePanel
from workbench.panels.base.live import LivePanel

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)

Show = Callable[..., Bridge]


@pytest.fixture
def show(chromium: Browser, workspace: wb.Workspace, toy: wb.BaseAdapter) -> Iterator[Show]:
    shown: list[Bridge] = []

    def open_page(panel: type[LivePanel] = JobsPanel, **how: Any) -> Bridge:
        shown.append(Bridge(chromium, panel(workspace), **how))  # type: ignore[call-arg]
        return shown[-1]

    yield open_page
    for bridge in shown:
        errors = bridge.errors
        bridge.close()
        assert errors == []


def notice(bridge: Bridge) -> Locator:
    return bridge.page.locator(".wb-notice")


@pytest.mark.parametrize(
    ("panel", "change", "words"),
    [
        (JobsPanel, {"status": "restarting"}, "The kernel was restarted: run this cell again"),
        (JobsPanel, {"status": "autorestarting"}, "The kernel was restarted: run this cell again"),
        (
            JobsPanel,
            {"status": "terminating"},
            "The kernel was shut down: start it, then run this cell again",
        ),
        (JobsPanel, {"id": "2"}, "another kernel now: run this cell again"),
        (ComparePanel, {"status": "dead"}, "The kernel has died: restart it, then run this cell again"),
        (
            ResultsComparePanel,
            {"status": "dead"},
            "The kernel has died: restart it, then run this cell again",
        ),
    ],
)
def test_a_lost_kernel_is_said_and_nothing_can_be_clicked(
    show: Show, workspace: wb.Workspace, panel: type[LivePanel], change: dict[str, str], words: str
) -> None:
    running_row(workspace)
    with workspace.start_run("tries", "first") as run:
        run.log({"loss": 1.0})
    bridge = show(panel)
    expect(notice(bridge)).to_be_hidden()
    bridge.becomes(**change)
    if change != {"id": "2"}:
        bridge.becomes(status="idle")  # a restarted kernel is idle again, but it has forgotten the panel
    expect(notice(bridge)).to_contain_text(words)
    expect(notice(bridge)).to_contain_text(re.compile(r"What is shown is as of \d\d:\d\d:\d\d"))
    controls = bridge.page.locator("button:visible, select:visible, input:visible")
    assert all(controls.nth(place).is_disabled() for place in range(controls.count()))
    if panel is JobsPanel:
        assert controls.count() > 4
        expect(notice(bridge)).to_contain_text("Jobs go on without this panel.")


def test_an_interrupted_connection_is_said_and_the_panel_goes_on_afterwards(
    show: Show, workspace: wb.Workspace
) -> None:
    job = running_row(workspace)
    bridge = show()
    bridge.page.get_by_role("button", name="＋ Notebook").click()
    bridge.page.get_by_label("Path").fill("half typed")
    bridge.becomes(connectionStatus="connecting")
    expect(notice(bridge)).to_contain_text("The Jupyter server does not answer")
    expect(bridge.page.get_by_role("button", name="cancel")).to_be_disabled()
    workspace.store.move_job(job, expect="running", to="cancelled", attempt=1)  # not heard of here
    bridge.becomes(connectionStatus="connected")
    expect(notice(bridge)).to_be_hidden()
    bridge.deliver()
    expect(bridge.page.locator(".wb-row").get_by_text("cancelled")).to_be_visible()
    expect(bridge.page.get_by_label("Path")).to_have_value("half typed")
    expect(bridge.page.get_by_role("button", name="＋ Notebook")).to_be_enabled()


def test_busy_is_said_only_of_a_kernel_that_is_busy(show: Show) -> None:
    bridge = show()
    waiting, clock = bridge.page.locator(".wb-waiting"), bridge.page.clock
    clock.install()  # what is shown for some seconds only is looked at while the page's clock stands still
    bridge.is_busy = True
    busy, idle = "The kernel is busy; this takes effect when", "Waiting for the kernel…"
    for status, words, state in (("busy", busy, "failed"), ("idle", idle, "active")):
        bridge.becomes(status=status)
        clock.pause_at(bridge.page.evaluate("Date.now() / 1000") + 60)
        bridge.page.get_by_label("Job state").select_option(state)
        clock.run_for(1000)
        expect(waiting).to_have_text(re.compile(words))
        clock.resume()
        bridge.settle()
        bridge.deliver()
        expect(waiting).to_be_hidden()
    bridge.page.get_by_label("Job state").select_option("succeeded")
    expect(waiting).to_have_text("The kernel does not answer. If it was restarted, run this cell again.")


def test_without_a_word_of_its_kernel_a_panel_says_what_it_knows(show: Show) -> None:
    bridge = show(kernel=False)
    bridge.is_busy = True
    bridge.page.get_by_label("Job state").select_option("failed")
    words = "Waiting for the kernel, which may be busy with another cell."
    expect(bridge.page.locator(".wb-waiting")).to_have_text(words)
    expect(notice(bridge)).to_be_hidden()


@pytest.mark.parametrize("dark", [False, True])
def test_a_disabled_button_looks_disabled(show: Show, dark: bool) -> None:
    page = show(dark=dark).page
    page.get_by_role("button", name="＋ Evaluate").click()
    submit = page.get_by_role("button", name="Evaluate", exact=True)
    look = "(node) => { const s = getComputedStyle(node); return [s.borderStyle, s.cursor]; }"
    assert submit.evaluate(look) == ["solid", "pointer"]
    submit.evaluate("(node) => { node.disabled = true; }")
    expect(submit).to_have_css("background-color", "rgba(0, 0, 0, 0)")
    assert submit.evaluate(look) == ["dashed", "not-allowed"]
    submit.hover(force=True)
    expect(submit).to_have_css("background-color", "rgba(0, 0, 0, 0)")


def test_a_workspace_that_cannot_be_read_is_said_and_disables_what_needs_it(
    show: Show, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    running_row(workspace)
    bridge = show()

    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("a slip")

    with monkeypatch.context() as patch:
        patch.setattr(workspace, "jobs", fail)
        bridge.look()
        words = "could not be updated: ZeroDivisionError: a slip"
        expect(bridge.page.get_by_role("alert").filter(has_text=words)).to_be_visible()
        expect(bridge.page.get_by_role("button", name="cancel")).to_be_disabled()
    bridge.look()
    expect(bridge.page.get_by_role("button", name="cancel")).to_be_enabled()
    expect(bridge.page.get_by_text("a slip")).to_have_count(0)
