"""Intervals of paired differences: exact where they must be, and of the promised confidence."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

import workbench as wb
from workbench.compare import bootstrap
from workbench.compare.bootstrap import FEWEST_RESAMPLES, MOST_DRAWS, Interval, paired_intervals


def lopsided(size: int) -> npt.NDArray[np.float64]:
    """Eighths with a long tail: sums of them are exact, in whatever order they are added."""
    return np.random.default_rng(6).exponential(8.0, size).round() / 8


def textbook(
    differences: npt.NDArray[np.float64], level: float, seed: int, resamples: int
) -> tuple[float, float]:
    """Efron and Tibshirani, equations 14.9 to 14.15: one resample after the other, and a jackknife."""
    size, normal = len(differences), NormalDist()
    generator = np.random.default_rng((seed, size))
    means = np.array([differences[generator.integers(0, size, size)].mean() for _ in range(resamples)])
    below = (means < differences.mean()).mean() + (means == differences.mean()).mean() / 2
    bias = normal.inv_cdf(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
    without = np.array([np.delete(differences, place).mean() for place in range(size)])
    away = without.mean() - without
    acceleration = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    low, high = (
        bias + (bias + normal.inv_cdf(tail)) / (1 - acceleration * (bias + normal.inv_cdf(tail)))
        for tail in ((1 - level) / 2, (1 + level) / 2)
    )
    return float(np.quantile(means, normal.cdf(low))), float(np.quantile(means, normal.cdf(high)))


@pytest.mark.parametrize(("size", "level", "seed"), [(64, 0.95, 0), (32, 0.9, 7), (16, 0.5, 3)])
@pytest.mark.parametrize("side", [1, -1])
def test_an_interval_is_that_of_the_textbook(size: int, level: float, seed: int, side: int) -> None:
    differences = side * lopsided(size)
    interval = paired_intervals([differences], level=level, seed=seed)[0]
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(textbook(differences, level, seed, 10_000))
    assert (interval.difference, interval.pairs, interval.level) == (differences.mean(), size, level)


def grouped_textbook(
    differences: npt.NDArray[np.float64], groups: npt.NDArray[np.int64], resamples: int
) -> tuple[float, float]:
    """The same for whole groups: each resample is made of them."""
    normal = NormalDist()
    members = [differences[groups == group] for group in np.unique(groups)]
    size = len(members)
    generator = np.random.default_rng((0, size))
    means = np.array(
        [
            np.concatenate([members[place] for place in generator.integers(0, size, size)]).mean()
            for _ in range(resamples)
        ]
    )
    mean = differences.mean()
    bias = normal.inv_cdf((means < mean).mean() + (means == mean).mean() / 2)
    # The influence of a group is the derivative of the mean with respect to its weight.
    influence = np.array([(one - mean).sum() for one in members])
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    low, high = (
        bias + (bias + normal.inv_cdf(tail)) / (1 - acceleration * (bias + normal.inv_cdf(tail)))
        for tail in (0.025, 0.975)
    )
    return float(np.quantile(means, normal.cdf(low))), float(np.quantile(means, normal.cdf(high)))


def test_an_interval_over_groups_is_that_of_the_textbook() -> None:
    differences, groups = lopsided(60), np.random.default_rng(3).integers(0, 14, 60)
    interval = paired_intervals([differences], [[f"g{group:02}" for group in groups]])[0]
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(grouped_textbook(differences, groups, 10_000))
    assert (interval.difference, interval.pairs) == (pytest.approx(differences.mean()), 60)


def test_groups_of_one_question_change_nothing_and_one_group_alone_proves_nothing() -> None:
    differences = lopsided(40)
    alone = paired_intervals([differences])
    assert paired_intervals([differences], [None]) == alone
    assert paired_intervals([differences], [[f"{number:02}" for number in range(40)]]) == alone
    assert paired_intervals([differences], [["a"] * 40]) == [None]
    with pytest.raises(wb.BadInput, match="as many groups"):
        paired_intervals([differences], [["a"] * 39])


@pytest.mark.parametrize("asked", [1, 2, 5])
def test_where_nothing_differs_real_is_said_as_rarely_as_promised(
    asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Concepts are easy or hard for one of two equal models, in each of the languages they are asked in."""
    monkeypatch.setattr(bootstrap, "MOST_RESAMPLES", 500)
    generator = np.random.default_rng(asked)
    trials, concepts = 400, 60
    alarms = {"grouped": 0, "one by one": 0}
    for trial in range(trials):
        luck = np.repeat(generator.normal(size=concepts), asked)
        differences = luck + generator.normal(size=concepts * asked) * 0.3
        groups = [f"c{number}" for number in np.repeat(np.arange(concepts), asked)]
        for how, given in (("grouped", groups), ("one by one", None)):
            interval = paired_intervals([differences], [given], seed=trial)[0]
            assert interval is not None
            alarms[how] += interval.real
    # 5 % in truth: 400 trials are within 2.5 and 8 % in 99 of 100 cases.
    assert 0.025 < alarms["grouped"] / trials < 0.08, alarms
    if asked > 1:  # and questions drawn one by one would have been too sure
        assert alarms["one by one"] / trials > 0.12, alarms


