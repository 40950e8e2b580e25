"""A page whose index knows no words, or hardly: pictures come first, and hits lead to their files."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Browser, expect

import workbench as wb
from tests.browser.bridge import Bridge
from workbench.panels import SearchPanel

pytestmark = pytest.mark.browser

NOTE = "Words find <little> here."
PATH = "/home/annika/photos/spring/kept.jpg"


class Photos(wb.BaseAdapter):
    name = "photos"

    def __init__(self, *by: str) -> None:
        self.by = by

    def options(self, task: str) -> type[wb.Options]:
        return wb.Options

    def describe_index(self, index: Any) -> dict[str, Any]:
        about = {"title": "Photos", "subtitle": "3 pictures", "lead": "picture", "note": NOTE}
        return {**about, "by": list(self.by)}

    def search_by_text(self, index: Any, query: str, k: int, options: wb.Options) -> wb.SearchResult:
        return wb.SearchResult([wb.Hit("a", 1.0, path=PATH)])

    def search_by_image(self, index: Any, data: Any, k: int, options: wb.Options) -> wb.SearchResult:
        return wb.SearchResult([])


@pytest.mark.parametrize("width", [1180, 390])
def test_without_words_the_page_asks_for_a_picture_and_says_why(chromium: Browser, width: int) -> None:
    panel = SearchPanel(wb.Searcher(Photos("image", "item"), None, "photos"))
    bridge = Bridge(chromium, panel, viewport={"width": width, "height": 800})
    try:
        page = bridge.page
        lead = page.get_by_role("button", name="Search with a picture")
        expect(lead).to_be_visible()
        expect(page.get_by_text(NOTE)).to_be_visible()
        expect(page.get_by_label("Query")).to_be_hidden()
        expect(page.get_by_text("Start a search")).to_be_hidden()
        with page.expect_file_chooser():
            lead.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert bridge.errors == []
    finally:
        bridge.close()


def test_words_that_find_little_may_still_be_typed_and_a_hit_leads_to_its_file(chromium: Browser) -> None:
    panel = SearchPanel(wb.Searcher(Photos("text", "image"), None, "photos"))
    receive = panel._on_message
    panel._on_message = lambda content: receive(content, [])  # type: ignore[method-assign, misc, assignment]
    bridge = Bridge(chromium, panel)
    try:
        page = bridge.page
        page.get_by_label("Query").fill("kite")
        page.keyboard.press("Enter")
        bridge.deliver()
        box = page.get_by_label("Query")
        expect(box).to_be_visible()
        above = page.get_by_role("button", name="Search with a picture").bounding_box()
        below = box.bounding_box()
        assert above is not None
        assert below is not None
        assert above["y"] < below["y"]
        bridge.until(lambda: page.locator(".wb-hit").count())
        expect(page.locator(".wb-hit .wb-caption")).to_have_text("kept.jpg")
        expect(page.get_by_role("button", name=f"Copy the path {PATH}")).to_be_visible()
        page.get_by_role("button", name=f"Copy the path {PATH}").click()
        shown = page.locator(".wb-path-name")
        assert shown.inner_text() in (PATH, "path copied", "spring/kept.jpg")
        assert bridge.errors == []
    finally:
        bridge.close()
