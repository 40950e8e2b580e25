"""What the jobs are given: stages, the run and the checkpoint they are about."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from workbench import JobContext, Run


def stages(job: JobContext) -> Callable[..., AbstractContextManager[Any]]:
    """Return the job's stages; where a job has none to tell of, contexts that do nothing."""
    return getattr(job, "stage", lambda *_: nullcontext())


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


def checkpoint_names(run: Run) -> list[str]:
    """Return the names of a run's checkpoints."""
    return [file.name for file in run.checkpoints()]


def open_encoder(run: Run, checkpoint: str) -> HashEncoder:
    """Open a checkpoint of a run."""
    from adapters.vlm_quantization.encoding.encoder import HashEncoder

    return HashEncoder.load(Path(run.checkpoint(checkpoint)))


def problems_of(collection: CaptionedImages) -> list[str]:
    """Return what a result has to say of lines of the collection that were left out."""
    return [collection.problem_summary] if collection.problems else []
