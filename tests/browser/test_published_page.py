"""The published page when its kernel, its server or its places are gone, in a browser."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Error, Page, expect

import workbench as wb
from tests.browser.conftest import PATIENCE, Visit, published
from tests.browser.shapes import draw
from tests.browser.test_search_page import ask, first_is, upload
from tests.waiting import GUARD, until
from workbench.host import processes
from workbench.publish import page as voila

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)

#: Places of the page in these tests.
MOST = 2


@pytest.fixture(scope="module")
def small_url(shapes_workspace: wb.Workspace) -> Iterator[str]:
    """A published page with few places. A page of a busy machine may take long to connect."""
    with published(shapes_workspace.path, most_kernels=MOST, connect_seconds_if_full=30) as url:
        yield url


@pytest.fixture
def visit(visit: Callable[..., Visit]) -> Iterator[Callable[..., Visit]]:
    """Open pages that give their place back at the end: one that is only closed may not."""
    opened: list[Visit] = []

    def open_page(url: str) -> Visit:
        opened.append(visit(url))
        return opened[-1]

    yield open_page
    for one in opened:
        with suppress(Error):  # it may be loading
            one.page.evaluate("window.dispatchEvent(new Event('pagehide'))")


def kernels_of(page: Page) -> list[psutil.Process]:
    """Return the kernel of a page."""
    kernel = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(kernel) in word for word in process.info["cmdline"] or ())
    ]


def kill_kernel(page: Page) -> None:
    [kernel] = kernels_of(page)
    os.kill(kernel.pid, signal.SIGKILL)


def test_a_page_that_loses_its_kernel_takes_up_again_with_its_query(
    visit: Callable[..., Visit], small_url: str
) -> None:
    seen = visit(small_url)
    page = seen.page
    page.get_by_text("8", exact=True).click()
    ask(page, "강아지")
    first_is(page, "dog")
    with page.expect_navigation():
        kill_kernel(page)
    first_is(page, "dog")
    expect(page.get_by_label("Query")).to_have_value("강아지")
    expect(page.get_by_role("radio", name="8", exact=True)).to_be_checked()

    # Lost again at once, however long all this took: it does not load itself for ever, but asks.
    page.evaluate("sessionStorage.setItem('workbench-resumed', String(Date.now()))")
    kill_kernel(page)
    bar = page.get_by_role("alert").filter(has_text="lost its connection")
    expect(bar).to_be_visible()
    with page.expect_navigation():
        ask(page, "pizza")
        expect(page.locator(".wb-hit .wb-caption", has_text="dog")).to_have_count(0)
    first_is(page, "pizza")
    expect(page.get_by_label("Query")).to_have_value("pizza")
    assert seen.strangers() == []
    assert seen.errors == []


def test_a_picture_is_searched_again_after_a_reload_and_the_place_is_given_back(
    visit: Callable[..., Visit], small_url: str
) -> None:
    page = visit(small_url).page
    page.get_by_label("Query").wait_for()
    upload(page, "sea.png", draw("#1565c0"))
    first_is(page, "rain")
    for _ in range(MOST + 1):  # more often than there are places
        [kernel] = kernels_of(page)
        page.reload()
        first_is(page, "rain")
        expect(page.locator(".wb-given")).to_contain_text("sea.png")
        until(lambda: not processes.started(kernel.pid))  # noqa: B023  # it is waited for in its turn
    page.get_by_label("Remove sea.png").click()
    page.reload()
    expect(page.get_by_text("Start a search")).to_be_visible()


def test_a_page_without_a_network_says_so_and_goes_on(visit: Callable[..., Visit], small_url: str) -> None:
    page = visit(small_url).page
    ask(page, "dog")
    first_is(page, "dog")
    page.context.set_offline(True)
    expect(page.get_by_role("alert").filter(has_text="No connection to this page")).to_be_visible()
    page.context.set_offline(False)
    expect(page.get_by_role("alert").filter(has_text="No connection")).to_be_hidden()
    ask(page, "heart")
    first_is(page, "heart")


def test_a_full_page_says_so_and_opens_by_itself(
    visit: Callable[..., Visit], small_url: str, tmp_path: Path
) -> None:
    others = [visit(small_url) for _ in range(MOST)]
    for one in others:
        ask(one.page, "dog")
        first_is(one.page, "dog")
    seen = visit(small_url)
    expect(seen.page.get_by_text("All places are taken")).to_be_visible()
    expect(seen.page.get_by_role("status")).to_contain_text("Trying again in")
    seen.page.get_by_role("button", name="Try now").click()
    expect(seen.page.get_by_role("status")).to_contain_text("Trying again in")
    others[0].page.goto("about:blank")
    with suppress(Error):  # it may be opening by itself
        seen.page.evaluate("document.getElementById('again')?.click()")
    ask(seen.page, "피자")
    first_is(seen.page, "pizza")
    assert seen.strangers() == []


def test_a_page_whose_server_was_started_again_goes_on(
    visit: Callable[..., Visit], shapes_workspace: wb.Workspace
) -> None:
    home = shapes_workspace.path
    with published(home, preheat=False) as url:
        page = visit(url).page
        ask(page, "dog")
        first_is(page, "dog")
    bar = page.get_by_role("alert").filter(has_text="No connection to this page")
    expect(bar).to_be_visible()
    port = int(url.rstrip("/").rpartition(":")[2])
    with page.expect_navigation():
        process, _ = voila.serve(home, port=port, preheat=False)
    try:
        first_is(page, "dog")
        expect(page.get_by_label("Query")).to_have_value("dog")
    finally:
        process.terminate()
        process.wait(GUARD)
