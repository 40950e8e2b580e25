"""Inputs shared by the jobs: progress stages, the run and its checkpoint."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.data.collection import SHOWN_PROBLEMS
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from workbench import JobContext, Run


def stages(job: JobContext) -> Callable[..., AbstractContextManager[Any]]:
    """Return the job's ``stage`` method, or a no-op context for a job without one."""
    return getattr(job, "stage", lambda *_: nullcontext())


def choose_run(job: JobContext, run_id: int | None, checkpoint: str) -> Run:
    """Return the requested run, or the newest run that has the checkpoint.

    Raises
    ------
    UnknownRun
        No run has that id.
    BadInput
        The run has no such checkpoint, or no run has one.
    """
    if run_id is None:
        for run in job.workspace.runs():
            if checkpoint in checkpoint_names(run):
                return run
        raise BadInput(f"no run has a checkpoint {checkpoint!r} yet", hint="Train a model first.")
    run = job.workspace.run(run_id)
    names = checkpoint_names(run)
    if checkpoint not in names:
        available = f"it has {', '.join(names)}" if names else "it has none"
        raise BadInput(f"checkpoint {checkpoint!r} not found in run {run_id}; {available}")
    return run


def checkpoint_names(run: Run) -> list[str]:
    """Return the names of a run's checkpoints."""
    return [file.name for file in run.checkpoints()]


def open_encoder(run: Run, checkpoint: str) -> HashEncoder:
    """Open a checkpoint of a run."""
    from adapters.vlm_quantization.encoding.encoder import HashEncoder

    return HashEncoder.load(Path(run.checkpoint(checkpoint)))


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
