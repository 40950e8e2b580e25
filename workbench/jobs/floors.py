"""Floors of a job's metrics: below one of them the job fails."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from typing import Any

from workbench.errors import BadOptions, BelowFloor
from workbench.results.result import Result


def check_floors(given: Any) -> dict[str, float]:
    """Return what ``fail_below`` says, from a mapping or JSON text: a finite floor for each metric.

    Raises
    ------
    BadOptions
        It is something else.
    """
    hint = """Such as '{"R@10": 0.35}'."""
    if isinstance(given, str):
        try:
            given = json.loads(given or "{}")
        except ValueError as error:
            raise BadOptions(f"fail_below is not JSON ({error}): {given!r}", hint=hint) from None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadOptions(f"fail_below must map metrics to floors, not be {given!r}", hint=hint)
    problems = [
        (f"fail_below.{name}", f"a finite number is wanted (given: {floor!r})")
        for name, floor in given.items()
        if isinstance(floor, bool) or not isinstance(floor, (int, float)) or not math.isfinite(floor)
    ]
    if problems:
        raise BadOptions("; ".join(": ".join(problem) for problem in problems), problems, hint=hint)
    return {str(name): float(floor) for name, floor in given.items()}


def below_floor(result: Result | None, floors: Mapping[str, float]) -> BelowFloor | None:
    """Return what a result does not reach, or None."""
    if not floors:
        return None
    metrics = {} if result is None else result.metrics
    said = []
    for name, floor in floors.items():
        value = metrics.get(name)
        if value is None:
            near = difflib.get_close_matches(name, metrics, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            said.append(f"there is no metric {name!r}{meant}; there are: {', '.join(metrics) or 'none'}")
        elif not value >= floor:  # NaN is below every floor
            said.append(f"{name} is {value:.6g}, its floor is {floor:g}")
    return BelowFloor("; ".join(said)) if said else None
