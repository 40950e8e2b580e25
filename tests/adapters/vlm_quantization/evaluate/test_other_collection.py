"""The eval job on a collection or a split other than the run's, with the leakage check across both."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization import adapter, job_inputs
from adapters.vlm_quantization.data.collection import CaptionedImages, Item, picture_digest
from adapters.vlm_quantization.data.leakage import LeakageError
from adapters.vlm_quantization.evaluate import job as eval_job
from adapters.vlm_quantization.options import EvalOptions
from adapters.vlm_quantization.train import job as train_job
from tests.adapters.vlm_quantization import shapes
from workbench.jobs.floors import unknown_metrics
from workbench.panels.results.show import render_html

ADAPTER = "vlm_quantization"


def photo(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((72, 60), Image.Resampling.BICUBIC)


def item(name: str, picture: Image.Image, split: str = "", form: str = "PNG") -> Item:
    file = io.BytesIO()
    picture.save(file, form, quality=80)
    return Item(
        id=name,
        concept=name,
        captions={"en": (f"a picture of {name}", f"{name}, seen from afar")},
        image=file.getvalue(),
        digest=picture_digest(Image.open(io.BytesIO(file.getvalue()))),
        labels=(f"kind {len(name) % 2}",),
        split=split,
    )


#: The run's collection: forty pictures with splits, among them no validation part.
OWN = CaptionedImages(
    "own",
    [
        item(f"p{n}", photo(n), "test" if n % 5 == 4 else "restval" if n % 5 == 3 else "train")
        for n in range(40)
    ],
)

#: Collections by source. "beside" has new pictures and one of the run's saved again as JPEG; "leaky" has two
#: training pictures; "drawn" has no splits.
SOURCES = {
    "own": OWN,
    "beside": CaptionedImages(
        "beside",
        [*(item(f"new {n}", photo(100 + n)) for n in range(6)), item("again", photo(0), form="JPEG")],
    ),
    "leaky": CaptionedImages(
        "leaky",
        [
            *(item(f"n{n}", photo(200 + n), "test") for n in range(4)),
            dataclasses.replace(OWN.items[0], id="copy 0", split="test"),
            dataclasses.replace(OWN.items[1], id="copy 1", split="test"),
            dataclasses.replace(OWN.items[2], id="copy 2", split="train"),
        ],
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each source; what is read is in SOURCES."""
    folder = tmp_path_factory.mktemp("other")
    for name in SOURCES:
        (folder / f"{name}.jsonl").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def home(folder: Path) -> Iterator[wb.Workspace]:
    """A workspace with a run on a collection that has splits."""
    options = shapes.options(
        experiment="own", collection=str(folder / "own.jsonl"), steps=6, validate_every=3, refit_steps=2
    ).model_dump()
    with pytest.MonkeyPatch.context() as patch, wb.Workspace(folder / "results") as workspace:
        for module in (train_job, eval_job):
            patch.setattr(module, "open_collection", lambda source, **_: SOURCES[Path(source).stem])
        with wb.job_scope("train", ADAPTER, options, workspace=workspace) as job:
            job.finish(job.adapter.train(job.options, job))
        yield workspace


def evaluated(home: wb.Workspace, **options: Any) -> wb.Result:
    quick = {"resamples": 10, "ks": [1, 3], "baselines": False, "worst": 0}
    if "collection" in options:
        options["collection"] = str(home.path.parent / f"{options['collection']}.jsonl")
    with wb.job_scope("eval", ADAPTER, {**quick, **options}, workspace=home) as job:
        result = job.finish(job.adapter.evaluate(job.options, job))
        assert unknown_metrics(result.metrics, job.adapter.metric_names("eval", job.options)) == []
        return result


def notes(result: wb.Result) -> str:
    return " ".join(note for view in result.views for note in view.notes)


def test_a_training_uses_the_splits_of_the_collection(home: wb.Workspace) -> None:
    (table,) = home.jobs(type="train")[0].result.views
    said = " ".join(table.notes)
    assert "40 pictures; 29 train, 3 val, 8 test." in said
    assert "8 pictures of restval are trained on" in said
    assert "no split val: 3 training pictures" in said


def test_the_test_split_of_the_run_is_measured(home: wb.Workspace) -> None:
    result = evaluated(home, baselines=True, worst=2)
    assert "Test split, text → image (en): 16 queries" in notes(result)
    assert "Test split, image → text (en): 8 queries" in notes(result)
    assert "gallery of 16; split" in notes(result)
    assert {"test/en/t2i/R@3@128", "t2i/R@3@128", "test/en/i2t/ITQ/R@3@8"} <= result.metrics.keys()
    assert result.metrics["t2i/R@3@128"] == result.metrics["test/en/t2i/R@3@128"]
    assert result.views[-2].title == "Leakage check: passed"
    assert result.warnings == []


