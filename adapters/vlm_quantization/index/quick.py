"""The index_build job of encoders: with trained codes, or with codes that are fitted to the pictures."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.codes import CODE_BITS
from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.encoding.fitted import COMPONENTS, FIT_SAMPLE, FittedEncoder, fit_codes
from adapters.vlm_quantization.encoding.known_pictures import KnownPictures
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.chosen import Chosen, choose_codes
from adapters.vlm_quantization.index.job import index_result
from adapters.vlm_quantization.index.one_pass import OnePass
from adapters.vlm_quantization.index.opened import HARDLY, NOT
from adapters.vlm_quantization.index.space import check_space, least_bytes
from adapters.vlm_quantization.job_inputs import open_encoder
from adapters.vlm_quantization.towers import registry
from adapters.vlm_quantization.towers.features import Encoding, picture_features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from adapters.vlm_quantization.encoding.encoder import HashEncoder
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


_WORDS = {
    "": "Pictures are found by words and by pictures.",
    NOT: "Pictures are found by pictures only: the encoder knows no words.",
    HARDLY: "Pictures are found by pictures, and hardly by words: the model was trained on other pictures.",
}


def run_quick_build(options: IndexOptions, job: JobContext, family: Family) -> Result:
    """Build an index of a collection with trained or fitted codes; it is published atomically."""
    chosen = choose_codes(job.workspace, options, family)
    cache = job.workspace.cache
    trained = None if chosen.run is None else open_encoder(chosen.run, chosen.checkpoint, family)
    tower = registry.encoder_pair(chosen.encoder).image if trained is None else trained.tower
    how = Encoding(batch_size=options.batch_size, progress=job.progress, say=_print)
    space = _space_check(job, options.name, trained, chosen)
    with OnePass(tower, cache, how, space) as one:
        collection = open_collection(chosen.source, cache_dir=cache, progress=job.progress, onlooker=one)
        one.fill(collection)
    with _model(chosen, trained, collection, job, how) as (encoder, file):
        words = _words(chosen, encoder)
        report = build_index(
            job.workspace.indexes,
            one.known(collection),
            KnownPictures(encoder),
            name=options.name,
            title=collection.name,
            adapter=family.name,
            model_file=file,
            captions=words != NOT,
            progress=job.progress,
            provenance={
                "job": job.id,
                "run": chosen.run and chosen.run.id,
                "collection": collection.name,
                "encoder": chosen.encoder,
                "codes": chosen.method,
                "words": words,
            },
        )
    result = index_result(
        collection,
        report,
        job,
        made=_made(chosen),
        notes=_notes(chosen, encoder, words),
        plainly=chosen.run is None,
    )
    result.views[0].notes += filter(None, [one.words])
    return result


def _print(words: str) -> None:
    print(words, flush=True)  # into the job's notebook and log


def _space_check(
    job: JobContext, name: str, trained: HashEncoder | FittedEncoder | None, chosen: Chosen
) -> Callable[[int], None]:
    """Return a check that the disk holds the index of a number of pictures, before any is encoded."""
    if trained is not None:
        dim = trained.dim
    else:
        pair = registry.encoder_pair(chosen.encoder)
        dim = pair.image.dim if pair.aligned else min(pair.image.dim, COMPONENTS)

    indexes = job.workspace.indexes
    begun = next(indexes.glob(f".{name}.building-*"), indexes / f".{name}.building")

    def check(pictures: int) -> None:
        sides = {"images": range(pictures), "captions": range(0)}
        check_space(begun, least_bytes(sides, dim, CODE_BITS, None))

    return check


@contextmanager
def _model(
    chosen: Chosen,
    trained: HashEncoder | FittedEncoder | None,
    collection: CaptionedImages,
    job: JobContext,
    how: Encoding,
) -> Iterator[tuple[HashEncoder | FittedEncoder, Path]]:
    """Yield the model, trained or fitted now, and its file."""
    if chosen.run is not None and trained is not None:
        yield trained, Path(chosen.run.checkpoint(chosen.checkpoint))
        return
    cache = job.workspace.cache
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        file = Path(folder, "fitted.safetensors")
        yield _fit(file, chosen, collection, job, how), file


def _fit(
    file: Path, chosen: Chosen, collection: CaptionedImages, job: JobContext, how: Encoding
) -> FittedEncoder:
    """Fit codes to a sample of the pictures, whose features are known by now."""
    pair = registry.encoder_pair(chosen.encoder)
    features = picture_features(_sample(collection), pair.image, job.workspace.cache, how=how)
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
    if chosen.source == run.config.get("collection"):
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
    return [*notes, _WORDS[words]] if words or chosen.run is None else notes