def test_unless_told_otherwise_the_confidence_is_95_percent_and_the_seed_0() -> None:
    assert paired_intervals([lopsided(20)]) == paired_intervals([lopsided(20)], level=0.95, seed=0)


@pytest.mark.parametrize("value", [-1e9 - 0.7, 0.1, 1e-300])
@pytest.mark.parametrize("size", [3, 11, 1000])
def test_differences_that_are_all_equal_leave_no_doubt_however_their_mean_is_rounded(
    size: int, value: float
) -> None:
    interval = paired_intervals([np.full(size, value)])[0]
    assert interval is not None
    assert interval.low == interval.high == interval.difference == pytest.approx(value)


@pytest.mark.parametrize(("size", "resamples"), [(16, 300), (64, 100), (512, 20)])
def test_the_more_questions_the_fewer_resamples_within_bounds(
    size: int, resamples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "MOST_RESAMPLES", 300)
    monkeypatch.setattr(bootstrap, "FEWEST_RESAMPLES", 20)
    monkeypatch.setattr(bootstrap, "MOST_DRAWS", 6_400)
    interval = paired_intervals([lopsided(size)])[0]
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx(textbook(lopsided(size), 0.95, 0, resamples))


@pytest.mark.parametrize("at_once", [1, 700, 1_000_000])
def test_how_much_is_drawn_at_once_changes_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # With 700 draws at once, 25 resamples of 64 questions come as 10, 10 and 5.
    monkeypatch.setattr(bootstrap, "MOST_RESAMPLES", 25)
    monkeypatch.setattr(bootstrap, "FEWEST_RESAMPLES", 25)
    wanted = paired_intervals([lopsided(64), -lopsided(64)])
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", at_once)
    assert paired_intervals([lopsided(64), -lopsided(64)]) == wanted


@pytest.mark.parametrize("side", [1, -1])
def test_resamples_that_all_lie_on_one_side_still_make_an_interval(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "MOST_RESAMPLES", 2)
    monkeypatch.setattr(bootstrap, "FEWEST_RESAMPLES", 2)
    differences = side * lopsided(16)
    found = [paired_intervals([differences], seed=seed)[0] for seed in range(20)]
    wanted = [textbook(differences, 0.95, seed, 2) for seed in range(20)]
    assert [(one.low, one.high) for one in found if one] == [pytest.approx(one) for one in wanted]


def test_the_smallest_differences_are_judged_as_large_ones_are() -> None:
    large, small = paired_intervals([lopsided(32), lopsided(32) * 2.0**-40])
    assert large is not None
    assert small is not None
    assert (small.low, small.high) == (large.low * 2.0**-40, large.high * 2.0**-40)


def test_not_even_near_certainty_turns_an_interval_inside_out() -> None:
    outlier = np.array([1.0] + [0.0] * 39)
    for differences in (outlier, -outlier):
        interval = paired_intervals([differences], level=1 - 1e-12)[0]
        assert interval is not None
        assert interval.low < interval.difference < interval.high
        assert interval.high - interval.low > 0.15


