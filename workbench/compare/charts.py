"""The lines of one chart: selected, thinned, smoothed and grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.compare.curves import AXES, Floats, Line, line, mean_line, smoothed, x_values
from workbench.compare.settings import groups
from workbench.store.points import Series
from workbench.store.runs import RunRow


@dataclass(frozen=True)
class ChartWish:
    """How to draw curves.

    Attributes
    ----------
    axis : str
        ``"step"``, ``"time"``, ``"relative"`` or a metric.
    smoothing : float
        Weight of the exponential mean, at least 0 and below 1.
    buckets : int
        Resolution; see :func:`workbench.compare.curves.thinned`.
    average : str or None
        Average over runs that differ only in this setting.
    window : (float, float) or None
        Range of the axis to draw; None for all of it.
    """

    axis: str = "step"
    smoothing: float = 0.0
    buckets: int = 280
    average: str | None = None
    window: tuple[float, float] | None = None


def chart_lines(
    metric: str,
    runs: Sequence[RunRow],
    held: Mapping[tuple[int, str], Series],
    wish: ChartWish,
) -> list[Line]:
    """Return the lines of one metric's chart; runs that never logged it are left out.

    Parameters
    ----------
    metric : str
        The metric on the vertical axis.
    runs : sequence of RunRow
        The runs, in order.
    held : mapping of (run id, metric) to Series
        Their curves, including those of the metric on the horizontal axis, if any.
    wish : ChartWish
        How to draw the curves.
    """
    curves: dict[int, tuple[Floats, Floats]] = {}
    for run in runs:
        series = held.get((run.id, metric))
        if series is None or not len(series):
            continue
        against = held.get((run.id, wish.axis)) if wish.axis not in AXES else None
        if wish.axis not in AXES and against is None:
            continue
        x = x_values(series, wish.axis, start=run.created_at, against=against)
        curves[run.id] = (x, series.value)
    if wish.average is not None:
        places = groups([run.config for run in runs], (wish.average,))
        members = [[runs[place].id for place in group if runs[place].id in curves] for group in places]
        return [
            _mean(group, curves, wish)
            if len(group) > 1
            else line(group[0], *_cut(*curves[group[0]], wish), buckets=wish.buckets)
            for group in members
            if group
        ]
    return [line(run_id, *_cut(*curve, wish), buckets=wish.buckets) for run_id, curve in curves.items()]


def _mean(group: Sequence[int], curves: Mapping[int, tuple[Floats, Floats]], wish: ChartWish) -> Line:
    cut = [_cut(*curves[run_id], wish) for run_id in group]
    return mean_line(group, cut, buckets=wish.buckets)


def _cut(x: Floats, y: Floats, wish: ChartWish) -> tuple[Floats, Floats]:
    """Smooth the whole curve, then cut it to the window and one point on either side."""
    y = smoothed(y, wish.smoothing)
    if wish.window is None:
        return x, y
    low, high = wish.window
    inside = (x >= low) & (x <= high)
    if not inside.any():
        return x[:0], y[:0]
    near = inside.copy()
    near[1:] |= inside[:-1]
    near[:-1] |= inside[1:]
    return x[near], y[near]
