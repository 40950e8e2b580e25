"""Which pictures an evaluation asks about, and how many queries that gives: COCO-5K has 25,010."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded, pack_codes
from adapters.vlm_quantization.data.collection import CaptionedImages, Item
from adapters.vlm_quantization.data.leakage import LeakageError
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.evaluate import measuring, tasks
from adapters.vlm_quantization.evaluate.metric_names import metrics_of, possible_names
from adapters.vlm_quantization.evaluate.overlap import find_overlap
from adapters.vlm_quantization.evaluate.report.duplicates import duplicate_views, duplicate_warnings
from adapters.vlm_quantization.evaluate.subject import FromFeatures, Origin
from adapters.vlm_quantization.evaluate.tested import MeasuredOn, chosen_parts, held_out_parts, trained_rows
from adapters.vlm_quantization.metrics.protocols import PROTOCOLS
from adapters.vlm_quantization.options import EvalOptions
from adapters.vlm_quantization.train.validation import caption_queries
from tests.adapters.vlm_quantization import oracle
from workbench.jobs.floors import unknown_metrics


class RandomEncoder:
    """Encodes pictures and texts to random codes, the same for the same text."""

    name, fingerprint = "random codes", "random"

    def __init__(self) -> None:
        planes = np.random.default_rng(1).standard_normal((128, 16)).astype(np.float32)
        tensors = {f"{side}.code.weight": planes for side in ("image", "text")}
        tensors |= {f"{side}.code.threshold": np.zeros(128, np.float32) for side in ("image", "text")}
        self.checkpoint = SimpleNamespace(tensors=tensors)

    def encode_features(self, features: np.ndarray[Any, Any]) -> Encoded:
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        codes = pack_codes(unit @ self.checkpoint.tensors["image.code.weight"].T >= 0)
        return Encoded(codes, unit.astype(np.float32))

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        digests = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
        values = np.frombuffer(digests, np.uint16).reshape(len(texts), 16)
        return self.encode_features(values.astype(np.float32) - 2**15)


def item(name: str, captions: Sequence[str], **more: Any) -> Item:
    return Item(
        name, more.pop("concept", name), {"en": tuple(captions)}, b"", digest=f"pixels {name}", **more
    )


def tasks_of(collection: CaptionedImages, **options: Any) -> list[tasks.Task]:
    features = np.random.default_rng(0).standard_normal((len(collection), 16)).astype(np.float32)
    chosen = EvalOptions(baselines=False, **options)
    parts = chosen_parts(collection, make_splits(collection, val_share=0), chosen)
    return list(tasks.tasks(collection, parts, FromFeatures(RandomEncoder(), features), chosen))


# --- how the field counts -----------------------------------------------------------------------------------


def coco(pictures: int, captions: int) -> CaptionedImages:
    """Pictures with five captions each, the first with more; some captions are used twice.

    Every hundredth picture has two equal captions, and shares one with the next picture.
    """
    more = captions - 5 * pictures
    items = [item("train", ["a training picture"], split="train"), item("other", ["another"], split="train")]
    for number in range(pictures):
        own = [f"picture {number} in way {way}" for way in range(6 if number < more else 5)]
        if number % 100 == 50:
            own[1] = own[0]
            own[2] = f"picture {number + 1} in way 0"
        items.append(item(f"p{number}", own, split="test"))
    return CaptionedImages("coco", items)


def test_coco_5k_has_25010_queries_in_text_and_5000_in_pictures() -> None:
    drawn = tasks_of(coco(5_000, 25_010), directions=("t2i", "i2t"))
    sizes = {task.direction: (len(task.queries.ids), len(task.gallery.ids)) for task in drawn}
    assert sizes == {"t2i": (25_010, 5_000), "i2t": (5_000, 25_010)}
    assert all((task.part, task.language, task.split) == ("test", "en", "test split") for task in drawn)
    (texts,) = (task for task in drawn if task.direction == "t2i")
    assert len(set(texts.queries.ids)) == 25_010
    counts = Counter(Counter(texts.queries.concepts).values())
    assert counts == {5: 4_990, 6: 10}
    pictures = next(task for task in drawn if task.direction == "i2t")
    assert pictures.relevance.block(0, 1).sum() == 6  # any of a picture's captions is a hit


def test_validation_counts_like_the_test() -> None:
    collection = coco(200, 1_010)
    rows = make_splits(collection, val_share=0).test
    assert len(caption_queries(collection, rows, "en", each_item=True)[0]) == 1_010
    assert len(caption_queries(collection, rows, "en")[0]) == 1_010 - 2  # drawings: equal texts once


@pytest.mark.parametrize("protocol", ["default", "clip"])
def test_karpathys_protocol_equals_an_independent_count(protocol: str) -> None:
    """R@k and MedR by sorting each query's list, against any caption of a picture."""
    collection = coco(40, 203)
    chosen = EvalOptions(baselines=False, protocol=protocol, ks=(1, 5), resamples=10)
    for task in tasks_of(collection, protocol=protocol):
        measuring.measure(task, [], chosen)
        for bits in (16, 128):
            width = bits // 8
            ranks, recalls = [], []
            for code, concept in zip(task.queries.codes, task.queries.concepts, strict=True):
                order = sorted(
                    range(len(task.gallery.codes)),
                    key=lambda row, code=code: (
                        oracle.hamming(code[:width], task.gallery.codes[row][:width]),
                        row,
                    ),
                )
                places = [at for at, row in enumerate(order, 1) if task.gallery.concepts[row] == concept]
                ranks.append(places[0])
                recalls.append(sum(place <= 5 for place in places) / len(places))
            if protocol == "clip":  # ties by row, any hit counts
                assert task.record(tasks.LEARNED, "R@5", bits).value == pytest.approx(
                    np.mean([rank <= 5 for rank in ranks])
                )
            record = task.record(tasks.LEARNED, "R@5", bits)
            assert record.n_queries == (203 if task.direction == "t2i" else 40)
            if protocol == "default" and bits == 128:  # hardly any ties: between the bounds
                assert record.low - 1e-9 <= np.mean(recalls) <= record.high + 1e-9


