"""Test whether the difference of two means over the same questions is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from workbench.errors import BadInput

#: Number of resamples; for large numbers of questions it is reduced, down to the second value.
MOST_RESAMPLES, FEWEST_RESAMPLES = 10_000, 2_000

#: Maximum number of draws (questions times resamples), in all and in memory at once.
MOST_DRAWS, DRAWS_AT_ONCE = 20_000_000, 2_000_000


@dataclass(frozen=True)
class Interval:
    """A difference of two means with its confidence interval.

    Attributes
    ----------
    difference : float
        Mean of the paired differences.
    low, high : float
        Bounds of the interval.
    pairs : int
        Number of questions with both scores.
    level : float
        Confidence level, such as 0.95.
    """

    difference: float
    low: float
    high: float
    pairs: int
    level: float

    @property
    def real(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired_intervals(
    differences: Sequence[npt.NDArray[np.float64]],
    groups: Sequence[Sequence[str] | None] | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval | None]:
    """Return a bootstrap interval for each mean difference, over resampled groups of questions.

    Questions that belong together (one concept asked in two languages, or drawn twice) are right or wrong
    together. Resampled one by one they would look like independent evidence, and differences without any
    cause would seem real. So whole groups are resampled with replacement, each question with both of its
    scores. The mean over questions is then a ratio, of summed differences to counts. The interval is the BCa
    interval (bias-corrected and accelerated: Efron, *Better Bootstrap Confidence Intervals*, JASA 82, 1987;
    Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, equations 14.9 to 14.15). The acceleration
    follows from the influence of each group on the ratio in closed form, so no jackknife is run. The same
    seed gives the same interval.

    Parameters
    ----------
    differences : sequence of array of float64, shape (n,)
        One array per metric: score minus baseline score for each question that has both.
    groups : sequence of sequence of str, optional
        For each metric, the group of each question; None if every question stands alone.
    level : float
        Confidence level, between 0 and 1.
    seed : int
        Random seed.

    Returns
    -------
    list of Interval or None
        One per metric; None with fewer than two groups, which are too few to resample.

    Raises
    ------
    BadInput
        ``level`` is not between 0 and 1, a difference is not finite, or groups are not one per difference.
    """
    if not 0 < level < 1:
        raise BadInput(f"level must be between 0 and 1, got {level!r}")
    out: list[Interval | None] = [None] * len(differences)
    by_size: dict[int, list[int]] = {}
    tables = []
    for place, one in enumerate(differences):
        if not np.isfinite(one).all():
            raise BadInput("a paired difference is not finite", hint="Leave out questions without a score.")
        tables.append(_grouped(one, groups[place] if groups else None))
        if (size := len(tables[-1][0])) > 1:
            by_size.setdefault(size, []).append(place)
    for size, places in by_size.items():
        sums, counts = (np.stack([tables[place][part] for place in places], axis=1) for part in (0, 1))
        means = _resampled_means(sums, counts, np.random.default_rng((seed, size)))
        for column, place in enumerate(places):
            out[place] = _bca(*tables[place], np.sort(means[:, column]), level)
    return out


def _grouped(
    differences: npt.NDArray[np.float64], groups: Sequence[str] | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the sum of the differences of each group, and their number."""
    if groups is None:
        return differences, np.ones(len(differences))
    if len(groups) != len(differences):
        raise BadInput(f"{len(differences)} differences need as many groups, got {len(groups)}")
    _, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    sums: npt.NDArray[np.float64] = np.bincount(group, weights=differences).astype(np.float64)
    return sums, np.bincount(group).astype(np.float64)


def _resampled_means(
    sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64], generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the means of the columns over resampled rows (groups), shape (resamples, columns)."""
    size = len(sums)
    resamples = min(MOST_RESAMPLES, max(FEWEST_RESAMPLES, MOST_DRAWS // size))
    at_once = max(1, DRAWS_AT_ONCE // size)
    alone = bool((counts == 1).all())
    parts = []
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = generator.integers(0, size, (count, size))
        # Count how often each row was drawn; one product then gives the means of all columns.
        drawn += np.arange(count)[:, None] * size
        times = np.bincount(drawn.ravel(), minlength=count * size).reshape(count, size)
        parts.append(times @ sums / (size if alone else times @ counts))
    return np.concatenate(parts)


def _bca(
    sums: npt.NDArray[np.float64],
    counts: npt.NDArray[np.float64],
    means: npt.NDArray[np.float64],
    level: float,
) -> Interval:
    pairs = counts.sum()
    mean = float(sums.sum() / pairs)
    # The influence of each group on the ratio, up to a factor that the acceleration does not depend on.
    centred = sums - mean * counts
    spread = float((centred**2).sum())
    each = sums / counts
    if each.min() == each.max() or spread <= pairs * np.finfo(np.float64).eps ** 2 * max(1.0, mean**2):
        return Interval(mean, mean, mean, int(pairs), level)  # all groups have the same mean
    normal = NormalDist()
    # Ties with the mean count half; they are frequent if scores are only 0 or 1.
    below = (np.searchsorted(means, mean, "left") + np.searchsorted(means, mean, "right")) / 2
    share = min(max(below / len(means), 0.5 / len(means)), 1 - 0.5 / len(means))
    bias = normal.inv_cdf(share)
    acceleration = float((centred**3).sum()) / (6 * spread**1.5)
    bounds = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal.inv_cdf(tail)
        quantile = normal.cdf(bias + z / (1 - acceleration * z)) if acceleration * z < 1 else tail
        bounds.append(float(np.quantile(means, quantile)))
    return Interval(mean, bounds[0], bounds[1], int(pairs), level)
