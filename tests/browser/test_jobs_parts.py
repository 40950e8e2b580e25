"""The jobs panel in a page of its own: what it shows of an adapter that cannot be loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import workbench as wb
from tests.browser.bridge import Bridge
from tests.workbench.conftest import install, job_row, on_path
from workbench.panels.jobs.panel import JobsPanel

pytestmark = pytest.mark.browser


def test_a_broken_adapter_is_told_in_place_and_the_others_are_offered(
    chromium: Browser, workspace: wb.Workspace, toy: wb.BaseAdapter, tmp_path: Path
) -> None:
    (folder := tmp_path / "packages").mkdir()
    install(folder, "raises", "raise RuntimeError('no <b>today</b>')\n")
    with on_path(folder):
        everything, alone = JobsPanel(workspace), JobsPanel(workspace, adapter="raises")
    bridge = Bridge(chromium, everything)
    try:
        told = bridge.page.get_by_role("alert").filter(has_text="cannot be loaded")
        expect(told).to_have_count(1)
        expect(told).to_be_visible()
        expect(told).to_contain_text("adapter 'raises' cannot be loaded: RuntimeError: no <b>today</b>")
        expect(told).to_contain_text("Update or reinstall raises-adapter")
        bridge.page.get_by_role("button", name="Evaluate").click()
        expect(bridge.page.get_by_role("form", name="Evaluate")).to_be_visible()
        assert bridge.errors == []
    finally:
        bridge.close()
    bridge = Bridge(chromium, alone)
    try:
        bridge.look()
        expect(bridge.page.get_by_text("No adapter can be loaded")).to_be_visible()
        bridge.page.get_by_role("button", name="Notebook").click()
        expect(bridge.page.get_by_role("form", name="Run a notebook")).to_be_visible()
        assert bridge.errors == []
    finally:
        bridge.close()


def test_a_row_says_what_the_log_leaves_out_and_links_to_all_of_it(
    chromium: Browser, workspace: wb.Workspace, toy: wb.BaseAdapter
) -> None:
    bridge = Bridge(chromium, JobsPanel(workspace))
    try:
        # Where JupyterLab serves the files of its folder.
        bridge.page.evaluate(
            """(config) => document.body.append(Object.assign(document.createElement("script"),
               { id: "jupyter-config-data", type: "application/json", textContent: config }))""",
            json.dumps({"serverRoot": str(workspace.path), "baseUrl": "/user/x/"}),
        )
        job_id = job_row(workspace, "succeeded", summary="measured", started_at=1.0, finished_at=31.0)
        plain = job_row(workspace, "succeeded", summary="measured", started_at=1.0, finished_at=31.0)
        folder = workspace.path / "jobs" / str(job_id)
        folder.mkdir(parents=True)
        note = "The log leaves out the middle of what was printed; output.txt has all of it: 9 lines (9 B)."
        (folder / "output.txt").write_text("강아지\n")
        (folder / "output-note.txt").write_text(note + "\n")
        bridge.look()
        row = bridge.page.locator(f'[data-id="{job_id}"]')
        expect(row).to_contain_text(note)
        link = row.get_by_role("link", name="Download output.txt")
        assert link.get_attribute("href") == f"/user/x/files/jobs/{job_id}/output.txt"
        assert link.get_attribute("download") == f"job-{job_id}-output.txt"
        expect(bridge.page.locator(f'[data-id="{plain}"] .wb-note')).to_be_hidden()
        assert bridge.errors == []
    finally:
        bridge.close()
