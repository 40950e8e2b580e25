"""Why a hit was found: the comparison below its row in the search panel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import workbench as wb
from tests.browser import shapes
from tests.browser.bridge import Bridge
from workbench.panels import SearchPanel

pytestmark = pytest.mark.browser


def panel_of(index: dict[str, bytes]) -> SearchPanel:
    panel = SearchPanel(wb.Searcher(shapes.adapter, index, "shapes"), query="dog")
    receive = panel._on_message
    panel._on_message = lambda content: receive(content, [])  # type: ignore[method-assign, misc, assignment]
    return panel


@pytest.fixture(params=[1180, 390])
def bridge(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Bridge]:
    index = shapes.adapter.load_index(Path())
    opened = Bridge(chromium, panel_of(index), viewport={"width": request.param, "height": 900})
    opened.deliver()
    yield opened
    opened.close()


def why(bridge: Bridge, name: str) -> Page:
    bridge.page.get_by_role("button", name=f"Why this result: {name}", exact=True).click()
    bridge.deliver()
    return bridge.page


def test_why_opens_a_comparison_below_the_hits_row_and_closes_again(bridge: Bridge) -> None:
    page = why(bridge, "dog")
    part = page.locator(".wb-why")
    expect(part.get_by_role("heading", name="Why “dog”?")).to_be_visible()
    expect(part).to_contain_text("2 of 64 differ")
    expect(part).to_contain_text("<i>dog</i>")  # text, not markup
    expect(part.get_by_role("img", name="1 of 8 differ: 2")).to_be_visible()
    expect(part.locator("mark")).to_have_count(4)
    expect(part).to_be_focused()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    # It is directly below the hit, and the row above it is full.
    between = """() => document.querySelector(".wb-why").getBoundingClientRect().top
                      - document.querySelector('.wb-hit[data-id="dog"]').getBoundingClientRect().bottom"""
    assert 0 <= page.evaluate(between) < 60
    tops = page.locator(".wb-hit").evaluate_all("(hits) => hits.map((hit) => hit.offsetTop)")
    per_row = max(map(tops.count, tops))
    assert tops.count(tops[0]) in (per_row, 1)  # one, if the line of the cut follows

    page.get_by_role("button", name="Close the comparison").click()
    expect(part).to_have_count(0)
    expect(page.get_by_role("button", name="Why this result: dog", exact=True)).to_be_focused()
    assert bridge.errors == []


def test_another_hit_replaces_it_a_problem_is_said_and_a_new_search_ends_it(bridge: Bridge) -> None:
    page = why(bridge, "dog")
    page = why(bridge, "pizza")
    expect(page.locator(".wb-why")).to_have_count(1)
    expect(page.locator(".wb-why h3").first).to_have_text("Why “pizza”?")
    expanded = page.locator('.wb-ask-why[aria-expanded="true"]')
    expect(expanded).to_have_count(1)
    expect(expanded).to_have_attribute("aria-label", "Why this result: pizza")
    page = why(bridge, "rain")
    expect(page.locator(".wb-why .wb-problem")).to_contain_text("rain is not explained")
    expect(page.locator(".wb-why .wb-problem")).to_contain_text("Take another.")
    page.get_by_label("Query").fill("피자")
    page.keyboard.press("Enter")
    bridge.deliver()
    expect(page.locator(".wb-hit .wb-caption").first).to_have_text("pizza")
    expect(page.locator(".wb-why")).to_have_count(0)
    assert bridge.errors == []
