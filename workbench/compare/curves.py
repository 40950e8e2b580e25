"""Prepare curves for a chart: place them on an axis, smooth, average over runs, and thin them faithfully.

All functions take complete series as numpy arrays in the order in which their points were logged, so a step
that goes backwards is drawn going backwards. A value that is not finite is a gap in a line; it is never a
minimum, a maximum or part of a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workbench.errors import BadInput
from workbench.store.points import Series
from workbench.values import END_OF_TIME

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

#: Choices for the horizontal axis; any other word is the name of a metric.
AXES = ("step", "time", "relative")

#: Values with a relative weight below this are left out of an exponential mean.
_FORGOTTEN = 1e-17

#: A line that turns back so often that the axis's buckets would keep nearly all points is instead divided in
#: the order of logging, into this many times the chart's buckets.
_MOST_TURNS = 4


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a chart: the curve of one run, or the mean over several.

    Attributes
    ----------
    runs : tuple of int
        Ids of its runs.
    x, y : array of float64, shape (n,)
        NaN in ``y`` is a gap.
    low, high : array of float64, shape (n,), or None
        The band around a mean: one standard deviation over the runs (with divisor n - 1).
    """

    runs: tuple[int, ...]
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None


def x_values(
    series: Series, axis: str, *, start: float | None = 0.0, against: Series | None = None
) -> Floats:
    """Return the position of each point of a series on an axis.

    Parameters
    ----------
    series : Series
        The points.
    axis : str
        ``"step"``, ``"time"`` (seconds since 1970), ``"relative"`` (seconds since ``start``), or the name of
        the metric in ``against``. On an axis of time the position is NaN where the time is no date.
    start : float, optional
        Start of the run, in seconds since 1970; if it is unknown (None), the time of its first point.
    against : Series, optional
        The metric on the axis. The position of a point is the metric's latest value at or before the point's
        step; NaN before its first value.

    Raises
    ------
    BadInput
        The axis is a metric and ``against`` is missing.
    """
    if axis == "step":
        return series.step.astype(np.float64)
    if axis in ("time", "relative"):
        # Imports may have stored times that are none: such points have no place on an axis of time.
        times = np.where((series.time >= 0) & (series.time < END_OF_TIME), series.time, np.nan)
        if axis == "time":
            return times
        known = times[np.isfinite(times)]
        return times - (start if start is not None else known[0] if len(known) else 0.0)
    if against is None:
        raise BadInput(
            f"no values of the metric for axis {axis!r}", hint=f"Or use one of: {', '.join(AXES)}."
        )
    order = np.argsort(against.step, kind="stable")
    place = np.searchsorted(against.step[order], series.step, side="right") - 1
    known = place >= 0
    out = np.full(len(series), np.nan)
    out[known] = against.value[order][place[known]]
    return out


def smoothed(values: Floats, weight: float) -> Floats:
    """Return the exponential moving mean, corrected for its start.

    ``m_t = sum_k w^k v_(t-k) / sum_k w^k`` over the finite values up to t: Kingma and Ba's bias correction
    (Adam, 2015, section 3), which for values without gaps is ``m_t / (1 - w^t)``. So the first point is its
    own mean, and a constant stays constant. Values that are not finite are kept and do not enter the mean.

    Parameters
    ----------
    values : array of float64, shape (n,)
    weight : float
        Weight of the previous mean, at least 0 (no smoothing) and below 1.

    Raises
    ------
    BadInput
        ``weight`` is out of range.
    """
    if not 0 <= weight < 1:
        raise BadInput(f"smoothing must be at least 0 and below 1, got {weight!r}")
    if weight == 0:
        return values
    finite = np.isfinite(values)
    # Relative to the first value: far from zero, the difference of two large sums would lose digits.
    origin = values[finite][0] if finite.any() else 0.0
    total = np.where(finite, values - origin, 0.0)
    count = finite.astype(np.float64)
    # Doubling: after each round, each place holds the weighted sum of twice as many values up to it.
    reach, factor = 1, weight
    while reach < len(values) and factor > _FORGOTTEN:
        total[reach:] += factor * total[:-reach].copy()
        count[reach:] += factor * count[:-reach].copy()
        reach, factor = reach * 2, factor * factor
    return np.where(finite, origin + total / np.where(count > 0, count, 1.0), values)


