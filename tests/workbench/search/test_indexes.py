"""Which indexes a folder holds, and searchers of an index that another process holds."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.workbench.conftest import make_index
from workbench.search.elsewhere import RemoteSearcher
from workbench.search.indexes import index_adapter, index_names, index_stamp, newest_index, open_index


def test_only_whole_indexes_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "indexes"
    assert index_names(folder) == []
    assert newest_index(folder) is None
    for name in ("b", "a", ".being-built"):
        make_index(tmp_path, name)
    (folder / "half").mkdir()
    assert index_names(folder) == ["a", "b"]
    os.utime(folder / "a", (1, 1))
    assert newest_index(folder) == "b"


def test_an_index_is_opened_by_the_adapter_that_made_it(tmp_path: Path, toy: wb.BaseAdapter) -> None:
    make_index(tmp_path, "words")
    folder = tmp_path / "indexes"
    assert index_adapter(folder, "words") == "toy"
    assert open_index(folder, "words").by_text("dog", k=1)[0].caption == "dog"
    before = index_stamp(folder, "words")
    make_index(tmp_path, "words", words=["one more"])
    assert index_stamp(folder, "words") != before


def test_a_name_is_never_made_into_a_path(tmp_path: Path) -> None:
    make_index(tmp_path, "words")
    for name in ("../indexes/words", "wrods", ".", ""):
        with pytest.raises(wb.UnknownIndex):
            index_adapter(tmp_path / "indexes", name)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_manifest_that_names_no_adapter_is_corrupt(tmp_path: Path, text: str) -> None:
    make_index(tmp_path, "words")
    (tmp_path / "indexes" / "words" / "manifest.json").write_text(text)
    with pytest.raises(wb.CorruptFile, match="manifest"):
        index_adapter(tmp_path / "indexes", "words")


TOLD = {
    "index": "words",
    "adapter": "toy",
    "adapter_title": "Toy",
    "offers": ["search_by_text"],
    "schema": {"type": "object"},
    "about": {"title": "Words", "count": 2},
    "samples": [{"text": "dog", "language": "en"}],
}


def test_a_searcher_elsewhere_asks_as_one_here_does() -> None:
    asked: list[Mapping[str, Any]] = []

    def ask(question: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(json.loads(json.dumps(question)))  # plain JSON, as it is sent
        return {"hits": [{"id": "1", "score": 0.5, "caption": "dog"}], "took_ms": {"total": 2.0}}

    searcher = RemoteSearcher(TOLD, ask)
    assert (searcher.name, searcher.adapter.title, searcher.schema) == ("words", "Toy", {"type": "object"})
    assert searcher.describe() == {"title": "Words", "count": 2}
    assert searcher.sample_queries() == [wb.SampleQuery("dog", "en")]
    assert searcher.adapter.offers("search_by_text")
    assert not searcher.adapter.offers("search_by_image")
    assert [hit.caption for hit in searcher.by_text(" dog ", k=3, fuzzy=True)] == ["dog"]
    searcher.by_image(b"bytes")
    searcher.by_item("7")
    assert [(one["by"], one[one["by"]], one["k"], one["options"]) for one in asked] == [
        ("text", "dog", 3, {"fuzzy": True}),
        ("image", "Ynl0ZXM=", 20, {}),
        ("item", "7", 20, {}),
    ]
    with pytest.raises(wb.BadInput):  # refused here, before anybody is asked
        searcher.by_text("  ")
    assert len(asked) == 3


def test_a_name_in_another_unicode_form_is_the_same_index(tmp_path: Path, toy: wb.BaseAdapter) -> None:
    composed, apart = unicodedata.normalize("NFC", "강아지"), unicodedata.normalize("NFD", "강아지")
    for stored, asked in ((composed, apart), (apart, composed)):
        make_index(tmp_path / stored, stored)
        folder = tmp_path / stored / "indexes"
        assert index_adapter(folder, asked) == "toy"
        assert index_stamp(folder, asked) == index_stamp(folder, stored)
        assert open_index(folder, asked).name == stored
        with pytest.raises(wb.UnknownIndex):
            index_adapter(folder, "고양이")
