"""Splits of a collection's author are used as they are: Karpathy's and DCMH's protocols."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.data import splits as splits_module
from adapters.vlm_quantization.data.collection import CaptionedImages, Item
from adapters.vlm_quantization.data.leakage import LeakageError, check_leakage, refuse_shared, shared_pictures
from adapters.vlm_quantization.data.splits import has_splits, make_splits, rows_of_split
from adapters.vlm_quantization.evaluate.tested import held_out_parts


def collection(counts: Mapping[str, int], **more: object) -> CaptionedImages:
    """Return a collection with numbers of pictures by split, without pictures."""
    items = []
    for split, count in counts.items():
        for number in range(count):
            name = f"{split}-{number}"
            items.append(
                Item(name, name, {"en": (f"thing {name}",)}, b"", digest=f"pixels {name}", split=split)
            )
    return CaptionedImages("mine", items, **more)


#: Karpathy's split of COCO, a hundredth of it.
KARPATHY = {"train": 828, "restval": 305, "val": 50, "test": 50}


def test_karpathys_protocol() -> None:
    coco = collection(KARPATHY)
    splits = make_splits(coco)
    assert splits.counts == {"train": 1133, "val": 50, "test": 50}
    assert splits.given
    assert any("305 pictures of restval are trained on" in note for note in splits.notes)
    assert check_leakage(coco, splits) == {"items": 1233, "pictures": 1233}
    alone = make_splits(coco, restval=False)
    assert alone.counts == {"train": 828, "val": 50, "test": 50}
    assert any("restval are not trained on" in note for note in alone.notes)
    assert np.array_equal(splits.test, rows_of_split(coco, "test"))
    assert set(splits.unseen.tolist()) == {*splits.val.tolist(), *splits.test.tolist()}
    assert make_splits(coco, seed=3).fingerprints == splits.fingerprints  # nothing is drawn


def test_dcmhs_protocol() -> None:
    """Queries against everything else; the training pictures are part of the gallery."""
    flickr = collection({"query": 20, "train": 100, "gallery": 80})
    splits = make_splits(flickr, val_share=0)
    assert splits.counts == {"train": 100, "query": 20, "gallery": 180}
    assert set(splits.train.tolist()) < set(splits.gallery.tolist())
    assert not set(splits.query.tolist()) & set(splits.gallery.tolist())
    assert check_leakage(flickr, splits)["items"] == 200
    assert any("gallery of 180 pictures, which contains the 100 training" in note for note in splits.notes)


def test_without_a_training_split_the_gallery_is_trained_on() -> None:
    splits = make_splits(collection({"query": 20, "gallery": 100}), val_share=0)
    assert splits.counts == {"train": 100, "query": 20, "gallery": 100}


def test_without_a_validation_split_part_of_training_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    flickr = collection({"query": 20, "train": 100})
    splits = make_splits(flickr)
    assert splits.counts == {"train": 92, "val": 8, "query": 20, "gallery": 100}
    assert any("no split val: 8 training pictures" in note for note in splits.notes)
    assert set(splits.val.tolist()) < set(splits.gallery.tolist())
    check_leakage(flickr, splits)
    assert make_splits(flickr, seed=1).fingerprints["val"] != splits.fingerprints["val"]
    monkeypatch.setattr(splits_module, "MOST_VAL", 5)
    assert len(make_splits(flickr).val) == 5


def test_validation_pictures_from_training_do_not_part_equal_ones() -> None:
    whole = collection({"train": 60, "test": 2})
    items = [
        Item(one.id, one.concept, one.captions, b"", digest=f"pixels {row // 3}", split=one.split)
        for row, one in enumerate(whole.items)
    ]
    twins = CaptionedImages("twins", items[:60] + list(whole.items[60:]))
    for seed in range(5):
        splits = make_splits(twins, seed, val_share=0.2)
        assert len(splits.val) == 12
        check_leakage(twins, splits)


def test_flags_are_left_out_of_given_parts_too() -> None:
    whole = collection({"train": 20, "test": 4})
    items = [
        Item(one.id, one.concept, one.captions, b"", digest=one.digest, split=one.split, flag=row % 2 == 0)
        for row, one in enumerate(whole.items)
    ]
    flagged = CaptionedImages("flags", items)
    plain = make_splits(flagged, val_share=0).without_flags(flagged)
    assert (plain.given, plain.counts) == (True, {"train": 10, "test": 2})


@pytest.mark.parametrize(
    "counts", [{"train": 40}, {"train": 30, "restval": 10}, {"": 40}, {"val": 40}, {"gallery": 40}]
)
def test_a_collection_with_one_split_alone_is_drawn_from(counts: Mapping[str, int]) -> None:
    whole = collection(counts)
    assert not has_splits(whole)
    drawn = make_splits(whole)
    assert (drawn.given, len(drawn.test_concepts)) == (False, 7)
    alone = next(iter(counts))
    assert any(f"Every picture is in the split {alone}" in note for note in drawn.notes) is bool(alone)


def test_splits_of_pictures_that_carry_none_are_drawn_beside_the_given_ones() -> None:
    """As of the emoji, joined with a collection that has splits."""
    whole = collection({"train": 30, "val": 4, "test": 5, "": 40})
    splits = make_splits(whole)
    assert splits.counts == {"train": 60, "val": 4, "test": 5, "val_concepts": 3, "test_concepts": 7}
    assert sum(splits.counts.values()) == len(whole)
    assert check_leakage(whole, splits)["items"] == len(whole)
    note = next(note for note in splits.notes if "carry no split" in note)
    assert note == "40 pictures carry no split; theirs are drawn: 30 train, 3 val concepts, 7 test concepts."
    assert [part.name for part in held_out_parts(splits)] == ["test", "concepts"]
    assert set(splits.test_concepts.tolist()) <= set(range(39, 79))


def test_test_pictures_alone_may_be_marked() -> None:
    splits = make_splits(collection({"": 40, "test": 5}))
    assert len(splits.train) == 30
    assert len(splits.test) == 5


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"test": 5, "val": 5}, "leave no pictures to train on: it has val, test"),
        ({"train": 5, "gallery": 5}, "a split gallery but no split query"),
    ],
)
def test_splits_that_cannot_be_used_are_refused(counts: Mapping[str, int], message: str) -> None:
    with pytest.raises(wb.BadInput, match=message) as refused:
        make_splits(collection(counts))
    assert refused.value.hint


def copied(counts: Mapping[str, int], one: str, other: str) -> CaptionedImages:
    whole = collection(counts)
    items = [
        Item(
            it.id,
            it.concept,
            it.captions,
            b"",
            split=it.split,
            digest="same" if it.id in (one, other) else it.digest,
        )
        for it in whole.items
    ]
    return CaptionedImages("mine", items)


@pytest.mark.parametrize(
    ("one", "other"),
    [("train-3", "test-1"), ("val-0", "test-1"), ("train-0", "val-2")],
)
def test_one_picture_in_two_splits_is_refused_unless_accepted(one: str, other: str) -> None:
    leaky = copied({"train": 9, "val": 3, "test": 3}, one, other)
    splits = make_splits(leaky)
    with pytest.raises(LeakageError, match=rf"{one} \(\w+\) and {other}") as refused:
        check_leakage(leaky, splits)
    assert "accept_training_pictures_in_test" in refused.value.hint
    assert check_leakage(leaky, splits, accept_duplicates=True)["duplicates"] == 1


def test_the_gallery_may_share_pictures_with_training_but_not_with_queries() -> None:
    counts = {"query": 4, "train": 9, "gallery": 5}
    allowed = copied(counts, "train-3", "gallery-1")
    check_leakage(allowed, make_splits(allowed, val_share=0))
    leaky = copied(counts, "query-3", "gallery-1")
    with pytest.raises(LeakageError, match=r"query-3 \(query\) and gallery-1 \(gallery\)"):
        check_leakage(leaky, make_splits(leaky, val_share=0))


def test_pictures_that_two_collections_share_are_named() -> None:
    one, other = collection({"train": 9}), collection({"train": 3, "test": 2})
    pairs = shared_pictures(one, range(2, 9), other, range(5))
    assert pairs == [(2, 2)]
    with pytest.raises(LeakageError, match=r"'mine'.*train-2 \(training: train-2\)"):
        refuse_shared(one, other, pairs)
    refuse_shared(one, other, [])
