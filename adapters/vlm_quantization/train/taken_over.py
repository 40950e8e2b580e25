"""A train job that takes over a checkpoint of this adapter's predecessor instead of training."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization import views
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.data.pictures import opened_ahead
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.encoding import refold
from adapters.vlm_quantization.encoding.backbone import encoder_of
from adapters.vlm_quantization.encoding.checkpoint import (
    BEST,
    SEPARATE,
    ModelConfig,
    Provenance,
    write_checkpoint,
)
from adapters.vlm_quantization.encoding.lightning import read_lightning
from adapters.vlm_quantization.job_inputs import left_out, problems_of, splits_of
from adapters.vlm_quantization.metrics.relevance import SameItem
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.unscaled import unscaled
from workbench import BadInput, Result, View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.encoding.lightning import LightningCheckpoint
    from adapters.vlm_quantization.encoding.peer_head import Norm
    from adapters.vlm_quantization.options import TrainOptions
    from adapters.vlm_quantization.towers.tower import ImageTower, TextTower
    from workbench import JobContext

#: Pictures of the collection, and captions of them, that the refolded code is chosen and measured on.
SAMPLE, SAMPLE_TEXTS = 1_000, 4_000


#: Pictures encoded between two progress reports.
_CHUNK = 32


@dataclass(frozen=True)
class Sample:
    """Features of some pictures and of their captions, float32 (n, width), not normalised, with concepts."""

    image: NDArray[np.float32]
    text: NDArray[np.float32]
    image_concepts: Sequence[str]
    text_concepts: Sequence[str]

    def part(self, concepts: set[str]) -> Sample:
        """Return the pictures and captions of some concepts."""
        images = [row for row, one in enumerate(self.image_concepts) if one in concepts]
        texts = [row for row, one in enumerate(self.text_concepts) if one in concepts]
        return Sample(
            self.image[images],
            self.text[texts],
            [self.image_concepts[row] for row in images],
            [self.text_concepts[row] for row in texts],
        )


@dataclass(frozen=True)
class Refolded:
    """The refolded code, and what it costs.

    Attributes
    ----------
    way : str
        How it was refolded.
    thresholds : dict of str to (scale, shift)
        By ``"image"`` and ``"text"``.
    differing : dict of str to list of Differing
        The same, against the separate codes.
    kept : list of Kept
        R@10 by length.
    texts, pictures : int
        Number of queries, and of pictures that they are asked of.
    """

    way: str
    thresholds: Mapping[str, Norm]
    differing: Mapping[str, Sequence[refold.Differing]]
    kept: Sequence[refold.Kept]
    texts: int
    pictures: int

    @property
    def is_exact(self) -> bool:
        """Whether no position of any code of the sample differs."""
        return not any(one.ever for each in self.differing.values() for one in each)


def take_over(options: TrainOptions, job: JobContext) -> Result:
    """Take over a predecessor's checkpoint as a run, with its codes refolded so that an index can hold them.

    Raises
    ------
    workbench.CorruptFile
        The file is not such a checkpoint, or not of this backbone.
    workbench.BadInput
        The backbone's model cannot be found, or the collection is too small to measure on.
    """
    read = read_lightning(Path(options.from_checkpoint))
    given = "" if options.encoder == registry.PACKAGED else options.encoder
    model = given or registry.absolute(read.model_name)
    try:
        encoder, about_backbone = encoder_of(read, model, job.workspace.path / "encoders")
    except BadInput as error:
        if given:
            raise
        raise BadInput(
            f"the checkpoint was trained from {read.model_name!r}: {error.message}",
            hint="Give the folder of that model with the option encoder.",
        ) from None
    collection = open_collection(options.collection, cache_dir=job.workspace.cache, progress=job.progress)
    splits = splits_of(collection, options.model_dump(), job.workspace.cache, job.progress)
    image = unscaled(registry.image_tower(registry.image_name(encoder)))
    text = unscaled(registry.text_tower(registry.text_name(encoder)))
    if (image.dim, text.dim) != (read.heads["image"].width, read.heads["text"].width):
        raise BadInput(
            f"the heads take features of width {read.heads['image'].width}, and {model} gives {image.dim}",
            hint="Give the model that the checkpoint was trained from.",
        )
    sample = take_sample(collection, image, text, job)
    refolded = refold_heads(read, sample)
    own = options.model_copy(update={"encoder": encoder, "text_tower": "own", "seeds": ()})
    config = ModelConfig(
        image_tower=image.name,
        image_dim=image.dim,
        image_components=image.dim,
        hidden=read.hidden,
        dim=image.dim,
        ngrams=False,
        text_tower=text.name,
        text_dim=text.dim,
        text_components=text.dim,
        head="layernorm-gelu",
    )
    origin = Provenance(
        tower=image.fingerprint,
        text_tower=text.fingerprint,
        text_languages=text.languages,
        encoder=registry.about_encoder(encoder),
        data=collection.fingerprint,
        split=splits.fingerprints["train"],
        taken_from=read.path.name,
        step=read.step,
    )
    metrics = _metrics(refolded)
    with job.start_run(own.experiment, name=own.name, config=own.model_dump()) as run:
        run.log(metrics, step=read.step)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, BEST)
            write_checkpoint(path, config, origin, _tensors(read, refolded.thresholds))
            run.log_checkpoint(BEST, path)
            if not refolded.is_exact:
                apart = config.model_copy(update={"separate": read.lengths})
                write_checkpoint(path, apart, origin, _tensors(read, None))
                run.log_checkpoint(SEPARATE, path)
    return _result(read, refolded, metrics, about_backbone, collection, run.id, job)


def take_sample(collection: CaptionedImages, image: ImageTower, text: TextTower, job: JobContext) -> Sample:
    """Encode a random sample of a collection's pictures, and their captions.

    Raises
    ------
    workbench.BadInput
        It has fewer than four concepts with a readable picture and a caption.
    """
    random = np.random.Generator(np.random.PCG64(0))
    rows = np.sort(random.permutation(len(collection))[:SAMPLE]).tolist()
    parts, kept, pictures = [], [], []
    for done, (row, picture) in enumerate(zip(rows, opened_ahead(collection.open, rows), strict=True), 1):
        if not isinstance(picture, Exception):
            kept.append(row)
            pictures.append(picture)
        if pictures and (len(pictures) == _CHUNK or done == len(rows)):
            parts.append(image.features(pictures))
            pictures = []
            job.progress(done, len(rows), "encoding a sample of pictures")
    captions = [one for language in collection.languages for one in collection.captions(kept, language)]
    captions = [captions[place] for place in np.sort(random.permutation(len(captions))[:SAMPLE_TEXTS])]
    if len({one.concept for one in captions}) < 4:
        raise BadInput(
            f"{collection.name!r} has too few pictures with captions to measure a checkpoint on: "
            f"{len(captions)}",
            hint="Give a collection of at least four concepts.",
        )
    job.progress(0, 1, "encoding their captions")
    return Sample(
        np.concatenate(parts),
        text.features([one.text for one in captions]),
        [collection.items[row].concept for row in kept],
        [one.concept for one in captions],
    )


def refold_heads(read: LightningCheckpoint, sample: Sample) -> Refolded:
    """Refold both heads in each way on one half of a sample, and keep the way that is better on the other."""
    concepts = sorted(set(sample.image_concepts) & set(sample.text_concepts))
    chosen_on, measured_on = sample.part(set(concepts[::2])), sample.part(set(concepts[1::2]))
    norms = {side: head.norms for side, head in read.heads.items()}

    def outputs(part: Sample) -> dict[str, NDArray[np.float32]]:
        return {side: read.heads[side].outputs(getattr(part, side)) for side in read.heads}

    seen, new = outputs(chosen_on), outputs(measured_on)
    folded = {
        way: {side: refold.fold(seen[side], norms[side], way) for side in norms}
        for way in (refold.LONGEST, refold.AGREEING)
    }
    features = {side: _unit(getattr(measured_on, side)) for side in norms}
    relevance = SameItem(measured_on.text_concepts, measured_on.image_concepts)
    kept = refold.recall(new, norms, folded, features, relevance)
    means = {way: float(np.mean([one.ways[way] for one in kept if way in one.ways])) for way in folded}
    way = max(folded, key=lambda one: means[one])  # the first of equals: the long code stays as it is
    apart = {side: refold.differing(new[side], norms[side], folded[way][side]) for side in norms}
    return Refolded(way, folded[way], apart, kept, len(measured_on.text), len(measured_on.image))


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return unit


def _tensors(
    read: LightningCheckpoint, thresholds: Mapping[str, Norm] | None
) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a checkpoint: with one threshold per bit, or with those of each length."""
    out: dict[str, NDArray[np.float32]] = {}
    for side, head in read.heads.items():
        out |= {f"{side}.{name}": tensor for name, tensor in head.tensors.items()}
        if thresholds is not None:
            out[f"{side}.code.scale"], out[f"{side}.code.shift"] = thresholds[side]
        else:
            for length, (scale, shift) in head.norms.items():
                out[f"{side}.code.{length}.scale"], out[f"{side}.code.{length}.shift"] = scale, shift
    return out


