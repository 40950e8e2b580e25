"""The Python half of the search panel: its setup for the page, and its answers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

import workbench as wb
from tests.workbench.conftest import make_index
from workbench.panels.search import panel as panel_module
from workbench.panels.search.page import search_page
from workbench.panels.search.panel import SearchPanel, shown
from workbench.search.searcher import MAX_IMAGE_BYTES, PUBLISHED, SHOW_PATHS, Searcher


class Options(wb.Options):
    length: Literal[8, 64] = Field(
        64, title="Length", json_schema_extra={"x-labels": {"8": "short", "64": "long"}}
    )
    exact: bool = False


class Pictures(wb.BaseAdapter):
    name = "pictures"

    def options(self, task: str) -> type[wb.Options]:
        return Options

    def describe_index(self, index: Any) -> dict[str, Any]:
        return {"title": "<b>Pictures</b>", "subtitle": "3 items", "credits": ["Drawn by hand (CC0)."]}

    def sample_queries(self, index: Any) -> Sequence[wb.SampleQuery]:
        return [wb.SampleQuery("강아지", "ko")]

    def search_by_text(self, index: Any, query: str, k: int, options: Options) -> wb.SearchResult:
        if query == "boom":
            raise RuntimeError("a secret path")
        hits = [
            wb.Hit("a", 1.0, 0, "dog", "개", b"\x89PNG a", "0/64", 1.0),
            wb.Hit("b", 0.5, 32, "no picture"),
            wb.Hit("c", 0.2, 51, "cat", thumbnail=b"\x89PNG c"),
        ]
        return wb.SearchResult(hits[:k], {"search": options.length}, note=query, cutoff=1)

    def search_by_image(self, index: Any, data: bytes, k: int, options: Options) -> wb.SearchResult:
        return wb.SearchResult([wb.Hit(str(len(data)), 1.0)])


class Sent:
    """A panel that records its messages to the page."""

    def __init__(self) -> None:
        self.panel = SearchPanel(Searcher(Pictures(), None, "index"))
        self.messages: list[tuple[dict[str, Any], list[bytes]]] = []
        self.panel.send = lambda content, buffers=None: self.messages.append((content, list(buffers or [])))

    def ask(self, buffers: Sequence[Any] = (), **content: Any) -> dict[str, Any]:
        self.panel._on_message({"type": "search", "seq": 7, "k": 20, "options": {}, **content}, buffers)
        return self.messages[-1][0]


@pytest.fixture
def sent() -> Sent:
    return Sent()


def test_the_setup_holds_everything_the_page_may_request(sent: Sent) -> None:
    setup = sent.panel.setup
    assert (setup["title"], setup["subtitle"]) == ("<b>Pictures</b>", "3 items")
    assert setup["credits"] == ["Drawn by hand (CC0)."]
    assert setup["samples"] == [{"text": "강아지", "language": "ko"}]
    assert setup["by"] == {"text": True, "image": True, "item": False}
    assert (setup["lead"], setup["note"]) == ("text", "")
    assert [(field["name"], field["kind"]) for field in setup["fields"]] == [
        ("length", "choice"),
        ("exact", "flag"),
    ]
    assert setup["fields"][0]["choices"] == [{"value": 8, "label": "short"}, {"value": 64, "label": "long"}]
    assert setup["options"] == {"length": 64, "exact": False}
    assert setup["maxImageBytes"] == MAX_IMAGE_BYTES


def test_an_answer_is_one_message_with_the_thumbnails_as_buffers(sent: Sent) -> None:
    sent.ask(by="text", query="dog", options={"length": 8})
    assert len(sent.messages) == 1
    answer, buffers = sent.messages[0]
    assert (answer["type"], answer["seq"], answer["cutoff"], answer["note"]) == ("answer", 7, 1, "dog")
    assert answer["took_ms"]["search"] == 8
    assert [(hit["id"], hit["thumbnail"]) for hit in answer["hits"]] == [("a", 0), ("b", None), ("c", 1)]
    assert buffers == [b"\x89PNG a", b"\x89PNG c"]


def test_an_index_may_lead_with_pictures_and_know_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"title": "Photos", "lead": "picture", "note": "No <words>.", "by": ["image", "item"]}
    monkeypatch.setattr(Pictures, "describe_index", lambda *_: about)
    panel = Sent().panel
    assert panel.setup["by"] == {"text": False, "image": True, "item": False}
    assert (panel.setup["lead"], panel.setup["note"]) == ("picture", "No <words>.")
    assert "No &lt;words&gt;." in panel.to_html()


@pytest.fixture
def photos(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> Sent:
    """A panel of an index of files."""

    def find(self: Any, index: Any, item_id: str, k: int, options: Options) -> wb.SearchResult:
        kept = wb.Hit("spring/kept.jpg", 1.0, caption="kept.jpg", path="/home/annika/photos/spring/kept.jpg")
        return wb.SearchResult([kept, wb.Hit("drawn", 0.5)], note=item_id)

    monkeypatch.setattr(Pictures, "search_by_item", find)
    return sent


def test_a_notebook_shows_where_pictures_are(photos: Sent) -> None:
    hits = photos.ask(by="item", item="x")["hits"]
    assert [(hit["id"], hit["path"]) for hit in hits] == [
        ("spring/kept.jpg", "/home/annika/photos/spring/kept.jpg"),
        ("drawn", ""),
    ]


def test_a_visitor_never_receives_a_path_unless_the_publisher_says_so(
    photos: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PUBLISHED, "1")
    answer = photos.ask(by="item", item="x")
    for part in ("annika", "spring", "kept.jpg", "photos"):
        assert part not in json.dumps([answer, photos.panel.setup])
    first, second = answer["hits"]
    assert (first["path"], first["caption"], second["id"]) == ("", "Picture", "drawn")
    # The stand-in finds the item; one of another panel's is only an unknown id.
    assert photos.ask(by="item", item=first["id"])["note"] == "spring/kept.jpg"
    assert Sent().ask(by="item", item=first["id"])["note"] == first["id"]
    monkeypatch.setenv(SHOW_PATHS, "1")
    assert photos.ask(by="item", item="x")["hits"][0]["path"] == "/home/annika/photos/spring/kept.jpg"


def test_a_page_forgets_the_oldest_stand_ins(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PUBLISHED, "1")
    monkeypatch.setattr(panel_module, "KEPT_IDS", 3)
    for number in range(10):
        sent.panel._hide(wb.Hit(str(number), 1.0, path=f"/{number}").to_json())
    assert list(sent.panel._ids.values()) == ["7", "8", "9"]


def test_a_picture_comes_as_a_buffer_of_any_kind(sent: Sent) -> None:
    answer = sent.ask(by="image", buffers=[memoryview(b"12345")])
    assert answer["hits"][0]["id"] == "5"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ({"by": "text", "query": "  "}, ["query", "empty"]),
        ({"by": "text", "query": None}, ["query", "text", "NoneType"]),
        ({"by": "item", "item": 3}, ["item", "text", "int"]),
        ({"by": "text", "query": "x" * 2001}, ["2,000 characters", "2,001"]),
        ({"by": "text", "query": "dog", "k": 10**9}, ["k ", "20, 50, 100", "1000000000"]),
        ({"by": "text", "query": "dog", "k": True}, ["k ", "20, 50, 100", "True"]),
        ({"by": "text", "query": "dog", "k": [20]}, ["k ", "20, 50, 100", "[20]"]),
        ({"by": "text", "query": "dog", "options": {"length": 24}}, ["length: Input should be 8 or 64"]),
        ({"by": "text", "query": "dog", "options": {"query": "x"}}, ["option query", "exact, length"]),
        ({"by": "text", "query": "dog", "options": [1]}, ["options", "mapping", "list"]),
        ({"by": "image"}, ["picture", "empty"]),
        ({"by": "item", "item": "a"}, ["search_by_item"]),
        ({"by": "__class__"}, ["text, image, item", "'__class__'"]),
        ({"by": ["text"]}, ["text, image, item", "['text']"]),
    ],
)
def test_an_invalid_request_is_answered_with_the_problem(
    sent: Sent, content: dict[str, Any], parts: list[str]
) -> None:
    answer = sent.ask(**content)
    assert (answer["type"], answer["seq"]) == ("error", 7)
    assert [part for part in parts if part not in answer["message"]] == []


def explaining(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> list[tuple[wb.Term, wb.Term]]:
    """Let the adapter explain; return the list of what it is asked."""
    asked: list[tuple[wb.Term, wb.Term]] = []

    def explain(self: Any, index: Any, left: wb.Term, right: wb.Term, options: Options) -> wb.Explanation:
        asked.append((left, right))
        side = wb.Side(by="text", caption="<b>")
        return wb.Explanation(summary=f"at {options.length}", left=side, right=side, views=[])

    monkeypatch.setattr(Pictures, "explain", explain)
    return asked


def test_why_a_hit_was_found_is_drawn_for_the_owner(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent.panel.setup["explain"] is False
    refused = sent.ask(type="explain", by="text", query="dog", hit="a")
    assert (refused["type"], refused["html"]) == ("explanation", "")
    assert "does not offer explain" in refused["message"]
    asked = explaining(sent, monkeypatch)
    assert SearchPanel(Searcher(Pictures(), None, "index")).setup["explain"] is True
    answer = sent.ask(type="explain", by="text", query="dog", hit="a", options={"length": 8})
    assert (answer["type"], answer["seq"], answer["message"]) == ("explanation", 7, "")
    assert "at 8" in answer["html"]
    assert "&lt;b&gt;" in answer["html"]
    sent.ask(type="explain", by="image", name="my.png", hit="a", buffers=[memoryview(b"12345")])
    assert asked == [
        (wb.Term("text", "dog"), wb.Term("item", "a")),
        (wb.Term("image", b"12345", "my.png"), wb.Term("item", "a")),
    ]
    for wrong, says in (
        ({"hit": 3}, "hit must be text"),
        ({"hit": "x" * 1001}, "1,000 characters"),
        ({"hit": "a", "options": {"length": 24}}, "length: Input should be"),
        ({"hit": "a", "by": "smell"}, "by must be one of"),
    ):
        assert says in sent.ask(type="explain", **{"by": "text", "query": "dog", **wrong})["message"]


def test_a_visitor_of_a_published_page_gets_no_explanation(
    sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = explaining(sent, monkeypatch)
    monkeypatch.setenv(PUBLISHED, "1")
    assert SearchPanel(Searcher(Pictures(), None, "index")).setup["explain"] is False
    answer = sent.ask(type="explain", by="text", query="dog", hit="a")  # whatever the page sends
    assert answer["html"] == ""
    assert answer["message"]
    assert asked == []


def test_a_picture_over_the_limit_is_refused_even_if_the_page_sends_it(sent: Sent) -> None:
    answer = sent.ask(by="image", buffers=[bytes(MAX_IMAGE_BYTES + 1)])
    assert answer["type"] == "error"
    assert f"{MAX_IMAGE_BYTES // 2**20} MiB" in answer["message"]


def test_a_bug_is_logged_and_not_shown(sent: Sent, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = sent.ask(by="text", query="boom")
    assert answer["type"] == "error"
    assert "secret" not in str(answer)
    assert "a secret path" in caplog.text


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (
            wb.CorruptFile(Path("/home/me/indexes/a/codes.npy"), "its SHA-256 does not fit"),
            "cannot be searched",
        ),
        (wb.UnknownIndex("a", ["unreleased", "other"]), "cannot be searched"),
        (wb.AdapterBroken("x", "No module named 'y' in /home/me"), "cannot be searched"),
        (wb.MissingExtra("searching", "x"), "cannot be searched"),
        (wb.Busy("it did not start", retry_after=5, hint="See its log: /home/me/x.log"), "busy"),
        (wb.SearchFailed("index 'a' crashed (SIGSEGV)", hint="see search-service.log"), "failed"),
        (wb.StoreError("postgresql://me:secret@db cannot be reached"), "failed"),
        (wb.BadInput("the file /home/me/pictures/a.jpg cannot be read"), "failed"),
        (wb.BadInput("no index yet", hint="Run: workbench demo"), "failed"),
        (wb.Busy("it did not start", advice="See its log: /home/me/x.log"), "busy"),
    ],
)
def test_a_published_page_shows_no_error_that_names_the_machine(
    error: wb.WorkbenchError, parts: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert shown(error) == (error.message, error.help)  # to its owner, everything is
    monkeypatch.setenv(PUBLISHED, "1")
    text = " ".join(shown(error))
    assert parts in text
    for word in ("/", "me", "unreleased", "secret", "log", "pip", "'", "SIG", "workbench"):
        assert word not in text.replace("moment", "")
    assert error.message in caplog.text  # the publisher learns it


@pytest.mark.parametrize(
    "error",
    [
        wb.BadInput("the query is empty", hint="Type a word or two."),
        wb.BadOptions("length must be 8 or 64, got 7"),
        wb.TooLarge("the picture must be at most 20 MiB, got 21.0 MiB"),
        wb.NotSupported("toy", "search_by_item"),
    ],
)
def test_a_published_page_shows_what_is_wrong_with_a_query(
    error: wb.WorkbenchError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PUBLISHED, "1")
    assert shown(error) == (error.message, error.hint)


def test_a_published_page_gives_no_advice_for_the_owner(
    sent: Sent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    advice = "Set X_MAX=50 in /etc/search.env, then run `workbench serve`."
    hint = "Resize it, and set the picture upright."

    def refuse(*_: Any) -> None:
        raise wb.TooLarge("30 million pixels; at most 25 million are allowed", hint=hint, advice=advice)

    monkeypatch.setattr(Pictures, "search_by_image", refuse)
    in_a_notebook = sent.ask(by="image", buffers=[b"1"])
    assert in_a_notebook["hint"] == f"{hint} {advice}"
    monkeypatch.setenv(PUBLISHED, "1")
    published = sent.ask(by="image", buffers=[b"1"])
    assert published["message"] == in_a_notebook["message"]
    assert published["hint"] == hint
    assert not any(part in str(published) for part in ("X_MAX", "/etc", "workbench"))
    assert advice in caplog.text  # the publisher reads it


def test_a_long_value_is_not_sent_back_whole(sent: Sent) -> None:
    long = "x" * 10**6
    for request in (
        {"by": long},
        {"by": "text", "query": "dog", "k": long},
        {"by": "text", "query": "dog", "options": {long: 1}},
        {"by": "item", "item": long},
    ):
        assert len(str(sent.ask(**request))) < 1_000


@pytest.mark.parametrize("content", [None, "search", {"type": "other"}, {}])
def test_other_messages_are_ignored(sent: Sent, content: Any) -> None:
    sent.panel._on_message(content, [])
    assert sent.messages == []


def test_an_invalid_seq_is_answered_as_zero(sent: Sent) -> None:
    assert sent.ask(by="text", query="dog", seq="7")["seq"] == 0


def test_the_page_of_a_workspace_shows_its_newest_index(
    workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = search_page(workspace)
    assert "workbench demo" in str(empty.data)  # type: ignore[union-attr]
    import os

    for name, age in (("new", 0), ("old", 1000)):
        folder = workspace.indexes / name
        folder.mkdir()
        (folder / "manifest.json").write_text('{"adapter": "toy", "words": ["dog"]}')
        os.utime(folder, (1e9 - age, 1e9 - age))
    assert search_page(workspace).searcher.name == "new"  # type: ignore[union-attr]
    monkeypatch.setenv("WORKBENCH_INDEX", "old")
    assert search_page(workspace).searcher.name == "old"  # type: ignore[union-attr]
    assert search_page(workspace, "new").searcher.name == "new"  # type: ignore[union-attr]
    wrong = search_page(workspace, "<none>")
    assert not isinstance(wrong, SearchPanel)
    assert "&lt;none&gt;" in str(wrong.data)  # type: ignore[union-attr]


def test_the_page_of_a_folder_uses_the_search_service_and_opens_no_database(
    searched: Path, toy: wb.BaseAdapter
) -> None:
    empty = search_page(searched)
    assert "workbench demo" in str(empty.data)  # type: ignore[union-attr]
    assert not (searched / ".search.lock").exists()
    wrong = search_page(str(searched), "<none>")
    assert "&lt;none&gt;" in str(wrong.data)  # type: ignore[union-attr]
    assert not (searched / ".search.lock").exists()
    make_index(searched, "words")
    program = (
        "import sys, workbench as wb\n"
        f"page = wb.panels.search_page({str(searched)!r})\n"
        "assert page.searcher.by_text('강아지', 1)[0].id == '강아지'\n"
        "assert page.setup['by'] == {'text': True, 'image': True, 'item': False}\n"
        "print([name for name in ('torch', 'sqlalchemy', 'toy_adapter', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_closing_leaves_no_widget() -> None:
    from ipywidgets.widgets import widget

    before = dict(widget._instances)
    SearchPanel(Searcher(Pictures(), None, "index")).close()
    assert dict(widget._instances) == before


class Photos(Pictures):
    """An index that leads with pictures, and whose captions nobody has written."""

    def __init__(self, **about: Any) -> None:
        self.about = about

    def describe_index(self, index: Any) -> dict[str, Any]:
        return {"title": "Photos", "subtitle": "2", "credits": [], "lead": "picture", **self.about}

    def sample_items(self, index: Any, count: int) -> list[wb.Hit]:
        return [
            wb.Hit(
                "spring/a.jpg",
                1.0,
                caption="a.jpg",
                thumbnail=b"\xff\xd8 a",
                path="/home/annika/spring/a.jpg",
            ),
            wb.Hit("b", 1.0, caption="연", thumbnail=b"\x89PNG b"),
            wb.Hit("c", 1.0, caption="a text"),
        ][:count]

    def search_by_item(self, index: Any, item_id: str, k: int, options: Any) -> wb.SearchResult:
        return wb.SearchResult([wb.Hit(item_id, 1.0)])


def test_a_page_that_leads_with_pictures_shows_some_to_start_with() -> None:
    panel = SearchPanel(Searcher(Photos(), None, "photos"))
    assert panel.setup["pictures"] == [
        {"id": "spring/a.jpg", "caption": "a.jpg", "thumbnail": b"\xff\xd8 a"},
        {"id": "b", "caption": "연", "thumbnail": b"\x89PNG b"},
    ]
    assert SearchPanel(Searcher(Photos(lead="text"), None, "photos")).setup["pictures"] == []
    assert SearchPanel(Searcher(Photos(by=["image"]), None, "photos")).setup["pictures"] == []


def test_on_a_published_page_they_tell_no_file_and_can_still_be_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(PUBLISHED, "1")
    monkeypatch.setattr(panel_module, "KEPT_IDS", 1)
    sent = Sent()
    sent.panel = SearchPanel(Searcher(Photos(), None, "photos"))
    sent.panel.send = lambda content, buffers=None: sent.messages.append((content, []))
    first, second = sent.panel.setup["pictures"]
    assert "spring" not in str(sent.panel.setup)
    assert (first["caption"], second["id"]) == ("Picture", "b")
    found = []
    monkeypatch.setattr(
        Photos,
        "search_by_item",
        lambda self, index, item, k, options: (
            found.append(item) or wb.SearchResult([wb.Hit("x", 1, path="/x/y")])
        ),
    )
    for _ in range(3):  # ids of other hits come and go; those of these pictures stay
        assert sent.ask(by="item", item=first["id"])["type"] == "answer"
    assert found == ["spring/a.jpg"] * 3


def test_visitors_get_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are for those who hold the server's token: the page has no message that asks for one."""
    monkeypatch.setenv(PUBLISHED, "1")
    sent = Sent()
    for kind in ("file", "item_file", "download"):
        sent.panel._on_message({"type": kind, "item": "a", "seq": 1}, [])
    assert sent.messages == []


