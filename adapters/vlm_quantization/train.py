"""Train the hash heads and the text tower on frozen picture features.

Each step takes some concepts, one picture and one text of each (the name or a keyword, in any language), and
asks that texts and pictures of one concept, or of concepts that share that text, find each other: by float
similarity, and by the codes at every length at once.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from adapters.vlm_quantization import losses
from adapters.vlm_quantization.batches import Batches
from adapters.vlm_quantization.checkpoint import ModelConfig, Provenance
from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS, Encoded
from adapters.vlm_quantization.evaluator import SameItem, evaluate_codes, evaluate_scores
from adapters.vlm_quantization.model import CrossModalHashModel, stack_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from adapters.vlm_quantization.batches import Batch
    from adapters.vlm_quantization.data import CaptionedImages, Progress
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.splits import Splits

#: What validation decides by: mean R@10 of text→image over lengths, languages and both kinds of held-out.
DECIDING = "val/R@10"

LAST = "last.safetensors"
BEST = "best.safetensors"
REFIT = "refit.safetensors"


class Recorder(Protocol):
    """The part of a run that training needs."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Take numbers of a step."""

    def log_checkpoint(self, name: str, path: Path) -> Path:
        """Keep a copy of a file under a name, whole or not at all."""


@dataclass(frozen=True)
class Trained:
    """What training leaves: the best model's numbers on validation and where it was found."""

    steps: int
    best_step: int
    best: dict[str, float]
    seconds: float
    stopped_early: bool


def train(
    collection: CaptionedImages,
    splits: Splits,
    features: NDArray[np.float32],
    tower: str,
    options: TrainOptions,
    run: Recorder,
    progress: Progress,
) -> Trained:
    """Train, log to a run, and leave ``best.safetensors`` and ``last.safetensors`` among its checkpoints.

    Both files are written at every validation, whole or not at all, so that whenever training is interrupted
    the last one written can be used. Neither has seen a held-out picture, in training or in choosing.

    With ``refit_steps`` the best model then goes on over all pictures, held out or not, and is kept as
    ``refit.safetensors``: the one to publish, since a search page should know everything there is. Nothing
    can be measured with it, and an evaluation refuses it by its provenance.

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
    """
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    started = time.monotonic()
    batches = Batches(collection, splits.train, options)
    model = _model(features, splits, batches.pairs, options)
    components = model.components(torch.from_numpy(features))
    validation = Validation(collection, splits, components, options.lengths)
    origin = Provenance(
        tower=tower, data=collection.fingerprint, split=splits.fingerprints["train"], seed=options.seed
    )
    total = options.steps + options.refit_steps
    best: dict[str, float] = {}
    best_step, best_weights, since, step = 0, model.state_dict(), 0, 0
    for step, parts in _steps(model, batches, components, options, options.steps):
        progress(step, total, f"training, loss {float(parts['loss'].detach()):.2f}")
        if step % 10 == 0 or step == options.steps:
            run.log({f"train/{name}": float(value.detach()) for name, value in parts.items()}, step=step)
        if step % options.validate_every and step != options.steps:
            continue
        measured = validation.measure(model.eval())
        run.log(measured, step=step)
        better = not best or measured[DECIDING] > best[DECIDING]
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
        for more in _refit(model, collection, splits, components, options):
            progress(total - options.refit_steps + more, total, "refit on all pictures")
        update = {"split": f"all of {collection.fingerprint}", "step": best_step + options.refit_steps}
        _keep(model.eval(), origin.model_copy(update=update), run, [REFIT])
    return Trained(step, best_step, best, time.monotonic() - started, step < options.steps)


