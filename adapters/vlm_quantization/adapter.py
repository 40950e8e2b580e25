"""The adapter: options, the three jobs, and search, each delegated to the module that implements it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.vlm_quantization.family import PictureTextFamily
from workbench import MissingExtra, Result, SampleQuery

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.encoding.fitted import FittedEncoder
    from adapters.vlm_quantization.evaluate.subject import Origin, Subject
    from adapters.vlm_quantization.index.opened import Index
    from adapters.vlm_quantization.options import QuickIndexOptions
    from workbench import JobContext, Run, WorkspaceView


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


class VlmQuantization(PictureTextFamily):
    """Nested binary codes for image-text retrieval in English and Korean."""

    name: ClassVar[str] = "vlm_quantization"
    title: ClassVar[str] = "Image-text retrieval with nested binary codes"

    def options(self, task: str) -> type[BaseModel]:
        """Return the schema of ``train``, ``eval``, ``index_build``, ``quick_index`` or ``search``."""
        from adapters.vlm_quantization import options

        own: dict[str, type[BaseModel]] = {
            "train": options.TrainOptions,
            "eval": options.EvalOptions,
            "index_build": options.IndexOptions,
            "quick_index": options.QuickIndexOptions,
        }
        return own[task] if task in own else super().options(task)

    def find_problems(self, task: str, options: Any, workspace: WorkspaceView) -> Iterable[tuple[str, str]]:
        """Find also an encoder that cannot be used, codes that contradict a run, and a foreign checkpoint."""
        from adapters.vlm_quantization.job_inputs import find_own_problems

        return find_own_problems(task, options, workspace, self)

    def metric_names(self, task: str, options: Any) -> Sequence[str] | None:
        """Return the names of a job's metrics: of validation, of an evaluation, or counts of an index."""
        if task != "train":
            return super().metric_names(task, options)
        from adapters.vlm_quantization.codes import CODE_LENGTHS

        lengths = (*reversed(CODE_LENGTHS), "float")
        return ("val/R@10", *(f"val/{what}@{length}" for what in ("R@10", "mAP") for length in lengths))

    def train(self, options: Any, job: JobContext) -> Result:
        """Train hash heads and a text tower; the run stores the curves and the checkpoints."""
        from adapters.vlm_quantization.train.job import run_training

        return run_training(options, job)

    def build_index(self, options: Any, job: JobContext) -> Result:
        """Build an index of a collection with trained or fitted codes; it is published atomically."""
        from adapters.vlm_quantization.index.quick import run_quick_build

        return run_quick_build(options, job, self)

    def quick_index(self, source: str, options: QuickIndexOptions) -> Mapping[str, Any]:
        """Return the options of the job that indexes a collection at once, trained or not."""
        return {
            "collection": source,
            "name": options.name,
            "encoder": options.encoder,
            "codes": options.codes,
            "batch_size": options.batch_size,
            "features": options.features,
        }

    def load_model(self, path: Path) -> HashEncoder | FittedEncoder:
        """Open a checkpoint file, or the fitted codes of an index that was made without training."""
        from adapters.vlm_quantization.encoding.fitted import open_model

        return open_model(Path(path))

    def load_for_search(self, path: Path) -> HashEncoder | FittedEncoder:
        """Open a checkpoint, and load the network that queries by text need.

        This runs once in the process that holds the index; a page's visitors only talk to that process.
        """
        model = self.load_model(path)
        with contextlib.suppress(MissingExtra):  # then a query by text says so; other queries still work
            model.open_text_tower()
        return model

    def subject(
        self,
        encoder: HashEncoder,
        collection: CaptionedImages,
        cache: Path,
        progress: OnProgress | None,
        *,
        batch_size: int = 0,
    ) -> Subject:
        """Return a model for an evaluation; frozen picture features are computed once per collection."""
        from adapters.vlm_quantization.encoding.known_pictures import with_known_texts
        from adapters.vlm_quantization.evaluate.subject import FromFeatures
        from adapters.vlm_quantization.towers.features import Encoding, picture_features

        how = Encoding(batch_size=batch_size, progress=progress, say=print)
        features = picture_features(collection, encoder.tower, cache, how=how)
        return FromFeatures(encoder, features, with_known_texts(encoder, collection, cache))

    def origin(self, run: Run, encoder: HashEncoder) -> Origin:
        """Return where a checkpoint comes from, as it says itself."""
        from adapters.vlm_quantization.evaluate.report.card import model_rows
        from adapters.vlm_quantization.evaluate.subject import Origin

        trained = encoder.checkpoint.provenance
        words = f"step {trained.step}, seed {trained.seed}"
        return Origin(
            fingerprint=encoder.fingerprint,
            split=trained.split,
            seed=int(trained.seed),
            words=words,
            rows=model_rows(encoder),
            taken_from=trained.taken_from,
        )

    def sample_queries(self, index: Index) -> Sequence[SampleQuery]:
        """Return everyday queries for the emoji collection, and captions of the index for any other."""
        if index.manifest.provenance.get("collection") == "emoji":
            return [SampleQuery(text, language) for text, language in EMOJI_SAMPLES]
        return super().sample_queries(index)

    def notebooks(self) -> Mapping[str, Path]:
        """Return the notebooks of the three jobs, each a sequence of steps."""
        if self.name != VlmQuantization.name:
            return {}  # a family that extends this one; they start jobs of this one
        from adapters.vlm_quantization.notebooks import job_notebooks

        return job_notebooks()

    def notebook(self, task: str, options: Mapping[str, Any]) -> Path | None:
        """Return the notebook of a job; one that takes over a checkpoint has other steps than a training."""
        return None if options.get("from_checkpoint") else super().notebook(task, options)

    def template(self) -> Path:
        """Return the starter files of a picture-text family."""
        return Path(__file__).parent / "template"
