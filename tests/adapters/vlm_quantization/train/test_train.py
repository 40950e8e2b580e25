from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.splits import make_splits
from adapters.vlm_quantization.encoding import checkpoint
from adapters.vlm_quantization.encoding.encoder import HashEncoder
from adapters.vlm_quantization.model import CrossModalHashModel
from adapters.vlm_quantization.towers.dummy import DummyTextModel, DummyVisionModel
from adapters.vlm_quantization.towers.features import Encoding, picture_features
from adapters.vlm_quantization.train import train
from adapters.vlm_quantization.train.batches import Batches, drawn_rows
from adapters.vlm_quantization.train.losses import length_weights
from adapters.vlm_quantization.train.picture_views import view_features
from tests.adapters.vlm_quantization import shapes


class Notebook:
    """Stands in for a run: saves checkpoints to a folder and metrics to a list."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))

    def log_checkpoint(self, name: str, path: Path) -> None:
        shutil.copy(path, self.folder / name)


def fit(
    folder: Path, progress: Any = lambda *_: None, texts: Any = None, **changes: Any
) -> tuple[Notebook, train.Trained]:
    folder.mkdir(parents=True, exist_ok=True)
    collection = shapes.collection()
    tower = DummyVisionModel()
    features = picture_features(collection, tower, folder)
    run = Notebook(folder)
    splits = make_splits(collection, 0)
    options = shapes.options(**changes)
    views = view_features(collection, tower, options.views, folder)
    done = train.train(collection, splits, features, "random/0", options, run, progress, texts, views)
    return run, done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Notebook, train.Trained]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, *fit(folder)


def codes(folder: Path, name: str = checkpoint.BEST) -> np.ndarray:
    encoder = HashEncoder.load(folder / name)
    images = [shapes.collection().open(row) for row in range(6)]
    return np.concatenate(
        [encoder.encode_texts(["red circle", "파란 사각형"]).codes, encoder.encode_images(images).codes]
    )


def test_training_reduces_the_loss_and_logs_validation(trained: tuple[Path, Notebook, train.Trained]) -> None:
    _, run, done = trained
    losses = [metrics["train/loss"] for _, metrics in run.logged if "train/loss" in metrics]
    assert losses[-1] < 0.8 * losses[0]
    assert done.steps == 60
    assert {"val/R@10", "val/R@10@float", *(f"val/mAP@{length}" for length in CODE_LENGTHS)} <= set(done.best)


def test_trained_codes_are_prefixes_at_every_length(trained: tuple[Path, Notebook, train.Trained]) -> None:
    import torch

    folder, *_ = trained
    model = CrossModalHashModel.load(folder / checkpoint.BEST)
    with torch.no_grad():
        margins = model.text_code(model.text_vectors(*model.text_rows(["red circle", "파란 사각형"])))
    whole = codes(folder)[:2]
    for length in CODE_LENGTHS:
        short = np.packbits((margins[:, :length] >= 0).numpy(), axis=1)
        assert np.array_equal(short, whole[:, : length // 8])


def test_the_same_seed_gives_the_same_codes_and_another_seed_others(
    trained: tuple[Path, Notebook, train.Trained], tmp_path: Path
) -> None:
    folder, *_ = trained
    fit(tmp_path / "again")
    fit(tmp_path / "other", seed=1)
    assert np.array_equal(codes(folder), codes(tmp_path / "again"))
    assert not np.array_equal(codes(folder), codes(tmp_path / "other"))


def test_what_runs_between_the_steps_does_not_change_the_weights(
    trained: tuple[Path, Notebook, train.Trained], tmp_path: Path
) -> None:
    """A person may look at the model, and draw random numbers, before its training."""
    import torch

    folder, *_ = trained
    collection = shapes.collection()
    features = picture_features(collection, DummyVisionModel(), tmp_path)
    ready = train.set_up(collection, make_splits(collection, 0), features, "random/0", shapes.options())
    torch.rand(100)
    torch.set_num_threads(2)
    with torch.no_grad():
        ready.validation.measure(ready.model.eval())
    train.fit(ready, Notebook(tmp_path), lambda *_: None)
    assert HashEncoder.load(tmp_path / checkpoint.BEST).fingerprint == (
        HashEncoder.load(folder / checkpoint.BEST).fingerprint
    )


@pytest.mark.parametrize("kind", ["multilingual", "both"])
def test_a_frozen_text_tower_is_trained_on_recorded_and_used(tmp_path: Path, kind: str) -> None:
    run, done = fit(
        tmp_path, texts=DummyTextModel(), text_tower=kind, text_noise=0.1, part_dropout=0.2, refit_steps=5
    )
    losses = [metrics["train/loss"] for _, metrics in run.logged if "train/loss" in metrics]
    assert losses[-1] < 0.8 * losses[0]
    for name in (checkpoint.BEST, checkpoint.REFIT):
        encoder = HashEncoder.load(tmp_path / name)
        config, origin = encoder.checkpoint.config, encoder.checkpoint.provenance
        assert (config.text_tower, config.text_dim, config.ngrams) == ("random", 64, kind == "both")
        assert (origin.text_tower, origin.languages) == ("random/0/4096", ("en", "ko"))
        assert encoder.encode_texts(["red circle"]).codes.any()
    # validation measured what the encoder gives
    assert done.best["val/R@10@float"] > 0.3


def test_one_language_alone_can_be_trained_on_and_decides(tmp_path: Path) -> None:
    fit(tmp_path / "both", steps=20)
    fit(tmp_path / "en", steps=20, languages=("en",))
    origin = HashEncoder.load(tmp_path / "en" / checkpoint.BEST).checkpoint.provenance
    assert origin.languages == ("en",)
    assert not np.array_equal(codes(tmp_path / "both"), codes(tmp_path / "en"))


def test_interrupted_training_leaves_a_checkpoint_that_works(tmp_path: Path) -> None:
    def interrupt(done: float, _total: float | None, _message: str) -> None:
        if done == 45:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, interrupt)
    encoder = HashEncoder.load(tmp_path / checkpoint.LAST)
    assert encoder.checkpoint.provenance.step == 40
    assert encoder.encode_texts(["red"]).codes.shape == (1, 16)


def test_it_stops_early_when_validation_no_longer_gains(tmp_path: Path) -> None:
    _, done = fit(tmp_path, steps=400, validate_every=5, patience=2, learning_rate=0.05)
    assert done.steps < 400
    assert done.steps == done.best_step + 10


def test_without_a_validation_part_the_last_model_is_kept(tmp_path: Path) -> None:
    """As with val_share=0, for a protocol that trains on the whole training split."""
    whole = shapes.collection()
    items = [
        dataclasses.replace(item, split="test" if row < 8 else "train")
        for row, item in enumerate(whole.items)
    ]
    collection = CaptionedImages("shapes", items)
    features = picture_features(collection, DummyVisionModel(), tmp_path)
    splits = make_splits(collection, val_share=0)
    assert splits.counts == {"train": 40, "test": 8}
    options = shapes.options(steps=12, validate_every=3, patience=1)
    done = train.train(collection, splits, features, "random/0", options, Notebook(tmp_path), lambda *_: None)
    assert (done.steps, done.best_step) == (12, 12)
    best, last = (HashEncoder.load(tmp_path / name) for name in (checkpoint.BEST, checkpoint.LAST))
    assert best.fingerprint == last.fingerprint


def test_the_test_parts_are_never_read(tmp_path: Path) -> None:
    collection = shapes.collection()
    splits = make_splits(collection, 0)
    features = picture_features(collection, DummyVisionModel(), tmp_path)
    held = np.concatenate([splits.test_drawings, splits.test_concepts])
    assert len(held) > 5
    # the refit may read them; the evaluated checkpoint must not, with or without a refit
    spoiled = features.copy()
    spoiled[held] = 1e6
    for folder, inputs, refit in (("plain", features, 0), ("spoiled", spoiled, 5)):
        (tmp_path / folder).mkdir()
        run = Notebook(tmp_path / folder)
        options = shapes.options(steps=20, refit_steps=refit)
        train.train(collection, splits, inputs, "random/0", options, run, lambda *_: None)
    assert np.array_equal(codes(tmp_path / "plain"), codes(tmp_path / "spoiled"))


def test_the_refit_has_seen_held_out_data_and_records_it(
    trained: tuple[Path, Notebook, train.Trained], tmp_path: Path
) -> None:
    fit(tmp_path, refit_steps=60)
    collection = shapes.collection()
    splits = make_splits(collection, 0)
    held = {collection.items[row].concept for row in splits.test_concepts.tolist()}
    texts = [item.captions["en"][0] for item in collection.items if item.concept in held]
    images = [collection.open(row) for row in splits.test_concepts.tolist()]

    def agreement(encoder: HashEncoder) -> float:
        text, image = encoder.encode_texts(texts).features, encoder.encode_images(images).features
        return float((text * image).sum(1).mean())

    best, refit = HashEncoder.load(tmp_path / checkpoint.BEST), HashEncoder.load(tmp_path / checkpoint.REFIT)
    assert agreement(refit) > agreement(best) + 0.1
    assert refit.checkpoint.provenance.split != splits.fingerprints["train"]
    assert best.checkpoint.provenance.split == splits.fingerprints["train"]


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 11])
def test_any_number_of_steps_can_be_taken(tmp_path: Path, steps: int) -> None:
    _, done = fit(tmp_path, steps=steps, refit_steps=steps)
    assert done.steps == steps
    assert (tmp_path / checkpoint.REFIT).is_file()


@pytest.mark.parametrize("length", [8, 64])
def test_one_length_alone_can_be_trained_and_decides(tmp_path: Path, length: int) -> None:
    run, done = fit(tmp_path, lengths=(length,))
    assert done.best["val/R@10"] == done.best[f"val/R@10@{length}"]
    logged = {name for _, metrics in run.logged for name in metrics if name.startswith("train/code@")}
    assert logged == {f"train/code@{length}"}


def test_synthetic_drawings_are_a_mix_plus_a_style_difference() -> None:
    import torch

    collection = shapes.collection()
    rows = make_splits(collection, 0).train
    components = torch.randn(len(collection), 5, generator=torch.Generator().manual_seed(0))
    for style in (0.0, 2.0):
        options = shapes.options(noise=0, style_noise=style)
        batches = Batches(collection, rows, options)
        batch = batches.draw()
        drawn = drawn_rows(batch, components, torch.from_numpy(batches.pairs), options).numpy()
        for place, (first, second) in enumerate(batch.pictures):
            share = batch.mix[place]
            between = share * components[first].numpy() + (1 - share) * components[second].numpy()
            one, other = components[batches.pairs[batch.other[place]]].numpy()
            expected = between + style * batch.push[place] * (one - other)
            assert np.allclose(drawn[place], expected, atol=1e-5)


def test_pictures_without_a_second_drawing_can_be_trained_on(tmp_path: Path) -> None:
    collection = shapes.collection()
    collection.items = collection.items[::2]
    features = picture_features(collection, DummyVisionModel(), tmp_path)
    splits = make_splits(collection, 0)
    run = Notebook(tmp_path)
    done = train.train(collection, splits, features, "random/0", shapes.options(), run, lambda *_: None)
    assert done.steps == 60


@pytest.mark.parametrize(
    ("lengths", "power", "expected"),
    [
        ((8, 32, 128), 0.5, {8: 4 / 7, 32: 2 / 7, 128: 1 / 7}),
        ((8, 128), -1.0, {8: 1 / 17, 128: 16 / 17}),
        (CODE_LENGTHS, 0.0, dict.fromkeys(CODE_LENGTHS, 0.2)),
        ((64,), 0.5, {64: 1.0}),
    ],
)
def test_lengths_are_weighted_by_a_power(
    lengths: tuple[int, ...], power: float, expected: dict[int, float]
) -> None:
    assert length_weights(lengths, power) == pytest.approx(expected)


def test_the_consistency_term_makes_views_of_a_picture_differ_in_fewer_bits(tmp_path: Path) -> None:
    def apart(name: str, weight: float) -> float:
        run, _ = fit(tmp_path / name, views=2, consistency=weight, refit_steps=5)
        shares = [metrics["train/consistency"] for _, metrics in run.logged if "train/consistency" in metrics]
        assert all(0 <= share <= 1 for share in shares)
        return float(np.mean(shares[-3:]))

    assert apart("steady", 10.0) < apart("as it comes", 1e-9) - 0.03


def test_views_and_dropped_words_repeat_with_the_seed_and_change_the_model(
    trained: tuple[Path, Notebook, train.Trained], tmp_path: Path
) -> None:
    folder, *_ = trained
    some: dict[str, dict[str, Any]] = {
        "views": {"views": 1},
        "again": {"views": 1},
        "dropped": {"token_dropout": 0.5},
        "none": {"views": 1, "view_share": 0.0},
    }
    for name, options in some.items():
        fit(tmp_path / name, **options)
    found = {name: codes(tmp_path / name) for name in some} | {"plain": codes(folder)}
    assert np.array_equal(found["views"], found["again"])
    assert np.array_equal(found["none"], found["plain"])
    for name in ("views", "dropped"):
        assert not np.array_equal(found[name], found["plain"])


def test_training_refuses_views_without_their_features() -> None:
    collection = shapes.collection()
    features = np.zeros((len(collection), 4), np.float32)
    with pytest.raises(ValueError, match=r"options\.views is 2"):
        train.train(
            collection,
            make_splits(collection, 0),
            features,
            "random/0",
            shapes.options(views=2),
            Notebook(Path()),
            lambda *_: None,
        )


def test_features_of_views_are_cached_and_reported_as_one_piece_of_work(tmp_path: Path) -> None:
    class Counting(DummyVisionModel):
        encoded = 0

        def features(self, images: Any) -> Any:
            self.encoded += len(images)
            return super().features(images)

    tower, collection = Counting(), shapes.collection()
    told: list[float] = []
    how = Encoding(progress=lambda done, total, _: told.append(done / (total or 1)))
    views = view_features(collection, tower, 2, tmp_path, how=how)
    assert views is not None
    assert [len(views.weak), len(views.strong)] == [2, 2]
    assert tower.encoded == 4 * len(collection)
    assert told == sorted(told)
    assert told[-1] == 1
    again = view_features(collection, tower, 2, tmp_path)
    assert tower.encoded == 4 * len(collection)
    assert again is not None
    assert all(np.array_equal(*pair) for pair in zip(views.strong, again.strong, strict=True))
    assert view_features(collection, tower, 0, tmp_path) is None
