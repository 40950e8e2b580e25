"""An evaluation asks and finds every caption, in every language and under every protocol."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.encoding.checkpoint import ModelConfig, Provenance
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.evaluate import job as eval_job
from adapters.vlm_quantization.evaluate import tasks
from adapters.vlm_quantization.evaluate.subject import FromFeatures
from adapters.vlm_quantization.evaluate.tasks import numbered_ids
from adapters.vlm_quantization.metrics.protocols import PROTOCOLS
from adapters.vlm_quantization.model import CrossModalHashModel
from adapters.vlm_quantization.options import EvalOptions
from adapters.vlm_quantization.train import job as train_job
from adapters.vlm_quantization.train.validation import caption_queries
from tests.adapters.vlm_quantization import shapes

ADAPTER = "vlm_quantization"
WAYS = ("{}", "a {}", "a drawing of a {}", "one {} on white", "{}!")


def collection() -> CaptionedImages:
    """The shapes with five English captions and two Korean ones each."""
    whole = shapes.collection()
    items = [
        dataclasses.replace(
            item,
            captions={
                "en": tuple(way.format(item.captions["en"][0]) for way in WAYS),
                "ko": (item.captions["ko"][0], f"{item.captions['ko'][0]} 그림"),
            },
        )
        for item in whole.items
    ]
    return CaptionedImages(whole.name, items)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    options = shapes.options(experiment="captions", steps=10, validate_every=10).model_dump()
    with (
        pytest.MonkeyPatch.context() as patch,
        wb.Workspace(tmp_path_factory.mktemp("captions") / "results") as workspace,
    ):
        for module in (train_job, eval_job):
            patch.setattr(module, "open_collection", lambda *_, **__: collection())
        with wb.job_scope("train", ADAPTER, options, workspace=workspace) as job:
            job.finish(job.adapter.train(job.options, job))
        yield workspace


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
def test_every_caption_is_asked_and_found(home: wb.Workspace, protocol: str) -> None:
    options = {
        "protocol": protocol,
        "directions": ["t2i", "i2t", "t2t"],
        "baselines": False,
        "resamples": 20,
        "ks": [1, 3],
        "worst": 0,
    }
    with wb.job_scope("eval", ADAPTER, options, workspace=home) as job:
        result = job.finish(job.adapter.evaluate(job.options, job))
    pictures = len(make_splits(collection(), 0).test_concepts)
    concepts = pictures // 2  # in two styles
    notes = " ".join(note for view in result.views for note in view.notes)
    part = "Held-out concepts"
    assert f"{part}, text → image (en): {5 * concepts} queries" in notes, notes
    assert f"{part}, text → image (ko): {2 * concepts} queries" in notes
    assert f"{part}, image → text (en): {pictures} queries" in notes
    assert f"gallery of {5 * concepts};" in notes
    sizes = {len(samples.ids) for samples in result.samples}
    assert {5 * concepts, 2 * concepts, pictures} <= sizes
    text = next(s for s in result.samples if any(name.startswith("concepts/en/t2i") for name in s.scores))
    assert text.groups is not None
    assert sorted(text.groups.count(group) for group in set(text.groups)) == [5] * concepts
    hits = PROTOCOLS[protocol].recall == "hit"
    table = next(view for view in result.views if view.title == "Retrieval: held-out concepts")
    assert any("(hit rate)" in note for note in table.notes) is hits
    assert any("(true recall)" in note for note in table.notes) is not hits


def test_validation_asks_every_caption_too() -> None:
    rows = np.arange(6)
    texts, concepts = caption_queries(collection(), rows, "en")
    assert (len(texts), len(set(texts)), len(set(concepts))) == (15, 15, 3)
    assert texts[:2] == ["red circle", "a red circle"]


def test_a_text_of_a_concept_is_one_query() -> None:
    captions = collection().captions(range(48), "ko")
    assert len(captions) == 48  # two for each of 24 concepts, although each has two pictures
    assert captions[1].row == captions[0].row == 0


def test_the_ids_of_captions_are_unique() -> None:
    ids = numbered_ids(["a", "a", "b", "a #2", "a", "b"])
    assert ids == ["a", "a #2#", "b", "a #2", "a #3", "b #2"]
    assert len(set(ids)) == len(ids)


def test_each_language_of_the_captions_is_measured_by_itself(tmp_path: Path) -> None:
    whole = shapes.collection()
    items = [
        dataclasses.replace(item, captions={**item.captions, "fr": (f"forme {item.concept}",)})
        for item in whole.items
    ]
    three = CaptionedImages(whole.name, items)
    config = ModelConfig(
        image_tower="random",
        image_dim=64,
        image_components=8,
        hidden=8,
        dim=8,
        text_buckets=64,
        text_width=8,
    )
    CrossModalHashModel(config).eval().save(tmp_path / "model.safetensors", Provenance())
    encoder = HashEncoder.load(tmp_path / "model.safetensors")
    features = np.random.default_rng(0).standard_normal((len(three), 64)).astype(np.float32)
    options = EvalOptions(baselines=False)
    subject = FromFeatures(encoder, features)
    found = {task.prefix for task in tasks.tasks(three, make_splits(three, 0), subject, options)}
    assert {f"{part}/{tag}/t2i" for part in ("drawings", "concepts") for tag in ("en", "fr", "ko")} <= found
