"""The description of a new run: its names, notes, seed and the directions of its metrics."""

from __future__ import annotations

import fnmatch
import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from workbench.errors import BadInput
from workbench.host import processes
from workbench.results.result import Better, Metric
from workbench.runs import provenance
from workbench.store import records
from workbench.values import plain as plain

_NAME_CHARACTERS = 250


def check_experiment(name: Any) -> str:
    """Return the name of an experiment, or raise if it is invalid."""
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"experiment must be a non-empty string, got {name!r}")
    return name.strip()


def new_row(
    name: str | None,
    config: Mapping[str, Any] | BaseModel | None,
    job_id: int | None,
    *,
    tags: Mapping[str, Any] | None,
    notes: str,
    seed: int | None,
    better: Mapping[str, Better] | Sequence[Metric] | None,
) -> records.RunRecord:
    """Return the validated row of a new run, with this process's git revision and environment."""
    settings = plain(config or {}, "config")
    return records.RunRecord(
        experiment_id=0,
        name=(name or "").strip(),
        config=settings,
        tags=plain(tags or {}, "tags"),
        notes=check_notes(notes),
        seed=_seed(settings.get("seed") if seed is None else seed, explicit=seed is not None),
        git=provenance.git_revision(),
        environment=provenance.environment(processes.host()),
        directions=[[pattern, way] for pattern, way in _directions(better)],
        job_id=job_id,
    )


def check_metric_name(name: Any) -> None:
    """Raise if a metric name is invalid."""
    try:
        fits = name.strip() and len(name) <= _NAME_CHARACTERS and "\0" not in name and name.encode()
    except (AttributeError, UnicodeEncodeError):  # not a string, or an unpaired surrogate
        fits = False
    if not fits or not isinstance(name, str):
        raise BadInput(
            f"metric name {name!r} must be a string of 1 to {_NAME_CHARACTERS} characters",
            hint='For example "val/loss".',
        )


def direction_of(name: str, directions: Sequence[Sequence[str]]) -> str | None:
    """Return the better direction of a metric as its run declared it: the first matching pattern counts."""
    return next((way for pattern, way in directions if fnmatch.fnmatchcase(name, pattern)), None)


def said_of(error: BaseException | None) -> dict[str, Any] | None:
    """Return the record of an exception that ended a run."""
    return None if error is None else {"type": type(error).__name__, "message": str(error)}


def check_notes(notes: Any) -> str:
    """Return notes, or raise if they are not text that a database can store."""
    if not isinstance(notes, str) or "\0" in notes or any("\ud800" <= one <= "\udfff" for one in notes):
        raise BadInput(f"notes must be a string without NUL or unpaired surrogates, got {notes!r}")
    return notes


def _seed(value: Any, *, explicit: bool) -> int | None:
    """Return a seed; one from a config is ignored unless it is a whole number."""
    if value is None:
        return None
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except (TypeError, RuntimeError):
        if explicit:
            raise BadInput(f"seed must be a whole number, got {value!r}") from None
        return None


def _directions(better: Mapping[str, Better] | Sequence[Metric] | None) -> Iterator[tuple[str, str]]:
    if better is None:
        return
    pairs: list[tuple[str, Any]] = (
        list(better.items())
        if isinstance(better, Mapping)
        else [(metric.name, metric.better) for metric in better]
    )
    for pattern, way in pairs:
        if way is None:
            continue
        if way not in ("higher", "lower"):
            raise BadInput(f"better must be 'higher' or 'lower' for {pattern!r}, got {way!r}")
        yield pattern, way
