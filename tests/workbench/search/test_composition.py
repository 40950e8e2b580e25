"""Composed queries: what a line and Python values mean, what is refused, here and through the service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from tests.workbench.conftest import make_index
from workbench.search import messages
from workbench.search.composition import MAX_PICTURES, MAX_TERMS, parse_terms
from workbench.search.elsewhere import RemoteSearcher
from workbench.search.searcher import OpenedPicture, Searcher
from workbench.search.service import holder
from workbench.search.service.holder import IndexDesk


@pytest.fixture
def words(workspace: wb.Workspace, toy: wb.BaseAdapter) -> Searcher:
    make_index(workspace.path, "words")
    return workspace.open_search("words")


@pytest.mark.parametrize(
    ("line", "terms"),
    [
        ("+dog -cat", [(1, "dog"), (-1, "cat")]),
        ("dog", [(1, "dog")]),
        ("  강아지  −물 ", [(1, "강아지"), (-1, "물")]),
        ("police car -red", [(1, "police car"), (-1, "red")]),
        ('+"police car" red', [(1, "police car"), (1, "red")]),
        ("“police car” -“dark red”", [(1, "police car"), (-1, "dark red")]),
        ("0.5*dog -.25*cat", [(0.5, "dog"), (-0.25, "cat")]),
        ("2*-dog", [(2, "-dog")]),
        ("-2*cat +3·dog house", [(-2, "cat"), (3, "dog house")]),
        ("ice-cream +t-shirt", [(1, "ice-cream"), (1, "t-shirt")]),
        ("+ dog - cat", [(1, "dog"), (-1, "cat")]),
        ('-"-5 degrees" +x', [(-1, "-5 degrees"), (1, "x")]),
    ],
)
def test_a_line_of_text_is_terms_with_signs_and_weights(line: str, terms: list[tuple[float, str]]) -> None:
    assert [(weight, term.by, term.value) for weight, term in parse_terms(line)] == [
        (weight, "text", text) for weight, text in terms
    ]


def test_a_line_of_text_names_items() -> None:
    terms = parse_terms('dog -0.5*item:cats/a.png item:"b c.png" word')
    assert terms == [
        (1.0, wb.Term("text", "dog")),
        (-0.5, wb.Term("item", "cats/a.png")),
        (1.0, wb.Term("item", "b c.png")),
        (1.0, wb.Term("text", "word")),
    ]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "the composed query is empty"),
        (" ", "the composed query is empty"),
        ("dog +", "nothing is behind '+'"),
        ("dog 0.5* cat -item:", "nothing is behind '-item:'"),
        ('+"police car', 'a quote is not closed: "police car'),
    ],
)
def test_a_line_that_is_none_is_refused_with_an_example(line: str, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says.replace("+", r"\+")) as refused:
        parse_terms(line)
    assert "+dog -cat" in refused.value.hint


def test_terms_are_texts_items_hits_and_pictures_and_items_are_no_hits(words: Searcher) -> None:
    hit = words.by_text("dog", 1)[0]
    assert [one.id for one in words.compose([(1, "do"), (0.5, hit), (0.5, b"dot")], k=2)] == ["dot", "pizza"]
    assert [one.id for one in words.compose("do -dog", k=5)] == [
        one.id for one in words.compose([(1, "do"), (-1, "dog")], k=5)
    ]
    assert [one.id for one in words.compose(["do", wb.Term("item", "dot")], k=1)] == ["dog"]  # weight 1 each
    assert words.compose([(np.float32(0.5), "dog")], k=1)[0].id == "dog"
    result = words.compose([b"dog", (1, "강")], k=1)
    assert result.took_ms["total"] >= result.took_ms["decode"] > 0


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ([], "must have 1 to 16 terms, got 0"),
        (["dog"] * (MAX_TERMS + 1), "must have 1 to 16 terms, got 17"),
        ([b"dog"] * (MAX_PICTURES + 1), "at most 8 pictures, got 9"),
        ([(0, "dog"), "cat"], "weight of term 1 must not be 0"),
        ([(float("nan"), "dog")], "weight of term 1 must be a number from -100 to 100, got nan"),
        (["a", (float("inf"), "dog")], "weight of term 2 must be a number"),
        ([(101, "dog")], "weight of term 1 must be a number from -100 to 100, got 101"),
        ([(True, "dog")], "weight of term 1 must be a number"),
        ([(-1, "dog"), (-2, "cat")], "nothing is left to search for"),
        ([(1, "dog"), (-1, "dog")], "cancel"),
        ([(1, " ")], "the text is empty"),
        ([(1, wb.Term("smell", "x"))], "a term cannot be 'smell'; allowed: text, image, item"),  # type: ignore[arg-type]
        ([(1, Path("no/such.png"))], "cannot be read"),
        (5, "the terms must be a list or a text, got int"),
        (b"dog", "the terms must be a list or a text, got bytes"),
    ],
)
def test_what_cannot_be_composed_is_refused(words: Searcher, terms: Any, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        words.compose(terms)
    with pytest.raises(wb.BadInput, match="whole number of at least 1"):
        words.compose(["dog"], k=0)
    with pytest.raises(wb.BadOptions, match="sharp: unknown option"):
        words.compose(["dog"], sharp=1)


def test_an_adapter_that_does_not_compose_says_so_before_anything_is_read() -> None:
    class Silent(wb.BaseAdapter):
        name = "silent"

    with pytest.raises(wb.NotSupported, match="'silent' does not offer compose"):
        Searcher(Silent(), None, "x").compose([Path("no/such.png")])


TOLD = {"index": "words", "adapter": "toy", "offers": ["compose"], "schema": {}, "about": {}, "samples": []}


def test_through_a_service_it_is_the_same(words: Searcher, workspace: wb.Workspace) -> None:
    desk = IndexDesk(workspace.indexes, "words")
    assert "compose" in desk.open()["offers"]
    asked: list[Mapping[str, Any]] = []

    def ask(request: Mapping[str, Any]) -> Mapping[str, Any]:
        question = json.loads(json.dumps(request))
        asked.append(question)
        if messages.pictured(question):  # as the service does: decoded beside the searches
            question = {**question, **desk.open_picture(question)}
        return json.loads(json.dumps(desk.answer(question)))  # type: ignore[no-any-return]

    there = RemoteSearcher(TOLD, ask)
    for terms in (
        "dog -cat",
        [(1, "강"), (0.5, wb.Term("item", "강아지"))],
        [(2, b"dog"), (-0.5, wb.Term("image", b"dot", "a.png")), "do"],
        [b"pizza"] * MAX_PICTURES,
    ):
        assert there.compose(terms, 3).hits == words.compose(terms, 3).hits
    assert asked[2]["terms"][1] == {"weight": -0.5, "by": "image", "value": "ZG90", "name": "a.png"}
    with pytest.raises(wb.NotFound):
        there.compose([wb.Term("item", "nothing")])
    with pytest.raises(wb.BadInput, match="not be 0"):
        there.compose([(0, "dog")])
    assert len(asked) == 5  # the last was refused here
    with pytest.raises(wb.BadOptions, match="terms"):
        desk.answer({"op": "compose", "terms": [], "options": {"terms": 1}})


def test_pictures_that_were_opened_before_count_with_their_time(words: Searcher) -> None:
    opened = wb.Term("image", OpenedPicture(b"dog", 40.0))
    assert words.compose([opened, "dot"], 1).took_ms["decode"] >= 40


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ("dog", "the terms must be a list, got str"),
        ([{"by": "text", "value": "a"}] * 17, "must have 1 to 16 terms, got 17"),
        ([{"by": "image", "value": ""}] * 9, "at most 8 pictures, got 9"),
        (["dog"], "term 1 must be a mapping"),
        ([{"by": "smell", "value": "a"}], "term 1 cannot be 'smell'"),
        ([{"by": "text", "value": "a", "weight": "1"}], "weight of term 1 must be a number"),
        ([{"by": "text", "value": "a", "weight": 0}], "must not be 0"),
        ([{"by": "image", "picture": 7}], "waited too long"),
    ],
)
def test_a_message_that_is_wrong_is_refused_by_name(
    words: Searcher, workspace: wb.Workspace, terms: Any, says: str
) -> None:
    desk = IndexDesk(workspace.indexes, "words")
    desk.open()
    question = {"op": "compose", "terms": terms}
    answer = holder._said(desk, question, pictures=False)
    if messages.pictured(question) and "picture" not in terms[0]:
        answer = holder._said(desk, question, pictures=True)
    assert says in json.loads(answer)["error"]["message"]
