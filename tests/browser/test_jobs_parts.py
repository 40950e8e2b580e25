"""The jobs panel in a page of its own: what it shows of an adapter that cannot be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

import workbench as wb
from tests.browser.bridge import Bridge
from tests.workbench.conftest import install, on_path
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
