"""The box that filters a search: typed, chosen from the index's fields, and refused beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from pydantic import Field

import workbench as wb
from tests.browser import shapes
from tests.browser.bridge import Bridge
from tests.browser.test_seen_and_named import MISNAMED, PALE
from workbench.panels import SearchPanel

pytestmark = pytest.mark.browser

KINDS = {"dog": "animal", "airplane": "machine", "rain": "red weather"}


class FilterOptions(shapes.SearchOptions):
    filter: str = Field("", title="Filter", json_schema_extra={"format": "filter"})
    within: int | None = Field(None, title="Within", ge=0)


class Filtered(shapes.Shapes):
    name = "filtered"

    def options(self, task: str) -> type[wb.Options]:
        return FilterOptions if task == "search" else super().options(task)

    def filter_fields(self, index: dict[str, bytes]) -> Sequence[wb.FilterField]:
        values = (("animal", 1), ("machine", 1), ("red weather", 1))
        return [wb.FilterField("kind", "text", "what it is", values), wb.FilterField("size", "number")]

    def search_by_text(
        self, index: dict[str, bytes], query: str, k: int, options: FilterOptions
    ) -> wb.SearchResult:
        kept = index
        if options.within:
            raise wb.BadOptions("too near", [("within", "too near")])
        if options.filter:
            tree = wb.parse_filter(options.filter)
            for one in tree.conditions():
                if one.field != "kind":
                    known = ["kind", "size"]
                    raise tree.unknown("unknown field", one.field, one.at, what="Fields", known=known)
            kept = {
                name: picture
                for name, picture in index.items()
                # numbers of one bit have the operators of sets
                if tree.combine(lambda c, name=name: -any(v.text == KINDS.get(name) for v in c.values))  # type: ignore[misc]
            }
        return super().search_by_text(kept, query, k, options)


def panel() -> SearchPanel:
    adapter = Filtered()
    opened = SearchPanel(wb.Searcher(adapter, adapter.load_index(Path()), "shapes"), query="dog")
    receive = opened._on_message
    opened._on_message = lambda content: receive(content, [])  # type: ignore[method-assign, misc, assignment]
    return opened


@pytest.fixture(params=[1180, 390], ids=["light", "dark and narrow"])
def bridge(chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Bridge]:
    narrow = request.param == 390
    opened = Bridge(chromium, panel(), dark=narrow, viewport={"width": request.param, "height": 900})
    opened.deliver()
    yield opened
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.errors == []
    opened.close()


def hits(bridge: Bridge) -> list[str]:
    bridge.deliver()
    return bridge.page.locator(".wb-hit").evaluate_all("(all) => all.map((hit) => hit.dataset.id)")


def test_a_filter_is_typed_chosen_changed_and_refused_beside_its_box(bridge: Bridge) -> None:
    page = bridge.page
    box = page.get_by_label("Filter", exact=True)
    everything = hits(bridge)
    assert len(everything) == 7

    # typed
    box.fill("kind:(animal, machine)")
    box.press("Enter")
    assert sorted(hits(bridge)) == ["airplane", "dog"]

    # refused: the place is shown beside the box, and the results stay
    box.fill("kind:animal and knid:x")
    box.press("Enter")
    assert sorted(hits(bridge)) == ["airplane", "dog"]
    problem = page.locator(".wb-filter-problem")
    expect(problem).to_contain_text("column 17: unknown field; did you mean 'kind'?")
    expect(problem).to_contain_text("Fields: kind, size.")
    expect(problem.locator("code")).to_have_text(re.compile(r"^\s*kind:animal and knid:x\n {18}\^$"))
    expect(box).to_have_attribute("aria-invalid", "true")
    assert problem.get_attribute("id") == box.get_attribute("aria-describedby")
    expect(page.locator(".wb-problem")).to_be_hidden()
    assert box.input_value() == "kind:animal and knid:x"

    # cleared
    page.get_by_role("button", name="Clear the filter").click()
    assert hits(bridge) == everything
    expect(box).to_be_focused()
    expect(problem).to_be_empty()
    expect(box).not_to_have_attribute("aria-invalid", "true")

    # chosen by keyboard, several values as one condition
    opener = page.get_by_role("button", name="Fields")
    expect(opener).to_have_attribute("aria-expanded", "false")
    opener.press("Enter")
    bridge.deliver()
    expect(opener).to_have_attribute("aria-expanded", "true")
    animal = page.get_by_role("button", name="kind: animal 1")
    animal.press("Space")
    assert hits(bridge) == ["dog"]
    expect(animal).to_have_attribute("aria-pressed", "true")
    expect(animal).to_be_focused()
    page.get_by_role("button", name="kind: red weather 1").click()
    assert box.input_value() == 'kind:(animal, "red weather")'
    assert sorted(hits(bridge)) == ["dog", "rain"]
    animal.click()
    assert box.input_value() == 'kind:"red weather"'
    assert hits(bridge) == ["rain"]

    # what was typed stays, and fields without a list begin a condition
    box.fill("kind:machine or kind:animal")
    expect(page.get_by_role("button", name="kind: red weather 1")).to_have_attribute("aria-pressed", "false")
    animal.click()
    assert box.input_value() == "(kind:machine or kind:animal) and kind:animal"
    assert hits(bridge) == ["dog"]
    page.get_by_role("button", name="Begin a condition: size>").click()
    assert box.input_value().endswith(" and size>")
    expect(box).to_be_focused()

    # what is seen can be read, and is what it is called by
    box.fill("kind:machine or")
    box.press("Enter")
    bridge.deliver()
    page.locator(".wb-search > :not(.wb-filter)").evaluate_all("(all) => all.forEach((one) => one.remove())")
    assert page.evaluate(PALE) == []
    pairs = [one.split(": ", 1) for one in page.evaluate(MISNAMED)]
    assert [seen for seen, name in pairs if " ".join(seen.split()) not in name] == ["×"]


def test_an_option_that_is_refused_leaves_the_results_and_can_be_emptied(bridge: Bridge) -> None:
    page = bridge.page
    everything = hits(bridge)
    number = page.get_by_label("Within")
    expect(number).to_have_attribute("placeholder", "any")
    number.fill("3")
    number.press("Enter")
    assert hits(bridge) == everything
    expect(page.locator(".wb-problem")).to_contain_text("too near")
    number.fill("")
    number.press("Tab")
    assert hits(bridge) == everything
    expect(page.locator(".wb-problem")).to_be_hidden()


def test_nothing_matches_is_said_of_the_filter(bridge: Bridge) -> None:
    box = bridge.page.get_by_label("Filter", exact=True)
    box.fill("kind:nothing")
    box.press("Enter")
    assert hits(bridge) == []
    expect(bridge.page.get_by_text("Try another filter.")).to_be_visible()
