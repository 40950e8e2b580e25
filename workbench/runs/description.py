"""The description of a new run: its names, notes, seed and the directions of its metrics."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from workbench.errors import BadInput
from workbench.host import processes
from workbench.results.result import Better, Metric, fits
from workbench.runs import provenance
from workbench.store import records
from workbench.text import shown
from workbench.values import MOST_NESTED, Settings, Tags, described, storable
from workbench.values import plain as plain

#: Maximum number of characters of a metric's name.
NAME_CHARACTERS = 250


def check_experiment(name: Any) -> str:
    """Return the name of an experiment, or raise if it is invalid."""
    if not isinstance(name, str) or not name.strip():
        raise BadInput(f"experiment must be a non-empty string, got {name!r}")
    if storable(name) != name:
        raise BadInput(f"experiment must be a string without NUL or unpaired surrogates, got {name!r}")
    return name.strip()


def _check_name(name: Any) -> str:
    """Return the name of a run; one that is derived from a file name may need escapes."""
    if name is not None and not isinstance(name, str):
        raise BadInput(f"name must be a string, got {name!r}")
    return str(storable(name or "")).strip()


def check_tags(tags: Any) -> dict[str, Any]:
    """Return tags as a dictionary: a list of words, or one word, means tags without a value (True).

    Raises
    ------
    BadInput
        They are neither words nor a mapping.
    """
    if isinstance(tags, str):
        tags = [tags]
    if isinstance(tags, (list, tuple, set, frozenset)) and all(isinstance(tag, str) for tag in tags):
        tags = dict.fromkeys(sorted(tags) if isinstance(tags, (set, frozenset)) else tags, True)
    elif tags is not None and not isinstance(tags, (Mapping, BaseModel)):
        raise BadInput(
            f"tags must be a dictionary or a list of strings, got {tags!r}", hint='For example ["baseline"].'
        )
    return described(tags, "tags")


def new_row(
    name: str | None,
    config: Settings | None,
    job_id: int | None,
    *,
    tags: Tags | None,
    notes: str,
    seed: int | None,
    better: Mapping[str, Better] | Sequence[Metric] | None,
) -> records.RunRecord:
    """Return the validated row of a new run, with this process's git revision and environment."""
    settings = described(config, "config")
    return records.RunRecord(
        experiment_id=0,
        name=_check_name(name),
        config=settings,
        tags=check_tags(tags),
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
        fits = name.strip() and len(name) <= NAME_CHARACTERS and "\0" not in name and name.encode()
    except (AttributeError, UnicodeEncodeError):  # not a string, or an unpaired surrogate
        fits = False
    if not fits or not isinstance(name, str):
        raise BadInput(
            f"metric name {shown(name)} must be a string of 1 to {NAME_CHARACTERS} characters",
            hint='For example "val/loss".',
        )


def flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested metrics by their whole names: ``{"val": {"mAP": 0.6}}`` as ``{"val/mAP": 0.6}``.

    Raises
    ------
    BadInput
        Two of them have the same name, or they are nested more than :data:`MOST_NESTED` levels.
    """
    out: dict[str, Any] = {}
    for name, value in _parts_of(metrics, MOST_NESTED):
        if name in out:
            raise BadInput(f"metric {name!r} is given twice", hint="No value of this call was logged.")
        out[name] = value
    return out


def _parts_of(metrics: Mapping[str, Any], levels: int) -> Iterator[tuple[str, Any]]:
    if not levels:
        raise BadInput(
            f"metrics must be nested at most {MOST_NESTED} levels", hint="No value of this call was logged."
        )
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{inner}", part) for inner, part in _parts_of(value, levels - 1))
        else:
            yield name, value


def direction_of(name: str, directions: Sequence[Sequence[str]]) -> str | None:
    """Return the better direction of a metric as its run declared it.

    The metric's own name takes precedence over patterns, and earlier patterns over later ones.
    """
    exact = (way for pattern, way in directions if pattern == name)
    fitting = (way for pattern, way in directions if fits(name, pattern))
    return next(exact, None) or next(fitting, None)


def said_of(error: BaseException | None) -> dict[str, Any] | None:
    """Return the record of an exception that ended a run."""
    if error is None:
        return None
    return {"type": type(error).__name__, "message": storable(str(error))}


def check_notes(notes: Any) -> str:
    """Return notes, or raise if they are not text that a database can store."""
    if not isinstance(notes, str) or storable(notes) != notes:
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
    pairs: list[tuple[Any, Any]]
    if isinstance(better, Mapping):
        pairs = list(better.items())
    elif isinstance(better, (list, tuple)) and all(isinstance(metric, Metric) for metric in better):
        pairs = [(metric.name, metric.better) for metric in better]
    else:
        raise BadInput(
            f"better must map metrics to 'higher' or 'lower', got {better!r}",
            hint='For example {"val/mAP": "higher"}.',
        )
    for pattern, way in pairs:
        if way is None:
            continue
        if way not in ("higher", "lower"):
            raise BadInput(f"better must be 'higher' or 'lower' for {pattern!r}, got {way!r}")
        yield str(storable(str(pattern))), way
