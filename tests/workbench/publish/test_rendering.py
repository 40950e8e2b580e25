"""When the page is made, how often, and what is kept of it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.workbench.conftest import in_a_loop
from workbench.publish import rendering
from workbench.publish.rendering import Page, policy

GOOD = '<main><div id="wb-search"></div><script type="module">run()</script></main>'


class Made(Page):
    """A page whose kernel is a list of texts; an exception among them is raised."""

    def __init__(self, *texts: str | Exception) -> None:
        app: Any = None
        super().__init__(app, lambda status: f"problem {status}")
        self.texts = list(texts)

    async def _render(self) -> str:
        await asyncio.sleep(0)
        text = self.texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return text


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    manifest = tmp_path / "indexes" / "words" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.delenv("WORKBENCH_INDEX", raising=False)
    return manifest


async def settled(page: Page) -> None:
    if page._making is not None:
        await page._making


@pytest.mark.usefixtures("index")
def test_visitors_who_come_together_get_one_page() -> None:
    async def visits() -> None:
        page = Made(GOOD)
        pages = await asyncio.gather(*(page.get() for _ in range(50)))
        assert {one.html for one in pages} == {GOOD.encode()}
        assert (pages[0].index, pages[0].stamp) == page.published
        assert page.published[0] == "words"
        assert page.texts == []

    in_a_loop(visits())


def test_while_it_is_made_again_visitors_get_the_former_page(index: Path) -> None:
    async def visits() -> None:
        page = Made(GOOD, GOOD + "new")
        await page.get()
        known = page.published
        index.write_text(json.dumps({"rebuilt": True}))
        assert (await page.get()).html == GOOD.encode()
        await settled(page)
        assert (await page.get()).html == (GOOD + "new").encode()
        assert page.texts == []
        assert (page.published[0], page.published == known) == ("words", False)  # it is described again

    in_a_loop(visits())


def test_a_page_whose_index_is_gone_for_a_moment_stays(index: Path) -> None:
    async def visits() -> None:
        page = Made(GOOD, "<main>nothing to search</main>")
        await page.get()
        index.rename(index.with_name("away"))
        await page.get()
        await settled(page)
        assert (await page.get()).html == GOOD.encode()

    in_a_loop(visits())


@pytest.mark.usefixtures("index")
def test_a_page_that_cannot_be_made_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def visits() -> None:
        page = Made(RuntimeError("no kernel"), "<main>later</main>", GOOD)
        assert (await page.get()).html == b"problem 500"
        assert (await page.get()).html == b"problem 500"  # not at once
        monkeypatch.setattr(rendering, "PROBLEM_SECONDS", -1.0)
        assert (await page.get()).html == b"<main>later</main>"
        assert (await page.get()).html == GOOD.encode()
        assert (await page.get()).html == GOOD.encode()
        assert page.texts == []

    in_a_loop(visits())


def test_only_scripts_that_the_page_was_made_with_may_run() -> None:
    rules = policy('<script>a()</script><script type="application/json">{}</script>')
    assert rules.count("'sha256-") == 1
    assert "script-src 'sha256-" in rules
    assert "script-src 'none'" in policy("<p>nothing</p>")