def _metrics(refolded: Refolded) -> dict[str, float]:
    """Return R@10 of the refolded code by length, of float cosine, and the mean over lengths."""
    coded = {one.length: one.ways[refolded.way] for one in refolded.kept if one.length is not None}
    metrics = {f"val/R@10@{length}": coded[length] for length in reversed(CODE_LENGTHS)}
    metrics["val/R@10@float"] = refolded.kept[-1].ways["float"]
    return {"val/R@10": float(np.mean(list(coded.values()))), **metrics}


#: How the two ways are told.
_WORDS = {
    refold.LONGEST: "every bit has the threshold of the 128-bit code, which stays as it is",
    refold.AGREEING: "every bit has that of its thresholds which agrees best with all lengths",
}


def _result(
    read: LightningCheckpoint,
    refolded: Refolded,
    metrics: Mapping[str, float],
    about_backbone: str,
    collection: CaptionedImages,
    run_id: int,
    job: JobContext,
) -> Result:
    warnings = [
        f"What this model was trained on is unknown: it may have seen pictures of {collection.name!r} that "
        "an evaluation calls held out.",
        *problems_of(collection, job),
    ]
    if read.ignored:
        lengths = ", ".join(map(str, read.ignored))
        warnings.insert(0, f"Codes of {lengths} bits are left out: an index has {_listed(CODE_LENGTHS)}.")
    exact = "its short codes are prefixes of the long one"
    summary = exact if refolded.is_exact else f"refolded ({refolded.way})"
    value = metrics["val/R@10@128"]
    made: dict[str, Any] = {"run": run_id, "checkpoint": BEST}
    return Result(
        summary=f"{read.path.name} taken over, {summary}: R@10 {value:.3f} at 128 bits{left_out(collection)}",
        metrics=dict(metrics),
        headline=["val/R@10"],
        views=[
            _cost_view(refolded, collection),
            _differing_view(refolded),
            views.card(
                [
                    ("File", read.path.name),
                    ("Backbone", read.model_name),
                    ("Code lengths", _listed(read.lengths)),
                    ("Hidden width", read.hidden),
                    ("Training steps", read.step),
                ],
                "Taken over",
                ("Field", "Value"),
                [about_backbone],
            ),
        ],
        made=made,
        warnings=warnings,
    )


