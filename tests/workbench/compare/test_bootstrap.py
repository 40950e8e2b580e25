"""Intervals of paired differences: exact where they must be, and of the promised confidence."""

from __future__ import annotations

import math

import numpy as np
import pytest

import workbench as wb
from workbench.compare.bootstrap import FEWEST_RESAMPLES, MOST_DRAWS, paired_intervals


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
    assert interval.real is real


@pytest.mark.parametrize("size", [0, 1])
def test_with_fewer_than_two_questions_there_is_no_interval(size: int) -> None:
    assert paired_intervals([np.ones(size)]) == [None]


def test_what_is_not_a_number_is_refused() -> None:
    with pytest.raises(wb.BadInput, match="not finite"):
        paired_intervals([np.array([1.0, math.nan])])
    with pytest.raises(wb.BadInput, match="level 95"):
        paired_intervals([np.ones(3)], level=95)


def test_very_many_questions_are_resampled_less_often() -> None:
    size = MOST_DRAWS // FEWEST_RESAMPLES * 2
    interval = paired_intervals([np.tile([0.0, 1.0], size // 2)])[0]
    assert interval is not None
    assert interval.low == pytest.approx(0.5 - 1.96 * 0.5 / math.sqrt(size), abs=2e-3)