@pytest.mark.parametrize(
    ("choices", "shown"), [({}, [8, 64]), ({"length": [64]}, None), ({"length": [64, 8]}, [8, 64])]
)
def test_choices_that_an_index_does_not_have_are_not_offered(
    choices: dict[str, list[int]], shown: list[int] | None
) -> None:
    panel = SearchPanel(Searcher(Photos(choices=choices), None, "photos"))
    fields = {field["name"]: field for field in panel.setup["fields"]}
    assert "exact" in fields
    assert ("length" in fields) == (shown is not None)
    if shown:
        assert [one["value"] for one in fields["length"]["choices"]] == shown
    assert ("length" in panel.setup["options"]) == (shown is not None)


# --- filters ------------------------------------------------------------------------------------------------


class FilterOptions(Options):
    filter: str = Field("", title="Filter", json_schema_extra={"format": "filter"})


class Filtered(Pictures):
    name = "filtered"

    def options(self, task: str) -> type[wb.Options]:
        return FilterOptions

    def describe_index(self, index: Any) -> dict[str, Any]:
        return {**super().describe_index(index), "private_fields": ["path", "id"]}

    def filter_fields(self, index: Any) -> Sequence[wb.FilterField]:
        values = [("red heart", 3), ("dog", 2)]
        return [wb.FilterField("label", help="labels", values=values), wb.FilterField("path")]

    def search_by_text(self, index: Any, query: str, k: int, options: Any) -> wb.SearchResult:
        if options.filter:
            tree = wb.parse_filter(options.filter)
            if any(one.field == "lable" for one in tree.conditions()):
                raise tree.unknown("unknown field", "lable", 0, what="Fields", known=["label"])
        return super().search_by_text(index, options.filter or "all", k, options)


