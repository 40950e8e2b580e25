"""Floors for a job's metrics: the job fails if a metric is below its floor."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workbench.errors import BadOptions, BelowFloor
from workbench.results.result import Result
from workbench.text import alternatives, listed, nearest, short, shown

#: How many names of metrics an error suggests.
SUGGESTED = 3


def check_floors(given: Any) -> dict[str, float]:
    """Return ``fail_below``, a mapping or JSON text, as a finite floor for each metric.

    Raises
    ------
    BadOptions
        It is not such a mapping.
    """
    hint = """Example: '{"t2i/R@10@128": 0.35}'."""
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError as error:
            raise BadOptions(f"fail_below is not valid JSON ({error}): {shown(given)}", hint=hint) from None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadOptions(f"fail_below must map metrics to floors, got {shown(given)}", hint=hint)
    problems = [
        (f"fail_below.{short(str(name))}", f"must be a finite number, got {shown(floor)}")
        for name, floor in given.items()
        if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not math.isfinite(floor)
    ]
    if problems:
        raise BadOptions("; ".join(": ".join(problem) for problem in problems), problems, hint=hint)
    return {str(name): float(floor) for name, floor in given.items()}


def unknown_metrics(floors: Iterable[str], names: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the floors of metrics that a result cannot have, as pairs of option and message.

    Parameters
    ----------
    floors : iterable of str
        Metrics with a floor.
    names : sequence of str or None
        What the adapter's ``metric_names`` returned; None accepts every name.
    """
    if names is None:
        return []
    exact = frozenset(names)
    patterns = [name for name in names if "*" in name]
    return [
        ("fail_below", _no_metric(name, [one for one in names if "*" not in one]))
        for name in floors
        if name not in exact and not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    ]


def below_floor(result: Result | None, floors: Mapping[str, float]) -> BelowFloor | None:
    """Return an error that names every floor a result misses, or None."""
    if not floors:
        return None
    metrics = {} if result is None else result.metrics
    names = list(dict.fromkeys([*(result.headline if result else ()), *metrics]))
    problems = []
    for name, floor in floors.items():
        value = metrics.get(name)
        if value is None:
            problems.append(_no_metric(name, names))
        elif not value >= floor:  # NaN is below every floor
            problems.append(f"{name} is {value:.6g}, below its floor of {floor:g}")
    return BelowFloor("; ".join(problems)) if problems else None


def _no_metric(name: str, names: Sequence[str]) -> str:
    """Return a sentence on a metric that does not exist, with the nearest of its names."""
    if not names:
        return f"no metric {shown(name)}: the result has none"
    near = nearest(name, names, SUGGESTED)
    if near:
        return f"no metric {shown(name)}; did you mean {alternatives(near)}?"
    return f"no metric {shown(name)}. Among the {len(names):,} metrics are: {listed(names, SUGGESTED)}"
