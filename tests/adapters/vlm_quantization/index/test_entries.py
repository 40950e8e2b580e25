"""What of a collection goes into an index."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import workbench as wb
from adapters.vlm_quantization.index.entries import SortedEntries, caption_entries, picture_entries
from tests.adapters.vlm_quantization.small_index import SmallItem


def collection(*items: SmallItem) -> SimpleNamespace:
    return SimpleNamespace(items=items, languages=("en", "ko"), fingerprint="f")


DOG = {"en": ["dog", "puppy"], "ko": ["개"]}


def test_pictures_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    pictures = collection(SmallItem("b", "dog", DOG), SmallItem("a", "cat", {"ko": ["고양이"]}))
    with SortedEntries(picture_entries(pictures), tmp_path) as entries:
        found = list(entries)
        assert found == list(entries)
    assert [(one.item["id"], one.source) for one in found] == [("a", 1), ("b", 0)]
    assert [(one.item["caption"], one.item["subtitle"]) for one in found] == [("고양이", ""), ("dog", "개")]


def test_a_text_is_one_entry_however_often_it_is_drawn(tmp_path: Path) -> None:
    found = caption_entries(collection(SmallItem("1", "dog", DOG), SmallItem("2", "dog", DOG)), tmp_path)
    assert [(one.item["id"], one.source, one.item["subtitle"]) for one in found] == [
        ("dog:en:0", "dog", "개"),
        ("dog:en:1", "puppy", "개"),
        ("dog:ko:0", "개", "dog"),
    ]


def test_two_items_of_one_id_are_refused(tmp_path: Path) -> None:
    same = collection(SmallItem("a", "dog", DOG), SmallItem("a", "cat", DOG))
    with pytest.raises(wb.BadInput, match="'a'"):
        SortedEntries(picture_entries(same), tmp_path)
    assert list(tmp_path.iterdir()) == []
