"""The results of ``workbench demo`` in a browser: the page it opens and the tour."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

import workbench as wb
from tests.browser.conftest import PATIENCE, Visit, jupyter_lab, published, run_all
from tests.browser.test_search_page import open_options

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def demo_page(demo_copy: Path) -> Iterator[str]:
    with published(demo_copy, preheat=False) as url:
        yield url


def captions(page: Page) -> list[str]:
    return page.locator(".wb-hit .wb-caption").all_inner_texts()


def test_the_page_of_the_demo_finds_pictures_and_captions(
    visit: Callable[..., Visit], demo_page: str, demo_copy: Path
) -> None:
    seen = visit(demo_page)
    page = seen.page
    status = page.get_by_role("status")
    page.get_by_label("Query").fill("강아지")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("20 results")
    expect(page.locator(".wb-hit img")).to_have_count(20)
    assert (
        page.locator(".wb-hit img").first.evaluate("image => image.decode().then(() => image.naturalWidth)")
        > 0
    )
    long = captions(page)
    expect(page.locator("footer")).to_contain_text("CC BY")

    open_options(page)
    page.get_by_role("radio", name=re.compile(r"^8\b")).check(force=True)
    expect(page.locator(".wb-score").first).to_contain_text("/8")
    assert captions(page) != long

    # A picture of the index itself finds its own name among the captions.
    with wb.Workspace(demo_copy) as home:
        hit = home.open_search("emoji").by_text("pizza", k=1)[0]
    assert hit.thumbnail is not None
    page.get_by_role("radio", name=re.compile(r"^128\b")).check(force=True)
    page.get_by_role("radio", name="Captions").check(force=True)
    out = io.BytesIO()
    Image.open(io.BytesIO(hit.thumbnail)).convert("RGB").resize((256, 256)).save(out, "PNG")
    with page.expect_file_chooser() as chosen:
        page.get_by_role("button", name="Picture").click()
    chosen.value.set_files({"name": "slice.png", "mimeType": "image/png", "buffer": out.getvalue()})
    expect(page.locator(".wb-given")).to_contain_text("slice.png")
    expect(page.locator(".wb-hit").filter(has_text=hit.caption).first).to_be_visible()
    expect(page.locator(".wb-hit img")).to_have_count(0)
    assert seen.strangers() == []
    assert seen.errors == []


def test_the_tour_shows_the_results_of_the_demo(
    visit: Callable[..., Visit], demo_copy: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folders = tmp_path_factory.mktemp("root"), demo_copy, tmp_path_factory.mktemp("state")
    with jupyter_lab(*folders) as url:
        seen = visit(url("start_here.ipynb"), viewport={"width": 1400, "height": 4200})
        page = seen.page
        run_all(page)
        page.get_by_role("button", name="강아지").click()
        expect(page.locator(".wb-hit img").first).to_be_visible()
        jobs = page.get_by_role("region", name="Jobs", exact=True)
        expect(jobs.locator(".wb-row .wb-pill", has_text="succeeded")).to_have_count(3)
        expect(page.locator(".wb-result table").first).to_contain_text("mAP")
        expect(page.locator(".wb-plot img").first).to_be_visible()
        compare = page.get_by_role("region", name="Compare runs")
        final = compare.get_by_role("region", name="Final values")
        expect(final.get_by_role("row").filter(has_text="val/").first).to_be_visible()
        assert seen.strangers() == []
