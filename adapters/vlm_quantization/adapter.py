"""The adapter: options, the three jobs, and search, each handed to the module that does the work."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench import BadInput, BaseAdapter, Metric, NotSupported, Result, SampleQuery, SearchResult, View

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import BaseModel

    from adapters.vlm_quantization.data import CaptionedImages
    from adapters.vlm_quantization.encoder import HashEncoder
    from adapters.vlm_quantization.options import EvalOptions, IndexOptions, TrainOptions
    from adapters.vlm_quantization.search import Index, SearchOptions
    from adapters.vlm_quantization.splits import Splits
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


class VlmQuantization(BaseAdapter):
    """Nested binary codes for image-text retrieval in English and Korean."""

    name: ClassVar[str] = "vlm_quantization"
    title: ClassVar[str] = "Image-text retrieval with nested binary codes"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("*MedR*", "lower", ".1f", "median rank of the first relevant item"),
        Metric("*/loss", "lower", ".4f"),
        Metric("train/*", "lower", ".4f"),
        Metric(
            "*mAP*", "higher", ".3f", "mean average precision over the whole ranking, ties by expectation"
        ),
        Metric("*MRR*", "higher", ".3f", "mean of one over the rank of the first relevant item"),
        Metric("*NDCG@*", "higher", ".3f", "discounted gain of the first k over that of the best ranking"),
        Metric("*retention@*", "higher", ".1%", "R@k of a code over that of the float features"),
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
        schemas: dict[str, type[BaseModel]] = {
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
        seeds = list(dict.fromkeys(options.seeds)) or [options.seed]
        done: dict[int, tuple[Run, Any]] = {}
        for seed in seeds:
            several = len(seeds) > 1
            own = options.model_copy(
                update={
                    "seed": seed,
                    "seeds": (),
                    "name": f"{options.name}-s{seed}" if several else options.name,
                }
            )
            with (
                stages(job)(f"seed {seed}", 1 / len(seeds)) if several else nullcontext(),
                job.start_run(own.experiment, name=own.name, config=own.model_dump()) as run,
            ):
                trained = train.train(collection, splits, features, tower.fingerprint, own, run, job.progress)
            done[seed] = (run, trained)
        return _trained(done, collection, splits, checked)

    def evaluate(self, options: EvalOptions, job: JobContext) -> Result:
        """Evaluate a checkpoint on held-out drawings and held-out concepts, and write the report."""
        from adapters.vlm_quantization.eval_job import run_evaluation

        return run_evaluation(options, job)

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


def stages(job: JobContext) -> Callable[..., AbstractContextManager[Any]]:
    """Return the job's stages; where a job has none to tell of, contexts that do nothing."""
    return getattr(job, "stage", lambda *_: nullcontext())


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
            if checkpoint in checkpoint_names(run):
                return run
        raise BadInput(f"no run has a checkpoint {checkpoint!r} yet", hint="Train one first.")
    run = job.workspace.run(run_id)
    names = checkpoint_names(run)
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
    return run, REFIT if REFIT in checkpoint_names(run) else BEST


def checkpoint_names(run: Run) -> list[str]:
    """Return the names of a run's checkpoints."""
    return [file.name for file in run.checkpoints()]


def open_encoder(run: Run, checkpoint: str) -> HashEncoder:
    """Open a checkpoint of a run."""
    from adapters.vlm_quantization.encoder import HashEncoder

    return HashEncoder.load(run.checkpoint_dir / checkpoint)


def _trained(
    done: Mapping[int, tuple[Run, Any]],
    collection: CaptionedImages,
    splits: Splits,
    checked: Mapping[str, int],
) -> Result:
    """Return what training leaves: the run, or of several seeds the best on validation and all of them."""
    from adapters.vlm_quantization import report, train

    best = max(done, key=lambda seed: done[seed][1].best.get(train.DECIDING, 0.0))
    run, trained = done[best]
    found = trained.best
    headline = found.get("val/R@10@128")
    score = "" if headline is None else f", validation R@10 {headline:.3f} at 128 bits"
    counts = ", ".join(f"{count:,} {part.replace('_', ' ')}" for part, count in splits.counts.items())
    notes = [
        f"Collection {collection.name}: {len(collection):,} pictures; {counts}.",
        f"Leakage check passed: {checked['items']:,} items, {checked['concepts']:,} concepts.",
        *splits.notes,
    ]
    views = [View(kind="metrics_table", title="Validation", data=_validation_rows(found), notes=notes)]
    made: dict[str, Any] = {"run": run.id, "checkpoint": train.BEST}
    summary = f"step {trained.best_step} of {trained.steps}{score}"
    if len(done) > 1:
        by_seed = {seed: one.best for seed, (_, one) in done.items()}
        views.insert(0, report.seeds_view(by_seed, list(found)))
        made["runs"] = [one.id for one, _ in done.values()]
        summary = f"{len(done)} seeds, the best {best}: {summary}"
    return Result(
        summary=summary,
        metrics=found,
        headline=[train.DECIDING],
        views=views,
        made=made,
        warnings=_warnings(collection),
    )


def _validation_rows(metrics: Mapping[str, float]) -> dict[str, Any]:
    return {"rows": [{"name": name, "value": value} for name, value in metrics.items()]}


def _warnings(collection: CaptionedImages) -> list[str]:
    return [collection.problem_summary] if collection.problems else []