def thinned(x: Floats, y: Floats, buckets: int) -> Places:
    """Return which points to draw so that the line looks the same as with all of them.

    The axis is divided into buckets as narrow as a chart can show. Each bucket keeps its lowest, highest and
    last point, and its first gap, since a line must not cross it. Nothing is sampled at random or averaged,
    so outliers of a single point are kept. If the line leaves a bucket and returns to it (a step that went
    backwards), that is another visit, which is thinned separately.

    Parameters
    ----------
    x, y : array of float64, shape (n,)
        In the order of logging. Points whose ``x`` is not finite are left out.
    buckets : int
        Number of buckets over the range of ``x``; about half the chart's width in pixels.

    Returns
    -------
    array of int, shape (m,)
        Indices in the order of logging; at most four per visit. If there are few points, all are kept.
    """
    placed = np.flatnonzero(np.isfinite(x))
    if len(placed) <= 3 * buckets:
        return placed
    at = x[placed]
    low, high = at.min(), at.max()
    if high > low:
        bucket = np.minimum(((at - low) * (buckets / (high - low))).astype(np.int64), buckets - 1)
        starts = np.flatnonzero(np.r_[True, bucket[1:] != bucket[:-1]])
    if high <= low or len(starts) > _MOST_TURNS * buckets:
        starts = np.unique(np.linspace(0, len(placed), _MOST_TURNS * buckets, endpoint=False).astype(np.intp))
    values = y[placed]
    finite = np.isfinite(values)
    keep = np.zeros(len(placed), dtype=bool)
    keep[np.r_[starts[1:] - 1, len(placed) - 1]] = True
    visit = np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(placed)]))
    for reduce, nothing in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        ranked = np.where(finite, values, nothing)
        extreme = reduce.reduceat(ranked, starts)
        _keep_first(keep, np.flatnonzero(finite & (ranked == extreme[visit])), visit)
    _keep_first(keep, np.flatnonzero(~finite), visit)
    return placed[keep]


def _keep_first(keep: npt.NDArray[np.bool_], candidates: Places, visit: Places) -> None:
    """Keep the first candidate of each visit; candidates are in order."""
    if len(candidates):
        groups = visit[candidates]
        keep[candidates[np.r_[True, groups[1:] != groups[:-1]]]] = True


def line(run: int, x: Floats, y: Floats, *, buckets: int) -> Line:
    """Return the thinned curve of one run; smooth it before, over all points."""
    kept = thinned(x, y, buckets)
    return Line((run,), x[kept], np.where(np.isfinite(y[kept]), y[kept], np.nan))


def mean_line(runs: Sequence[int], curves: Sequence[tuple[Floats, Floats]], *, buckets: int) -> Line:
    """Return the mean over runs, with a band of one standard deviation around it.

    At each point of a common axis every run counts once, with its value there or a linear interpolation
    between its neighbours; before its first and after its last point it does not count. If the runs together
    have more positions than buckets, a run's value in a bucket is the mean of its points there. Where only
    one run is left, the band has no width.

    Parameters
    ----------
    runs : sequence of int
        Ids of the runs.
    curves : sequence of (x, y)
        One per run, as for :func:`line`.
    buckets : int
        Maximum number of positions.
    """
    kept = []
    for x, y in curves:
        sound = np.isfinite(x) & np.isfinite(y)
        if sound.any():
            kept.append((x[sound], y[sound]))
    if not kept:
        nothing = np.empty(0)
        return Line(tuple(runs), nothing, nothing, nothing, nothing)
    axis = np.unique(np.concatenate([x for x, _ in kept]))
    edges = None
    if len(axis) > buckets:
        edges = np.linspace(axis[0], axis[-1], buckets + 1)
        axis = (edges[:-1] + edges[1:]) / 2
    table = np.stack([_on(axis, edges, x, y) for x, y in kept])
    count = np.isfinite(table).sum(axis=0)
    some = count > 0
    table, axis, count = table[:, some], axis[some], count[some]
    mean = np.nansum(table, axis=0) / count
    spread = np.nansum((table - mean) ** 2, axis=0) / np.maximum(count - 1, 1)
    band = np.sqrt(spread)
    return Line(tuple(runs), axis, mean, mean - band, mean + band)


def _on(axis: Floats, edges: Floats | None, x: Floats, y: Floats) -> Floats:
    """Return one run's values on a common axis; NaN outside its own range."""
    if edges is None:
        places, group = np.unique(x, return_inverse=True)
        low, high = places[0], places[-1]
    else:
        group = np.minimum(np.searchsorted(edges, x, side="right") - 1, len(axis) - 1)
        places = axis
        filled = np.unique(group)
        low, high = axis[filled[0]], axis[filled[-1]]
    counts = np.bincount(group, minlength=len(places))
    sums = np.bincount(group, weights=y, minlength=len(places))
    known = counts > 0
    out = np.interp(axis, places[known], sums[known] / counts[known])
    return np.where((axis >= low) & (axis <= high), out, np.nan)
