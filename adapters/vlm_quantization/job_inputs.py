"""Inputs of the jobs: the run, its checkpoint and its collection, checked before a job begins."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from adapters.vlm_quantization.data.collection import SHOWN_PROBLEMS
from adapters.vlm_quantization.data.sources import check_source, why_no_captions
from adapters.vlm_quantization.data.split_names import VAL_SHARE
from adapters.vlm_quantization.encoding.checkpoint import BEST, SEPARATE
from adapters.vlm_quantization.index.format import check_name
from adapters.vlm_quantization.towers.registry import TUNABLE, check_encoder, why_not_tunable
from workbench import BadInput, MissingExtra, UnknownCheckpoint, UnknownRun, check_engine, check_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from adapters.vlm_quantization.codes import Encoder
    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.evaluate.subject import Origin, Subject
    from adapters.vlm_quantization.options import FamilyEvalOptions
    from workbench import JobContext, Run, WorkspaceView


def stages(job: JobContext) -> Callable[..., AbstractContextManager[Any]]:
    """Return the job's ``stage`` method, or a no-op context for a job without one."""
    return getattr(job, "stage", lambda *_: nullcontext())


class Family(Protocol):
    """What the jobs need of the family that they run for."""

    name: ClassVar[str]

    def load_model(self, path: Path) -> Encoder:
        """Open a checkpoint."""

    def origin(self, run: Run, encoder: Any) -> Origin:
        """Return where a model comes from."""

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


def find_problems(
    task: str, options: Any, workspace: WorkspaceView, family: Family
) -> Iterator[tuple[str, str]]:
    """Yield what keeps a job from beginning, as pairs of option and message; nothing is opened or read.

    Parameters
    ----------
    task : {"train", "eval", "index_build", "data_check"}
        The job's type.
    options : FamilyTrainOptions, FamilyEvalOptions, FamilyIndexOptions or DataCheckOptions
        Its options.
    workspace : workbench.WorkspaceView
        The workspace with the runs.
    family : Family
        The adapter whose job it is.
    """
    yield from _problems_of_source(task, options)
    if task in ("eval", "index_build"):
        yield from _problems_of_run(task, options, workspace, family)


def find_own_problems(
    task: str, options: Any, workspace: WorkspaceView, family: Family
) -> Iterator[tuple[str, str]]:
    """Yield what :func:`find_problems` finds, and what is wrong with an encoder, with codes or a checkpoint.

    The options are TrainOptions, EvalOptions or IndexOptions.
    """
    if task == "train" and options.resume is not None:
        from adapters.vlm_quantization.train.resuming import resumed_options

        try:
            options = resumed_options(options, workspace)
        except (BadInput, UnknownRun) as error:
            yield "resume", f"{error.message}. {error.help}".rstrip(". ")
            return
    yield from _problems_of_source(task, options)
    if task == "data_check":
        return
    encoder = "" if task == "eval" else options.encoder
    if encoder and (problem := _unusable(encoder)):
        yield "encoder", problem
    if task == "train":
        if options.tune != "heads":
            yield from _problems_of_tuning(options)
        if options.from_checkpoint:
            from adapters.vlm_quantization.encoding.lightning import looks_like_one

            if problem := looks_like_one(Path(options.from_checkpoint)):
                yield "from_checkpoint", f"{options.from_checkpoint}: {problem}"
        return
    if task == "index_build":
        trained = options.run is not None or bool(options.checkpoint)
        if options.codes in ("itq", "sign"):
            if trained:
                yield "codes", f"{options.codes} codes are fitted, not trained: leave out run and checkpoint"
            if not options.collection:
                yield "collection", f"name the pictures that {options.codes} codes are fitted to"
            return
        if options.codes == "auto" and options.collection and not trained:
            return  # without a run, codes are fitted
    if options.checkpoint == SEPARATE:
        yield "checkpoint", f"{SEPARATE} has a code of its own for each length; use {BEST} of the same run"
        return
    yield from _problems_of_run(task, options, workspace, family)


def _problems_of_tuning(options: Any) -> Iterator[tuple[str, str]]:
    """Yield what keeps the towers of an encoder from being trained."""
    if problem := why_not_tunable(options.encoder):
        yield "tune", f"{problem}. {TUNABLE}"
    if options.from_checkpoint:
        yield "tune", "a checkpoint that is taken over is not trained: leave out tune or from_checkpoint"
    if options.tune == "lora" and importlib.util.find_spec("peft") is None:
        error = MissingExtra("peft", "lora")
        yield "tune", f"{error.message}. {error.help}".rstrip(". ")


