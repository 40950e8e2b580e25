"""Train the hash heads and the text tower on features of pictures and texts, or the towers below them too.

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
from adapters.vlm_quantization.towers.device import chosen_device
from adapters.vlm_quantization.towers.registry import about_encoder, image_name, text_name, text_tower
from adapters.vlm_quantization.train.batches import Batches, trained_languages
from adapters.vlm_quantization.train.loop import Best, Loop, StepReport
from adapters.vlm_quantization.train.picture_views import Versions
from adapters.vlm_quantization.train.state import State, StateFile, part
from adapters.vlm_quantization.train.steps import FrozenStep, Step
from adapters.vlm_quantization.train.tuning.inputs import PictureInputs
from adapters.vlm_quantization.train.tuning.step import TunedStep
from adapters.vlm_quantization.train.tuning.towers import TextsOf, TrainableTowers
from adapters.vlm_quantization.train.validation import DECIDING, Validation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.towers.tower import TextTower
    from adapters.vlm_quantization.train.picture_views import ViewFeatures


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


@dataclass
class Training:
    """A model and what it is trained on, ready for the first step; :func:`set_up` makes it.

    Attributes
    ----------
    collection : CaptionedImages
    splits : Splits
    options : TrainOptions
    model : CrossModalHashModel
        Its weights as they are before the first step.
    towers : TrainableTowers or None
        The towers that are trained too.
    batches : Batches
        Draws pictures and texts of the training part.
    data : Data
        What the steps read.
    text_features : ndarray, float32, shape (t, d), or None
        Features of the texts of ``batches`` by the text tower as its files are.
    validation : Validation
        Measures the model on the validation parts.
    origin : Provenance
        What its checkpoints say of where they come from.
    random_state : Tensor
        State of torch's random numbers before the first step, so that nothing that runs in between matters.
    """

    collection: CaptionedImages
    splits: Splits
    options: TrainOptions
    model: CrossModalHashModel
    towers: TrainableTowers | None
    batches: Batches
    data: Data
    text_features: NDArray[np.float32] | None
    validation: Validation
    origin: Provenance
    random_state: Tensor


def set_up(
    collection: CaptionedImages,
    splits: Splits,
    features: NDArray[np.float32],
    tower: str,
    options: TrainOptions,
    texts: TextTower | None = None,
    views: ViewFeatures | None = None,
    saved: State | None = None,
) -> Training:
    """Make a model with the weights that the options' seed gives, and what its training needs.

    The arguments and errors are those of :func:`train`.
    """
    needed = options.views if options.tune == "heads" else 0  # trained towers encode views as they come
    if needed != (0 if views is None else len(views.weak)):
        raise ValueError(f"options.views is {options.views}; the features of as many views are needed")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    device = chosen_device(options.device)
    batches = Batches(collection, splits.train, options)
    texts = (texts or text_tower(frozen)) if (frozen := frozen_texts(options)) else None
    text_features = None if texts is None else texts.features(batches.texts.texts)
    model = _model(features, splits, batches, options, texts, text_features).to(device)
    if saved is not None:  # its components too, which another machine would fit with other rounding
        model.load_state_dict(part(saved.tensors, "model"))
    towers = None
    if options.tune != "heads":
        towers = TrainableTowers(options, device, texts=frozen == text_name(options.encoder))
    data = Data(collection, model, towers, features, device, texts, views, options)
    validation = Validation(
        collection,
        splits,
        data.components if towers is None else data.validated,
        options.lengths,
        texts if towers is None or towers.text is None else TextsOf(towers),
        trained_languages(collection, options),
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
    return Training(
        collection=collection,
        splits=splits,
        options=options,
        model=model,
        towers=towers,
        batches=batches,
        data=data,
        text_features=text_features,
        validation=validation,
        origin=origin,
        random_state=torch.get_rng_state(),
    )


def train(
    collection: CaptionedImages,
    splits: Splits,
    features: NDArray[np.float32],
    tower: str,
    options: TrainOptions,
    run: Recorder,
    progress: OnProgress,
    texts: TextTower | None = None,
    views: ViewFeatures | None = None,
    *,
    keeper: StateFile | None = None,
    identity: Mapping[str, Any] | None = None,
    saved: State | None = None,
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
        Features of all pictures of the collection by the encoder as its files are.
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
    views : ViewFeatures, optional
        Frozen features of the pictures' views; needed if the options ask for views and train the heads alone.
    keeper : StateFile, optional
        Where the state is saved from time to time.
    identity : mapping, optional
        JSON data that is saved with it.
    saved : State, optional
        Of a training with the same inputs and options, to go on from: on the CPU to the same weights.

    Raises
    ------
    NotFinite
        A loss or gradient is not finite.
    BadInput, MissingExtra
        The device is not there, or the encoder cannot be tuned.
    ValueError
        The options ask for views, and their features are missing or another number.
    """
    training = set_up(collection, splits, features, tower, options, texts, views, saved)
    return fit(training, run, progress, keeper=keeper, identity=identity, saved=saved)


