"""What any family of picture-text models can reuse: jobs, index, search and evaluation.

A family of one's own subclasses :class:`PictureTextFamily` and hands in an encoder; options, index format,
builder, search, evaluation, report and page then work for it as they do for this one.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench import BadInput, BaseAdapter, Metric, NotSupported, Result, SampleQuery, SearchResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from PIL.Image import Image
    from pydantic import BaseModel

    from adapters.vlm_quantization.codes import Encoder
    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.evaluate.subject import Origin, Subject
    from adapters.vlm_quantization.index.opened import Index
    from adapters.vlm_quantization.options import FamilyEvalOptions, FamilyIndexOptions, FamilyTrainOptions
    from adapters.vlm_quantization.search.options import SearchOptions
    from workbench import Explanation, FilterField, Hit, JobContext, Run, Term, WorkspaceView

#: Captions that are looked at for one sample query; an index may have very many, and few in a language.
_SAMPLED_ROWS = 1_000


class PictureTextFamily(BaseAdapter):
    """A family whose models encode pictures and texts into nested codes and float features.

    A subclass sets ``name`` and ``title``, and implements :meth:`fit` and :meth:`load_model`. Its options for
    a training extend :class:`~adapters.vlm_quantization.options.FamilyTrainOptions` and are named by
    :attr:`train_options`.
    """

    #: Schema of a training's options; None: :class:`~adapters.vlm_quantization.options.FamilyTrainOptions`.
    train_options: ClassVar[type[BaseModel] | None] = None

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("*MedR*", "lower", ".1f", "median rank of the first relevant item"),
        Metric("*/loss", "lower", ".4f"),
        Metric("train/*", "lower", ".4f"),
        Metric(
            "*mAP*", "higher", ".3f", "mean average precision of the whole ranking, expected over tie orders"
        ),
        Metric("*MRR*", "higher", ".3f", "mean reciprocal rank of the first relevant item"),
        Metric("*NDCG@*", "higher", ".3f", "discounted gain of the first k, relative to the ideal ranking"),
        Metric("stability/*/flips@*", "lower", ".1%", "mean share of bits that differ after a change"),
        Metric("stability/*/kept@*", "higher", ".1%", "share of right answers in the top 10 that stay there"),
        Metric("*retention@*", "higher", ".1%", "R@k of a code divided by that of the float features"),
        Metric(
            "*R@*",
            "higher",
            ".3f",
            "share of the relevant items within the first k; under protocol clip, the same as hit@k",
        ),
        Metric("*P@*", "higher", ".3f", "share of the first k that are relevant"),
        Metric("*hit@*", "higher", ".3f", "share of queries with a relevant item within the first k"),
    )

    # What a family hands in ----------------------------------------------------------------------

    def fit(
        self, options: Any, collection: CaptionedImages, rows: Sequence[int], path: Path, run: Run
    ) -> None:
        """Train a model on some pictures and save it.

        Parameters
        ----------
        options : model
            Of the schema :attr:`train_options`.
        collection : CaptionedImages
            The collection.
        rows : sequence of int
            The items to train on; the others are held out.
        path : Path
            The checkpoint to write, a safetensors file.
        run : Run
            Receives curves by ``run.log``.
        """
        raise NotSupported(self.name, "fit")

    def load_model(self, path: Path) -> Encoder:
        """Open a checkpoint; see :class:`~adapters.vlm_quantization.codes.Encoder` for what it must offer."""
        raise NotSupported(self.name, "load_model")

    def load_for_search(self, path: Path) -> Encoder:
        """Open an index's checkpoint with what queries need: once, in the process that holds the index."""
        return self.load_model(path)

    # What it gets for that -----------------------------------------------------------------------

    def options(self, task: str) -> type[BaseModel]:
        """Return the schema of ``train``, ``eval``, ``index_build`` or ``search``."""
        from adapters.vlm_quantization import options

        if task == "search":
            from adapters.vlm_quantization.search.options import SearchOptions

            return SearchOptions
        schemas: dict[str, type[BaseModel]] = {
            "train": self.train_options or options.FamilyTrainOptions,
            "eval": options.FamilyEvalOptions,
            "index_build": options.FamilyIndexOptions,
            "data_check": options.DataCheckOptions,
        }
        if task not in schemas:
            raise NotSupported(self.name, f"{task!r}; it offers {', '.join([*schemas, 'search'])}")
        return schemas[task]

    def find_problems(self, task: str, options: Any, workspace: WorkspaceView) -> Iterable[tuple[str, str]]:
        """Find a missing run, checkpoint or collection, and a name that no index can have."""
        from adapters.vlm_quantization.job_inputs import find_problems

        return find_problems(task, options, workspace, self)

    def metric_names(self, task: str, options: Any) -> Sequence[str] | None:
        """Return the names of a job's metrics: of an evaluation, or counts of an index."""
        if task == "eval":
            from adapters.vlm_quantization.evaluate.metric_names import possible_names

            return possible_names(options)
        return ("pictures", "captions", "skipped") if task == "index_build" else None

    def check_data(
        self,
        source: str,
        folder: Path,
        *,
        thorough: bool = False,
        progress: Callable[[float, float | None, str], None] | None = None,
    ) -> Result:
        """Say what a collection holds: pictures, captions, languages, splits, duplicates and problems."""
        import platformdirs

        from adapters.vlm_quantization.data.check import check_collection

        cache = platformdirs.user_cache_path("notebook-workbench")
        return check_collection(source, folder, thorough=thorough, cache_dir=cache, progress=progress)

    def train(self, options: FamilyTrainOptions, job: JobContext) -> Result:
        """Train by :meth:`fit` on the training part of a collection; the run has the checkpoint."""
        from adapters.vlm_quantization.data.leakage import check_leakage
        from adapters.vlm_quantization.data.sources import open_collection
        from adapters.vlm_quantization.encoding.checkpoint import BEST
        from adapters.vlm_quantization.job_inputs import (
            left_out,
            problems_of,
            refuse_without_captions,
            splits_of,
        )
        from adapters.vlm_quantization.views import card

        collection = open_collection(options.collection, cache_dir=job.workspace.cache, progress=job.progress)
        refuse_without_captions(collection)
        splits = splits_of(collection, options.model_dump(), job.workspace.cache, job.progress)
        check_leakage(collection, splits, accept_duplicates=options.accept_training_pictures_in_test)
        config = {
            **options.model_dump(),
            "adapter": self.name,
            "trained_on": splits.fingerprints["train"],
        }
        with (
            job.start_run(options.experiment, name=options.name, config=config) as run,
            tempfile.TemporaryDirectory() as folder,
        ):
            path = Path(folder) / BEST
            self.fit(options, collection, splits.train.tolist(), path, run)
            run.log_checkpoint(BEST, path)
        return Result(
            summary=f"trained on {len(splits.train):,} pictures of {collection.name}{left_out(collection)}",
            made={"run": run.id, "checkpoint": BEST},
            warnings=[*problems_of(collection, job), *splits.notes],
            views=[card(splits.counts.items(), "Pictures by part", ("Part", "Pictures"))],
        )

    def evaluate(self, options: FamilyEvalOptions, job: JobContext) -> Result:
        """Evaluate a checkpoint on held-out drawings and held-out concepts, and write the report."""
        from adapters.vlm_quantization.evaluate.job import run_evaluation

        return run_evaluation(options, job, self)

    def build_index(self, options: FamilyIndexOptions, job: JobContext) -> Result:
        """Build an index of a collection with a checkpoint; it is published atomically."""
        from adapters.vlm_quantization.index.job import run_index_build

        return run_index_build(options, job, self)

    def subject(
        self,
        encoder: Any,
        collection: CaptionedImages,
        cache: Path,
        progress: OnProgress | None,
        *,
        batch_size: int = 0,
    ) -> Subject:
        """Return a model for an evaluation on a collection."""
        from adapters.vlm_quantization.evaluate.subject import FromPictures

        return FromPictures(encoder, collection, progress)

    def origin(self, run: Run, encoder: Any) -> Origin:
        """Return where a model comes from: the split and the seed that it was trained with."""
        from adapters.vlm_quantization.evaluate.subject import Origin

        seed = int(run.config.get("seed", 0))
        rows = [("Model", encoder.name), ("Code lengths", ", ".join(map(str, encoder.bits)))]
        return Origin(encoder.fingerprint, run.config.get("trained_on", ""), seed, f"seed {seed}", rows)

    def load_index(self, path: Path) -> Index:
        """Open an index folder, with the checkpoint inside it."""
        from adapters.vlm_quantization.index.opened import load_index

        def encoder(file: Path | None) -> Encoder:
            if file is None:
                raise BadInput(f"index {path.name!r} contains no model", hint="Build the index again.")
            return self.load_for_search(file)

        return load_index(Path(path), encoder, adapter=self.name)

    def describe_index(self, index: Index) -> dict[str, Any]:
        """Return title, subtitle, count and credits."""
        return index.describe()

    def search_by_text(self, index: Index, query: str, k: int, options: SearchOptions) -> SearchResult:
        """Find pictures or captions by text."""
        from adapters.vlm_quantization.search.queries import search_text

        return search_text(index, query, k, options)

    def open_picture(self, data: bytes) -> Image:
        """Decode an encoded picture."""
        from adapters.vlm_quantization.data.pictures import decode_picture

        return decode_picture(data)

    def search_by_image(
        self, index: Index, data: bytes | Image, k: int, options: SearchOptions
    ) -> SearchResult:
        """Find pictures or captions by a picture."""
        from adapters.vlm_quantization.search.queries import search_image

        return search_image(index, data, k, options)

    def search_by_item(self, index: Index, item_id: str, k: int, options: SearchOptions) -> SearchResult:
        """Find items similar to an item of the index."""
        from adapters.vlm_quantization.search.queries import search_item

        return search_item(index, item_id, k, options)

    def explain(self, index: Index, left: Term, right: Term, options: SearchOptions) -> Explanation:
        """Compare two texts, pictures or items: their codes, the distance at each length, and the cosine."""
        from adapters.vlm_quantization.search.explain import explain

        return explain(index, left, right, options)

    def sample_queries(self, index: Index) -> Sequence[SampleQuery]:
        """Return captions of the index, in all its languages."""
        captions, languages = index.sides["captions"].items, index.manifest.languages
        chosen = {}
        for place in range(min(8, len(captions))):
            language = languages[place % len(languages)]
            # starting at evenly spaced rows, take the next caption in this language, if it is not far
            first = place * len(captions) // 8
            for row in range(first, min(first + _SAMPLED_ROWS, len(captions))):
                if captions[row]["language"] == language:
                    chosen[captions[row]["caption"]] = language
                    break
        return [SampleQuery(text, language) for text, language in chosen.items()]

    def sample_items(self, index: Index, count: int) -> Sequence[Hit]:
        """Return pictures of the index at equal distances, in the order of their ids."""
        from adapters.vlm_quantization.search.queries import sample_pictures

        return sample_pictures(index, count)

    def filter_fields(self, index: Index) -> Sequence[FilterField]:
        """Return the fields of the index's items, with their most frequent values."""
        return index.filters.describe()

    def item_file(self, index: Index, item_id: str) -> Path:
        """Return the file of a picture, if it is still the one that was indexed."""
        return index.picture_file(item_id)

    def demo(self, collection: str = "") -> Mapping[str, Mapping[str, Any]]:
        """Return the options the demo submits; ``$train.run`` stands for the run made by the train job."""
        train, name = {}, "emoji"
        if collection:
            from adapters.vlm_quantization.data.sources import short_name

            name = short_name(collection)
            train = {"collection": collection, "experiment": name}
        return {
            "train": train,
            "eval": {"run": "$train.run"},
            "index_build": {"run": "$train.run", "name": name},
        }
