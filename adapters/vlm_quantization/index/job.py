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
    from adapters.vlm_quantization.job_inputs import Family
    from adapters.vlm_quantization.options import FamilyIndexOptions
    from workbench import JobContext, Run, WorkspaceView


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
        family.with_known_pictures(encoder, collection, job.workspace.cache),
        name=options.name,
        title=collection.name,
        adapter=family.name,
        model_file=Path(run.checkpoint(checkpoint)),
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
        summary=f"{report.images:,} pictures, {report.captions:,} captions"
        f"{left_out(collection, len(report.skipped))}",
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
            *problems_of(collection, job),
            *(f"{skipped.id}: {skipped.reason}" for skipped in report.skipped),
        ],
    )


def choose_published(
    workspace: WorkspaceView, run_id: int | None, checkpoint: str, family: Family
) -> tuple[Run, str]:
    """Return a run and the checkpoint to publish: the named one, else the refit, else the best."""
    if checkpoint:
        return choose_run(workspace, run_id, checkpoint, family), checkpoint
    run = choose_run(workspace, run_id, BEST, family)
    return run, REFIT if REFIT in checkpoint_names(run) else BEST