def fit(
    training: Training,
    run: Recorder,
    progress: OnProgress,
    *,
    keeper: StateFile | None = None,
    identity: Mapping[str, Any] | None = None,
    saved: State | None = None,
) -> Trained:
    """Train a model that is set up; see :func:`train`."""
    options, model, towers, origin = training.options, training.model, training.towers, training.origin
    data, batches, validation = training.data, training.batches, training.validation
    torch.set_num_threads(options.threads)
    torch.set_rng_state(training.random_state)
    started = time.monotonic()
    total = options.steps + options.refit_steps
    loop = Loop(model, towers, data.device, data.ids, keeper, identity)
    if saved is not None:
        loop.recall(saved)
        if loop.best.step:
            _keep_again(model, towers, loop.best, origin, run)
    refitting = saved if saved is not None and saved.about["phase"] == REFITTING else None
    if refitting is None:
        step_of = data.step_of(batches, options, training.text_features)
        for report in loop.steps(TRAINING, step_of, batches, options, options.steps, saved):
            step = loop.first_steps = report.step
            progress(step, total, _in_words("training", report, towers))
            if step % 10 == 0 or step == options.steps:
                run.log(_logged(report, towers), step=step)
            if step % options.validate_every and step != options.steps:
                continue
            measured = validation.measure(model.eval())
            run.log(measured, step=step)
            # without a validation part nothing can be selected: the last model counts
            best = loop.best
            better = (
                not best.metrics or not validation.measures or measured[DECIDING] > best.metrics[DECIDING]
            )
            names = [LAST, BEST] if better else [LAST]
            _keep(model, towers, origin.model_copy(update={"step": step}), run, names)
            if better:
                loop.best = Best(step, measured, 0, _copy(model), {} if towers is None else towers.state())
            else:
                best.since += 1
                if best.since >= options.patience:
                    break
    best = loop.best
    if options.refit_steps:
        model.load_state_dict(best.weights)
        if towers is not None:
            towers.restore(best.towers)
        for report in _refit(loop, data, training.splits, options, refitting):
            done = total - options.refit_steps + report.step
            progress(done, total, _in_words("refit on all pictures", report, towers))
        update = {
            "split": f"all of {training.collection.fingerprint}",
            "step": best.step + options.refit_steps,
        }
        _keep(model.eval(), towers, origin.model_copy(update=update), run, [REFIT])
    return Trained(loop.first_steps, best.step, best.metrics, time.monotonic() - started)


#: Names of the two parts of a training in its state.
TRAINING, REFITTING = "training", "refit"


