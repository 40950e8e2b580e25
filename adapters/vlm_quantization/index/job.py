"""The index_build job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.encoding.checkpoint import BEST, REFIT
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.job_inputs import (
    checkpoint_names,
    choose_run,
    collection_of,
    left_out,
    open_encoder,
    problems_of,
)
from workbench import Result, View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.index.build import IndexReport, Skipped
    from adapters.vlm_quantization.job_inputs import Family
    from adapters.vlm_quantization.options import FamilyIndexOptions
    from workbench import JobContext, Run, WorkspaceView

#: Skipped pictures that a job's result lists by path; its warnings name all of them.
LISTED = 200


def run_index_build(options: FamilyIndexOptions, job: JobContext, family: Family) -> Result:
    """Build an index of a collection with a checkpoint; it is published atomically."""
    run, checkpoint = choose_published(job.workspace, options.run, options.checkpoint, family)
    encoder = open_encoder(run, checkpoint, family)
    collection = open_collection(
        options.collection or collection_of(run),
        cache_dir=job.workspace.cache,
        progress=job.progress,
    )
    report = build_index(
        job.workspace.indexes,
        collection,
        encoder,
        name=options.name,
        title=collection.name,
        adapter=family.name,
        model_file=Path(run.checkpoint(checkpoint)),
        features=options.features,
        progress=job.progress,
        provenance={"job": job.id, "run": run.id, "collection": collection.name},
    )
    return index_result(
        collection,
        report,
        job,
        made={"run": run.id, "checkpoint": checkpoint},
        notes=[f"Model: {checkpoint} of run {run.id} ({run.name})."],
    )


def index_result(
    collection: CaptionedImages,
    report: IndexReport,
    job: JobContext,
    *,
    made: Mapping[str, Any],
    notes: Sequence[str],
    plainly: bool = False,
) -> Result:
    """Return the result of a build.

    Parameters
    ----------
    collection, report, job
        What was indexed, what came of it, and the job.
    made : mapping
        What the index was made with.
    notes : sequence of str
        Sentences on that.
    plainly : bool
        Whether the summary has them too.
    """
    rows: list[dict[str, Any]] = [
        {"name": "Pictures", "value": report.images},
        {"name": "Captions", "value": report.captions},
        {"name": "Skipped", "value": len(report.skipped)},
        {"name": "Size (MB)", "value": round(report.size / 1e6, 1)},
        {"name": "Seconds", "value": round(report.seconds, 1)},
    ]
    counts = f"{report.images:,} pictures, {report.captions:,} captions"
    counts += left_out(collection, len(report.skipped))
    return Result(
        summary=" ".join([f"{counts}.", *notes]) if plainly else counts,
        metrics={"pictures": report.images, "captions": report.captions, "skipped": len(report.skipped)},
        views=[
            View(
                kind="metrics_table",
                title=f"Index {report.name}",
                data={"rows": rows},
                notes=list(notes),
            )
        ],
        made={"index": report.name, **made, "skipped": _skipped(collection, report.skipped)[:LISTED]},
        warnings=[
            *problems_of(collection, job),
            *(f"{skipped.id}: {skipped.reason}" for skipped in report.skipped),
        ],
    )


def _skipped(collection: CaptionedImages, unread: Sequence[Skipped]) -> list[dict[str, str]]:
    """Return what was left out, each with the reason: unusable lines, and pictures that became unreadable."""
    paths = {item.id: item.path or item.id for item in collection.items} if unread else {}
    return [
        *({"path": f"line {one.line}", "reason": one.message} for one in collection.problems),
        *({"path": paths.get(one.id, one.id), "reason": one.reason} for one in unread),
    ]


def choose_published(
    workspace: WorkspaceView, run_id: int | None, checkpoint: str, family: Family
) -> tuple[Run, str]:
    """Return a run and the checkpoint to publish: the named one, else the refit, else the best."""
    if checkpoint:
        return choose_run(workspace, run_id, checkpoint, family), checkpoint
    run = choose_run(workspace, run_id, BEST, family)
    return run, published(run)


def published(run: Run) -> str:
    """Return the checkpoint of a run to publish: the refit if it has one, else the best."""
    return REFIT if REFIT in checkpoint_names(run) else BEST
