"""Uncertainty of a metric over queries and over seeds.

A bootstrap interval estimates the variation over draws of similar queries; it does not account for variation
between training runs. An interval over seeds estimates the variation between runs on the same queries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb

#: Draws of a bootstrap; the ends of a 95 % interval then rest on 25 draws each.
RESAMPLES = 1_000


#: Weights drawn at once, to bound memory.
WEIGHTS_AT_ONCE = 1 << 22


#: 97.5 % points of Student's t, by degrees of freedom from 1.
_T = np.fromstring(
    "12.706 4.303 3.182 2.776 2.571 2.447 2.365 2.306 2.262 2.228 "
    "2.201 2.179 2.160 2.145 2.131 2.120 2.110 2.101 2.093 2.086 "
    "2.080 2.074 2.069 2.064 2.060 2.056 2.052 2.048 2.045 2.042",
    sep=" ",
)


def bootstrap(
    values: ArrayLike, *, groups: Sequence[str] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Return the means over queries drawn with replacement.

    Parameters
    ----------
    values : array_like, float, shape (m, n_queries)
        Per-query values of m metrics; NaN for a query that does not count. All metrics use the same draws, so
        differences and ratios of the results are paired.
    groups : sequence of str, optional
        One per query: queries of one group (two drawings of one thing) are drawn together, since their
        results are correlated.
    resamples : int
        Number of draws.
    seed : int
        The same seed gives the same draws.

    Returns
    -------
    ndarray, float64, shape (m, resamples)
        NaN if no query that counts was drawn.

    Raises
    ------
    workbench.BadInput
        There are no queries, the number of groups differs, or the number of draws is below 1.
    """
    table = np.atleast_2d(np.asarray(values, np.float64))
    if table.ndim != 2 or not table.shape[1] or resamples < 1:
        raise wb.BadInput(
            "values must have shape (metrics, queries) and draws must be at least 1, "
            f"not {table.shape} and {resamples}"
        )
    if groups is not None and len(groups) != table.shape[1]:
        raise wb.BadInput(f"groups must be one per query: {len(groups)} groups, {table.shape[1]} queries")
    counts = ~np.isnan(table)
    sums, numbers = np.where(counts, table, 0), counts.astype(np.float64)
    if groups is not None:
        _, member = np.unique(np.asarray(groups), return_inverse=True)
        sums, numbers = (_gathered(one, member) for one in (sums, numbers))
    n = sums.shape[1]
    rng = np.random.Generator(np.random.PCG64(seed))
    out = np.empty((len(table), resamples))
    step = max(1, WEIGHTS_AT_ONCE // n)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = rng.integers(0, n, (stop - start, n))
        offsets = np.arange(0, (stop - start) * n, n)[:, None]
        weights = np.bincount((drawn + offsets).ravel(), minlength=(stop - start) * n).reshape(-1, n)
        with np.errstate(invalid="ignore"):
            out[:, start:stop] = (sums @ weights.T) / (numbers @ weights.T)
    return out


def _gathered(table: NDArray[np.float64], member: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.stack([np.bincount(member, row) for row in table])


def interval(
    draws: NDArray[np.float64], level: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the percentile interval along the last axis; NaN where all draws are NaN."""
    tail = (1 - level) / 2
    bad: NDArray[np.bool_] = np.all(np.isnan(draws), axis=-1, keepdims=True)
    ends = np.nanquantile(np.where(bad, 0, draws), [tail, 1 - tail], axis=-1)
    low, high = np.where(bad[..., 0], np.nan, ends)
    return low, high


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of a metric over runs that differ in their seed, and half its 95 % t interval.

    Returns
    -------
    mean, half : float
        ``half`` is NaN for a single run.

    Raises
    ------
    workbench.BadInput
        There are no values.
    """
    if not len(values):
        raise wb.BadInput("no values to average over seeds")
    n = len(values)
    if n == 1:
        return float(values[0]), math.nan
    t = _T[n - 2] if n - 2 < len(_T) else 1.96
    return float(np.mean(values)), float(t * np.std(values, ddof=1) / math.sqrt(n))