class Data:
    """What the steps read: features that do not change, or pictures and texts for towers that do.

    Attributes
    ----------
    components : Tensor, float32, shape (n, image_components)
        Of all pictures of the collection by the encoder as its files are.
    views : Tensor, float32, shape (2 V, n, image_components), or None
        Of their weak views, then of their strong ones.
    """

    def __init__(
        self,
        collection: CaptionedImages,
        model: CrossModalHashModel,
        towers: TrainableTowers | None,
        features: NDArray[np.float32],
        device: str,
        texts: TextTower | None,
        views: ViewFeatures | None,
        options: TrainOptions,
    ) -> None:
        self.collection, self.texts = collection, texts
        self.ids = [item.id for item in collection.items]
        self.model, self.towers, self.device = model, towers, device
        self.components = model.components(torch.from_numpy(features).to(device))
        changed = [] if views is None else [*views.weak, *views.strong]
        self.views = None
        if changed:
            self.views = torch.stack([model.components(torch.from_numpy(one).to(device)) for one in changed])
        self._pictures = None
        if towers is not None:
            opened = Versions(collection, options.views, flip=options.flip_views)
            self._pictures = PictureInputs(opened, towers.image)

    def step_of(self, batches: Batches, options: TrainOptions, features: NDArray[np.float32] | None) -> Step:
        """Return the step of these batches; ``features``: those of their texts by the frozen text tower."""
        components = None
        if features is not None:
            components = self.model.text_components(torch.from_numpy(features).to(self.device))
        if self.towers is None or self._pictures is None:
            return FrozenStep(self.model, batches, self.components, self.views, components, self.ids, options)
        return TunedStep(self.model, self.towers, batches, self._pictures, components, self.ids, options)

    def validated(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the components of pictures by the towers as they are now."""
        assert self.towers is not None  # noqa: S101  # asked only then
        assert self._pictures is not None  # noqa: S101
        size, pictures = self.towers.image.batch, self._pictures
        parts = (pictures(rows[start : start + size].tolist()) for start in range(0, len(rows), size))
        vectors = torch.from_numpy(self.towers.features("image", parts))
        return self.model.components(vectors.to(self.device))


def _in_words(what: str, report: StepReport, towers: TrainableTowers | None) -> str:
    speed = "" if towers is None else f", {report.per_second:.3g} pictures/s"
    return f"{what}, loss {report.parts['loss']:.2f}{speed}"


def _logged(report: StepReport, towers: TrainableTowers | None) -> dict[str, float]:
    """Return the metrics of a step; with trained towers also rates, gradient and speed."""
    metrics = {f"train/{name}": value for name, value in report.parts.items()}
    if towers is not None:
        metrics |= {
            "tuning/learning_rate": report.rates[0],
            "tuning/tower_lr": max(report.rates[2:], default=0.0),
            "tuning/gradient_norm": report.gradient_norm,
            "tuning/pictures_per_second": report.per_second,
        }
    return metrics


def _refit(
    loop: Loop, data: Data, splits: Splits, options: TrainOptions, saved: State | None
) -> Iterator[StepReport]:
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
    data.model.regularise(gentle.dropout, gentle.ngram_dropout)
    whole = np.arange(len(data.collection))
    everything = Batches(data.collection, whole, gentle, splits.unseen, options.two_words)
    features = None if data.texts is None else data.texts.features(everything.texts.texts)
    step_of = data.step_of(everything, gentle, features)
    return loop.steps(REFITTING, step_of, everything, gentle, options.refit_steps, saved)


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


def _keep(
    model: CrossModalHashModel,
    towers: TrainableTowers | None,
    provenance: Provenance,
    run: Recorder,
    names: list[str],
) -> None:
    tuned = {}
    if towers is not None:
        tuned = towers.weights()
        provenance = provenance.model_copy(update=towers.provenance(tuned))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LAST
        model.save(path, provenance, tuned)
        for name in names:
            run.log_checkpoint(name, path)


def _keep_again(
    model: CrossModalHashModel, towers: TrainableTowers | None, best: Best, origin: Provenance, run: Recorder
) -> None:
    """Save the best model of a training that goes on in another run."""
    model.load_state_dict(best.weights)
    if towers is not None:
        towers.restore(best.towers)
    _keep(model.eval(), towers, origin.model_copy(update={"step": best.step}), run, [BEST])


def _copy(model: CrossModalHashModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