def _refit(
    model: CrossModalHashModel,
    collection: CaptionedImages,
    splits: Splits,
    components: Tensor,
    options: TrainOptions,
) -> Iterator[int]:
    """Go on over all pictures, with less noise: what is searched is what is seen here, not other drawings.

    Some texts are two words of a concept, as a visitor may ask for it. Training proper leaves that out: it
    costs a little where names are asked for, which is what is measured.
    """
    update = {
        "noise": options.noise / 3,
        "style_noise": 0.0,
        "dropout": options.dropout / 2,
        "ngram_dropout": options.ngram_dropout / 2,
    }
    gentle = options.model_copy(update=update)
    model.regularise(gentle.dropout, gentle.ngram_dropout)
    unseen = np.concatenate([splits.val_concepts, splits.test_concepts])
    everything = Batches(collection, np.arange(len(collection)), gentle, unseen, options.two_words)
    for step, _ in _steps(model, everything, components, gentle, options.refit_steps):
        yield step


def _steps(
    model: CrossModalHashModel,
    batches: Batches,
    components: Tensor,
    options: TrainOptions,
    steps: int,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Take steps, each with its number from 1 and the parts of its loss; warm up, then fade out."""
    rate = options.learning_rate
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=options.weight_decay, fused=True)
    # the schedule divides by its way up less one step, so the way up is never shorter than two
    total = max(steps, 4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rate, total_steps=total, pct_start=max(0.1, 2 / total)
    )
    for step in range(1, steps + 1):
        model.train()
        loss, parts = _loss(model, batches, components, options)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimiser.step()
        schedule.step()
        yield step, parts


def _model(
    features: NDArray[np.float32], splits: Splits, pairs: NDArray[np.int64], options: TrainOptions
) -> CrossModalHashModel:
    seen = features[splits.train]
    config = ModelConfig(
        image_tower=options.image_tower,
        image_dim=features.shape[1],
        image_components=min(options.components, *seen.shape),
        hidden=options.hidden,
        dim=options.dim,
        text_buckets=options.text_buckets,
        text_width=options.text_width,
    )
    model = CrossModalHashModel(config, dropout=options.dropout, ngram_dropout=options.ngram_dropout)
    torch.nn.init.normal_(model.embedding.weight, std=0.05)
    model.fit_components(seen, features[pairs], options.agreement)
    return model


def _loss(
    model: CrossModalHashModel, batches: Batches, components: Tensor, options: TrainOptions
) -> tuple[Tensor, dict[str, Tensor]]:
    batch = batches.draw()
    positives = torch.from_numpy(batch.positives)
    seen = model.image_vectors(_drawn(batch, components, torch.from_numpy(batches.pairs), options))
    said = model.text_vectors(*stack_rows(batch.rows))
    similarity = said @ seen.T / options.float_temperature
    image_margins, text_margins = model.image_code(seen), model.text_code(said)
    marks = losses.spread(positives)
    parts = {"float": losses.cross_entropy(losses.log_shares(similarity), marks)}
    weights = length_weights(options.lengths, options.short_weight)
    scores = losses.code_scores(text_margins, image_margins, sorted(weights), options.temperature)
    logs = {length: losses.log_shares(one) for length, one in scores.items()}
    by_length = {length: losses.cross_entropy(one, marks) for length, one in logs.items()}
    loss = parts["float"] + _weighted(by_length, weights)
    both = (image_margins, text_margins)
    for name, weight, term in (
        ("quantisation", options.quantisation, losses.quantisation),
        ("balance", options.balance, losses.balance),
        ("decorrelation", options.decorrelation, losses.decorrelation),
    ):
        if weight:
            parts[name] = (term(both[0]) + term(both[1])) / 2
            loss = loss + 2 * weight * parts[name]
    if options.distillation:
        taught = losses.softened(similarity)
        each = {length: losses.cross_entropy(one, taught) for length, one in logs.items()}
        parts["distillation"] = _weighted(each, weights)
        loss = loss + options.distillation * parts["distillation"]
    parts |= {f"code@{length}": value for length, value in by_length.items()}
    return loss, {"loss": loss, **parts}


def _weighted(by_length: Mapping[int, Tensor], weights: Mapping[int, float]) -> Tensor:
    return torch.stack([weights[length] * value for length, value in by_length.items()]).sum()


def length_weights(lengths: Sequence[int], power: float) -> dict[int, float]:
    """Return what each code length counts, together one: ``(128 / length) ** power`` before that.

    A short code is the harder to learn, and its bits are part of every longer one: what it gains costs the
    long ones little.
    """
    plain = {length: (CODE_BITS / length) ** power for length in lengths}
    return {length: weight / sum(plain.values()) for length, weight in plain.items()}


def _drawn(batch: Batch, components: Tensor, pairs: Tensor, options: TrainOptions) -> Tensor:
    """Return components of pictures nobody drew: what stands for a drawing by another hand.

    Between two drawings of a thing lies the thing, so the two are mixed; and what tells two drawings of some
    other thing apart would mostly tell two of this one apart, so some of that is added. Noise is for what
    is left.
    """
    two = components[torch.from_numpy(batch.pictures)]
    share = torch.from_numpy(batch.mix)
    x = two[:, 0] * share + two[:, 1] * (1 - share)
    if len(batch.other) and options.style_noise:
        other = components[pairs[torch.from_numpy(batch.other)]]
        x = x + (other[:, 0] - other[:, 1]) * torch.from_numpy(batch.push) * options.style_noise
    return x + torch.randn_like(x) * options.noise


class Validation:
    """Measures a model on the validation parts: text to picture and back, per language and length."""

    def __init__(
        self,
        collection: CaptionedImages,
        splits: Splits,
        components: Tensor,
        lengths: Sequence[int] = CODE_LENGTHS,
    ) -> None:
        self._lengths = tuple(lengths)
        self._sides = []
        for part in ("val_drawings", "val_concepts"):
            rows = getattr(splits, part)
            if len(rows):
                queries = {
                    language: caption_queries(collection, rows, language) for language in collection.languages
                }
                gallery = [collection.items[row].concept for row in rows]
                self._sides.append((components[torch.from_numpy(rows)], gallery, queries))

    @torch.no_grad()
    def measure(self, model: CrossModalHashModel) -> dict[str, float]:
        """Return ``val/R@10@64``, ``val/mAP@64``, ``val/R@10@float``: means over parts and languages."""
        found: dict[str, list[float]] = {}
        for components, gallery, queries in self._sides:
            pictures = _encoded(model.image_vectors(components), model.image_code)
            for texts, concepts in queries.values():
                if not texts:
                    continue
                said = _encoded(model.text_vectors(*model.text_rows(texts)), model.text_code)
                relevance = SameItem(concepts, gallery)
                records = evaluate_codes(said.codes, pictures.codes, relevance, ks=(10,))
                records += evaluate_scores(said.features, pictures.features, relevance, ks=(10,))
                for record in records:
                    if record.name in ("mAP", "R@10"):
                        length = "float" if record.bits is None else record.bits
                        found.setdefault(f"val/{record.name}@{length}", []).append(record.value)
        means = {name: float(np.mean(values)) for name, values in found.items()}
        coded = [means[f"val/R@10@{length}"] for length in self._lengths] if means else [0.0]
        return {**means, DECIDING: float(np.mean(coded))}


def caption_queries(
    collection: CaptionedImages, rows: NDArray[np.int64], language: str
) -> tuple[list[str], list[str]]:
    """Return each concept's name in a language once, and the concepts, for the pictures of ``rows``."""
    names: dict[str, str] = {}
    for row in rows.tolist():
        item = collection.items[row]
        if item.captions.get(language):
            names.setdefault(item.concept, item.captions[language][0])
    return list(names.values()), list(names)


def _encoded(vectors: Tensor, layer: Callable[[Tensor], Tensor]) -> Encoded:
    from adapters.vlm_quantization.codes import pack_codes

    return Encoded(pack_codes((layer(vectors) >= 0).numpy()), vectors.numpy())


def _keep(model: CrossModalHashModel, provenance: Provenance, run: Recorder, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / LAST
        model.save(path, provenance)
        for name in names:
            run.log_checkpoint(name, path)
