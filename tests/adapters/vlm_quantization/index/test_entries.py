"""What of a collection goes into an index."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import workbench as wb
from adapters.vlm_quantization.index.entries import caption_entries, picture_entries
from tests.adapters.vlm_quantization.small_index import SmallItem


def collection(*items: SmallItem) -> SimpleNamespace:
    return SimpleNamespace(items=items, languages=("en", "ko"))


DOG = {"en": ["dog", "puppy"], "ko": ["개"]}


def test_pictures_come_in_the_order_of_their_ids() -> None:
    found = picture_entries(collection(SmallItem("b", "dog", DOG), SmallItem("a", "cat", {"ko": ["고양이"]})))
    assert [(one.item["id"], one.source) for one in found] == [("a", 1), ("b", 0)]
    assert [(one.item["caption"], one.item["subtitle"]) for one in found] == [("고양이", ""), ("dog", "개")]


def test_a_text_is_one_entry_however_often_it_is_drawn() -> None:
    found = caption_entries(collection(SmallItem("1", "dog", DOG), SmallItem("2", "dog", DOG)))
    assert [(one.item["id"], one.source, one.item["subtitle"]) for one in found] == [
        ("dog:en:0", "dog", "개"),
        ("dog:en:1", "puppy", "개"),
        ("dog:ko:0", "개", "dog"),
    ]


def test_two_items_of_one_id_are_refused() -> None:
    with pytest.raises(wb.BadInput, match="'a'"):
        picture_entries(collection(SmallItem("a", "dog", DOG), SmallItem("a", "cat", DOG)))
