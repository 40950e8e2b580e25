"""The answers of a search page: what its panel's tests do not ask."""

from __future__ import annotations

from typing import Any

import pytest

import workbench as wb
from workbench.search.answering import Answering, attempt, seq_of, shown
from workbench.search.searcher import PUBLISHED, Searcher
from workbench.search.stand_ins import StandIns

KEY = bytes(32)


class Photos(wb.BaseAdapter):
    name = "photos"

    def search_by_item(self, index: Any, item_id: str, k: int, options: Any) -> wb.SearchResult:
        if item_id != "spring/kept.jpg":
            raise wb.NotFound(f"no item {item_id!r}")
        return wb.SearchResult([wb.Hit("spring/kept.jpg", 1.0, path="/photos/spring/kept.jpg")])

    def options(self, task: str) -> type[wb.Options]:
        return wb.Options


def test_a_link_to_a_picture_works_on_the_next_page_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PUBLISHED, "1")
    link = StandIns(KEY).stand_in_of("spring/kept.jpg")
    for _ in range(2):
        answering = Answering(Searcher(Photos(), None, "photos"), [], StandIns(KEY))
        answer, _ = answering.answer({"type": "search", "by": "item", "item": link})
        assert answer["hits"][0]["id"] == link
    answer, _ = answering.answer({"type": "search", "seq": 4, "by": "item", "item": "~gone"})
    assert answer == {
        "type": "error",
        "seq": 4,
        "message": "This picture is not in the collection.",
        "hint": "The link to it may be an old one.",
        "option": "",
    }


def test_what_is_missing_on_the_machine_is_no_missing_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PUBLISHED, "1")
    assert "collection cannot be searched" in shown(wb.UnknownIndex("secret", []))[0]


def test_a_busy_search_says_when_to_ask_again() -> None:
    def busy() -> None:
        raise wb.Busy("no room", retry_after=3)

    assert attempt(busy)[1]["retry_after"] == 3
    assert attempt(lambda: 5) == (5, {})
    assert seq_of({"seq": "7"}) == 0
