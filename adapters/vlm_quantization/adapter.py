"""The adapter: options, the three jobs, and search, each delegated to the module that implements it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workbench import (
    BadInput,
    BaseAdapter,
    Explanation,
    Metric,
    MissingExtra,
    NotSupported,
    Result,
    SampleQuery,
    SearchResult,
    Term,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from PIL.Image import Image
    from pydantic import BaseModel

    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.encoding.fitted import FittedEncoder
    from adapters.vlm_quantization.index.opened import Index
    from adapters.vlm_quantization.options import (
        EvalOptions,
        IndexOptions,
        QuickIndexOptions,
        TrainOptions,
    )
    from adapters.vlm_quantization.search.options import SearchOptions
    from workbench import JobContext, WorkspaceView


#: Sample queries for the emoji collection: everyday words that differ from the names of the pictures.
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
            "*mAP*", "higher", ".3f", "mean average precision of the whole ranking, expected over tie orders"
        ),
        Metric("*MRR*", "higher", ".3f", "mean reciprocal rank of the first relevant item"),
        Metric("*NDCG@*", "higher", ".3f", "discounted gain of the first k, relative to the ideal ranking"),
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

    def options(self, task: str) -> type[BaseModel]:
        """Return the schema of ``train``, ``eval``, ``index_build``, ``quick_index`` or ``search``."""
        from adapters.vlm_quantization import options

        if task == "search":
            from adapters.vlm_quantization.search.options import SearchOptions

            return SearchOptions
        schemas: dict[str, type[BaseModel]] = {
            "train": options.TrainOptions,
            "eval": options.EvalOptions,
            "index_build": options.IndexOptions,
            "quick_index": options.QuickIndexOptions,
        }
        if task not in schemas:
            raise NotSupported(self.name, f"{task!r}; it offers {', '.join([*schemas, 'search'])}")
        return schemas[task]

    def find_problems(self, task: str, options: Any, workspace: WorkspaceView) -> Iterable[tuple[str, str]]:
        """Find a missing run, checkpoint or collection, and a name that no index can have."""
        from adapters.vlm_quantization.job_inputs import find_problems

        return find_problems(task, options, workspace)

    def metric_names(self, task: str, options: Any) -> Sequence[str]:
        """Return the names of a job's metrics: of validation, of an evaluation, or counts of an index."""
        if task == "eval":
            from adapters.vlm_quantization.evaluate.metric_names import possible_names

            return possible_names(options)
        if task == "index_build":
            return ("pictures", "captions", "skipped")
        from adapters.vlm_quantization.codes import CODE_LENGTHS

        lengths = (*reversed(CODE_LENGTHS), "float")
        return ("val/R@10", *(f"val/{what}@{length}" for what in ("R@10", "mAP") for length in lengths))

    def train(self, options: TrainOptions, job: JobContext) -> Result:
        """Train hash heads and a text tower; the run stores the curves and the checkpoints."""
        from adapters.vlm_quantization.train.job import run_training

        return run_training(options, job)

    def evaluate(self, options: EvalOptions, job: JobContext) -> Result:
        """Evaluate a checkpoint on held-out drawings and held-out concepts, and write the report."""
        from adapters.vlm_quantization.evaluate.job import run_evaluation

        return run_evaluation(options, job)

    def build_index(self, options: IndexOptions, job: JobContext) -> Result:
        """Build an index of a collection with a checkpoint; it is published atomically."""
        from adapters.vlm_quantization.index.job import run_index_build

        return run_index_build(options, job)

    def quick_index(self, source: str, options: QuickIndexOptions) -> Mapping[str, Any]:
        """Return the options of the job that indexes a collection at once, trained or not."""
        return {
            "collection": source,
            "name": options.name,
            "encoder": options.encoder,
            "codes": options.codes,
        }

    def load_model(self, path: Path) -> HashEncoder | FittedEncoder:
        """Open a checkpoint file, or the fitted codes of an index that was made without training."""
        from adapters.vlm_quantization.encoding.fitted import open_model

        return open_model(Path(path))

    def load_index(self, path: Path) -> Index:
        """Open an index folder with the checkpoint inside it, and load the network that queries by text need.

        This runs once in the process that holds the index; a page's visitors only talk to that process.
        """
        from adapters.vlm_quantization.index.opened import load_index

        def encoder(file: Path | None) -> HashEncoder | FittedEncoder:
            if file is None:
                raise BadInput(f"index {path.name!r} contains no model", hint="Build the index again.")
            model = self.load_model(file)
            with contextlib.suppress(MissingExtra):  # then a query by text says so; other queries still work
                model.open_text_tower()
            return model

        return load_index(Path(path), encoder)

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
        """Return everyday queries for the emoji collection, and captions of the index for any other."""
        if index.manifest.provenance.get("collection") == "emoji":
            return [SampleQuery(text, language) for text, language in EMOJI_SAMPLES]
        captions, languages = index.sides["captions"].items, index.manifest.languages
        chosen = {}
        for place in range(min(8, len(captions))):
            language = languages[place % len(languages)]
            # starting at evenly spaced rows, take the next caption in this language
            for row in range(place * len(captions) // 8, len(captions)):
                if captions[row]["language"] == language:
                    chosen[captions[row]["caption"]] = language
                    break
        return [SampleQuery(text, language) for text, language in chosen.items()]

    def demo(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the options the demo submits; ``$train.run`` stands for the run made by the train job."""
        return {
            "train": {},
            "eval": {"run": "$train.run"},
            "index_build": {"run": "$train.run", "name": "emoji"},
        }
