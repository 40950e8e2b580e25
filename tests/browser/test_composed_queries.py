"""Composed queries in the search panel: words with signs, chips, more and less like a hit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

import workbench as wb
from tests.browser import shapes
from tests.browser.bridge import Bridge
from workbench.panels import SearchPanel

pytestmark = pytest.mark.browser


class Composing(shapes.Shapes):
    """Shapes that are composed by their scores for each term; it notes what it is asked."""

    name = "composing"

    def __init__(self) -> None:
        self.asked: list[list[tuple[float, str]]] = []

    def compose(
        self,
        index: dict[str, bytes],
        terms: Sequence[tuple[float, wb.Term]],
        k: int,
        options: shapes.SearchOptions,
    ) -> wb.SearchResult:
        self.asked.append([(weight, term.value) for weight, term in terms])
        scores = dict.fromkeys(index, 0.0)
        for weight, term in terms:
            by = self.search_by_item if term.by == "item" else self.search_by_text
            for hit in by(index, term.value, 100, shapes.SearchOptions()):
                scores[hit.id] += weight * hit.score / len(terms)
        left_out = {term.value for _, term in terms if term.by == "item"}
        found = self._ranked(index, scores, k, options)
        return wb.SearchResult([hit for hit in found if hit.id not in left_out], found.took_ms)


@pytest.fixture
def adapter() -> Composing:
    return Composing()


@pytest.fixture(params=[1200, 390])
def bridge(chromium: Browser, adapter: Composing, request: pytest.FixtureRequest) -> Iterator[Bridge]:
    panel = SearchPanel(wb.Searcher(adapter, adapter.load_index(Path()), "shapes"))
    receive = panel._on_message
    panel._on_message = lambda content: receive(content, [])  # type: ignore[method-assign, misc, assignment]
    opened = Bridge(chromium, panel, viewport={"width": request.param, "height": 900})
    yield opened
    assert opened.errors == []
    opened.close()


def enter(bridge: Bridge, text: str) -> Page:
    bridge.page.get_by_label("Query", exact=True).fill(text)
    bridge.page.keyboard.press("Enter")
    bridge.deliver()
    return bridge.page


def click(bridge: Bridge, label: str) -> None:
    bridge.page.get_by_role("button", name=label, exact=True).click()
    bridge.deliver()


def chips(page: Page) -> str:
    return page.locator(".wb-terms").get_attribute("aria-label") or ""


def test_words_with_signs_become_chips_that_can_be_changed_and_removed(
    bridge: Bridge, adapter: Composing
) -> None:
    page = enter(bridge, '+dog -0.5*"heart of gold" −피자')
    expect(page.locator(".wb-term")).to_have_count(3)
    assert chips(page) == "Query: plus dog, minus 0.5 · heart of gold, minus 피자"
    assert adapter.asked[-1] == [(1, "dog"), (-0.5, "heart of gold"), (-1, "피자")]
    expect(page.get_by_label("Query", exact=True)).to_have_value("")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    click(bridge, "minus 피자: change to plus")
    assert adapter.asked[-1][2] == (1, "피자")
    expect(page.get_by_role("button", name="plus 피자: change to minus")).to_be_focused()
    click(bridge, "Remove heart of gold")
    assert adapter.asked[-1] == [(1, "dog"), (1, "피자")]
    expect(page.get_by_role("button", name="Remove 피자")).to_be_focused()

    asked = len(adapter.asked)
    click(bridge, "Remove 피자")  # what is left is a plain search by text
    assert len(adapter.asked) == asked
    expect(page.locator(".wb-hit .wb-caption").first).to_have_text("dog")
    click(bridge, "Remove dog")
    expect(page.get_by_text("Start a search")).to_be_visible()
    expect(page.get_by_label("Query", exact=True)).to_be_focused()
    expect(page.locator(".wb-terms")).to_be_hidden()


def test_a_word_is_added_to_a_search_or_taken_away_by_keyboard(bridge: Bridge, adapter: Composing) -> None:
    page = enter(bridge, "dog")
    assert adapter.asked == []
    box = page.get_by_label("Query", exact=True)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Take away from the search")).to_be_focused()
    page.keyboard.press("Enter")
    expect(box).to_be_focused()
    expect(box).to_have_attribute("placeholder", "Type what to take away")
    expect(page.get_by_role("button", name="Take away from the search")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert chips(page) == "Query: plus dog"
    page.keyboard.type("heart")
    page.keyboard.press("Enter")
    bridge.deliver()
    assert adapter.asked == [[(1, "dog"), (-1, "heart")]]
    enter(bridge, "피자")  # more words are added
    assert adapter.asked[-1] == [(1, "dog"), (-1, "heart"), (1, "피자")]
    box.fill("rain")
    click(bridge, "Take away from the search")
    assert adapter.asked[-1][-1] == (-1, "rain")
    click(bridge, "Clear")
    expect(page.locator(".wb-hit")).to_have_count(0)
    enter(bridge, "t-shirt")  # no sign: a search by text
    assert len(adapter.asked) == 3


def test_more_and_less_like_a_hit_join_the_query(bridge: Bridge, adapter: Composing) -> None:
    page = enter(bridge, "dog")
    page.locator(".wb-hit").first.hover()
    click(bridge, "more like this: dog")
    assert chips(page) == "Query: plus dog, plus like “dog”"
    expect(page.locator(".wb-term img")).to_have_count(1)
    assert "dog" not in page.locator(".wb-hit .wb-caption").all_inner_texts()
    click(bridge, "less like this: heart")
    assert adapter.asked[-1] == [(1, "dog"), (1, "dog"), (-1, "heart")]
    expect(page.locator(".wb-ask-why")).to_have_count(0)  # a comparison has two sides
    page.get_by_text("Captions", exact=True).click()
    bridge.deliver()
    click(bridge, "more like this: rain")  # texts are items too
    assert adapter.asked[-1][-1] == (1, "rain")
    click(bridge, "Remove dog")
    assert adapter.asked[-1] == [(1, "dog"), (-1, "heart"), (1, "rain")]


def test_a_query_of_minuses_only_and_one_too_long_say_so(bridge: Bridge, adapter: Composing) -> None:
    page = enter(bridge, "-dog")
    expect(page.get_by_role("alert")).to_contain_text("every term is taken away")
    assert chips(page) == "Query: minus dog"
    enter(bridge, " ".join(f"+{word}" for word in "abcdefghijklmnop"))
    expect(page.get_by_role("alert")).to_contain_text("at most 16 terms")
    enter(bridge, "heart")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert adapter.asked[-1] == [(-1, "dog"), (1, "heart")]


def test_what_is_typed_while_an_answer_comes_stays(bridge: Bridge, adapter: Composing) -> None:
    page = enter(bridge, "+dog -heart")
    bridge.is_busy = True
    enter(bridge, "rain")
    page.get_by_label("Query", exact=True).fill("half a wo")
    bridge.is_busy = False
    bridge.settle()
    bridge.deliver()
    expect(page.locator(".wb-term")).to_have_count(3)
    expect(page.get_by_label("Query", exact=True)).to_have_value("half a wo")


def test_where_nothing_is_composed_all_is_as_it_was(chromium: Browser) -> None:
    asked: list[Any] = []
    panel = SearchPanel(wb.Searcher(shapes.adapter, shapes.adapter.load_index(Path()), "shapes"))
    receive = panel._on_message

    def answer(content: Any) -> None:
        asked.append(content)
        receive(content, [])

    panel._on_message = answer  # type: ignore[method-assign, assignment]
    bridge = Bridge(chromium, panel)
    page = enter(bridge, "dog -heart")
    assert (asked[-1]["by"], asked[-1]["query"]) == ("text", "dog -heart")
    expect(page.get_by_role("button", name="Add to the search")).to_have_count(0)
    page.locator(".wb-hit").first.hover()
    click(bridge, "more like this: dog")
    assert (asked[-1]["by"], asked[-1]["item"]) == ("item", "dog")
    expect(page.get_by_role("button", name="less like this: heart")).to_have_count(0)
    bridge.close()
