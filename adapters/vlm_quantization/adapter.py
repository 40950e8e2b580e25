"""The adapter: options, the three jobs, and search, each handed to the module that does the work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench import BadInput, BaseAdapter, Metric, NotSupported, Result, SampleQuery, SearchResult, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from pydantic import BaseModel

    from adapters.vlm_quantization.data import CaptionedImages
    from adapters.vlm_quantization.encoder import HashEncoder
    from adapters.vlm_quantization.evaluator import Evaluated
    from adapters.vlm_quantization.options import EvalOptions, IndexOptions, TrainOptions
    from adapters.vlm_quantization.search import Index, SearchOptions
    from workbench import JobContext, Run

#: Samples for the emoji collection: everyday words that are not the names of the pictures they find.
EMOJI_SAMPLES = (
    ("dog", "en"),
    ("강아지", "ko"),
    ("red heart", "en"),
    ("빨간 하트", "ko"),
    ("pizza", "en"),
    ("비", "ko"),
    ("happy face", "en"),
    ("비행기", "ko"),
)

#: The parts an evaluation reports, as the reader sees them and as metric names say them.
PARTS = {
    "test_drawings": ("held-out drawings", "drawings"),
    "test_concepts": ("held-out concepts", "concepts"),
}

DIRECTIONS = {"t2i": "text → image", "i2t": "image → text"}


class VlmQuantization(BaseAdapter):
    """Nested binary codes for image-text retrieval in English and Korean."""

    name: ClassVar[str] = "vlm_quantization"
    title: ClassVar[str] = "Image-text retrieval with nested binary codes"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("*/loss", "lower", ".4f"),
        Metric("train/*", "lower", ".4f"),
        Metric(
            "*mAP*", "higher", ".3f", "mean average precision over the whole ranking, ties by expectation"
        ),
        Metric("*R@*", "higher", ".3f", "share of the relevant items within the first k"),
        Metric("*P@*", "higher", ".3f", "share of the first k that is relevant"),
        Metric("*hit@*", "higher", ".3f", "share of queries with a relevant item within the first k"),
    )

    def options(self, task: str) -> type[BaseModel]:
        """Return the schema of ``train``, ``eval``, ``index_build`` or ``search``."""
        from adapters.vlm_quantization import options

        if task == "search":
            from adapters.vlm_quantization.search import SearchOptions

            return SearchOptions
        schemas = {
            "train": options.TrainOptions,
            "eval": options.EvalOptions,
            "index_build": options.IndexOptions,
        }
        if task not in schemas:
            raise NotSupported(self.name, f"{task!r}; it offers {', '.join([*schemas, 'search'])}")
        return schemas[task]

    def train(self, options: TrainOptions, job: JobContext) -> Result:
        """Train hash heads and a text tower; the run keeps the curves and the checkpoints."""
        from adapters.vlm_quantization import train
        from adapters.vlm_quantization.backbones import image_tower
        from adapters.vlm_quantization.data import check_leakage, make_splits
        from adapters.vlm_quantization.features import picture_features

        cache = job.workspace.cache
        collection = open_collection(options.collection, cache, job)
        splits = make_splits(collection, options.split_seed)
        checked = check_leakage(collection, splits)
        tower = image_tower(options.image_tower)
        features = picture_features(collection, tower, cache, job.progress)
        with job.start_run(options.experiment, name=options.name, config=options.model_dump()) as run:
            done = train.train(collection, splits, features, tower.fingerprint, options, run, job.progress)
        found = done.best
        headline = found.get("val/R@10@128")
        score = "" if headline is None else f", validation R@10 {headline:.3f} at 128 bits"
        counts = ", ".join(f"{count:,} {part.replace('_', ' ')}" for part, count in splits.counts.items())
        notes = [
            f"Collection {collection.name}: {len(collection):,} pictures; {counts}.",
            f"Leakage check passed: {checked['items']:,} items, {checked['concepts']:,} concepts.",
            *splits.notes,
        ]
        return Result(
            summary=f"step {done.best_step} of {done.steps}{score}",
            metrics=found,
            headline=[train.DECIDING],
            views=[View(kind="metrics_table", title="Validation", data=_validation_rows(found), notes=notes)],
            made={"run": run.id, "checkpoint": train.BEST},
            warnings=_warnings(collection),
        )

    def evaluate(self, options: EvalOptions, job: JobContext) -> Result:
        """Evaluate a checkpoint on held-out drawings and held-out concepts, both directions."""
        from adapters.vlm_quantization.data import check_leakage, make_splits
        from adapters.vlm_quantization.evaluator import report_views

        run = choose_run(job, options.run, options.checkpoint)
        encoder = open_encoder(run, options.checkpoint)
        collection = open_collection(run.config["collection"], job.workspace.cache, job)
        splits = make_splits(collection, run.config["split_seed"])
        trained_on = encoder.checkpoint.provenance
        if trained_on.split != splits.fingerprints["train"]:
            raise BadInput(
                f"{options.checkpoint} of run {run.id} was trained on other data, or on another split of it, "
                f"than the {collection.name!r} of today",
                hint="It may have seen the held-out pictures. Evaluate best.safetensors, or train again.",
            )
        check_leakage(collection, splits)
        if not options.flags:
            splits = splits.without_flags(collection)
        features = _features(collection, encoder, job)
        results: list[Evaluated] = []
        metrics: dict[str, float] = {}
        for part in PARTS:
            rows = getattr(splits, part)
            for language in collection.languages:
                job.progress(len(results), 2 * len(PARTS) * len(collection.languages), "ranking")
                measured = evaluate_part(collection, rows, language, part, encoder, features, options.ks)
                sealed = splits.fingerprints[part]
                results += [replace(result, split_fingerprint=sealed) for result in measured.values()]
                for direction, result in measured.items():
                    metrics |= _named(f"{PARTS[part][1]}/{language}/{direction}", result)
        if not results:
            raise BadInput(f"{collection.name!r} is too small: no held-out pictures to evaluate on")
        metrics |= headlines(metrics, list(collection.languages))
        job.progress(1, 1, "done")
        at = "t2i/R@10@128" if "t2i/R@10@128" in metrics else next(iter(metrics))
        views = report_views(results, curves=["mAP", *(f"R@{k}" for k in options.ks if k == 10)])
        views[0].notes.append(
            f"Model of run {run.id} ({run.name}), step {trained_on.step}, seed {trained_on.seed}; "
            f"flags {'included' if options.flags else 'left out'}."
        )
        return Result(
            summary=f"{at} {metrics[at]:.3f} (run {run.id})",
            metrics=metrics,
            headline=[name for name in metrics if name.startswith(("t2i/R@10@", "i2t/R@10@", "t2i/mAP@"))],
            views=views,
            made={"run": run.id, "checkpoint": options.checkpoint},
            warnings=_warnings(collection),
        )

    def build_index(self, options: IndexOptions, job: JobContext) -> Result:
        """Build an index of a collection with a checkpoint; it appears whole or not at all."""
        from adapters.vlm_quantization.features import KnownPictures, kept_features
        from adapters.vlm_quantization.index_builder import build_index

        run, checkpoint = choose_published(job, options.run, options.checkpoint)
        encoder = open_encoder(run, checkpoint)
        collection = open_collection(options.collection or run.config["collection"], job.workspace.cache, job)
        known = kept_features(collection, encoder.tower, job.workspace.cache)
        report = build_index(
            job.workspace.indexes,
            collection,
            encoder if known is None else KnownPictures(encoder, collection, known),
            name=options.name,
            title=collection.name,
            model_file=run.checkpoint_dir / checkpoint,
            progress=job.progress,
            provenance={"job": job.id, "run": run.id, "collection": collection.name},
        )
        rows: list[dict[str, Any]] = [
            {"name": "Pictures", "value": report.images},
            {"name": "Captions", "value": report.captions},
            {"name": "Skipped", "value": len(report.skipped)},
            {"name": "Size (MB)", "value": round(report.size / 1e6, 1)},
            {"name": "Seconds", "value": round(report.seconds, 1)},
        ]
        return Result(
            summary=f"{report.images:,} pictures, {report.captions:,} captions",
            metrics={"pictures": report.images, "captions": report.captions, "skipped": len(report.skipped)},
            views=[
                View(
                    kind="metrics_table",
                    title=f"Index {report.name}",
                    data={"rows": rows},
                    notes=[f"Model: {checkpoint} of run {run.id} ({run.name})."],
                )
            ],
            made={"index": report.name, "run": run.id, "checkpoint": checkpoint},
            warnings=[
                *_warnings(collection),
                *(f"{skipped.id}: {skipped.reason}" for skipped in report.skipped),
            ],
        )

    def load_model(self, path: Path) -> HashEncoder:
        """Open a checkpoint file."""
        from adapters.vlm_quantization.encoder import HashEncoder

        return HashEncoder.load(Path(path))

    def load_index(self, path: Path) -> Index:
        """Open an index folder, with the checkpoint inside it."""
        from adapters.vlm_quantization.search import load_index

        def encoder(file: Path | None) -> HashEncoder:
            if file is None:
                raise BadInput(f"index {path.name!r} carries no model", hint="Build it again.")
            return self.load_model(file)

        return load_index(Path(path), encoder)

    def describe_index(self, index: Index) -> dict[str, Any]:
        """Return title, subtitle, count and credits."""
        return index.describe()

    def search_by_text(self, index: Index, query: str, k: int, options: SearchOptions) -> SearchResult:
        """Find pictures or captions by a text."""
        from adapters.vlm_quantization.search import search_text

        return search_text(index, query, k, options)

    def search_by_image(self, index: Index, data: bytes, k: int, options: SearchOptions) -> SearchResult:
        """Find pictures or captions by an encoded picture."""
        from adapters.vlm_quantization.search import search_image

        return search_image(index, data, k, options)

    def search_by_item(self, index: Index, item_id: str, k: int, options: SearchOptions) -> SearchResult:
        """Find what is like an item of the index."""
        from adapters.vlm_quantization.search import search_item

        return search_item(index, item_id, k, options)

    def sample_queries(self, index: Index) -> Sequence[SampleQuery]:
        """Return everyday queries for the emoji collection; captions of its own for any other."""
        if index.manifest.provenance.get("collection") == "emoji":
            return [SampleQuery(text, language) for text, language in EMOJI_SAMPLES]
        captions, languages = index.sides["captions"].items, index.manifest.languages
        chosen = {}
        for place in range(min(8, len(captions))):
            language = languages[place % len(languages)]
            # from evenly spread places on, the next caption in the language whose turn it is
            for row in range(place * len(captions) // 8, len(captions)):
                if captions[row]["language"] == language:
                    chosen[captions[row]["caption"]] = language
                    break
        return [SampleQuery(text, language) for text, language in chosen.items()]

    def demo(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what the demo submits; a value of ``$train.run`` is what the train job made."""
        return {
            "train": {},
            "eval": {"run": "$train.run"},
            "index_build": {"run": "$train.run", "name": "emoji"},
        }


