"""Why two things are near: what may be compared, here and through the service, and how it is drawn."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import workbench as wb
from tests.workbench.conftest import make_index
from workbench.panels.results.show import render_html
from workbench.results.explanation import Explanation, Side, Term
from workbench.search import messages, searcher
from workbench.search.elsewhere import RemoteSearcher
from workbench.search.searcher import OpenedPicture, Searcher, term_of
from workbench.search.service.holder import IndexDesk


@pytest.fixture
def words(workspace: wb.Workspace, toy: wb.BaseAdapter) -> Searcher:
    make_index(workspace.path, "words")
    return workspace.open_search("words")


def encoded() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(file, "PNG")
    return file.getvalue()


def test_texts_hits_items_and_pictures_are_compared(words: Searcher, tmp_path: Path) -> None:
    hit = words.by_text("dog", 1)[0]
    explanation = words.explain(" dot ", hit)
    assert (explanation.left.by, explanation.left.caption) == ("text", "dot")
    assert (explanation.right.by, explanation.right.id) == ("item", "dog")
    assert explanation.views[0].data["rows"] == [{"name": "dgot", "left": "x.xx", "right": "xxx."}]
    assert "2 of 4 letters" in explanation.summary
    assert "dot ↔ dog" in repr(explanation)
    assert words.explain(Term("item", "dog"), b"dot", **{}).right.by == "image"
    (tmp_path / "a.txt").write_bytes(b"pizza")
    assert words.explain("dog", tmp_path / "a.txt").right.caption == "pizza"


@pytest.mark.parametrize(
    ("value", "by", "name"),
    [
        ("dog", "text", ""),
        (wb.Hit("7", 1.0, caption="a dog"), "item", "a dog"),
        (Term("item", "7"), "item", ""),
        (Term("image", b"data", "a.png"), "image", "a.png"),
        (Image.new("RGB", (2, 2)), "image", ""),
        (Term("image", OpenedPicture("decoded", 1.0)), "image", ""),
    ],
)
def test_what_programs_hold_is_one_side(value: Any, by: str, name: str) -> None:
    term = term_of(value)
    assert (term.by, term.name) == (by, name)


@pytest.mark.parametrize(
    ("left", "error", "says"),
    [
        ("  ", wb.BadInput, "the text is empty"),
        ("x" * 2001, wb.BadInput, "2,000 characters"),
        (Term("text", 5), wb.BadInput, "must be a string, got int"),
        (Term("item", None), wb.BadInput, "an item's id must be a string"),
        (Term("item", "x" * 10_001), wb.BadInput, "10,000 characters"),
        (Term("item", "nothing"), wb.NotFound, "no item 'nothing'"),
        (Term("smell", "x"), wb.BadInput, "'smell'; allowed: text, image, item"),  # type: ignore[arg-type]
        (Path("no/such.png"), wb.BadInput, "no/such.png' cannot be read: No such file"),
        (b"", wb.BadInput, "empty"),
        (None, wb.BadInput, "got NoneType"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    words: Searcher, left: Any, error: type[Exception], says: str
) -> None:
    for pair in ((left, "dog"), ("dog", left)):
        with pytest.raises(error, match=says):
            words.explain(*pair)
    with pytest.raises(wb.BadOptions, match="sharp: unknown option"):
        words.explain("a", "b", sharp=1)


def test_a_picture_over_the_limit_is_refused(words: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searcher, "MAX_IMAGE_BYTES", 3)
    with pytest.raises(wb.TooLarge):
        words.explain("dog", b"1234")


def test_an_adapter_that_does_not_explain_says_so_before_anything_is_read() -> None:
    class Silent(wb.BaseAdapter):
        name = "silent"

    with pytest.raises(wb.NotSupported, match="'silent' does not offer explain"):
        Searcher(Silent(), None, "x").explain(Path("no/such.png"), "a")


TOLD = {"index": "words", "adapter": "toy", "offers": ["explain"], "schema": {}, "about": {}, "samples": []}


def test_through_a_service_it_is_the_same(words: Searcher, workspace: wb.Workspace) -> None:
    desk = IndexDesk(workspace.indexes, "words")
    assert "explain" in desk.open()["offers"]
    asked: list[Mapping[str, Any]] = []

    def ask(request: Mapping[str, Any]) -> Mapping[str, Any]:
        question = json.loads(json.dumps(request))
        asked.append(question)
        if messages.pictured(question):  # as the service does: decoded beside the searches
            question = {**question, **desk.open_picture(question)}
        return json.loads(json.dumps(desk.answer(question)))  # type: ignore[no-any-return]

    there = RemoteSearcher(TOLD, ask)
    for pair in (("dog", Term("item", "dot")), (Term("image", b"dog", "a.png"), b"pizza"), ("강", "강아지")):
        assert there.explain(*pair) == words.explain(*pair)
    assert asked[1]["left"] == {"by": "image", "value": "ZG9n", "name": "a.png"}
    with pytest.raises(wb.NotFound):
        there.explain("dog", Term("item", "nothing"))
    with pytest.raises(wb.BadInput, match="empty"):
        there.explain("dog", " ")
    assert len(asked) == 4  # the last was refused here


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "left must be a mapping, got NoneType"),
        ({"by": "smell", "value": "x"}, "left cannot be 'smell'"),
        ({"by": "text", "value": 5}, "left: text must be text, got int"),
        ({"by": "image", "value": "%%"}, "base64"),
        ({"by": "image", "picture": 7}, "waited too long"),
    ],
)
def test_a_side_that_is_none_is_refused_by_name(
    words: Searcher, workspace: wb.Workspace, data: Any, says: str
) -> None:
    desk = IndexDesk(workspace.indexes, "words")
    desk.open()
    question = {"op": "explain", "left": data, "right": {"by": "text", "value": "dog"}}
    with pytest.raises(wb.WorkbenchError, match=says):
        desk.answer(question)


def explanation(**changes: Any) -> Explanation:
    data = {"labels": ["a", "b"], "rows": [{"name": "first", "left": "0<1", "right": "0>1", "note": "n"}]}
    sides = {
        "left": Side(by="text", caption="<b>강아지</b>"),
        "right": Side(by="item", caption="dog", id="7"),
    }
    view = wb.View(kind="cells", title="Cells", data={**data, **changes})
    return Explanation(summary="1 of 3 differ", **sides, views=[view])


def test_it_is_drawn_with_every_text_escaped_and_without_colour_alone() -> None:
    html = render_html(explanation())
    assert "&lt;b&gt;강아지&lt;/b&gt;" in html
    assert "item 7" in html
    assert 'aria-label="1 of 3 differ: 2"' in html
    assert "0<mark><b>&lt;</b></mark>1" in html  # bold, and underlined by its style
    assert "0<mark><b>&gt;</b></mark>1" in html
    assert "1 of 3 differ" in html
    assert "Nothing to compare" in render_html(explanation(rows=[]))
    same = explanation(rows=[{"name": "x", "left": "00", "right": "00"}])
    assert "none of 2 differ" in render_html(same)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": ["a"]}, "labels must be two, got 1"),
        ({"rows": [{"name": "r", "left": "0", "right": "00"}]}, "row 'r' has 1 cells and 2"),
        ({"rows": [{"name": "r", "left": "0"}]}, "KeyError 'right'"),
    ],
)
def test_cells_that_do_not_fit_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        render_html(explanation(**changes))


def test_a_picture_of_a_side_must_be_a_picture() -> None:
    one = explanation()
    one.left.thumbnail = "PHN2Zz4="
    with pytest.raises(wb.BadInput, match="not a PNG, JPEG or WebP"):
        render_html(one)
    import base64

    one.left.thumbnail = base64.b64encode(encoded()).decode()
    assert "data:image/png;base64," in render_html(one)
