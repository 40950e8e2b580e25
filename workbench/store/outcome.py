"""The outcome of a run, as one plain document that is collected when the run ends.

The store writes it in the same transaction that ends the run, whether the run itself ends it, a worker, or a
reader that finds its process gone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from workbench.store.records import Checkpoint, RunRecord
from workbench.values import known_time

#: How the names of metrics begin that say what the machine did; see :mod:`workbench.runs.system`.
SYSTEM = "system/"

#: The statistics of each metric.
STATISTICS = (
    "last",
    "min",
    "max",
    "best",
    "best_step",
    "last_step",
    "count",
    "nonfinite",
    "better",
)


def collect(
    run: RunRecord,
    summaries: Mapping[str, Mapping[str, Any]],
    checkpoints: Iterable[Checkpoint] = (),
    at_step: Mapping[int, Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """Return the outcome of a run.

    Parameters
    ----------
    run : RunRecord
        Its row.
    summaries : mapping
        The :data:`STATISTICS` of each metric.
    checkpoints : iterable of Checkpoint
        Its checkpoints.
    at_step : mapping of int to mapping of str to float, optional
        The metrics logged at the step of each checkpoint.

    Returns
    -------
    dict
        ``status``, ``error``, ``seconds`` (so far, if it is running; None if unknown), ``steps`` (the highest
        last step of a metric; None if nothing was logged), ``epochs`` (the highest value of a metric called
        ``epoch``, or with that as its last part; None without one), ``points`` (number of logged points),
        ``metrics`` and ``checkpoints``. JSON has neither NaN nor infinity: they are the strings ``"nan"``,
        ``"inf"`` and ``"-inf"``.
    """
    summaries = {name: summaries[name] for name in of_training(summaries)}
    steps = [row["last_step"] for row in summaries.values() if row["last_step"] is not None]
    return {
        "status": run.status,
        "error": run.error,
        "seconds": seconds_of(run),
        "steps": max(steps, default=None),
        "epochs": _epochs(summaries),
        "points": sum(row["count"] for row in summaries.values()),
        "metrics": {name: _finite(row) for name, row in summaries.items()},
        "checkpoints": [
            {
                "name": one.name,
                "size": one.size,
                "step": one.step,
                "created_at": one.created_at,
                "metrics": {
                    name: _text(value)
                    for name, value in ((at_step or {}).get(one.step or 0) or {}).items()
                    if one.step is not None
                },
            }
            for one in checkpoints
        ],
    }


def of_training(names: Iterable[str]) -> list[str]:
    """Return the names of the metrics that a training logged, without those of the machine."""
    return [name for name in names if not name.startswith(SYSTEM)]


def seconds_of(run: RunRecord) -> float | None:
    """Return the duration of a run, so far if it is running; None if it is unknown when it began or ended."""
    begin = known_time(run.created_at)
    end = time.time() if run.status == "running" and run.finished_at is None else known_time(run.finished_at)
    return None if begin is None or end is None else max(end - begin, 0.0)


def _epochs(summaries: Mapping[str, Mapping[str, Any]]) -> float | None:
    named = [row["max"] for name, row in summaries.items() if name == "epoch"] or [
        row["max"] for name, row in summaries.items() if name.rpartition("/")[2] == "epoch"
    ]
    return max((value for value in named if value is not None), default=None)


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    out = {name: _text(row[name]) for name in STATISTICS}
    if out["last"] is None and row["count"]:
        out["last"] = "nan"  # stored as NULL
    return out


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
