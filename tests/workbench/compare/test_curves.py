"""Curves: placed on an axis, smoothed, averaged and thinned, each proved by a slow and obvious one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.compare.curves import Series, line, mean_line, smoothed, thinned, x_values


def series(steps: list[int], values: list[float], times: list[float] | None = None) -> Series:
    when = times or [float(step) for step in steps]
    return Series(np.array(steps), np.array(when), np.array(values, float))


def test_a_point_stands_at_its_step_its_time_or_its_time_since_the_start() -> None:
    one = series([1, 5, 3], [0.1, 0.2, 0.3], [100.0, 101.5, 103.0])
    assert x_values(one, "step").tolist() == [1, 5, 3]  # a step that went back stays where it was logged
    assert x_values(one, "time").tolist() == [100.0, 101.5, 103.0]
    assert x_values(one, "relative", start=100.0).tolist() == [0.0, 1.5, 3.0]


def test_another_metric_as_axis_is_the_one_last_seen_at_that_step() -> None:
    epochs = series([10, 0, 20], [1.0, 0.5, 2.0])  # not in order
    loss = series([-1, 0, 9, 10, 15, 25], [9.0] * 6)
    x = x_values(loss, "epoch", against=epochs)
    assert math.isnan(x[0])
    assert x[1:].tolist() == [0.5, 0.5, 1.0, 1.0, 2.0]
    with pytest.raises(wb.BadInput, match="axis 'epoch'"):
        x_values(loss, "epoch")


def slow_mean(values: list[float], weight: float) -> list[float]:
    """Kingma and Ba, step by step."""
    mean, correction, out = 0.0, 0.0, []
    for value in values:
        mean, correction = weight * mean, weight * correction
        if not math.isfinite(value):
            out.append(value)
            continue
        mean, correction = mean + (1 - weight) * value, correction + (1 - weight)
        out.append(mean / correction)
    return out


@given(
    st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=70),
    st.sampled_from([0.0, 0.3, 0.9, 0.99]),
)
@settings(max_examples=120, deadline=None)
def test_smoothing_is_the_mean_corrected_for_its_start(values: list[float], weight: float) -> None:
    np.testing.assert_allclose(
        smoothed(np.array(values), weight), slow_mean(values, weight), rtol=1e-9, atol=1e-6
    )


def test_smoothing_leaves_a_constant_alone_from_its_first_point_on() -> None:
    assert smoothed(np.full(5000, 1e9 + 0.125), 0.99).tolist() == [1e9 + 0.125] * 5000


@pytest.mark.parametrize("weight", [-0.1, 1.0, math.nan])
def test_a_smoothing_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(wb.BadInput, match="from 0 to below 1"):
        smoothed(np.ones(3), weight)


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf])),
        min_size=1,
        max_size=600,
    ),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_thinning_keeps_lowest_highest_last_and_gaps_of_every_visit(
    points: list[tuple[int, float]], ordered: bool
) -> None:
    if ordered:
        points = sorted(points, key=lambda point: point[0])
    x, y = np.array([p[0] for p in points], float), np.array([p[1] for p in points])
    buckets = 8
    kept = thinned(x, y, buckets)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert len(kept) <= max(3 * buckets, 4 * 4 * buckets)
    if len(points) <= 3 * buckets:
        assert len(kept) == len(points)
        return
    # slow and obvious: walk along, a new visit whenever the bucket changes
    low, high = x.min(), x.max()
    bucket = np.minimum((x - low) / (high - low) * buckets, buckets - 1).astype(int) if high > low else 0 * x
    visits: list[list[int]] = []
    for place in range(len(x)):
        if place == 0 or bucket[place] != bucket[place - 1]:
            visits.append([])
        visits[-1].append(place)
    if high == low or len(visits) > 4 * buckets:
        return  # cut by order instead; the bound above is what holds
    chosen = set(kept.tolist())
    for visit in visits:
        assert visit[-1] in chosen
        finite = [place for place in visit if math.isfinite(y[place])]
        if finite:
            mine = [y[place] for place in visit if place in chosen and math.isfinite(y[place])]
            assert (min(mine), max(mine)) == (min(y[finite]), max(y[finite]))
        if len(finite) < len(visit):
            assert any(not math.isfinite(y[place]) for place in visit if place in chosen)


def test_an_outlier_of_one_point_in_a_million_is_still_there() -> None:
    y = np.zeros(1_000_000)
    y[123_457] = 5.0
    kept = thinned(np.arange(1_000_000.0), y, 280)
    assert len(kept) <= 4 * 280
    assert y[kept].max() == 5.0
    assert kept[-1] == 999_999


def test_points_that_cannot_be_placed_are_left_out() -> None:
    assert thinned(np.array([math.nan, 1.0, math.inf]), np.zeros(3), 10).tolist() == [1]


def test_infinity_is_a_gap() -> None:
    drawn = line(1, np.arange(3.0), np.array([1.0, math.inf, 2.0]), buckets=10)
    assert [math.isnan(value) for value in drawn.y] == [False, True, False]


def test_a_mean_over_runs_has_a_band_of_one_standard_deviation() -> None:
    x = np.array([0.0, 1.0, 2.0])
    mean = mean_line(
        [1, 2, 3], [(x, np.array(y)) for y in ([1.0, 2, 3], [2.0, 2, 5], [3.0, 2, 7])], buckets=9
    )
    assert mean.x.tolist() == [0, 1, 2]
    assert mean.y.tolist() == [2, 2, 5]
    assert mean.low is not None
    assert mean.high is not None
    np.testing.assert_allclose(mean.high - mean.y, [1.0, 0.0, 2.0])
    np.testing.assert_allclose(mean.y - mean.low, [1.0, 0.0, 2.0])


def test_runs_of_other_steps_are_read_between_their_points_and_never_beyond() -> None:
    mean = mean_line(
        [1, 2],
        [(np.array([0.0, 2.0]), np.array([0.0, 2.0])), (np.array([1.0, 3.0]), np.array([3.0, 5.0]))],
        buckets=9,
    )
    assert mean.x.tolist() == [0, 1, 2, 3]
    assert mean.y.tolist() == [0, 2, 3, 5]  # alone, (1 + 3) / 2, (2 + 4) / 2, alone
    assert mean.low is not None
    assert mean.low[0] == mean.y[0]


def test_a_mean_over_many_points_takes_the_mean_of_each_bucket() -> None:
    x = np.arange(10_000.0)
    mean = mean_line([1, 2], [(x, x), (x, x + 2)], buckets=100)
    assert len(mean.x) == 100
    np.testing.assert_allclose(mean.y, mean.x + 1, atol=1)
    np.testing.assert_allclose(mean.high - mean.y, math.sqrt(2), atol=1e-6)  # type: ignore[operator]


def test_a_mean_of_nothing_is_empty() -> None:
    mean = mean_line([1], [(np.array([1.0]), np.array([math.nan]))], buckets=5)
    assert len(mean.x) == 0
