"""Towers are trained: what changes, what does not, and what the checkpoint makes of it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import workbench as wb
from adapters.vlm_quantization import adapter as family
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.encoding.checkpoint import tuned_weights
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.evaluate import job as eval_job
from adapters.vlm_quantization.index import quick as index_job
from adapters.vlm_quantization.options import TrainOptions
from adapters.vlm_quantization.towers import registry, tuned
from adapters.vlm_quantization.train import job as train_job
from adapters.vlm_quantization.train import state
from adapters.vlm_quantization.train.batches import Batches
from adapters.vlm_quantization.train.finite import NotFinite
from adapters.vlm_quantization.train.picture_views import Versions
from adapters.vlm_quantization.train.tuning import inputs, lora
from adapters.vlm_quantization.train.tuning.groups import depths, parameter_groups, used_parameters
from adapters.vlm_quantization.train.tuning.step import TunedStep
from adapters.vlm_quantization.train.tuning.towers import TrainableTowers
from tests.adapters.vlm_quantization import shapes
from tests.adapters.vlm_quantization.train.fitting import Notebook, fit

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # transformers' own

#: A training of towers that learns within a few steps.
TUNED: dict[str, Any] = {
    "tune": "towers",
    "text_tower": "own",
    "tower_lr": 2e-3,
    "noise": 0.0,
    "dropout": 0.0,
    "batch": 8,
}


def options(models: Path, model: str = "siglip", **changes: Any) -> TrainOptions:
    return shapes.options(**{**TUNED, "encoder": str(models / model), "device": "cpu", **changes})


@pytest.fixture(scope="module")
def trained(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    folder = tmp_path_factory.mktemp("tuned") / "run"
    return fit(folder, encoder=str(models / "siglip"), **TUNED, steps=30, validate_every=10)[0]


# --- what is trained ----------------------------------------------------------------------------------------


def test_the_loss_goes_down_and_the_checkpoint_has_other_towers(trained: Notebook, models: Path) -> None:
    losses = [metrics["train/loss"] for _, metrics in trained.logged if "train/loss" in metrics]
    assert losses[-1] < losses[0]
    speeds = [metrics for _, metrics in trained.logged if "tuning/pictures_per_second" in metrics]
    assert all(one["tuning/pictures_per_second"] > 0 and one["tuning/gradient_norm"] > 0 for one in speeds)
    encoder = HashEncoder.load(trained.folder / "best.safetensors")
    pictures = [shapes.collection().open(row) for row in range(4)]
    before = registry.encoder_pair(str(models / "siglip"))
    assert np.abs(encoder.tower.features(pictures) - before.image.features(pictures)).max() > 0.01
    assert encoder.text_tower is not None
    assert before.text is not None
    assert np.abs(encoder.text_tower.features(["red"]) - before.text.features(["red"])).max() > 0.01
    # validation measured the towers that the checkpoint has
    origin = encoder.checkpoint.provenance
    assert origin.tuned["image"] == before.image.fingerprint
    assert origin.tower == tuned.tuned_fingerprint(before.image.fingerprint, origin.tuned["weights"])
    assert origin.tower == encoder.tower.fingerprint != before.image.fingerprint
    assert encoder.tower.dim == encoder.checkpoint.config.image_dim


def test_heads_alone_leave_the_towers_as_they_are(models: Path, tmp_path: Path) -> None:
    run, _ = fit(tmp_path / "run", encoder=str(models / "siglip"), text_tower="own", steps=4)
    encoder = HashEncoder.load(run.folder / "best.safetensors")
    assert not encoder.checkpoint.config.tuned
    assert not encoder.checkpoint.provenance.tuned
    assert encoder.tower is registry.encoder_pair(str(models / "siglip")).image


@pytest.mark.parametrize("model", ["siglip", "openclip"])
def test_parameters_belong_to_the_tower_that_uses_them(model: str, models: Path) -> None:
    pair = registry.fresh_pair(str(models / model))
    assert pair.image is not registry.encoder_pair(str(models / model)).image
    tower: Any = pair.text
    values = {name: torch.from_numpy(value) for name, value in tower.inputs(["red"]).items()}
    texts = used_parameters(tower.network(), values)
    assert texts
    assert not [name for name in texts if name.startswith(("vision", "visual", "logit"))]
    depth = depths(texts)
    assert {depth[name] for name in depth if "token_embedding" in name} == {0}
    assert set(depth.values()) == {0, 1, 2, 3}  # embeddings, two layers, and what follows them
    groups = parameter_groups(texts, 1e-3, 0.1, layer_decay=0.5)
    rates = {
        (group["lr"], group["weight_decay"]): sum(one.ndim < 2 for one in group["params"]) for group in groups
    }
    assert {lr for lr, _ in rates} == {1e-3, 5e-4, 2.5e-4, 1.25e-4}
    assert not any(small for (_, decay), small in rates.items() if decay)  # biases and norms do not decay


def test_first_layers_can_be_frozen_and_texts_be_left_alone(models: Path) -> None:
    whole = TrainableTowers(options(models), "cpu", texts=True)
    part = TrainableTowers(options(models, frozen_layers=1), "cpu", texts=True)
    left = set(whole.parameters) - set(part.parameters)
    assert left
    assert all("embed" in name or ".layers.0." in name for name in left)
    assert not [name for name, value in part.model.named_parameters() if value.requires_grad and name in left]
    frozen = TrainableTowers(options(models, text_tower_lr=0), "cpu", texts=True)
    assert frozen.text is None
    assert all(name.startswith("vision_model") for name in frozen.parameters)
    with pytest.raises(wb.BadInput, match=r"frozen_layers=3, but the image tower of .* has 2 layers"):
        TrainableTowers(options(models, frozen_layers=3), "cpu", texts=True)


# --- LoRA ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["siglip", "openclip"])
def test_lora_changes_factors_alone_and_is_merged_without_peft(
    model: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[TrainableTowers] = []
    start = TrainableTowers.__init__

    def watched(self: TrainableTowers, *given: Any, **more: Any) -> None:
        start(self, *given, **more)
        made.append(self)

    monkeypatch.setattr(TrainableTowers, "__init__", watched)
    run, _ = fit(
        tmp_path / "run",
        encoder=str(models / model),
        **{**TUNED, "tune": "lora", "tower_lr": 0.02},
        lora_rank=2,
        steps=6,
    )
    towers, before = made[0], registry.fresh_pair(str(models / model))
    known = dict(before.image.network().model.named_parameters())  # type: ignore[attr-defined]
    for name, value in towers.model.named_parameters():
        if ".lora_" not in name:
            assert torch.equal(value, known[name.replace(".base_layer", "")])
    assert all(".lora_" in name for name in towers.parameters)
    monkeypatch.setitem(sys.modules, "peft", None)
    encoder = HashEncoder.load(run.folder / "last.safetensors")
    size = (run.folder / "last.safetensors").stat().st_size
    assert set(dict(tuned_weights(encoder.checkpoint))) == set(encoder.checkpoint.config.tuned)
    assert sum(np.prod(shape) for shape in encoder.checkpoint.config.tuned.values()) * 4 < size / 2
    pictures = [shapes.collection().open(row) for row in range(4)]
    own = towers.features("image", [towers.image.inputs(pictures)])
    assert np.abs(encoder.tower.features(pictures) - own).max() < 1e-5
    assert np.abs(own - before.image.features(pictures)).max() > 1e-3
    assert encoder.text_tower is not None
    texts = ["red circle", "파란 사각형"]
    assert np.abs(encoder.text_tower.features(texts) - towers.text_features(texts)).max() < 1e-5


def test_without_peft_lora_says_what_to_install(
    models: Path, monkeypatch: pytest.MonkeyPatch, workspace: wb.Workspace
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(wb.MissingExtra, match=r"\[lora\]"):
        lora.add_lora(torch.nn.Linear(2, 2), {"weight"}, 1, 1)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    problems = dict(family.find_problems("train", options(models, tune="lora"), workspace))
    assert "peft" in problems["tune"]


# --- gradients ----------------------------------------------------------------------------------------------


def gradients(
    models: Path, model: str, variants: list[dict[str, Any]], **changes: Any
) -> list[dict[str, torch.Tensor]]:
    """Return the gradients of the first batch's loss for each variant of the options, of heads and towers."""
    from adapters.vlm_quantization.train import train

    torch.set_num_threads(1)  # as a training does
    own, collection = options(models, model, **changes), shapes.collection()
    splits = make_splits(collection, 0)
    batches = Batches(collection, splits.train, own)
    batch = batches.draw()
    pair = registry.encoder_pair(own.encoder)
    features = pair.image.features([collection.open(row) for row in range(len(collection))])
    assert pair.text is not None
    known = pair.text.features(batches.texts.texts)
    ids = [item.id for item in collection.items]
    heads = train._model(features, splits, batches, own, pair.text, known).train()
    out = []
    for variant in variants:
        changed = own.model_copy(update=variant)
        towers = TrainableTowers(changed, "cpu", texts=True)
        pictures = inputs.PictureInputs(Versions(collection, changed.views, flip=False), towers.image)
        step = TunedStep(heads, towers, batches, pictures, None, ids, changed)
        towers.train()
        heads.zero_grad()
        torch.manual_seed(1)
        step.backward(batch, torch.amp.GradScaler("cpu", enabled=False))
        named = {**dict(heads.named_parameters()), **towers.parameters}
        out.append({name: value.grad.clone() for name, value in named.items() if value.grad is not None})
    return out