@pytest.fixture
def filtered(sent: Sent) -> Sent:
    sent.panel = SearchPanel(Searcher(Filtered(), None, "index"))
    sent.panel.send = lambda content, buffers=None: sent.messages.append((content, []))
    return sent


def fields_of(sent: Sent) -> dict[str, Any]:
    sent.panel._on_message({"type": "fields", "seq": 3}, [])
    return sent.messages[-1][0]


def test_the_option_that_filters_has_a_box_of_its_own(filtered: Sent, sent: Sent) -> None:
    assert filtered.panel.setup["filter"] == {"option": "filter", "listed": True, "most": 10_000}
    assert Sent().panel.setup["filter"] is None


def test_fields_come_with_what_is_typed_for_them(filtered: Sent) -> None:
    answer = fields_of(filtered)
    assert (answer["type"], answer["seq"], answer["message"]) == ("fields", 3, "")
    label, path = answer["fields"]
    assert (label["name"], label["text"], label["more"], path["values"]) == ("label", "label", False, [])
    assert label["values"] == [
        {"value": "red heart", "text": '"red heart"', "count": 3},
        {"value": "dog", "text": "dog", "count": 2},
    ]
    refused = fields_of(Sent())
    assert (refused["type"], refused["fields"]) == ("fields", [])
    assert "does not offer filter_fields" in refused["message"]