# --- DCMH's protocol ----------------------------------------------------------------------------------------


def flickr(seed: int = 0) -> CaptionedImages:
    """Queries, gallery and training pictures with labels; several have the same tags."""
    random = np.random.default_rng(seed)
    items = []
    for split, count in (("query", 12), ("train", 20), ("gallery", 15)):
        for number in range(count):
            labels = tuple(f"label {one}" for one in np.flatnonzero(random.random(4) < 0.4))
            tags = [f"tags {random.integers(30)}"]
            name = f"{split}-{number}"
            items.append(item(name, tags, concept=tags[0], split=split, labels=labels))
    return CaptionedImages("flickr", items)


@pytest.mark.parametrize("in_gallery", [True, False])
def test_dcmhs_protocol_equals_an_independent_oracle(in_gallery: bool) -> None:
    collection = flickr()
    options = {"relevance": "labels", "protocol": "dcmh", "train_in_gallery": in_gallery, "ks": (3,)}
    rules = PROTOCOLS["dcmh"]
    size = 35 if in_gallery else 15
    drawn = tasks_of(collection, **options)
    assert [task.direction for task in drawn] == ["t2i", "i2t"]
    for task in drawn:
        assert (len(task.queries.ids), len(task.gallery.ids), task.part) == (12, size, "query")
        measuring.measure(task, [], EvalOptions(baselines=False, resamples=10, **options))
        for bits in CODE_LENGTHS:
            values = []
            for query in range(12):
                code = task.queries.codes[query][: bits // 8]
                order = sorted(
                    range(size),
                    key=lambda row, code=code, bits=bits: (
                        oracle.hamming(code, task.gallery.codes[row][: bits // 8]),
                        row,
                    ),
                )
                asked = set(collection.items[task.queries.rows[query]].labels)
                ranking = [
                    int(bool(asked & set(collection.items[task.gallery.rows[row]].labels))) for row in order
                ]
                # a query without a relevant item counts as zero
                values.append(float(oracle.average_precision(ranking)) if any(ranking) else 0.0)
            record = task.record(tasks.LEARNED, "mAP", bits)
            assert record.value == pytest.approx(np.mean(values)), (rules.name, task.direction, bits)


def test_queries_of_a_gallery_need_labels() -> None:
    collection = flickr()
    apart = [item(one.id, one.captions["en"], split=one.split, labels=one.labels) for one in collection.items]
    with pytest.raises(wb.BadInput, match="no query has a relevant item") as refused:
        tasks_of(CaptionedImages("flickr", apart))
    assert "relevance=labels" in refused.value.hint


@pytest.mark.parametrize("direction", ["i2i", "t2t"])
def test_pictures_and_texts_are_ranked_against_the_gallery_alone(direction: str) -> None:
    (task,) = tasks_of(flickr(), relevance="labels", directions=(direction,))
    assert (len(task.queries.ids), len(task.gallery.ids), task.itself) == (12, 35, None)


# --- which part ---------------------------------------------------------------------------------------------


def mixed() -> CaptionedImages:
    counts = {"train": 10, "restval": 4, "val": 3, "test": 5}
    items = [
        item(f"{split}-{n}", [f"{split} {n}"], split=split, flag=n == 0)
        for split, count in counts.items()
        for n in range(count)
    ]
    return CaptionedImages("mixed", items)


@pytest.mark.parametrize(
    ("split", "counts"),
    [
        ("", {"test": 5}),
        ("test", {"test": 5}),
        ("val", {"val": 3}),
        ("train", {"train": 14}),
        ("restval", {"restval": 4}),
        ("all", {"all": 22}),
    ],
)
def test_a_split_is_chosen_by_name(split: str, counts: dict[str, int]) -> None:
    collection = mixed()
    chosen = EvalOptions(split=split, collection="other")
    own = chosen_parts(collection, make_splits(collection), chosen)
    assert {part.name: len(part.queries) for part in own} == counts
    other = chosen_parts(collection, None, chosen)
    expected = counts | ({"train": 10} if split == "train" else {})
    assert {part.name: len(part.queries) for part in other} == expected
    without = chosen_parts(collection, None, chosen.model_copy(update={"flags": False}))
    assert [len(part.queries) for part in without] == [
        count - {"all": 4}.get(name, 1) for name, count in expected.items()
    ]
    assert without[0].fingerprint != other[0].fingerprint


def test_a_split_that_is_missing_names_those_there_are() -> None:
    collection = mixed()
    for splits in (None, make_splits(collection)):
        with pytest.raises(wb.BadInput, match=r"no pictures in the split 'query'.*restval \(4\), val \(3\)"):
            chosen_parts(collection, splits, EvalOptions(split="query"))
    only = CaptionedImages("v", [one for one in collection.items if one.split != "test"])
    with pytest.raises(wb.BadInput, match=r"'v' has no test split.*val") as refused:
        chosen_parts(only, make_splits(only), EvalOptions())
    assert "split=val" in refused.value.hint
    with pytest.raises(wb.BadInput, match="'test'"):
        chosen_parts(only, None, EvalOptions())


def test_drawn_splits_keep_their_names() -> None:
    collection = CaptionedImages("plain", [item(f"p{n}", [f"thing {n}"]) for n in range(60)])
    splits = make_splits(collection)
    assert [part.name for part in held_out_parts(splits)] == ["concepts"]
    names = {
        split: [part.name for part in chosen_parts(collection, splits, EvalOptions(split=split))]
        for split in ("", "test", "val", "train", "all")
    }
    assert names == {
        "": ["concepts"], "test": ["concepts"], "val": ["val_concepts"], "train": ["train"], "all": ["all"],
    }  # fmt: skip
    assert chosen_parts(collection, None, EvalOptions())[0].name == "all"  # another collection, as a whole
    with pytest.raises(wb.BadInput, match="drawn by the split seed"):
        chosen_parts(collection, splits, EvalOptions(split="restval"))


@pytest.mark.parametrize("split", ["", "test", "val", "train", "restval", "all"])
def test_every_metric_of_a_split_can_be_a_floor(split: str) -> None:
    chosen = EvalOptions(split=split, collection="other.jsonl", baselines=False, resamples=10)
    collection = mixed()
    features = np.random.default_rng(0).standard_normal((len(collection), 16)).astype(np.float32)
    for splits in (None, make_splits(collection)):
        parts = chosen_parts(collection, splits, chosen)
        drawn = list(tasks.tasks(collection, parts, FromFeatures(RandomEncoder(), features), chosen))
        for task in drawn:
            measuring.measure(task, [], chosen)
        assert unknown_metrics(metrics_of(drawn, chosen.ks), possible_names(chosen)) == []


# --- what was trained on ------------------------------------------------------------------------------------


def measured_on(collection: CaptionedImages, split: str = "all") -> MeasuredOn:
    chosen = EvalOptions(split=split)
    return MeasuredOn(collection, chosen_parts(collection, None, chosen))


def test_a_refit_has_seen_the_whole_collection() -> None:
    collection = mixed()
    splits = make_splits(collection)
    own = Origin("weights", "x", 0, "", [])
    assert np.array_equal(trained_rows(own, collection, splits), splits.train)
    refit = own._replace(split=f"all of {collection.fingerprint}")
    assert len(trained_rows(refit, collection, splits)) == len(collection)
    assert not len(trained_rows(refit._replace(taken_from="old.ckpt"), collection, splits))


def test_training_pictures_of_another_collection_are_refused_unless_accepted() -> None:
    own, other = mixed(), CaptionedImages("mine", [*mixed().items[8:12], item("new", ["new"], split="test")])
    rows = make_splits(own).train
    with pytest.raises(LeakageError, match=r"'mine'.*train-8 \(training: train-8\)"):
        find_overlap(own, rows, measured_on(other), accept=False, near=False)
    find_overlap(own, rows, measured_on(other, "test"), accept=False, near=False)
    found = find_overlap(own, rows, measured_on(other), accept=True, near=False)
    assert (len(found.equal), found.near, found.looked) == (4, [], False)
    (warning,) = duplicate_warnings(own, other, found)
    assert "trained on 4 pictures of the test" in warning
    assert "train-8 (train-8); train-9 (train-9)" in warning


def test_without_duplicates_the_report_has_no_view_of_them() -> None:
    found = find_overlap(mixed(), np.arange(3), measured_on(mixed(), "test"), accept=False, near=False)
    assert duplicate_views(mixed(), mixed(), found) == duplicate_warnings(mixed(), mixed(), found) == []


def test_training_pictures_in_the_gallery_are_no_leak() -> None:
    collection = flickr()
    splits = make_splits(collection, val_share=0)
    chosen = chosen_parts(collection, splits, EvalOptions())
    whole = MeasuredOn(collection, chosen)
    found = find_overlap(collection, splits.train, whole, accept=False, near=False)
    assert found.equal == []
