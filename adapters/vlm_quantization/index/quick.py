"""The index_build job of encoders: with trained codes, or with codes that are fitted to the pictures."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.encoding.fitted import FIT_SAMPLE, FittedEncoder, fit_codes
from adapters.vlm_quantization.encoding.known_pictures import KnownPictures
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.chosen import Chosen, choose_codes, covers
from adapters.vlm_quantization.index.job import index_result
from adapters.vlm_quantization.index.opened import HARDLY, NOT
from adapters.vlm_quantization.job_inputs import open_encoder
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.features import picture_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from adapters.vlm_quantization.codes import Encoder
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.index.build import IndexReport
    from adapters.vlm_quantization.job_inputs import Family
    from adapters.vlm_quantization.options import IndexOptions
    from workbench import JobContext, Result

#: Seed of the sample that codes are fitted to, and of their first rotations.
SEED = 0


#: Captions whose mean fitted codes of texts are centred on.
FIT_TEXTS = 2_000


_METHOD_WORDS = {
    "itq": "ITQ, fitted to {pictures:,} of these pictures; nothing was trained",
    "sign": "signs of principal components of {pictures:,} of these pictures; nothing was trained",
}


#: Measured on photographs, with models of emoji: see :func:`choose_codes`.
_PASSED_OVER = (
    "Run {run} ({name}) was trained on other pictures, so it is not used: fitted codes found twice as many "
    "similar pictures when that was measured. Its codes (codes=trained) know words, but find little by them."
)


_WORDS = {
    "": "Pictures are found by words and by pictures.",
    NOT: "Pictures are found by pictures only: the encoder knows no words.",
    HARDLY: "Pictures are found by pictures, and hardly by words: the model was trained on other pictures.",
}


@dataclass
class IndexModel:
    """The model that an index is built with; :func:`open_model` makes it.

    Attributes
    ----------
    encoder : HashEncoder or FittedEncoder
        The opened checkpoint, or codes that were fitted to the pictures.
    known : Encoder
        The same, with the picture features that are known already.
    file : Path
        Its file, which is copied into the index.
    words : str
        How well words find the pictures; empty if well.
    """

    encoder: HashEncoder | FittedEncoder
    known: Encoder
    file: Path
    words: str
    #: Holds a fitted model until nothing needs it.
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Delete the file of a fitted model; the index has its copy."""
        if self._folder is not None:
            self._folder.cleanup()


def run_quick_build(options: IndexOptions, job: JobContext, family: Family) -> Result:
    """Build an index of a collection with trained or fitted codes; it is published atomically.

    These are the steps of the index notebook in one call.
    """
    chosen, collection = open_items(options, job, family)
    model = open_model(chosen, collection, job, family)
    try:
        report = write_index(chosen, collection, model, options, job, family)
    finally:
        model.close()
    return build_result(chosen, collection, model, report, job)


def open_items(options: IndexOptions, job: JobContext, family: Family) -> tuple[Chosen, CaptionedImages]:
    """Choose how the codes are made, and open the collection that is to be found."""
    chosen = choose_codes(job.workspace, options, family)
    return chosen, open_collection(chosen.source, cache_dir=job.workspace.cache, progress=job.progress)


def open_model(chosen: Chosen, collection: CaptionedImages, job: JobContext, family: Family) -> IndexModel:
    """Open the run's checkpoint, or fit codes to a sample of the pictures."""
    cache = job.workspace.cache
    encoder: HashEncoder | FittedEncoder
    if chosen.run is not None:
        encoder = open_encoder(chosen.run, chosen.checkpoint, family)
        known = family.with_known_pictures(encoder, collection, cache)
        file = Path(chosen.run.checkpoint(chosen.checkpoint))
        return IndexModel(encoder, known, file, _words(chosen, encoder))
    cache.mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(dir=cache)
    try:
        file = Path(folder.name, "fitted.safetensors")
        encoder, sample, features = _fit(file, chosen, collection, job)
    except BaseException:
        folder.cleanup()
        raise
    known = KnownPictures(encoder, sample, features)
    return IndexModel(encoder, known, file, _words(chosen, encoder), folder)


