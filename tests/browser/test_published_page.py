"""The published page when it is reloaded, when its network or its server is gone, and with many visitors."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

import workbench as wb
from tests.browser.conftest import PATIENCE, Visit, published
from tests.browser.shapes import draw
from tests.browser.test_search_page import ask, first_is, open_options, upload
from tests.waiting import GUARD
from workbench.publish import page as voila

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)


def test_a_picture_is_searched_again_after_a_reload(visit: Callable[..., Visit], search_url: str) -> None:
    page = visit(search_url).page
    page.get_by_label("Query").wait_for()
    upload(page, "sea.png", draw("#1565c0"))
    first_is(page, "rain")
    page.reload()
    first_is(page, "rain")
    expect(page.locator(".wb-given")).to_contain_text("sea.png")
    page.get_by_label("Remove sea.png").click()
    page.reload()
    expect(page.get_by_text("Start a search")).to_be_visible()


def test_a_page_without_a_network_says_so_and_goes_on(visit: Callable[..., Visit], search_url: str) -> None:
    seen = visit(search_url)
    page = seen.page
    ask(page, "dog")
    first_is(page, "dog")
    page.context.set_offline(True)
    ask(page, "heart")
    expect(page.get_by_role("alert").filter(has_text="No connection to this page")).to_be_visible()
    expect(page.locator(".wb-hit .wb-caption", has_text="dog")).to_have_count(0)  # not under the next query
    ask(page, "pizza")  # nobody who waits asks twice
    page.context.set_offline(False)
    first_is(page, "pizza")
    expect(page.get_by_role("alert").filter(has_text="No connection")).to_be_hidden()
    assert seen.strangers() == []
    assert seen.errors == []


def test_a_page_whose_server_was_started_again_goes_on(
    visit: Callable[..., Visit], shapes_workspace: wb.Workspace
) -> None:
    home = shapes_workspace.path
    with published(home) as url:
        page = visit(url).page
        ask(page, "dog")
        first_is(page, "dog")
    ask(page, "heart")
    expect(page.get_by_role("alert").filter(has_text="No connection to this page")).to_be_visible()
    process, _ = voila.serve(home, port=int(url.rstrip("/").rpartition(":")[2]))
    try:
        first_is(page, "heart")
        expect(page.get_by_label("Query")).to_have_value("heart")
    finally:
        process.terminate()
        process.wait(GUARD)


def test_a_search_has_an_address_and_back_and_forward_walk_through_searches(
    visit: Callable[..., Visit], search_url: str
) -> None:
    seen = visit(search_url)
    page = seen.page
    expect(page.get_by_label("Query")).to_be_focused()
    ask(page, "강아지")
    first_is(page, "dog")
    expect(page).to_have_url(f"{search_url}?q={quote('강아지')}")
    expect(page).to_have_title("강아지 · Image search")
    open_options(page)
    page.get_by_text("8", exact=True).click()
    expect(page.locator(".wb-score").first).to_contain_text("0/8")
    expect(page).to_have_url(f"{search_url}?q={quote('강아지')}&length=8")
    page.get_by_role("button", name="피자").click()
    first_is(page, "pizza")
    page.locator(".wb-hit").first.hover()
    page.locator(".wb-more").first.click()
    expect(page).to_have_url(re.compile(r"\?item=\w+&length=8$"))
    liked = page.url
    expect(page.locator(".wb-given")).to_be_visible()

    page.go_back()
    first_is(page, "pizza")
    expect(page.get_by_label("Query")).to_have_value("피자")
    page.go_back()
    page.go_back()
    first_is(page, "dog")
    expect(page.locator(".wb-score").first).to_contain_text("0/64")
    expect(page.get_by_role("radio", name="64", exact=True)).to_be_checked()
    page.go_back()
    expect(page.get_by_text("Start a search")).to_be_visible()
    expect(page.get_by_label("Query")).to_have_value("")
    page.go_forward()
    first_is(page, "dog")
    page.reload()
    first_is(page, "dog")
    page.locator("body").press("/")
    expect(page.get_by_label("Query")).to_be_focused()

    # Somebody else opens the links; what the page does not know is left out.
    other = visit(f"{search_url}?q=%20heart&length=8&find=nothing&length2=5&k=7").page
    first_is(other, "heart")
    expect(other.locator(".wb-chosen")).to_have_text("Code length: 8")
    expect(other.get_by_label("Query")).to_have_value("heart")
    linked = visit(liked).page
    expect(linked.locator(".wb-hit").first).to_be_visible()
    expect(linked.locator(".wb-given")).to_contain_text("this picture")
    assert seen.errors == []


def test_many_tabs_are_open_at_once(visit: Callable[..., Visit], search_url: str) -> None:
    tabs = [visit(search_url).page for _ in range(8)]
    for number, page in enumerate(tabs):
        ask(page, ("dog", "heart")[number % 2])
    for number, page in enumerate(tabs):
        first_is(page, ("dog", "heart")[number % 2])


def test_only_the_pages_own_scripts_run(visit: Callable[..., Visit], search_url: str) -> None:
    page = visit(search_url).page
    page.get_by_label("Query").wait_for()
    assert (
        page.evaluate(
            """() => {
            const script = document.createElement("script");
            script.textContent = "window.smuggled = true";
            document.body.append(script);
            return window.smuggled ?? false;
        }"""
        )
        is False
    )