def test_another_collection_is_measured_and_a_near_duplicate_is_shown(home: wb.Workspace) -> None:
    result = evaluated(home, collection="beside")
    assert "All pictures, text → image (en): 14 queries" in notes(result)
    assert "beside, all pictures" in result.summary
    assert "all/en/t2i/mAP@64" in result.metrics
    (warning,) = result.warnings
    assert warning.startswith("1 picture of the test looks like training pictures")
    assert "again (p0)" in warning
    view = next(view for view in result.views if view.title.startswith("Near duplicates"))
    assert "Near duplicates of training pictures" in render_html(result.model_copy(update={"views": [view]}))
    pair = view.data["items"]
    assert [(one["caption"], one["subtitle"]) for one in pair] == [("again", "test"), ("p0", "training")]
    sizes = {Image.open(io.BytesIO(base64.b64decode(one["image"]))).size for one in pair}
    assert sizes == {(72, 60)}
    card = {row["name"]: row["value"] for row in result.views[-1].data["rows"]}
    assert card["Measured on"] == "beside: 7 pictures, en"
    assert card["Collection"].startswith("own: 40 pictures")
    quiet = evaluated(home, collection="beside", near_duplicates=False)
    assert quiet.warnings == []
    assert quiet.metrics == result.metrics


def test_training_pictures_in_another_test_stop_the_evaluation(home: wb.Workspace) -> None:
    with pytest.raises(LeakageError, match=r"copy 0 \(training: p0\); copy 1 \(training: p1\)") as refused:
        evaluated(home, collection="leaky")
    assert "copy 2" not in str(refused.value)  # it is in its train split, which is not measured
    assert "accept_training_pictures_in_test" in refused.value.hint
    result = evaluated(home, collection="leaky", accept_training_pictures_in_test=True)
    assert "trained on 2 pictures of the test. Scores are too high" in result.warnings[0]
    assert "copy 0 (p0); copy 1 (p1)" in result.warnings[0]
    titles = [view.title for view in result.views]
    assert "Training pictures in the test, accepted: 2" in titles
    assert "Leakage check: training pictures in the test, as accepted" in titles


def test_a_refit_has_seen_every_picture_of_the_run(home: wb.Workspace) -> None:
    refit = {"checkpoint": "refit.safetensors"}
    assert "all/en/t2i/mAP@8" in evaluated(home, collection="beside", **refit).metrics
    with pytest.raises(wb.BadInput, match="trained on other data"):
        evaluated(home, **refit)


@pytest.mark.parametrize(("split", "name"), [("val", "val"), ("test", "test")])
def test_another_split_of_the_run_is_measured(home: wb.Workspace, split: str, name: str) -> None:
    result = evaluated(home, split=split)
    assert {key.partition("/")[0] for key in result.metrics} == {name, "t2i", "i2t", "stability", "funnel"}


def test_the_training_split_itself_is_refused_unless_accepted(home: wb.Workspace) -> None:
    with pytest.raises(LeakageError, match="and 24 more"):
        evaluated(home, split="train")
    result = evaluated(home, split="train", accept_training_pictures_in_test=True)
    assert "trained on 29 pictures" in result.warnings[0]


def test_a_missing_collection_is_found_before_the_job_begins(home: wb.Workspace, folder: Path) -> None:
    def problems(name: str) -> dict[str, str]:
        return dict(adapter.find_problems("eval", EvalOptions(collection=str(folder / name)), home))

    assert "nowhere.jsonl" in problems("nowhere.jsonl")["collection"]
    assert problems("beside.jsonl") == {}
    (folder / "pictures").mkdir()
    photo(1).save(folder / "pictures" / "a.png")
    assert "no captions" in problems("pictures")["collection"]
    (folder / "own.jsonl").rename(folder / "moved")
    try:
        assert "own" in problems("beside.jsonl")["run"]  # the leakage check needs the run's collection too
    finally:
        (folder / "moved").rename(folder / "own.jsonl")


def test_near_duplicates_are_kept_together_by_runs_that_say_so(tmp_path: Path) -> None:
    pictures = [item(f"p{n}", photo(n)) for n in range(12)] + [item("again", photo(0), form="JPEG")]
    drawings = [dataclasses.replace(one, style="flat") for one in pictures]

    def parted(config: dict[str, Any], items: list[Item] = pictures) -> int:
        apart = 0
        for seed in range(8):
            splits = job_inputs.splits_of(
                CaptionedImages("mine", items), {"split_seed": seed, **config}, tmp_path
            )
            side = {row: part for part, rows in splits.parts.items() for row in rows.tolist()}
            apart += side[0] != side[12]
        return apart

    assert parted({"keep_lookalikes_together": True}) == 0
    assert parted({}) > 0  # a run of an earlier version: its splits stay what they were
    assert parted({"keep_lookalikes_together": True}, drawings) == parted({})