def open_collection(name: str, cache: Path, job: JobContext) -> CaptionedImages:
    """Open the default collection, or a JSONL file by its path.

    Raises
    ------
    BadInput
        Neither 'emoji' nor a file.
    """
    from adapters.vlm_quantization.data import CaptionedImages

    if name == "emoji":
        return CaptionedImages.emoji(cache, job.progress)
    if not Path(name).is_file():
        raise BadInput(
            f"no collection {name!r}: it is neither 'emoji' nor a file",
            hint="Give the path of a JSONL file with image, captions and labels a line.",
        )
    return CaptionedImages.from_jsonl(Path(name), cache_dir=cache, progress=job.progress)


def choose_run(job: JobContext, run_id: int | None, checkpoint: str) -> Run:
    """Return the run asked for, or the newest one with such a checkpoint.

    Raises
    ------
    UnknownRun
        No run of that id.
    BadInput
        The run has no such checkpoint, or no run has one.
    """
    if run_id is None:
        for run in job.workspace.runs():
            if checkpoint in _checkpoint_names(run):
                return run
        raise BadInput(f"no run has a checkpoint {checkpoint!r} yet", hint="Train one first.")
    run = job.workspace.run(run_id)
    names = _checkpoint_names(run)
    if checkpoint not in names:
        there = f"it has {', '.join(names)}" if names else "it has none"
        raise BadInput(f"checkpoint {checkpoint!r} not found in run {run_id}; {there}")
    return run


