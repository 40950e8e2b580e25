"""The published page as a visitor sees it: Voila, a kernel, a browser."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import workbench as wb
from tests.browser.conftest import PATIENCE, Visit, published
from tests.browser.shapes import draw

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)


#: The outline of the focused control; for a radio button, it is drawn around the label.
FOCUS_STYLE = """() => {
    const focused = document.activeElement;
    return getComputedStyle(focused.closest(".wb-seg label") ?? focused).outlineStyle;
}"""


def captions(page: Page) -> list[str]:
    return page.locator(".wb-hit .wb-caption").all_inner_texts()


def first_is(page: Page, name: str) -> None:
    expect(page.locator(".wb-hit .wb-caption").first).to_have_text(name)


def ask(page: Page, query: str) -> None:
    page.get_by_label("Query").fill(query)
    page.keyboard.press("Enter")


def open_options(page: Page) -> None:
    """Unfold the options of a published page."""
    page.locator("summary", has_text="Options").first.click()


def upload(page: Page, name: str, data: bytes) -> None:
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Picture").click()
    chosen.value.set_files({"name": name, "mimeType": "image/png", "buffer": data})


def test_a_visitor_finds_pictures_with_korean_words_a_picture_and_another_length(
    visit: Callable[..., Visit], search_url: str
) -> None:
    seen = visit(search_url)
    page = seen.page
    expect(page.get_by_role("heading", level=1)).to_have_text("Shape search")
    expect(page).to_have_title("Image search")
    expect(page.get_by_text("Start a search")).to_be_visible()

    ask(page, "강아지")
    first_is(page, "dog")
    shown = page.locator(".wb-hit img").first
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    expect(page.get_by_role("status").filter(has_text="7 results")).to_contain_text(
        "0.1 ms search, 0.2 ms encoding"
    )
    expect(page.locator(".wb-score").first).to_contain_text("0/64")

    expect(page.get_by_text("8", exact=True)).to_be_hidden()  # visitors see one box
    open_options(page)
    page.get_by_text("8", exact=True).click()
    expect(page.locator(".wb-score").first).to_contain_text("0/8")
    expect(page.locator(".wb-chosen")).to_have_text("Code length: 8")
    assert captions(page) == ["dog"]

    page.get_by_text("Captions", exact=True).click()
    expect(page.locator(".wb-hit img")).to_have_count(0)
    upload(page, "sea.png", draw("#1565c0"))
    first_is(page, "rain")
    expect(page.locator(".wb-given")).to_contain_text("sea.png")
    page.get_by_label("Remove sea.png").click()
    expect(page.get_by_text("Start a search")).to_be_visible()
    expect(page.get_by_label("Query")).to_be_focused()

    expect(page.get_by_text("Drawn for the tests.")).to_be_visible()
    assert seen.strangers() == []
    assert seen.errors == []


def test_what_is_below_the_fold_can_be_scrolled_to(visit: Callable[..., Visit], search_url: str) -> None:
    page = visit(search_url, viewport={"width": 700, "height": 420}).page
    ask(page, "dog")
    first_is(page, "dog")
    foot = page.get_by_text("Drawn for the tests.")
    expect(foot).not_to_be_in_viewport()
    page.mouse.move(350, 300)
    page.mouse.wheel(0, 10_000)
    expect(foot).to_be_in_viewport()


def test_samples_and_more_like_this_search_with_one_click(
    visit: Callable[..., Visit], search_url: str
) -> None:
    page = visit(search_url).page
    page.get_by_role("button", name="피자").click()
    first_is(page, "pizza")
    expect(page.get_by_label("Query")).to_have_value("피자")
    page.locator(".wb-hit").nth(1).hover()
    liked = captions(page)[1]
    page.get_by_role("button", name=f"more like this: {liked}").click()
    first_is(page, liked)
    expect(page.locator(".wb-given")).to_contain_text(liked)


def test_the_page_can_be_used_by_keyboard_alone(visit: Callable[..., Visit], search_url: str) -> None:
    page = visit(search_url).page
    page.get_by_label("Query").focus()
    page.keyboard.type("dog")
    page.keyboard.press("Enter")
    first_is(page, "dog")
    reached = []
    for place in range(10):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.value"))
        assert page.evaluate(FOCUS_STYLE) == "solid"
        if place == 5:
            page.keyboard.press("Enter")
    assert [text.split("\n")[0] for text in reached[:9]] == [
        "Picture",
        "Search",
        "dog",
        "강아지",
        "피자",
        "Options",
        "64",
        "pictures",
        "20",
    ]
    assert reached[9] == "more like this"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowLeft")
    expect(page.locator(".wb-score").first).to_contain_text("/8")
    expect(page.get_by_role("radio", name="8", exact=True)).to_be_focused()


def test_enter_that_completes_a_korean_syllable_starts_no_search(
    visit: Callable[..., Visit], search_url: str
) -> None:
    page = visit(search_url).page
    box = page.get_by_label("Query")
    box.fill("강아")
    box.dispatch_event(
        "keydown", {"key": "Enter", "keyCode": 229, "isComposing": True, "bubbles": True, "cancelable": True}
    )
    expect(page.get_by_text("Start a search")).to_be_visible()
    box.press("Enter")
    first_is(page, "dog")


def test_problems_are_shown_on_the_page(visit: Callable[..., Visit], search_url: str) -> None:
    page = visit(search_url).page
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("alert")).to_contain_text("empty")
    ask(page, "dog")
    first_is(page, "dog")
    expect(page.get_by_role("alert")).to_be_hidden()
    ask(page, "  ")
    expect(page.get_by_role("alert")).to_contain_text("empty")
    expect(page.locator(".wb-hit")).to_have_count(0)  # those of the query before are not shown under this one

    ask(page, "boom")
    expect(page.get_by_role("alert")).to_contain_text("search")
    assert "a secret of the machine" not in page.content()

    upload(page, "broken.png", b"\x89PNG and nothing more")
    expect(page.get_by_role("alert")).to_contain_text("not a picture")
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Picture").click()
    chosen.value.set_files({"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    expect(page.get_by_role("alert")).to_contain_text("notes.txt")
    expect(page.get_by_role("alert")).to_contain_text("text/plain")


def test_a_dropped_and_a_pasted_picture_are_searched(visit: Callable[..., Visit], search_url: str) -> None:
    page = visit(search_url).page
    page.get_by_label("Query").wait_for()
    hand_over = """([bytes, kind]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, {type: "image/png"}));
        const event = kind === "drop"
            ? new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true})
            : new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);  // anywhere on the page, with nothing focused
    }"""
    page.evaluate(hand_over, [list(draw("#c62828")), "drop"])
    first_is(page, "heart")
    page.evaluate(hand_over, [list(draw("#8d5a2b")), "paste"])
    first_is(page, "dog")


def test_a_picture_of_many_megabytes_arrives(visit: Callable[..., Visit], search_url: str) -> None:
    noise = Image.effect_noise((2200, 2200), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")
    assert len(out.getvalue()) > 4 * 2**20
    page = visit(search_url).page
    page.get_by_label("Query").wait_for()
    upload(page, "noise.png", out.getvalue())
    expect(page.locator(".wb-hit")).to_have_count(7)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_small_screen_in_light_and_dark(
    visit: Callable[..., Visit], search_url: str, scheme: str
) -> None:
    page = visit(search_url, viewport={"width": 360, "height": 740}, color_scheme=scheme).page
    ask(page, "강아지")
    first_is(page, "dog")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in ground[4:-1].split(",")) > 384) == (scheme == "light")


def test_no_source_and_no_file_is_exposed(search_url: str) -> None:
    for path in ("voila/files/search_demo.ipynb", "voila/files/start_here.ipynb", "voila/tree"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(search_url + path, timeout=30)  # noqa: S310  # a server of this test
        refused.value.close()
        assert refused.value.code in (403, 404)


def test_an_empty_workspace_says_so_without_advice_for_its_publisher(
    visit: Callable[..., Visit], tmp_path: Path
) -> None:
    with wb.Workspace(tmp_path / "results"), published(tmp_path / "results", preheat=False) as url:
        seen = visit(url)
        expect(seen.page.get_by_text("Nothing to search yet")).to_be_visible()
        expect(seen.page.get_by_text("no pictures yet")).to_be_visible()
        assert "workbench demo" not in seen.page.content()
        assert seen.errors == []
