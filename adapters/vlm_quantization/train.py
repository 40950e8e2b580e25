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
from adapters.vlm_quantization.backbones import ngram_rows
from adapters.vlm_quantization.checkpoint import ModelConfig, Provenance
from adapters.vlm_quantization.codes import CODE_LENGTHS, Encoded
from adapters.vlm_quantization.evaluator import SameItem, evaluate_codes, evaluate_scores
from adapters.vlm_quantization.model import CrossModalHashModel, stack_rows
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from adapters.vlm_quantization.data import CaptionedImages, Item, Progress
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


class Texts:
    """Every text of the concepts that are trained on, and which concepts each describes.

    Attributes
    ----------
    names, keywords : list
        For each concept a list of languages, each a list of text numbers.
    rows : list of list of int
        For each text the rows of its n-grams.
    """

    def __init__(self, concepts: Sequence[Item], languages: Sequence[str], buckets: int) -> None:
        numbers: dict[str, int] = {}
        described: list[tuple[int, int]] = []
        self.names: list[list[list[int]]] = []
        self.keywords: list[list[list[int]]] = []
        for place, item in enumerate(concepts):
            self.names.append([])
            self.keywords.append([])
            for language in languages:
                for texts, kept in (
                    (item.captions.get(language, ()), self.names),
                    (item.keywords.get(language, ()), self.keywords),
                ):
                    row = [numbers.setdefault(text.casefold(), len(numbers)) for text in texts]
                    kept[place].append(row)
                    described += [(number, place) for number in row]
        pairs = np.unique(np.array(described, np.int64).reshape(-1, 2), axis=0)
        self.rows = [ngram_rows(text, buckets) for text in numbers]
        self._concepts = pairs[:, 1]
        self._starts = np.searchsorted(pairs[:, 0], np.arange(len(numbers) + 1))
        self._n_concepts = len(concepts)

    def __len__(self) -> int:
        return len(self.rows)

    def positives(self, texts: NDArray[np.int64], concepts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which text describes which concept, shape (len(texts), len(concepts)).

        Memory is of the size of the answer and of the texts' own lists, never texts times all concepts.
        """
        column = np.full(self._n_concepts, -1)
        column[concepts] = np.arange(len(concepts))
        counts = self._starts[texts + 1] - self._starts[texts]
        row = np.repeat(np.arange(len(texts)), counts)
        within = np.arange(len(row)) - np.repeat(counts.cumsum() - counts, counts)
        found = column[self._concepts[np.repeat(self._starts[texts], counts) + within]]
        out = np.zeros((len(texts), len(concepts)), bool)
        out[row[found >= 0], found[found >= 0]] = True
        return out


class Batches:
    """Draws batches: concepts, a picture and a text of each.

    Parameters
    ----------
    collection : CaptionedImages
    rows : ndarray, int64
        The items drawn from, and no others.
    options : TrainOptions
    unseen : ndarray, int64, optional
        Items whose concepts fill half of every batch, since nothing is known of them yet.
    """

    def __init__(
        self,
        collection: CaptionedImages,
        rows: NDArray[np.int64],
        options: TrainOptions,
        unseen: NDArray[np.int64] | None = None,
    ) -> None:
        by_concept: dict[str, list[int]] = {}
        for row in rows.tolist():
            by_concept.setdefault(collection.items[row].concept, []).append(row)
        if len(by_concept) < 2:
            raise BadInput(f"{len(by_concept)} concepts to train on; at least 2 are needed")
        self.pictures = [np.array(rows) for rows in by_concept.values()]
        concepts = [collection.items[rows[0]] for rows in by_concept.values()]
        self.texts = Texts(concepts, collection.languages, options.text_buckets)
        self.options = options
        new = {collection.items[row].concept for row in ([] if unseen is None else unseen.tolist())}
        self._new = np.array([concept in new for concept in by_concept])
        self._rng = np.random.Generator(np.random.PCG64(options.seed))

    def draw(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Return concepts, their pictures (n, 2), how to mix the two (n, 1), and their texts."""
        rng = self._rng
        size = min(self.options.batch, len(self.pictures))
        new = rng.permutation(np.flatnonzero(self._new))[: size // 2]
        concepts = np.concatenate([new, rng.permutation(np.flatnonzero(~self._new))[: size - len(new)]])
        pictures = np.stack([rng.choice(self.pictures[concept], 2) for concept in concepts])
        mix = rng.random((len(concepts), 1)).astype(np.float32)
        return concepts, pictures, mix, np.array([self._text(concept) for concept in concepts])

    def _text(self, concept: int) -> int:
        names, keywords = self.texts.names[concept], self.texts.keywords[concept]
        spoken = [place for place, texts in enumerate(names) if texts or keywords[place]]
        place = spoken[self._rng.integers(len(spoken))]
        use_name = names[place] and (not keywords[place] or self._rng.random() < self.options.name_share)
        choice = names[place] if use_name else keywords[place]
        return choice[self._rng.integers(len(choice))]


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
    model = _model(features, splits, options)
    components = model.components(torch.from_numpy(features))
    validation = Validation(collection, splits, components)
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
    """Go on over all pictures, with less noise: what is searched is what is seen here."""
    update = {
        "noise": options.noise / 3,
        "dropout": options.dropout / 2,
        "ngram_dropout": options.ngram_dropout / 2,
    }
    gentle = options.model_copy(update=update)
    model.regularise(gentle.dropout, gentle.ngram_dropout)
    unseen = np.concatenate([splits.val_concepts, splits.test_concepts])
    everything = Batches(collection, np.arange(len(collection)), gentle, unseen)
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
        loss.backward()
        optimiser.step()
        schedule.step()
        yield step, parts


def _model(features: NDArray[np.float32], splits: Splits, options: TrainOptions) -> CrossModalHashModel:
    seen = features[splits.train]
    config = ModelConfig(
        image_tower=options.image_tower,
        image_dim=features.shape[1],
        image_components=min(320, *seen.shape),
        hidden=options.hidden,
        dim=options.dim,
        text_buckets=options.text_buckets,
        text_width=options.text_width,
    )
    model = CrossModalHashModel(config, dropout=options.dropout, ngram_dropout=options.ngram_dropout)
    torch.nn.init.normal_(model.embedding.weight, std=0.05)
    model.fit_components(seen)
    return model


def _loss(
    model: CrossModalHashModel, batches: Batches, components: Tensor, options: TrainOptions
) -> tuple[Tensor, dict[str, Tensor]]:
    concepts, pictures, mix, texts = batches.draw()
    two = components[torch.from_numpy(pictures)]
    # between two drawings of a thing lies the thing: mixing them, and noise, stand for other drawings
    share = torch.from_numpy(mix)
    x = two[:, 0] * share + two[:, 1] * (1 - share)
    x = x + torch.randn_like(x) * options.noise
    positives = torch.from_numpy(batches.texts.positives(texts, concepts))
    seen = model.image_vectors(x)
    said = model.text_vectors(*stack_rows([batches.texts.rows[text] for text in texts]))
    similarity = said @ seen.T / options.float_temperature
    image_margins, text_margins = model.image_code(seen), model.text_code(said)
    parts = {"float": losses.contrastive(similarity, positives)}
    nested, by_length = losses.nested_contrastive(
        text_margins, image_margins, positives, dict.fromkeys(CODE_LENGTHS, 1.0), options.temperature
    )
    loss = parts["float"] + nested
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
        each = [
            losses.distillation(text_margins, image_margins, similarity, length, options.temperature)
            for length in CODE_LENGTHS
        ]
        parts["distillation"] = torch.stack(each).mean()
        loss = loss + options.distillation * parts["distillation"]
    parts |= {f"code@{length}": value for length, value in by_length.items()}
    return loss, {"loss": loss, **parts}


class Validation:
    """Measures a model on the validation parts: text to picture and back, per language and length."""

    def __init__(self, collection: CaptionedImages, splits: Splits, components: Tensor) -> None:
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
        coded = [means[f"val/R@10@{length}"] for length in CODE_LENGTHS] if means else [0.0]
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