@pytest.mark.parametrize("model", ["siglip", "openclip"])
def test_parts_of_a_batch_and_checkpointing_give_the_gradient_of_the_whole(model: str, models: Path) -> None:
    variants: list[dict[str, Any]] = [
        {"accumulate": 3},
        {"gradient_checkpointing": True},
        {"accumulate": 100},
    ]
    # noise is drawn alike, since the towers draw nothing
    whole, *others = gradients(models, model, [{}, *variants], noise=0.1)
    assert len(whole) > 40
    # of some, such as the bias of keys, the gradient is rounding alone
    least = 1e-3 * float(torch.nn.utils.get_total_norm(list(whole.values())))
    for other in others:
        assert other.keys() == whole.keys()
        for name, value in whole.items():
            assert (other[name] - value).norm() <= 1e-3 * max(float(value.norm()), least), name


def test_towers_are_trained_on_views_of_the_pictures(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: set[tuple[int, int]] = set()
    real = Versions.__call__

    def watched(self: Versions, row: int, version: int) -> Any:
        opened.add((row, version))
        return real(self, row, version)

    monkeypatch.setattr(Versions, "__call__", watched)
    (plain,) = gradients(models, "siglip", [{}])
    assert {version for _, version in opened} == {0}
    opened.clear()
    (changed,) = gradients(models, "siglip", [{}], views=1, view_share=1.0)
    assert {version for _, version in opened} == {1, 2}
    assert any(not torch.equal(changed[name], value) for name, value in plain.items())
    collection = shapes.collection()
    versions = Versions(collection, 1, flip=False)
    assert versions(0, 0).tobytes() == collection.open(0).tobytes()
    assert versions(0, 1).tobytes() == versions(0, 1).tobytes() != versions(0, 2).tobytes()
    with pytest.raises(ValidationError, match="leave it out with tune"):
        options(models, views=1, consistency=1.0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_other_precisions_train_on_the_cpu(precision: str, models: Path, tmp_path: Path) -> None:
    run, done = fit(
        tmp_path / "run", encoder=str(models / "siglip"), **TUNED, precision=precision, steps=3, accumulate=2
    )
    assert done is not None
    assert HashEncoder.load(run.folder / "best.safetensors").encode_texts(["red"]).codes.shape == (1, 16)


# --- what stops a training, and what goes on ----------------------------------------------------------------


def test_a_loss_that_is_not_finite_stops_with_step_and_items(
    models: Path, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, broken = shapes.collection(), "filled-red-circle"
    monkeypatch.setattr(train_job, "open_collection", lambda *_, **__: collection)
    real = inputs.PictureInputs.__call__
    calls: list[int] = []

    def poisoned(self: Any, rows: list[int], versions: Sequence[int] = ()) -> Any:
        values = {name: value.copy() for name, value in real(self, rows, versions).items()}
        calls.append(len(rows))
        for place, row in enumerate(rows):
            if collection.items[row].id == broken and len(calls) > 1:
                values["pixel_values"][place] = np.nan
        return values

    monkeypatch.setattr(inputs.PictureInputs, "__call__", poisoned)
    settings = options(models, steps=20, validate_every=1, batch=18, val_share=0).model_dump()
    with (
        pytest.raises(NotFinite) as caught,
        wb.job_scope("train", "vlm_quantization", settings, workspace=workspace) as job,
    ):
        job.adapter.train(job.options, job)
    error = caught.value
    assert broken in error.items
    assert f"step {error.step}: the loss is nan" in error.message
    assert f"Not finite already before the loss: picture {broken}" in error.message
    assert "a lower tower_lr" in error.hint
    listed = workspace.jobs_dir / str(job.id) / f"batch-of-step-{error.step}.txt"
    assert str(listed) in error.advice
    assert listed.read_text().split() == list(error.items)
    run = workspace.runs()[0]
    assert run.status == "failed"
    assert run.error is not None
    assert "the loss is nan" in run.error["message"]
    if error.step > 1:  # the last good one is kept
        assert HashEncoder.load(Path(run.checkpoint("last.safetensors"))).tower


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from adapters.vlm_quantization.train import loop

    monkeypatch.setattr(loop, "gradient_norm", lambda _: float("inf"))
    with pytest.raises(NotFinite, match="step 1: the gradient is not finite") as caught:
        fit(tmp_path / "run")
    assert len(caught.value.items) == 16
    assert "and 8 more" in caught.value.message


def test_a_step_without_memory_says_what_to_try(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TunedStep, "backward", full)
    with pytest.raises(wb.BadInput, match="step 1 needs more memory than there is") as caught:
        fit(tmp_path / "run", encoder=str(models / "siglip"), **TUNED, accumulate=2)
    assert "accumulate=4, a smaller batch (now 8), gradient_checkpointing=true" in caught.value.hint


@pytest.mark.parametrize("tune", ["towers", "lora"])
def test_a_killed_tuning_goes_on_to_the_same_weights(tune: str, models: Path, tmp_path: Path) -> None:
    changes = {**TUNED, "tune": tune, "encoder": str(models / "siglip"), "steps": 4, "validate_every": 2}
    changes |= {"refit_steps": 2, "noise": 0.2, "dropout": 0.2, "layer_decay": 0.8}
    whole, _ = fit(tmp_path / "whole", **changes)
    for kill_at in (2, 6):
        keeper = state.StateFile(tmp_path / "state", every=0)
        fit(tmp_path / "killed", kill_at=kill_at, keeper=keeper, **changes)
        rest, _ = fit(tmp_path / f"rest-{kill_at}", saved=state.read_state(keeper.path), **changes)
        for name in ("best.safetensors", "refit.safetensors"):
            assert (rest.folder / name).read_bytes() == (whole.folder / name).read_bytes()


# --- refusals -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": "packaged"}, "'packaged' is packaged for inference"),
        ({"encoder": "random"}, "'random' is packaged for inference"),
        ({"encoder": "openvino:packaged"}, "OpenVINO, which cannot train it"),
    ],
)
def test_encoders_that_cannot_be_tuned_are_refused_before_a_job(
    changes: dict[str, Any], words: str, workspace: wb.Workspace
) -> None:
    given = TrainOptions(tune="towers", text_tower="own", **changes)
    problems = dict(family.find_problems("train", given, workspace))
    assert words in problems["tune"]
    assert "transformers or OpenCLIP" in problems["tune"]
    with pytest.raises(wb.BadInput, match="cannot"):
        registry.fresh_pair(given.encoder)


def test_the_learning_rate_of_towers_depends_on_what_is_tuned() -> None:
    assert TrainOptions().tower_lr is None
    assert TrainOptions(tune="towers").tower_lr == 1e-5
    assert TrainOptions(tune="lora").tower_lr == 2e-4
    assert TrainOptions(tune="lora", tower_lr=1e-3).tower_lr == 1e-3


def test_tuned_weights_that_do_not_fit_are_refused(trained: Notebook, models: Path, tmp_path: Path) -> None:
    model: Any = registry.fresh_pair(str(models / "siglip")).image.network().model  # type: ignore[attr-defined]
    with pytest.raises(wb.BadInput, match="no such weight"):
        tuned.lay_over(model, [("other.weight", np.zeros((2, 2), np.float32))], "siglip")
    with pytest.raises(wb.BadInput, match=r"has shape \(2, 2\), but encoder 'siglip' has shape"):
        tuned.lay_over(model, [("text_model.head.weight", np.zeros((2, 2), np.float32))], "siglip")
    data = bytearray((trained.folder / "best.safetensors").read_bytes())
    changed = tmp_path / "changed.safetensors"
    encoder = HashEncoder.load(trained.folder / "best.safetensors")
    data[-1] ^= 1  # in a tuned weight or in a head's
    changed.write_bytes(data)
    with pytest.raises(wb.CorruptFile, match="altered after writing"):
        HashEncoder.load(changed)
    encoder.checkpoint.path = tmp_path / "gone.safetensors"
    with pytest.raises(wb.CorruptFile, match="tuned weights cannot be read"):
        encoder.tower.features([shapes.collection().open(0)])


# --- the whole way ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def way(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    """A workspace with a tuned run, its evaluation and an index of it."""
    settings = options(models, steps=6, validate_every=3, refit_steps=2, tune="lora").model_dump()
    with (
        pytest.MonkeyPatch.context() as patch,
        wb.Workspace(tmp_path_factory.mktemp("way") / "results") as workspace,
    ):
        for module in (train_job, eval_job, index_job):
            patch.setattr(module, "open_collection", lambda *_, **__: shapes.collection())
        for task, method, given in (
            ("train", "train", settings),
            ("eval", "evaluate", {"resamples": 50, "ks": [1, 3], "single_length": True}),
            ("index_build", "build_index", {"name": "shapes"}),
        ):
            with wb.job_scope(task, "vlm_quantization", given, workspace=workspace) as job:
                job.finish(getattr(job.adapter, method)(job.options, job))
        yield workspace


def test_a_tuned_run_is_evaluated_indexed_searched_and_explained(way: wb.Workspace) -> None:
    result = way.jobs(type="train")[0].result
    assert any("Changes of rank 8 (LoRA) were trained too" in note for note in result.views[-1].notes)
    evaluation = way.jobs(type="eval")[0].result
    assert 0 <= evaluation.metrics["t2i/R@3@128"] <= 1
    card = str([view.data for view in evaluation.views])
    assert "changes of low rank (LoRA) of the networks for pictures and texts" in card
    adapter = wb.get_adapter("vlm_quantization")
    index = adapter.load_index(way.indexes / "shapes")
    plain = adapter.options("search")()
    picture = shapes.collection().open(0)
    assert adapter.search_by_image(index, picture, 3, plain).hits[0].id == shapes.collection().items[0].id
    assert len(adapter.search_by_text(index, "빨간 원", 5, plain).hits) == 5
    encoder = index.encoder
    assert encoder.checkpoint.provenance.tuned["mode"] == "lora"
    assert encoder.checkpoint.path.parent == way.indexes / "shapes"  # the index has its weights
    # features of the towers before and after are on different shelves: pictures and texts of each, thumbnails
    assert len([folder for folder in (way.cache / "features").iterdir() if any(folder.iterdir())]) >= 5
    searcher = way.open_search("shapes")
    assert searcher.explain("red circle", searcher.by_text("빨간 원", k=1)[0]).summary