def choose_published(job: JobContext, run_id: int | None, checkpoint: str) -> tuple[Run, str]:
    """Return a run and the checkpoint to publish: the one named, else the refit, else the best."""
    from adapters.vlm_quantization.train import BEST, REFIT

    if checkpoint:
        return choose_run(job, run_id, checkpoint), checkpoint
    run = choose_run(job, run_id, BEST)
    return run, REFIT if REFIT in _checkpoint_names(run) else BEST


def _checkpoint_names(run: Run) -> list[str]:
    return [file.name for file in run.checkpoints()]


def open_encoder(run: Run, checkpoint: str) -> HashEncoder:
    """Open a checkpoint of a run."""
    from adapters.vlm_quantization.encoder import HashEncoder

    return HashEncoder.load(run.checkpoint_dir / checkpoint)


def _features(collection: CaptionedImages, encoder: HashEncoder, job: JobContext) -> NDArray[Any]:
    from adapters.vlm_quantization.features import picture_features

    return picture_features(collection, encoder.tower, job.workspace.cache, job.progress)


def evaluate_part(
    collection: CaptionedImages,
    rows: NDArray[Any],
    language: str,
    part: str,
    encoder: HashEncoder,
    features: NDArray[Any],
    ks: Sequence[int],
) -> dict[str, Evaluated]:
    """Rank one part in one language, in both directions.

    Queries and gallery texts are each concept's name, once; pictures are the part's. Relevant is what shows
    the same concept.

    Returns
    -------
    dict
        ``"t2i"`` and ``"i2t"``; empty where the part has no pictures with a name in that language.
    """
    from adapters.vlm_quantization.evaluator import Evaluated, SameItem, evaluate_codes, evaluate_scores
    from adapters.vlm_quantization.train import caption_queries

    texts, concepts = caption_queries(collection, rows, language)
    if not texts:
        return {}
    shown = [collection.items[row].concept for row in rows.tolist()]
    pictures = encoder.encode_features(features[rows])
    said = encoder.encode_texts(texts)
    out = {}
    for direction, (query, gallery, query_ids, gallery_ids) in {
        "t2i": (said, pictures, concepts, shown),
        "i2t": (pictures, said, shown, concepts),
    }.items():
        relevance = SameItem(query_ids, gallery_ids)
        records = evaluate_codes(query.codes, gallery.codes, relevance, ks=ks)
        records += evaluate_scores(query.features, gallery.features, relevance, ks=ks)
        out[direction] = Evaluated(PARTS[part][0], DIRECTIONS[direction], language, records)
    return out


def _named(prefix: str, result: Evaluated) -> dict[str, float]:
    return {
        f"{prefix}/{record.name}@{'float' if record.bits is None else record.bits}": record.value
        for record in result.records
        if record.value == record.value  # no query counted: there is no number to report
    }


def headlines(metrics: Mapping[str, float], languages: Sequence[str]) -> dict[str, float]:
    """Return ``t2i/R@10@128`` and the like: held-out drawings (else concepts), mean over languages."""
    for part in ("drawings", "concepts"):
        prefix = f"{part}/{languages[0]}/"
        names = [name.removeprefix(prefix) for name in metrics if name.startswith(prefix)]
        if names:
            spoken = [language for language in languages if f"{part}/{language}/{names[0]}" in metrics]
            return {
                name: sum(metrics[f"{part}/{language}/{name}"] for language in spoken) / len(spoken)
                for name in names
            }
    return {}


def _validation_rows(metrics: Mapping[str, float]) -> dict[str, Any]:
    return {"rows": [{"name": name, "value": value} for name, value in metrics.items()]}


def _warnings(collection: CaptionedImages) -> list[str]:
    return [collection.problem_summary] if collection.problems else []
