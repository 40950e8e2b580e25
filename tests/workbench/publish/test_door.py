"""Questions as they arrive at the door of a published page, and who answers them."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import workbench as wb
from tests.workbench.conftest import in_a_loop
from tests.workbench.publish.visitor import framed
from workbench.publish import door
from workbench.publish.door import Searches, busy, question_from
from workbench.search.searcher import PUBLISHED


def test_pictures_are_taken_apart() -> None:
    question = {"type": "search", "by": "image", "sizes": [2, 0, 3]}
    content, pictures = question_from(framed(question, b"ab", b"", b"cde"), True)
    assert content == {"type": "search", "by": "image"}
    assert pictures == [b"ab", b"", b"cde"]


def test_a_question_without_pictures_has_no_sizes() -> None:
    assert question_from(b'{"type": "search", "sizes": [1]}', False) == ({"type": "search", "sizes": [1]}, [])
    with pytest.raises(wb.BadInput, match="not JSON"):
        question_from(b"", False)


def searches(monkeypatch: pytest.MonkeyPatch, answering: Any, index: str = "words") -> Searches:
    page: Any = SimpleNamespace(published=(index, 1))
    made = Searches(Path("/nowhere"), page)
    monkeypatch.setattr(made, "_answering", ((index, 1), answering))
    return made


def test_more_questions_than_fit_are_answered_with_when_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def answer(content: Any, pictures: Any) -> Any:
        go.wait(60)
        return {"type": "answer", "hits": []}, []

    monkeypatch.setattr(door, "WAITING", 3)
    held = searches(monkeypatch, SimpleNamespace(answer=answer))

    async def ask() -> list[Any]:
        asked = [asyncio.create_task(held.answer({"seq": n}, [])) for n in range(door.SEARCHING + 3 + 5)]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(*asked)

    kinds = [answer["type"] for answer, _ in in_a_loop(ask())]
    assert kinds == ["answer"] * (door.SEARCHING + 3) + ["error"] * 5


def test_an_index_that_was_built_again_is_described_again(monkeypatch: pytest.MonkeyPatch) -> None:
    former = SimpleNamespace(answer=lambda content, pictures: ({"type": "former"}, []))
    made = searches(monkeypatch, former)
    described = []

    def open_search(index: str) -> Any:
        described.append(index)
        raise wb.Busy("it is being opened")

    monkeypatch.setattr(made._client, "open_search", open_search)
    assert in_a_loop(made.answer({"seq": 1}, []))[0] == {"type": "former"}
    made._page.published = ("words", 2)  # type: ignore[misc]  # a stand-in for the page
    assert in_a_loop(made.answer({"seq": 1}, []))[0]["type"] == "error"
    assert described == ["words"]


def test_a_page_without_an_index_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PUBLISHED, "1")
    answer, _ = in_a_loop(searches(monkeypatch, None, index="").answer({"seq": 5}, []))
    assert (answer["type"], answer["seq"]) == ("error", 5)
    assert "cannot be searched right now" in answer["message"]


def test_busy_names_nothing_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PUBLISHED, "1")
    assert busy() == {
        "type": "error",
        "message": "The search is busy.",
        "hint": "Please try again in a moment.",
        "retry_after": door.AGAIN_SECONDS,
    }