def test_the_same_seed_gives_the_same_interval() -> None:
    differences = np.random.default_rng(1).normal(0.1, 1, 200)
    one, same, other = (paired_intervals([differences], seed=seed)[0] for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_an_interval_lies_around_the_mean_as_theory_says() -> None:
    differences = np.random.default_rng(2).normal(0.5, 2.0, 1_000)
    interval = paired_intervals([differences])[0]
    assert interval is not None
    half = 1.96 * differences.std(ddof=1) / math.sqrt(1_000)
    assert interval.difference == pytest.approx(differences.mean())
    assert interval.low == pytest.approx(differences.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(differences.mean() + half, abs=0.02)
    assert interval.pairs == 1_000
    assert interval.real


def test_a_skewed_sample_gets_a_skewed_interval() -> None:
    differences = np.random.default_rng(3).exponential(1.0, 60)
    interval = paired_intervals([differences])[0]
    assert interval is not None
    mean = differences.mean()
    assert interval.high - mean > (mean - interval.low) * 1.1


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for trial in range(150):
        interval = paired_intervals([generator.exponential(1.0, 80) - 1.0], level=0.9, seed=trial)[0]
        assert interval is not None
        covered += interval.low <= 0 <= interval.high
    # 150 trials at 90 %: fewer than 119 or more than 148 happen less than once in a thousand
    assert 119 <= covered <= 148


def test_a_metric_gets_the_same_interval_alone_and_among_others() -> None:
    generator = np.random.default_rng(5)
    hits = (generator.random(300) < 0.5).astype(float) - (generator.random(300) < 0.4)
    together = paired_intervals([generator.normal(size=300), hits])
    assert paired_intervals([hits])[0] == together[1]


@pytest.mark.parametrize(("values", "real"), [([0.0] * 5, False), ([0.25] * 5, True), ([1e9 + 1] * 4, True)])
def test_where_every_question_says_the_same_there_is_no_doubt(values: list[float], real: bool) -> None:
    interval = paired_intervals([np.array(values)])[0]
    assert interval is not None
    assert interval.low == interval.high == values[0]
    assert interval.pairs == len(values)
    assert interval.real is real


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -1e9 - 0.7])
def test_what_the_mean_loses_in_rounding_is_no_doubt(value: float) -> None:
    interval = paired_intervals([np.full(7, value)])[0]
    assert interval is not None
    assert interval.low == interval.high == pytest.approx(value)


@pytest.mark.parametrize(
    ("low", "high", "real"),
    [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False), (0.0, 0.1, False), (-0.1, 0.0, False)],
)
def test_a_difference_is_real_where_its_interval_leaves_out_zero(low: float, high: float, real: bool) -> None:
    assert Interval((low + high) / 2, low, high, 9, 0.95).real is real


def test_metrics_of_other_questions_keep_their_places() -> None:
    sizes = [40, 1, 50, 40, 0]
    together = paired_intervals([lopsided(size) for size in sizes])
    assert together == [paired_intervals([lopsided(size)])[0] for size in sizes]
    assert [one and one.pairs for one in together] == [40, None, 50, 40, None]


def test_an_interval_does_not_change_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Interval(0.0, 0.0, 0.0, 2, 0.95).low = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("size", [0, 1])
def test_with_fewer_than_two_questions_there_is_no_interval(size: int) -> None:
    assert paired_intervals([np.ones(size)]) == [None]


def test_two_questions_are_enough() -> None:
    assert paired_intervals([np.array([0.25, 0.75])])[0] is not None


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(wb.BadInput, match="not finite"):
        paired_intervals([np.array([1.0, math.nan])])
    for level in (95, 1, 0, -0.5, math.nan):
        with pytest.raises(wb.BadInput, match=f"level must be .*got {level}$"):
            paired_intervals([np.ones(3)], level=level)


def test_very_many_questions_are_resampled_less_often() -> None:
    size = MOST_DRAWS // FEWEST_RESAMPLES * 2
    interval = paired_intervals([np.tile([0.0, 1.0], size // 2)])[0]
    assert interval is not None
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.5 / math.sqrt(size), abs=2e-3)
