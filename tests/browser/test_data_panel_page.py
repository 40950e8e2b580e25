"""The panel that checks data, in a page of its own: from empty to a result, and on to a training."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

import workbench as wb
from tests.browser.bridge import Bridge
from tests.workbench.conftest import job_row
from workbench.panels.data.panel import DataPanel

pytestmark = pytest.mark.browser


def test_from_an_empty_panel_to_a_training_with_what_was_checked(
    chromium: Browser, workspace: wb.Workspace, toy: wb.BaseAdapter
) -> None:
    bridge = Bridge(chromium, DataPanel(workspace, adapter="toy"), viewport={"width": 390, "height": 800})
    try:
        page = bridge.page
        expect(page.get_by_text("Nothing checked yet")).to_be_visible()
        page.get_by_role("button", name="Check data").click()
        bridge.deliver()
        expect(page.get_by_role("textbox", name="Data")).to_be_focused()
        expect(page.locator(".wb-wrong:visible")).to_contain_text("required")

        running = job_row(
            workspace, "running", type="data_check", options={"source": "단어 <b>"}, progress_done=1.0,
            progress_total=4.0, progress_message="reading",
        )  # fmt: skip
        bridge.look()
        expect(page.locator(".wb-source")).to_have_text("단어 <b>")
        expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
        expect(page.get_by_text("reading")).to_be_visible()
        page.get_by_role("button", name="cancel").click()
        bridge.look()
        assert workspace.job(running).status == "cancelling"

        with (
            pytest.raises(wb.BadInput),
            wb.job_scope("data_check", toy, {"source": "nothing"}, workspace=workspace) as failing,
        ):
            failing.check_data()
        bridge.look()
        expect(page.get_by_role("alert").filter(has_text="no source 'nothing'")).to_be_visible()

        with wb.job_scope("data_check", toy, {"source": "words"}, workspace=workspace) as job:
            job.finish(job.check_data())
        bridge.look()
        bridge.look()  # the page asks for the result
        expect(page.get_by_role("heading", name="What it holds")).to_be_visible()
        page.get_by_label("Checks").select_option(str(failing.id))
        bridge.look()
        expect(page.get_by_role("heading", name="What it holds")).to_have_count(0)
        page.get_by_label("Checks").select_option(str(job.id))
        bridge.look()
        bridge.look()
        page.get_by_role("button", name="Train with it").click()
        form = page.get_by_role("form", name="Train")
        expect(form.get_by_label("Name")).to_have_value("words")
        form.get_by_label("Steps").fill("2")
        form.get_by_role("button", name="Train").click()
        bridge.look()
        train = workspace.jobs(type="train")[0]
        assert (train.options["name"], train.options["steps"]) == ("words", 2)
        expect(page.get_by_role("status").filter(has_text=f"Job {train.id} is queued")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert bridge.errors == []
    finally:
        bridge.close()