def write_index(
    chosen: Chosen,
    collection: CaptionedImages,
    model: IndexModel,
    options: IndexOptions,
    job: JobContext,
    family: Family,
) -> IndexReport:
    """Encode the pictures and captions in shards, and publish the index; a killed build resumes."""
    return build_index(
        job.workspace.indexes,
        collection,
        model.known,
        name=options.name,
        title=collection.name,
        adapter=family.name,
        model_file=model.file,
        captions=model.words != NOT,
        progress=job.progress,
        provenance={
            "job": job.id,
            "run": chosen.run and chosen.run.id,
            "collection": collection.name,
            "encoder": chosen.encoder,
            "codes": chosen.method,
            "words": model.words,
        },
    )


def build_result(
    chosen: Chosen,
    collection: CaptionedImages,
    model: IndexModel,
    report: IndexReport,
    job: JobContext,
) -> Result:
    """Return the result of the job: what the index holds, how it was made, and what was skipped."""
    return index_result(
        collection,
        report,
        job,
        made=_made(chosen),
        notes=_notes(chosen, model.encoder, model.words),
        plainly=chosen.run is None,
    )


def _fit(
    file: Path, chosen: Chosen, collection: CaptionedImages, job: JobContext
) -> tuple[FittedEncoder, CaptionedImages, NDArray[np.float32]]:
    """Fit codes to a sample of the pictures; its features are cached, so that a job that resumes has them."""
    sample = _sample(collection)
    pair = registry.encoder_pair(chosen.encoder)
    features = picture_features(sample, pair.image, job.workspace.cache, job.progress)
    encoder = fit_codes(
        file,
        pair,
        features,
        method="sign" if chosen.method == "sign" else "itq",
        texts=_sampled(
            [text for item in collection.items for texts in item.captions.values() for text in texts]
        ),
        data=collection.fingerprint,
        seed=SEED,
        progress=lambda done, total: job.progress(done, total, "fitting codes"),
    )
    return encoder, sample, features


def _sample(collection: CaptionedImages) -> CaptionedImages:
    """Return at most :data:`FIT_SAMPLE` pictures of a collection, the same each time."""
    n = len(collection)
    rows: Sequence[int] = range(n)
    if n > FIT_SAMPLE:
        rows = np.sort(np.random.default_rng(SEED).permutation(n)[:FIT_SAMPLE]).tolist()
    items = [collection.items[row] for row in rows]
    whole = [
        item if item.digest else replace(item, digest=collection.digest(row))
        for row, item in zip(rows, items, strict=True)
    ]
    return CaptionedImages(collection.name, whole)


def _sampled(texts: list[str]) -> list[str]:
    if len(texts) <= FIT_TEXTS:
        return texts
    rows = np.sort(np.random.default_rng(SEED).permutation(len(texts))[:FIT_TEXTS])
    return [texts[row] for row in rows]


def _words(chosen: Chosen, encoder: HashEncoder | FittedEncoder) -> str:
    """Return how well words find the pictures; empty if well."""
    if isinstance(encoder, FittedEncoder):
        return "" if encoder.knows_words else NOT
    run = chosen.run
    if run is None or chosen.encoder not in registry.BUILT_IN:
        return ""
    if covers(run, chosen.source):
        return ""
    return HARDLY


def _made(chosen: Chosen) -> dict[str, Any]:
    made: dict[str, Any] = {"encoder": chosen.encoder, "codes": chosen.method}
    return made if chosen.run is None else {**made, "run": chosen.run.id, "checkpoint": chosen.checkpoint}


def _notes(chosen: Chosen, encoder: HashEncoder | FittedEncoder, words: str) -> list[str]:
    """Return in words what the codes are and how pictures are found."""
    notes = []
    if chosen.run is not None:
        notes.append(f"Model: {chosen.checkpoint} of run {chosen.run.id} ({chosen.run.name}).")
    elif isinstance(encoder, FittedEncoder):
        codes = _METHOD_WORDS[chosen.method].format(pictures=encoder.provenance.pictures)
        notes += [f"Codes: {codes}.", f"Encoder: {chosen.encoder}."]
        if (other := chosen.passed_over) is not None:
            notes.append(_PASSED_OVER.format(run=other.id, name=other.name))
    return [*notes, _WORDS[words]] if words or chosen.run is None else notes
