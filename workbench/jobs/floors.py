"""Floors for a job's metrics: the job fails if a metric is below its floor."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from typing import Any

from workbench.errors import BadOptions, BelowFloor
from workbench.results.result import Result


def check_floors(given: Any) -> dict[str, float]:
    """Return ``fail_below``, a mapping or JSON text, as a finite floor for each metric.

    Raises
    ------
    BadOptions
        It is not such a mapping.
    """
    hint = """Example: '{"R@10": 0.35}'."""
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError as error:
            raise BadOptions(f"fail_below is not valid JSON ({error}): {given!r}", hint=hint) from None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadOptions(f"fail_below must map metrics to floors, got {given!r}", hint=hint)
    problems = [
        (f"fail_below.{name}", f"must be a finite number, got {floor!r}")
        for name, floor in given.items()
        if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not math.isfinite(floor)
    ]
    if problems:
        raise BadOptions("; ".join(": ".join(problem) for problem in problems), problems, hint=hint)
    return {str(name): float(floor) for name, floor in given.items()}


def below_floor(result: Result | None, floors: Mapping[str, float]) -> BelowFloor | None:
    """Return an error that names every floor a result misses, or None."""
    if not floors:
        return None
    metrics = {} if result is None else result.metrics
    problems = []
    for name, floor in floors.items():
        value = metrics.get(name)
        if value is None:
            near = difflib.get_close_matches(name, metrics, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            problems.append(f"no metric {name!r}{meant}; the result has: {', '.join(metrics) or 'none'}")
        elif not value >= floor:  # NaN is below every floor
            problems.append(f"{name} is {value:.6g}, below its floor of {floor:g}")
    return BelowFloor("; ".join(problems)) if problems else None
