"""The index_build job of encoders: with trained codes, or with codes that are fitted to the pictures."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.codes import CODE_BITS
from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.encoding.fitted import COMPONENTS, FIT_SAMPLE, FittedEncoder, fit_codes
from adapters.vlm_quantization.encoding.known_pictures import KnownPictures, with_known_texts
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.chosen import Chosen, choose_codes, covers
from adapters.vlm_quantization.index.job import index_result
from adapters.vlm_quantization.index.one_pass import OnePass
from adapters.vlm_quantization.index.opened import HARDLY, NOT
from adapters.vlm_quantization.index.space import check_space, least_bytes
from adapters.vlm_quantization.job_inputs import open_encoder
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.device import chosen_device, place, use_device
from adapters.vlm_quantization.towers.features import Encoding, picture_features

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.encoding.known_pictures import KnownCollection
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


@dataclass(frozen=True)
class IndexItems:
    """What an index is to hold; :func:`open_items` makes it.

    Attributes
    ----------
    chosen : Chosen
        How the codes are made.
    collection : CaptionedImages
        The pictures that are to be found.
    known : KnownCollection
        The same, with the features and thumbnails that are known: they were made while it was opened.
    trained : HashEncoder, FittedEncoder or None
        The opened checkpoint; None if codes are fitted to the pictures.
    how : Encoding
        How features are computed.
    encoded : str
        How many pictures were encoded, and how; empty if all were known.
    """

    chosen: Chosen
    collection: CaptionedImages
    known: KnownCollection
    trained: HashEncoder | FittedEncoder | None
    how: Encoding
    encoded: str


@dataclass
class IndexModel:
    """The model that an index is built with; :func:`open_model` makes it.

    Attributes
    ----------
    encoder : HashEncoder or FittedEncoder
        The opened checkpoint, or codes that were fitted to the pictures.
    file : Path
        Its file, which is copied into the index.
    words : str
        How well words find the pictures; empty if well.
    """

    encoder: HashEncoder | FittedEncoder
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
    items = open_items(options, job, family)
    model = open_model(items, job)
    try:
        report = write_index(items, model, options, job, family)
    finally:
        model.close()
    return build_result(items, model, report, job)


def open_items(options: IndexOptions, job: JobContext, family: Family) -> IndexItems:
    """Choose how the codes are made, and open the collection; each picture is decoded once, and encoded."""
    chosen = choose_codes(job.workspace, options, family)
    cache = job.workspace.cache
    trained = None
    if chosen.run is not None:
        trained = use_device(open_encoder(chosen.run, chosen.checkpoint, family), options)
    device = chosen_device(options.device)
    tower = registry.encoder_pair(chosen.encoder).image if trained is None else trained.tower
    place(tower, device)
    how = Encoding(batch_size=options.batch_size, progress=job.progress, say=_print)
    space = _space_check(job, options, trained, chosen)
    with OnePass(tower, cache, how, space) as one:
        collection = open_collection(chosen.source, cache_dir=cache, progress=job.progress, onlooker=one)
        one.fill(collection)
    return IndexItems(chosen, collection, one.known(collection), trained, how, one.words)


def open_model(items: IndexItems, job: JobContext) -> IndexModel:
    """Take the run's checkpoint, or fit codes to a sample of the pictures."""
    chosen, encoder = items.chosen, items.trained
    if chosen.run is not None and encoder is not None:
        file = Path(chosen.run.checkpoint(chosen.checkpoint))
        return IndexModel(encoder, file, _words(chosen, encoder))
    cache = job.workspace.cache
    cache.mkdir(parents=True, exist_ok=True)
    folder = tempfile.TemporaryDirectory(dir=cache)
    try:
        file = Path(folder.name, "fitted.safetensors")
        encoder = _fit(file, items, job)
    except BaseException:
        folder.cleanup()
        raise
    return IndexModel(encoder, file, _words(chosen, encoder), folder)


def write_index(
    items: IndexItems, model: IndexModel, options: IndexOptions, job: JobContext, family: Family
) -> IndexReport:
    """Encode what is left, write pictures and captions in shards, and publish the index.

    A build that was killed resumes.
    """
    chosen, texts = items.chosen, None
    if not isinstance(model.encoder, FittedEncoder):
        texts = with_known_texts(model.encoder, items.collection, job.workspace.cache)
    return build_index(
        job.workspace.indexes,
        items.known,
        KnownPictures(model.encoder, texts),
        name=options.name,
        title=items.collection.name,
        adapter=family.name,
        model_file=model.file,
        captions=model.words != NOT,
        features=options.features,
        progress=job.progress,
        provenance={
            "job": job.id,
            "run": chosen.run and chosen.run.id,
            "collection": items.collection.name,
            "encoder": chosen.encoder,
            "codes": chosen.method,
            "words": model.words,
        },
    )


def build_result(items: IndexItems, model: IndexModel, report: IndexReport, job: JobContext) -> Result:
    """Return the result of the job: what the index holds, how it was made, and what was skipped."""
    chosen = items.chosen
    result = index_result(
        items.collection,
        report,
        job,
        made=_made(chosen),
        notes=_notes(chosen, model.encoder, model.words),
        plainly=chosen.run is None,
    )
    result.views[0].notes += filter(None, [items.encoded])
    return result


def _print(words: str) -> None:
    print(words, flush=True)  # into the job's notebook and log


def _space_check(
    job: JobContext, options: IndexOptions, trained: HashEncoder | FittedEncoder | None, chosen: Chosen
) -> Callable[[int], None]:
    """Return a check that the disk holds the index of a number of pictures, before any is encoded."""
    if trained is not None:
        dim = trained.dim
    else:
        pair = registry.encoder_pair(chosen.encoder)
        dim = pair.image.dim if pair.aligned else min(pair.image.dim, COMPONENTS)

    indexes = job.workspace.indexes
    begun = next(indexes.glob(f".{options.name}.building-*"), indexes / f".{options.name}.building")

    def check(pictures: int) -> None:
        sides = {"images": range(pictures), "captions": range(0)}
        check_space(begun, least_bytes(sides, dim, CODE_BITS, None, options.features))

    return check


def _fit(file: Path, items: IndexItems, job: JobContext) -> FittedEncoder:
    """Fit codes to a sample of the pictures, whose features are known by now."""
    chosen, collection = items.chosen, items.collection
    pair = registry.encoder_pair(chosen.encoder)
    place(pair.text, getattr(pair.image, "device", "cpu"))
    features = picture_features(_sample(collection), pair.image, job.workspace.cache, how=items.how)
    return fit_codes(
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


def _sample(collection: CaptionedImages) -> CaptionedImages:
    """Return at most :data:`FIT_SAMPLE` pictures of a collection, the same each time."""
    n = len(collection)
    rows: Sequence[int] = range(n)
    if n > FIT_SAMPLE:
        rows = np.sort(np.random.default_rng(SEED).permutation(n)[:FIT_SAMPLE]).tolist()
    return CaptionedImages(collection.name, [collection.items[row] for row in rows])


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
