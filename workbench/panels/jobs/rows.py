"""Jobs as rows of a panel: what one was given, how far it is, how it ended."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.adapter.contract import DATA_CHECK
from workbench.jobs.submission import NOTEBOOK
from workbench.store.records import DAMAGED, FINAL_STATUSES

if TYPE_CHECKING:
    from workbench.jobs.job import Job


_LABELS = {
    DATA_CHECK: "Check data",
    "train": "Train",
    "eval": "Evaluate",
    "index_build": "Build index",
    NOTEBOOK: "Notebook",
}


#: Hints that name a command of the terminal, which a reader of the panel has no use for.
FOR_TERMINALS = re.compile(r"\bworkbench [a-z]")


_NAMING_OPTIONS = ("name", "index", "experiment", "source")


def label(job_type: str) -> str:
    """Return the name of a job type for people."""
    return _LABELS.get(job_type, job_type.replace("_", " ").capitalize())


def row_of(job: Job, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as a row; ``defaults`` are the values of its form, which are not shown."""
    progress, error = job.progress, job.error
    running = job.status == "running"
    stages = [{"name": stage.name, "done": stage.done, "total": stage.total} for stage in progress.stages]
    # A job that missed its floors has failed, but its result was kept.
    kept = job.status == "succeeded" or (error or {}).get("type") == "BelowFloor"
    return {
        "id": job.id,
        "over": job.status in FINAL_STATUSES,
        "type": label(job.type).lower(),
        "given": _given(job.options, defaults),
        "name": _name(job),
        "adapter": job.adapter or "",
        "status": job.status,
        "done": progress.done,
        "total": progress.total,
        "message": "" if job.status == "succeeded" else progress.message or "",
        "stages": stages if running else [],
        "fraction": progress.fraction,
        "rate": progress.rate if running else None,
        "left": progress.left if running else None,
        "summary": job.summary,
        "hasResult": kept,
        "error": {"cell": error.get("cell"), "message": _reason(error)} if error else None,
        "ended": job.finished_at.timestamp() if job.finished_at else None,
        "took": _seconds(job),
        "notebook": str(job.notebook or ""),
        # Linked where the log and the notebook do not show everything.
        "output": str(job.output.path) if job.output and job.output_note else "",
        "outputNote": job.output_note,
    }


def _seconds(job: Job) -> float | None:
    """Return how long a finished job ran."""
    if job.started_at is None or job.finished_at is None:
        return None
    return max((job.finished_at - job.started_at).total_seconds(), 0.0)


def _given(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Return the options that somebody gave, which tell jobs without a name apart."""
    return [
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in options.items()
        if value is not None and value != defaults.get(name) and name not in _NAMING_OPTIONS
    ]


def _reason(error: Mapping[str, Any]) -> str:
    """Return why a job failed, without advice for a terminal."""
    lines = str(error.get("message") or "").splitlines()
    reason = "\n".join(line for line in lines if not FOR_TERMINALS.search(line))
    return reason or ("the stored reason is damaged" if DAMAGED in error else "")


def _name(job: Job) -> str:
    if job.source:
        return Path(job.source).stem
    names = (job.options[key] for key in _NAMING_OPTIONS if job.options.get(key))
    # Of paths the end tells most; several are joined by a plus sign.
    return " + ".join(part.rsplit("/", 1)[-1] or part for part in str(next(names, "")).split(" + "))


def outcome(row: Mapping[str, Any]) -> str:
    """Return how a row's job ended, or how far it is, in words."""
    error = row["error"]
    if error:
        return f"cell {error['cell']}: {error['message']}" if error["cell"] else str(error["message"])
    if row["summary"] or not row["fraction"] or row["over"]:
        return str(row["summary"] or row["message"])
    return " · ".join(filter(None, [f"{row['fraction']:.0%}", str(row["message"])]))
