"""Train the hash heads and the text tower on frozen features of pictures and texts.

Each step draws some concepts, with one picture and one text of each (the name or a keyword, in any language).
The loss pulls together texts and pictures of one concept, or of concepts that share the text, by float
similarity and by the codes at every length at once.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from adapters.vlm_quantization.encoding.checkpoint import BEST, LAST, REFIT, ModelConfig, Provenance
from adapters.vlm_quantization.model import CrossModalHashModel
from adapters.vlm_quantization.towers.registry import about_encoder, image_name, text_name, text_tower
from adapters.vlm_quantization.train.batches import Batches, trained_languages
from adapters.vlm_quantization.train.losses import batch_loss
from adapters.vlm_quantization.train.optimiser import PlainAdamW
from adapters.vlm_quantization.train.validation import DECIDING, Validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.towers.tower import TextTower


class Recorder(Protocol):
    """The part of a run that training needs."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log the metrics of a step."""

    def log_checkpoint(self, name: str, path: Path) -> Path:
        """Save a copy of a file under a name, atomically."""


@dataclass(frozen=True)
class Trained:
    """The outcome of training: the best model's validation metrics, and its step.

    Attributes
    ----------
    steps : int
        Steps taken; fewer than requested if training stopped early.
    best_step : int
        Step of the best model.
    best : dict of str to float
        Its validation metrics.
    seconds : float
        Duration of the training.
    """

    steps: int
    best_step: int
    best: dict[str, float]
    seconds: float


def train(
    collection: CaptionedImages,
    splits: Splits,
    features: NDArray[np.float32],
    tower: str,
    options: TrainOptions,
    run: Recorder,
    progress: OnProgress,
    texts: TextTower | None = None,
) -> Trained:
    """Train, log to a run, and save ``best.safetensors`` and ``last.safetensors`` as its checkpoints.

    Checkpoints are saved atomically at every validation, so that after an interruption the latest one is
    usable. The test parts are used neither for training nor for selection.

    With ``refit_steps``, the best model is then trained further on all pictures, including held-out ones, and
    saved as ``refit.safetensors``: the checkpoint to publish, since a search page should know the whole
    collection. It cannot be evaluated; an evaluation refuses it by its provenance.

    Parameters
    ----------
    collection : CaptionedImages
    splits : Splits
    features : ndarray, float32, shape (n, d)
        Frozen features of all pictures of the collection.
    tower : str
        Fingerprint of the network that made them.
    options : TrainOptions
    run : Recorder
        Receives metrics and checkpoints.
    progress : callable
        ``progress(done, total, message)``.
    texts : TextTower, optional
        The frozen text tower, for example one that remembers the collection's texts; otherwise the one that
        the options name, which encodes every text here. Not used with ``text_tower="ngrams"``.
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    started = time.monotonic()
    batches = Batches(collection, splits.train, options)
    texts = (texts or text_tower(frozen)) if (frozen := frozen_texts(options)) else None
    text_features = None if texts is None else texts.features(batches.texts.texts)
    model = _model(features, splits, batches, options, texts, text_features)
    components = model.components(torch.from_numpy(features))
    validation = Validation(
        collection, splits, components, options.lengths, texts, trained_languages(collection, options)
    )
    origin = Provenance(
        tower=tower,
        encoder=about_encoder(options.encoder),
        text_tower="" if texts is None else texts.fingerprint,
        languages=trained_languages(collection, options),
        text_languages=() if texts is None else texts.languages,
        data=collection.fingerprint,
        split=splits.fingerprints["train"],
        seed=options.seed,
    )
    total = options.steps + options.refit_steps
    best: dict[str, float] = {}
    best_step, best_weights, since, step = 0, model.state_dict(), 0, 0
    for step, parts in _steps(model, batches, (components, text_features), options, options.steps):
        progress(step, total, f"training, loss {float(parts['loss'].detach()):.2f}")
        if step % 10 == 0 or step == options.steps:
            run.log({f"train/{name}": float(value.detach()) for name, value in parts.items()}, step=step)
        if step % options.validate_every and step != options.steps:
            continue
        measured = validation.measure(model.eval())
        run.log(measured, step=step)
        # without a validation part nothing can be selected: the last model counts
        better = not best or not validation.measures or measured[DECIDING] > best[DECIDING]
        _keep(model, origin.model_copy(update={"step": step}), run, [LAST, BEST] if better else [LAST])
        if better:
            best, best_step, since = measured, step, 0
            best_weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        else:
            since += 1
            if since >= options.patience:
                break
    if options.refit_steps:
        model.load_state_dict(best_weights)
        for more in _refit(model, collection, splits, components, options, texts):
            progress(total - options.refit_steps + more, total, "refit on all pictures")
        update = {"split": f"all of {collection.fingerprint}", "step": best_step + options.refit_steps}
        _keep(model.eval(), origin.model_copy(update=update), run, [REFIT])
    return Trained(step, best_step, best, time.monotonic() - started)


def _refit(
    model: CrossModalHashModel,
    collection: CaptionedImages,
    splits: Splits,
    components: Tensor,
    options: TrainOptions,
    texts: TextTower | None,
) -> Iterator[int]:
    """Continue on all pictures, with less noise: the search index holds these pictures, not other drawings.

    Some texts are two words of a concept, like a visitor's query, and more are keywords. The training before
    does not use word pairs: they slightly reduce the accuracy on names, which the evaluation measures.
    """
    update = {
        "noise": options.noise / 3,
        "style_noise": 0.0,
        "dropout": options.dropout / 2,
        "ngram_dropout": options.ngram_dropout / 2,
        "text_noise": options.text_noise / 2,
        "name_share": options.name_share / 2,
    }
    gentle = options.model_copy(update=update)
    model.regularise(gentle.dropout, gentle.ngram_dropout)
    everything = Batches(collection, np.arange(len(collection)), gentle, splits.unseen, options.two_words)
    text_features = None if texts is None else texts.features(everything.texts.texts)
    for step, _ in _steps(model, everything, (components, text_features), gentle, options.refit_steps):
        yield step


def _steps(
    model: CrossModalHashModel,
    batches: Batches,
    inputs: tuple[Tensor, NDArray[np.float32] | None],
    options: TrainOptions,
    steps: int,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Take steps, and yield the number (from 1) and the loss terms of each; with warm-up and decay.

    ``inputs``: the components of all pictures, and the frozen features of the texts of ``batches``.
    """
    components, features = inputs
    text_components = None if features is None else model.text_components(torch.from_numpy(features))
    rate = options.learning_rate
    optimiser = PlainAdamW(model.parameters(), rate, weight_decay=options.weight_decay, fused=True)
    # the schedule divides by the warm-up steps minus one, so the warm-up takes at least two
    total = max(steps, 4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=total, pct_start=max(0.1, 2 / total)
    )
    for step in range(1, steps + 1):
        model.train()
        loss, parts = batch_loss(model, batches, components, options, text_components)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        schedule.step()
        yield step, parts