def _cost_view(refolded: Refolded, collection: CaptionedImages) -> View:
    whole = refolded.kept[-1].ways["float"]
    rows: list[dict[str, Any]] = []
    for one in refolded.kept[:-1]:
        code, apart = one.ways[refolded.way], one.ways.get("separate")
        rows.append(
            {
                "length": f"{one.length} bits",
                "separate": apart,
                **{way: one.ways[way] for way in (refold.LONGEST, refold.AGREEING)},
                "of_separate": code / apart if apart else None,
                "of_float": code / whole if whole else None,
            }
        )
    rows.append({"length": "float cosine", "of_float": 1.0 if whole else None, refolded.way: whole})
    columns = [
        {"key": "length", "label": "Code"},
        {"key": "separate", "label": "Separate codes", "format": ".3f"},
        {"key": refold.LONGEST, "label": "Refolded: longest", "format": ".3f"},
        {"key": refold.AGREEING, "label": "Refolded: agreeing", "format": ".3f"},
        {"key": "of_separate", "label": "Kept of separate", "format": ".1%"},
        {"key": "of_float", "label": "Kept of float", "format": ".1%"},
    ]
    return View(
        kind="retrieval_table",
        title="What refolding costs",
        data={"columns": columns, "rows": rows},
        notes=[
            f"R@10, text → picture, on a sample of {collection.name!r}: thresholds chosen on one half of its "
            f"concepts, measured on the other, where {refolded.texts:,} texts are asked of "
            f"{refolded.pictures:,} pictures. The fewer pictures, the higher is every value.",
            f"Used: {refolded.way} ({_WORDS[refolded.way]}). The other way: "
            f"{next(words for way, words in _WORDS.items() if way != refolded.way)}.",
            "Float: cosine of the backbone's features.",
        ],
    )


def _differing_view(refolded: Refolded) -> View:
    rows = [
        {
            "length": f"{image.length} bits",
            "image": image.mean,
            "text": text.mean,
            "ever": f"{max(image.ever, text.ever)} of {image.length}",
        }
        for image, text in zip(refolded.differing["image"], refolded.differing["text"], strict=True)
    ]
    columns = [
        {"key": "length", "label": "Code"},
        {"key": "image", "label": "Per picture", "format": ".2f"},
        {"key": "text", "label": "Per text", "format": ".2f"},
        {"key": "ever", "label": "Positions that ever differ"},
    ]
    notes = ["Bits in which the separate code of a length differs from the prefix of the refolded code."]
    if not refolded.is_exact:
        notes.append(
            f"The separate codes are kept in {SEPARATE}, from which no index can be built: an index stores "
            "one code, of which the short ones are prefixes."
        )
    return View(
        kind="retrieval_table",
        title="Bits that differ",
        data={"columns": columns, "rows": rows},
        notes=notes,
    )


def _listed(lengths: Sequence[int]) -> str:
    return ", ".join(map(str, lengths))
