"""How a comparison is shown: charts, axes and scales, checked when the page sends a change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.compare import STATISTICS, Better
from workbench.errors import BadInput

#: Maximum number of charts, charts at the start, and maximum number of points sent for all charts.
MAX_CHARTS, CHARTS_AT_START, MAX_SENT_POINTS = 12, 2, 30_000


@dataclass(frozen=True)
class Display:
    """How a comparison is shown; every field can be passed to :meth:`workbench.panels.ComparePanel.set`.

    Attributes
    ----------
    metrics : list of str or None
        Metrics with a chart; None for the first few that have curves.
    axis : str
        ``"step"``, ``"time"``, ``"relative"`` or the name of a metric.
    smoothing : float
        Weight of the moving mean, 0 to 0.999.
    log : bool
        Whether the y axis is logarithmic.
    average : str or None
        A setting to average over: runs that differ only in it become a mean with a band.
    window : (float, float) or None
        The visible range of the x axis.
    width : int
        Width of a chart in pixels.
    baseline : int or None
        Id of the run that the others are compared with.
    better : dict of str to {"higher", "lower", None}
        Directions that override the declared ones.
    statistic : {"last", "best", "min", "max"}
        Which value of each metric the table shows.
    differences : bool
        Whether only settings that differ are shown.
    column : str or None
        The metric in the list of runs; None for the first one with a direction.
    """

    metrics: list[str] | None = None
    axis: str = "step"
    smoothing: float = 0.0
    log: bool = False
    average: str | None = None
    window: tuple[float, float] | None = None
    width: int = 540
    baseline: int | None = None
    better: dict[str, Better | None] = field(default_factory=dict)
    statistic: str = "last"
    differences: bool = True
    column: str | None = None


def changed(view: Display, change: Mapping[str, Any]) -> Display:
    """Return a view with some fields changed.

    Raises
    ------
    BadInput
        An unknown field or an invalid value.
    """
    for name, value in change.items():
        check = _CHECKS.get(name)
        if check is None:
            raise BadInput(f"unknown view option {name!r}", hint=f"Allowed: {', '.join(_CHECKS)}.")
        if not check(value):
            raise BadInput(
                f"invalid value {name}={value!r}", hint="See workbench.panels.compare.view.Display."
            )
    change = dict(change)
    if change.get("window") is not None:
        low, high = change["window"]
        change["window"] = (float(low), float(high))
    if "axis" in change and change["axis"] != view.axis:
        change.setdefault("window", None)  # the range is one of the old axis
    return replace(view, **change)


def is_number(value: Any) -> bool:
    """Return whether a value from the page is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_window(value: Any) -> bool:
    pair = isinstance(value, (list, tuple)) and len(value) == 2 and all(map(is_number, value))
    return value is None or (pair and value[0] < value[1])


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


_CHECKS: Mapping[str, Any] = {
    "metrics": lambda value: (
        value is None
        or (
            isinstance(value, list)
            and len(value) <= MAX_CHARTS
            and all(isinstance(one, str) for one in value)
        )
    ),
    "axis": lambda value: isinstance(value, str) and bool(value),
    "smoothing": lambda value: is_number(value) and 0 <= value <= 0.999,
    "log": lambda value: isinstance(value, bool),
    "average": _is_text,
    "window": _is_window,
    "width": lambda value: is_number(value) and 100 <= value <= 4000,
    "baseline": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
    "better": lambda value: (
        isinstance(value, dict)
        and all(isinstance(name, str) and way in ("higher", "lower", None) for name, way in value.items())
    ),
    "statistic": lambda value: value in STATISTICS,
    "differences": lambda value: isinstance(value, bool),
    "column": _is_text,
}