def frozen_texts(options: TrainOptions) -> str:
    """Return the name of the frozen text tower that options ask for; empty for n-grams alone."""
    own = text_name(options.encoder)
    return {"ngrams": "", "both": own, "own": own}.get(options.text_tower, options.text_tower)


def _model(
    features: NDArray[np.float32],
    splits: Splits,
    batches: Batches,
    options: TrainOptions,
    texts: TextTower | None,
    text_features: NDArray[np.float32] | None,
) -> CrossModalHashModel:
    seen = features[splits.train]
    config = ModelConfig(
        image_tower=image_name(options.encoder),
        image_dim=features.shape[1],
        image_components=min(options.components, *seen.shape),
        hidden=options.hidden,
        dim=options.dim,
        text_buckets=options.text_buckets,
        text_width=options.text_width,
        ngrams=options.text_tower in ("ngrams", "both"),
        ngram_softness=options.ngram_softness if options.text_tower == "both" else 0.0,
        text_tower="" if texts is None else texts.name,
        text_dim=0 if text_features is None else text_features.shape[1],
        text_components=0 if text_features is None else min(options.text_components, *text_features.shape),
    )
    model = CrossModalHashModel(
        config,
        dropout=options.dropout,
        ngram_dropout=options.ngram_dropout,
        part_dropout=options.part_dropout,
    )
    if model.embedding is not None:
        # beside frozen features, rows start at zero, so what training never uses adds nothing to a new word
        torch.nn.init.normal_(model.embedding.weight, std=0.0 if config.text_tower else 0.05)
    model.fit_components(seen, features[batches.pairs], options.agreement)
    if text_features is not None:
        model.fit_text_components(text_features)
    return model


def _keep(model: CrossModalHashModel, provenance: Provenance, run: Recorder, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LAST
        model.save(path, provenance)
        for name in names:
            run.log_checkpoint(name, path)