def test_suggestions_are_bounded(filtered: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panel_module, "MOST_VALUES", 1)
    monkeypatch.setattr(panel_module, "MOST_FIELDS", 1)
    (label,) = fields_of(filtered)["fields"]
    assert (len(label["values"]), label["more"]) == (1, True)


def test_a_wrong_filter_is_an_error_of_that_option(filtered: Sent) -> None:
    assert filtered.ask(by="text", query="dog", options={"filter": "label:dog"})["note"] == "label:dog"
    for wrong in ("label:", "lable:dog"):
        answer = filtered.ask(by="text", query="dog", options={"filter": wrong})
        assert (answer["type"], answer["option"]) == ("error", "filter")
        assert answer["message"].startswith("filter, column")
    assert filtered.ask(by="text", query="dog", options={"sharp": 1})["option"] == ""
    assert filtered.ask(by="text", query="dog", options={"length": 9})["option"] == "length"


def test_a_published_page_does_not_filter_by_where_files_are(
    filtered: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = ("path:/home*", "label:dog or not PATH:a", '"id":x')
    for probe in probes:
        assert filtered.ask(by="text", query="dog", options={"filter": probe})["type"] == "answer"
    assert [one["name"] for one in fields_of(filtered)["fields"]] == ["label", "path"]
    monkeypatch.setenv(PUBLISHED, "1")
    for probe in probes:
        answer = filtered.ask(by="text", query="dog", options={"filter": probe})
        assert (answer["type"], answer["option"]) == ("error", "filter")
        assert "is no field of this page" in answer["message"]
    assert filtered.ask(by="text", query="dog", options={"filter": 5})["type"] == "error"
    assert filtered.ask(by="text", query="dog", options={"filter": "label:dog"})["type"] == "answer"
    assert [one["name"] for one in fields_of(filtered)["fields"]] == ["label"]
    monkeypatch.setenv(SHOW_PATHS, "1")
    assert filtered.ask(by="text", query="dog", options={"filter": probes[0]})["type"] == "answer"
