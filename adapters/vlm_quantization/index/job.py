"""The index_build job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.data.digests import OPENING
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.encoding.checkpoint import BEST, REFIT
from adapters.vlm_quantization.index.build import build_index
from adapters.vlm_quantization.index.space import check_pictures, full_disk_named
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

    from adapters.vlm_quantization.codes import Encoder
    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.index.build import IndexReport, Skipped
    from adapters.vlm_quantization.job_inputs import Family
    from adapters.vlm_quantization.options import FamilyIndexOptions
    from workbench import JobContext, Run, WorkspaceView

#: Skipped pictures that a job's result lists by path.
LISTED = 200

#: Unreadable pictures that a job's warnings name; more are in :data:`UNREAD_FILE` beside its notebook.
SHOWN_UNREAD = 20

UNREAD_FILE = "unreadable-pictures.txt"


def run_index_build(options: FamilyIndexOptions, job: JobContext, family: Family) -> Result:
    """Build an index of a collection with a checkpoint; it is published atomically."""
    run, checkpoint = choose_published(job.workspace, options.run, options.checkpoint, family)
    encoder = open_encoder(run, checkpoint, family)
    cache = job.workspace.cache
    cache.mkdir(parents=True, exist_ok=True)
    with full_disk_named(cache):
        collection = open_collection(
            options.collection or collection_of(run),
            cache_dir=cache,
            progress=checking_space(job, options.name, encoder),
            spill=cache,
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
        say=lambda words: print(words, flush=True),  # into the job's notebook and log
        provenance={"job": job.id, "run": run.id, "collection": collection.name},
        engine=options.engine,
        storage=options.engine_storage,
    )
    return index_result(
        collection,
        report,
        job,
        made={"run": run.id, "checkpoint": checkpoint},
        notes=[f"Model: {checkpoint} of run {run.id} ({run.name})."],
    )


def checking_space(job: JobContext, name: str, encoder: Encoder) -> OnProgress:
    """Return the job's progress; it fails before any picture is decoded if the disk cannot hold the index."""
    checked = False

    def progress(done: float, total: float | None, message: str) -> None:
        nonlocal checked
        if not checked and total and message == OPENING:
            checked = True
            check_pictures(job.workspace.indexes, name, int(total), encoder.dim, encoder.bits[-1])
        job.progress(done, total, message)

    return progress


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
        made={"index": report.name, **made, "skipped": _skipped(collection, report.skipped)},
        warnings=[
            *problems_of(collection, job),
            *_unread_words(report.skipped, job),
        ],
    )


def _unread_words(unread: Sequence[Skipped], job: JobContext) -> list[str]:
    """Return warnings on pictures that could not be read; many are in a file beside the job."""
    words = [f"{one.id}: {one.reason}" for one in unread[:SHOWN_UNREAD]]
    if len(unread) > SHOWN_UNREAD:
        lines = "".join(f"{one.path or one.id}: {one.reason}\n" for one in unread)
        file = job.write_file(UNREAD_FILE, lines)
        words.append(f"{len(unread) - SHOWN_UNREAD:,} more pictures could not be read. All of them: {file}")
    return words


def _skipped(collection: CaptionedImages, unread: Sequence[Skipped]) -> list[dict[str, str]]:
    """Return what was left out, each with the reason: unusable lines, and pictures that became unreadable."""
    return [
        *({"path": f"line {one.line}", "reason": one.message} for one in collection.problems[:LISTED]),
        *({"path": one.path or one.id, "reason": one.reason} for one in unread[:LISTED]),
    ][:LISTED]


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
