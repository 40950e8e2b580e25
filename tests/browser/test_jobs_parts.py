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


LISTS = """
from typing import Literal

from pydantic import Field

import workbench as wb

class Options(wb.Options):
    cuts: list[int] = [1, 5]
    seeds: list[int] = Field(default_factory=list)
    weights: dict[str, float] = {}
    ways: tuple[Literal["there", "back"], ...] = ("there",)
    run: int = 0
    rare: float = 0.5
    model_config = {"json_schema_extra": {"x-more": ["rare"]}}

class Lists(wb.BaseAdapter):
    name, title = "lists", "Lists"

    def options(self, task):
        return Options if task == "eval" else super().options(task)

    def evaluate(self, options, job):
        return wb.Result()

    def find_problems(self, task, options, workspace):
        return [("run", f"no run {options.run}")] if options.run else []

adapter = Lists()
"""


def test_a_form_says_how_a_value_is_written_and_all_that_is_wrong_at_once(
    chromium: Browser, workspace: wb.Workspace, tmp_path: Path
) -> None:
    (folder := tmp_path / "packages").mkdir()
    install(folder, "lists", LISTS)
    with on_path(folder):
        bridge = Bridge(chromium, JobsPanel(workspace, adapter="lists"))
        try:
            page = bridge.page
            page.get_by_role("button", name="Evaluate").click()
            form = page.get_by_role("form", name="Evaluate")
            form.get_by_label("Cuts").fill("1, five")
            form.get_by_label("Seeds").fill("0-4")
            form.get_by_label("Weights").fill("a: 1")
            form.get_by_label("Run").fill("999")
            form.get_by_role("button", name="Evaluate").click()
            bridge.deliver()
            wrong = form.locator(".wb-wrong:visible")
            assert wrong.all_inner_texts() == [
                "not a number: five",
                "not a number: 0-4",
                'not valid JSON: a: 1; write it like [1, 2] or {"name": 1}',
                "no run 999",
            ]
            expect(form.get_by_label("Cuts")).to_be_focused()
            # What is wrong with an option that is not shown at once opens its part of the form.
            for label, text in (("Cuts", "3, 7"), ("Seeds", "2"), ("Weights", ""), ("Run", "0")):
                form.get_by_label(label).fill(text)
            form.get_by_role("group", name="Ways").get_by_label("back").check()
            form.get_by_text("More options (1)").click()
            form.get_by_label("Rare").fill("often")
            form.get_by_text("More options (1)").click()
            expect(form.get_by_label("Rare")).to_be_hidden()
            form.get_by_role("button", name="Evaluate").click()
            bridge.deliver()
            expect(form.get_by_label("Rare")).to_be_focused()
            assert wrong.all_inner_texts() == ["not a number: often"]
            form.get_by_label("Rare").fill("0.25")
            form.get_by_role("button", name="Evaluate").click()
            bridge.deliver()
            given = workspace.jobs()[0].options
            assert (given["cuts"], given["seeds"], given["ways"]) == ([3, 7], [2], ["there", "back"])
            page.get_by_role("button", name="Notebook").click()
            path = page.get_by_label("Path")
            path.fill("nowhere/at-all.ipynb")
            page.get_by_role("button", name="Read parameters").click()
            bridge.deliver()
            expect(
                page.get_by_role("alert").filter(has_text="no file 'nowhere/at-all.ipynb'")
            ).to_be_visible()
            expect(path).to_have_attribute("aria-invalid", "true")
            path.fill("nowhere/else.ipynb")
            assert path.get_attribute("aria-invalid") is None
            assert bridge.errors == []
        finally:
            bridge.close()
