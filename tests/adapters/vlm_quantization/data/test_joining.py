"""Lines that list one picture become one item, with all their captions and one split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.data.collection import Item
from adapters.vlm_quantization.data.joining import (
    JoinedItems,
    ignored_note,
    joined,
    repeats_note,
    without_copies,
)
from adapters.vlm_quantization.data.jsonl import read_jsonl
from adapters.vlm_quantization.data.leakage import LeakageError, check_leakage
from adapters.vlm_quantization.data.split_names import SPLITS, joined_split, split_name
from adapters.vlm_quantization.data.splits import make_splits


def item(name: str, *captions: str, **more: Any) -> Item:
    return Item(id=name, concept=name, captions={"en": captions}, image=b"", **more)


def test_captions_keywords_and_labels_are_added_once() -> None:
    one = item("a", "red kite", keywords={"en": ("toy",)}, labels=("x",))
    other = item("b", "red kite", "a kite", keywords={"en": ("toy", "sky")}, labels=("x", "y"))
    both = joined(one, other)
    assert both.captions == {"en": ("red kite", "a kite")}
    assert (both.id, both.keywords, both.labels) == ("a", {"en": ("toy", "sky")}, ("x", "y"))


def test_two_annotators_may_use_the_same_words() -> None:
    """COCO counts both: 25,010 captions of 5,000 pictures."""
    lines = JoinedItems()
    for number, caption in enumerate(["a kite", "a red kite", "a kite"], 1):
        lines.add(number, "a.jpg", item(f"{number}", caption))
    ((first, whole),) = lines.numbered()
    assert (first, whole.captions, lines.repeats) == (1, {"en": ("a kite", "a red kite", "a kite")}, 2)
    labels = JoinedItems()  # one line per label repeats the caption, but it is one caption
    for number, label in enumerate("xyz", 1):
        labels.add(number, "a.jpg", item(f"{number}", "a kite", labels=(label,)))
    assert labels.numbered()[0][1].captions == {"en": ("a kite",)}


def test_an_id_of_another_picture_is_refused_and_adds_nothing() -> None:
    lines = JoinedItems()
    lines.add(1, "a.jpg", item("7", "a"))
    with pytest.raises(wb.BadInput, match=r"'7' is already used in line 1"):
        lines.add(2, "b.jpg", item("7", "b"))
    assert [kept.captions["en"] for _, kept in lines.numbered()] == [("a",)]


def test_lines_that_disagree_on_the_split_are_an_error_that_names_them() -> None:
    lines = JoinedItems()
    for number in range(1, 8):
        lines.add(number, f"{number}.jpg", item(f"p{number}", "a", split="train"))
        lines.add(number + 10, f"{number}.jpg", item(f"p{number}", "b", split="test"))
    with pytest.raises(
        wb.BadInput, match=r"p1: 'train' and 'test' \(lines 1 and 11\).*and 2 more"
    ) as refused:
        lines.numbered()
    assert "one split" in refused.value.hint


def test_a_line_without_a_split_agrees_with_any() -> None:
    lines = JoinedItems()
    for number, split in enumerate(["", "val", ""], 1):
        lines.add(number, "a.jpg", item("a", f"{number}", split=split))
    assert lines.numbered()[0][1].split == "val"


def test_a_training_picture_may_also_be_listed_in_the_gallery() -> None:
    assert joined_split("gallery", "train") == joined_split("train", "gallery") == "train"
    assert joined_split("", "") == ""
    with pytest.raises(ValueError, match="'query' and 'gallery'"):
        joined_split("query", "gallery")


def test_copies_in_two_splits_stay_apart() -> None:
    items = [
        item("a", "one", digest="d", split="train"),
        item("b", "two", digest="d", split="train"),
        item("c", "three", digest="d", split="test"),
        item("e", "four"),
        item("f", "five"),
    ]
    kept, copies = without_copies(items)
    assert (copies, [(one.id, one.captions["en"]) for one in kept]) == (
        1,
        [("a", ("one", "two")), ("c", ("three",)), ("e", ("four",)), ("f", ("five",))],
    )


def test_notes() -> None:
    assert repeats_note(0) == ignored_note({}, ("image",)) == ""
    assert repeats_note(1).startswith("1 line lists a picture again")
    note = ignored_note({"url": 2}, ("image", "split"))
    assert note == "Ignored fields: 'url' (2 lines). Fields in use: image, split."


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("train", "train"),
        (" Training ", "train"),
        ("VALIDATION", "val"),
        ("dev", "val"),
        ("database", "gallery"),
        ("queries", "query"),
        ("rest-val", "restval"),
        ("", ""),
    ],
)
def test_names_of_splits(text: str, name: str) -> None:
    assert split_name(text) == name
    assert name in ("", *SPLITS)


def test_an_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(wb.BadInput, match=r"unknown split 'fold 1'\. Known: train, restval, val"):
        split_name("fold 1")


def write(folder: Path, lines: list[dict[str, Any]]) -> Path:
    for number, row in enumerate(lines):
        row.setdefault("captions", f"thing {number}")
        if not (folder / row["image"]).exists():
            Image.new("RGB", (8, 8 + number), "red").save(folder / row["image"])
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


def test_a_file_says_the_splits_and_its_own_leak_is_found(tmp_path: Path) -> None:
    names = ["train"] * 6 + ["validation", "test", "test"]
    lines = [{"image": f"{number}.png", "split": name} for number, name in enumerate(names)]
    lines.append({"image": "0.png", "captions": "once more", "split": None})
    collection = read_jsonl(write(tmp_path, lines))
    assert [one.split for one in collection.items] == ["train"] * 6 + ["val", "test", "test"]
    assert make_splits(collection).counts == {"train": 6, "val": 1, "test": 2}
    (tmp_path / "copy.png").write_bytes((tmp_path / "0.png").read_bytes())
    leaky = read_jsonl(write(tmp_path, [*lines, {"image": "copy.png", "split": "test"}]))
    with pytest.raises(LeakageError, match=r"0\.png \(train\) and copy\.png \(test\)"):
        check_leakage(leaky, make_splits(leaky))
    torn = [*lines, {"image": "1.png", "captions": "again", "split": "test"}]
    with pytest.raises(wb.BadInput, match=r"1\.png: 'train' and 'test' \(lines 2 and 11\)"):
        read_jsonl(write(tmp_path, torn))
    odd = read_jsonl(
        write(tmp_path, [*lines, {"image": "new.png", "split": 3}, {"image": "x.png", "split": "?"}])
    )
    assert [problem.message.partition(",")[0].partition(". ")[0] for problem in odd.problems] == [
        "'split' must be the name of a split",
        "unknown split '?'",
    ]