def _problems_of_source(task: str, options: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the name of an index, and with a collection that is named."""
    if task == "data_check":
        if problem := _refused(lambda: check_source(options.source)):
            yield "source", problem
        return
    if task == "index_build":
        yield from _problems_of_engine(options)
        if problem := _refused(lambda: check_name(options.name)):
            yield "name", problem
    if options.collection:
        problem = _refused(lambda: check_source(options.collection))
        if task != "index_build" and not problem:
            problem = why_no_captions(options.collection)
        if problem:
            yield "collection", problem


def _problems_of_engine(options: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with where the parts of a job are to run, and to be kept."""
    if problem := _in_words(lambda: check_engine(options.engine)):
        yield "engine", problem
    if not options.engine_storage:
        return
    if not options.engine.strip():
        yield "engine_storage", "is for an engine, and none is named: leave it out, or name an engine"
    elif problem := _in_words(lambda: check_storage(options.engine_storage)):
        yield "engine_storage", problem


def _problems_of_run(
    task: str, options: Any, workspace: WorkspaceView, family: Family
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the run of an evaluation or an index, and with what it was trained on."""
    if options.run is None and _expected(workspace):
        return
    checkpoint = options.checkpoint or BEST
    try:
        run = _run_of(workspace, options.run, checkpoint, family)
    except (UnknownRun, BadInput) as error:
        yield "run", f"{error.message}. {error.help}".rstrip(". ")
        return
    if checkpoint not in checkpoint_names(run):
        if run.status != "running":  # one that goes on may still save it
            yield "checkpoint", _no_checkpoint(run, checkpoint)
        return
    needs_its_own = task == "eval" or not options.collection
    if needs_its_own and (problem := _refused(lambda: check_source(collection_of(run)))):
        yield "run", f"the collection of run {run.id} is missing: {problem}"
    if task == "eval" and (problem := _refused(lambda: other_seeds(workspace, run, options))):
        yield "seeds", problem


def _refused(check: Callable[[], object]) -> str:
    """Return the message of a check that fails; empty if it passes."""
    try:
        check()
    except BadInput as error:
        return error.message
    return ""


def _unusable(encoder: str) -> str:
    """Return why an encoder cannot be used, and what to do; empty if nothing is known against it."""
    return _in_words(lambda: check_encoder(encoder))


def _in_words(check: Callable[[], object]) -> str:
    """Return why a check fails, and what to do; empty if it passes."""
    try:
        check()
    except (BadInput, MissingExtra) as error:
        return f"{error.message}. {error.help}".rstrip(". ")
    return ""


def _expected(workspace: WorkspaceView) -> bool:
    """Return whether a training is queued or running, whose run a job behind it may be meant for."""
    return workspace.count_jobs("train", ("queued", "running")) > 0


def choose_run(workspace: WorkspaceView, run_id: int | None, checkpoint: str, family: Family) -> Run:
    """Return the requested run, or the family's newest run that has the checkpoint.

    Raises
    ------
    UnknownRun
        No run has that id.
    BadInput
        The run is of another family or has no such checkpoint, or no run has one.
    """
    run = _run_of(workspace, run_id, checkpoint, family)
    if checkpoint not in checkpoint_names(run):
        raise BadInput(_no_checkpoint(run, checkpoint))
    return run


def _run_of(workspace: WorkspaceView, run_id: int | None, checkpoint: str, family: Family) -> Run:
    if run_id is not None:
        run = workspace.run(run_id)
        if (owner := family_of(run)) != family.name:
            raise BadInput(
                f"run {run.id} ({run.name}) was trained by adapter {owner!r}, not by {family.name!r}",
                hint="Choose another run.",
            )
        return run
    for run in workspace.runs():
        if family_of(run) == family.name and checkpoint in checkpoint_names(run):
            return run
    raise BadInput(f"no run has a checkpoint {checkpoint!r} yet", hint="Train a model first.")


def family_of(run: Run) -> str:
    """Return the adapter that trained a run; the runs of the first family do not name it."""
    return str(run.config.get("adapter", "vlm_quantization"))


def _no_checkpoint(run: Run, checkpoint: str) -> str:
    return f"run {run.id}: {UnknownCheckpoint(checkpoint, checkpoint_names(run)).message}"


def collection_of(run: Run) -> str:
    """Return the name or path of the collection that a run was trained on.

    Raises
    ------
    BadInput
        The run's settings name none, so this adapter did not train it.
    """
    name = run.config.get("collection")
    if not isinstance(name, str) or "split_seed" not in run.config:
        raise BadInput(
            f"run {run.id} ({run.name}) was not trained by a train job of this adapter: "
            "its settings name no collection",
            hint="Choose another run.",
        )
    return name


def splits_of(
    collection: CaptionedImages,
    config: Mapping[str, Any],
    cache: Path,
    progress: OnProgress | None = None,
) -> Splits:
    """Return the splits that a training with these options uses, the same for each of its evaluations.

    Parameters
    ----------
    collection : CaptionedImages
    config : mapping
        Options of the training; of a run of an earlier version, which had fewer, what they were then.
    cache : Path
        Cache folder.
    progress : callable, optional
        ``progress(done, total, message)``.
    """
    import numpy as np

    from adapters.vlm_quantization.data.lookalikes import comparable_rows, lookalikes_within, looks_of
    from adapters.vlm_quantization.data.splits import has_splits, make_splits, rows_of_split

    alike: list[tuple[int, int]] = []
    if config.get("keep_lookalikes_together", False):
        rows = comparable_rows(collection)
        if has_splits(collection):  # given ones stay as they are
            rows = np.intersect1d(rows, rows_of_split(collection, ""))
        if len(rows):
            alike = lookalikes_within(looks_of(collection, cache, progress), rows)
    return make_splits(
        collection,
        config["split_seed"],
        restval=config.get("restval", True),
        val_share=config.get("val_share", VAL_SHARE),
        alike=alike,
    )


def chosen_encoding(options: Any) -> dict[str, Any]:
    """Return the arguments of :meth:`Family.subject` that options choose; a family may have none of them."""
    size = getattr(options, "batch_size", 0)
    return {"batch_size": size} if size else {}


def other_seeds(workspace: WorkspaceView, run: Run, options: FamilyEvalOptions) -> dict[int, Run]:
    """Return for each further seed the newest run that differs from the chosen one only in its seed.

    Raises
    ------
    workbench.BadInput
        A seed has no such run.
    """
    seeds = [seed for seed in dict.fromkeys(options.seeds) if seed != run.config.get("seed")]
    out: dict[int, Run] = {}
    for other in workspace.runs(run.experiment) if seeds else ():
        seed = other.config.get("seed")
        if (
            seed in seeds
            and seed not in out
            and _apart_from_seed(other.config) == _apart_from_seed(run.config)
            and options.checkpoint in checkpoint_names(other)
        ):
            out[seed] = other
    missing = [seed for seed in seeds if seed not in out]
    if missing:
        raise BadInput(
            f"experiment {run.experiment!r} has no run like run {run.id} with seed "
            f"{', '.join(map(str, missing))} and checkpoint {options.checkpoint}",
            hint=f"Train them with seeds={list(options.seeds)} and the same options.",
        )
    return {seed: out[seed] for seed in seeds}


#: Settings in which runs may differ that are compared by seed: they change nothing beyond rounding.
_NOT_COMPARED = ("seed", "seeds", "name", "batch_size", "resumed_from", "save_state_every", "device")


def _apart_from_seed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_COMPARED}


def checkpoint_names(run: Run) -> list[str]:
    """Return the names of a run's checkpoints."""
    return [file.name for file in run.checkpoints()]


def open_encoder(run: Run, checkpoint: str, family: Family) -> Any:
    """Open a checkpoint of a run with the adapter that trained it.

    Raises
    ------
    BadInput
        Its short codes are no prefixes of the long one, so that no index can hold them.
    """
    encoder = family.load_model(Path(run.checkpoint(checkpoint)))
    if getattr(encoder, "separate", False):
        raise BadInput(
            f"{checkpoint} of run {run.id} has a code of its own for each length; an index and an evaluation "
            "need codes of which the short ones are prefixes of the long one",
            hint=f"Use {BEST} of the same run, which is refolded.",
        )
    return encoder


def refuse_without_captions(collection: CaptionedImages) -> None:
    """Raise unless a collection has captions to train on."""
    if not collection.languages:
        raise BadInput(
            f"collection {collection.name!r} has no captions, so there is nothing to train on",
            hint="A folder's captions can come from its files' names: PATH?captions_from=name",
        )


def problems_of(collection: CaptionedImages, job: JobContext) -> list[str]:
    """Return a result's warnings about the collection; many skipped lines are in a file beside the job."""
    warnings = list(collection.notes)
    if collection.problems:
        summary = collection.problem_summary
        if len(collection.problems) > SHOWN_PROBLEMS:
            lines = "".join(f"{problem}\n" for problem in collection.problems)
            summary += f". All of them: {job.write_file('skipped-lines.txt', lines)}"
        warnings.insert(0, summary)
    return warnings


def left_out(collection: CaptionedImages, skipped: int = 0) -> str:
    """Return what a job's summary adds if lines or pictures were left out: ``", 3 lines left out"``."""
    counts = ((len(collection.problems), "line"), (skipped, "picture"))
    return "".join(f", {n:,} {what}{'s' if n > 1 else ''} left out" for n, what in counts if n)
