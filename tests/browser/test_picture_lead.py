"""A page whose index knows no words, or hardly: pictures come first, and hits lead to their files."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
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


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(out, "PNG")
    return out.getvalue()


class Started(Photos):
    """Photos of which some are shown to start with."""

    NAMES = ("A kite over the beach", "연을 날리는 아이", "Picture", "Picture")

    def sample_items(self, index: Any, count: int) -> list[wb.Hit]:
        colours = ("red", "green", "blue", "black")
        return [
            wb.Hit(f"id-{colour}", 1.0, caption=name, thumbnail=png(colour))
            for name, colour in zip(self.NAMES, colours, strict=True)
        ]

    def search_by_item(self, index: Any, item_id: str, k: int, options: wb.Options) -> wb.SearchResult:
        return wb.SearchResult([wb.Hit(f"like {item_id}", 1.0, caption="found", thumbnail=png("red"))])


@pytest.mark.parametrize("width", [1200, 390])
def test_pictures_to_start_with_are_searched_by_keyboard_and_named(chromium: Browser, width: int) -> None:
    panel = SearchPanel(wb.Searcher(Started("image", "item"), None, "photos"))
    receive = panel._on_message
    panel._on_message = lambda content: receive(content, [])  # type: ignore[method-assign, misc, assignment]
    bridge = Bridge(chromium, panel, viewport={"width": width, "height": 800})
    try:
        page = bridge.page
        starts = page.get_by_role("region", name="Pictures to start with")
        buttons = starts.get_by_role("button")
        names = [button.get_attribute("aria-label") for button in buttons.all()]
        assert names == [
            "Search with A kite over the beach",
            "Search with 연을 날리는 아이",
            "Search with Picture 3",
            "Search with Picture 4",
        ]
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.wait_for_function(
            "[...document.querySelectorAll('.wb-starts img')].every((img) => img.naturalWidth)"
        )
        page.get_by_role("button", name="Search with a picture").focus()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        expect(buttons.nth(1)).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_timeout(50)
        bridge.deliver()
        expect(page.locator(".wb-hit")).to_have_attribute("data-id", "like id-green")
        expect(page.get_by_role("list", name="Results")).to_be_focused()
        expect(starts).to_be_hidden()
        page.get_by_role("button", name="Remove like “연을 날리는 아이”").click()
        expect(starts).to_be_visible()
        expect(page.get_by_role("button", name="Search with a picture")).to_be_focused()
        assert bridge.errors == []
    finally:
        bridge.close()
