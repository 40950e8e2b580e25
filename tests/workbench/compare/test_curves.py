"""Curves: placed on an axis, smoothed, averaged and thinned, each proved by a slow and obvious one."""

from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.compare.curves import AXES, line, mean_line, smoothed, thinned, x_values
from workbench.store.points import Series


def series(steps: list[int], values: list[float], times: list[float] | None = None) -> Series:
    when = times or [float(step) for step in steps]
    return Series(np.array(steps), np.array(when), np.array(values, float))


def test_a_point_stands_at_its_step_its_time_or_its_time_since_the_start() -> None:
    one = series([1, 5, 3], [0.1, 0.2, 0.3], [100.0, 101.5, 103.0])
    assert x_values(one, "step").tolist() == [1, 5, 3]  # a step that went back stays where it was logged
    assert x_values(one, "time").tolist() == [100.0, 101.5, 103.0]
    assert x_values(one, "relative", start=100.0).tolist() == [0.0, 1.5, 3.0]
    assert len(one) == 3
    assert [x_values(one, axis).dtype for axis in AXES] == [np.float64] * 3
    assert x_values(one, "relative").tolist() == [100.0, 101.5, 103.0]  # without a start: since 1970


def test_another_metric_as_axis_is_the_one_last_seen_at_that_step() -> None:
    epochs = series([10, 0, 20], [1.0, 0.5, 2.0])  # not in order
    loss = series([-1, 0, 9, 10, 15, 25], [9.0] * 6)
    x = x_values(loss, "epoch", against=epochs)
    assert math.isnan(x[0])
    assert x[1:].tolist() == [0.5, 0.5, 1.0, 1.0, 2.0]
    np.testing.assert_array_equal(x_values(loss, "val/epoch", against=epochs), x)
    with pytest.raises(wb.BadInput, match="axis 'epoch'"):
        x_values(loss, "epoch")


def test_of_several_values_at_one_step_the_last_that_was_logged_is_on_the_axis() -> None:
    epochs = series([1, 0] * 200, list(range(400)))
    assert x_values(series([0, 1], [9.0, 9.0]), "epoch", against=epochs).tolist() == [399, 398]


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
    values = np.full(5000, 1e9 + 0.125)
    assert smoothed(values, 0.99).tolist() == values.tolist()
    values[0] = math.nan
    assert smoothed(values, 0.99)[1:].tolist() == values[1:].tolist()


def test_without_smoothing_every_value_is_exactly_what_was_logged() -> None:
    assert smoothed(np.array([1e9, 0.1, -math.inf]), 0.0).tolist() == [1e9, 0.1, -math.inf]


def test_smoothing_nothing_is_nothing() -> None:
    assert smoothed(np.empty(0), 0.5).tolist() == []


def test_a_gap_counts_for_nothing_in_smoothing_and_stays_open() -> None:
    gaps = [math.nan, math.inf, 2.0, -math.inf, 4.0]
    np.testing.assert_allclose(smoothed(np.array(gaps), 0.5), slow_mean(gaps, 0.5))
    np.testing.assert_array_equal(smoothed(np.full(3, math.nan), 0.5), np.full(3, math.nan))


@pytest.mark.parametrize("weight", [-0.1, 1.0, 1.5, math.nan])
def test_a_smoothing_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(wb.BadInput, match="at least 0 and below 1"):
        smoothed(np.ones(3), weight)


def slow_thinning(x: list[float], y: list[float], buckets: int) -> list[int]:
    """Walk along: a new visit whenever the bucket changes, or by turns in the order of logging."""
    low, high = min(x), max(x)
    bucket = [min(int((at - low) * (buckets / (high - low))), buckets - 1) if high > low else 0 for at in x]
    starts = [place for place in range(len(x)) if place == 0 or bucket[place] != bucket[place - 1]]
    if high == low or len(starts) > 4 * buckets:
        starts = sorted({turn * len(x) // (4 * buckets) for turn in range(4 * buckets)})
    kept = set()
    for start, end in zip(starts, [*starts[1:], len(x)], strict=True):
        finite = [place for place in range(start, end) if math.isfinite(y[place])]
        gaps = [place for place in range(start, end) if not math.isfinite(y[place])]
        kept |= {end - 1, *gaps[:1]}
        if finite:
            kept |= {min(finite, key=lambda place: y[place]), max(finite, key=lambda place: y[place])}
    return sorted(kept)


#: As many visits of eight buckets as are still thinned one by one, and one more.
SWEEPS = [(float(step % 80), math.sin(step)) for step in range(320)]
MORE_SWEEPS = [*SWEEPS, *((0.0, math.sin(step)) for step in range(9))]


@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf])),
        min_size=25,
        max_size=600,
    ),
    st.booleans(),
)
@example(SWEEPS, False)
@example(MORE_SWEEPS, False)
@example([(3.0, math.cos(place)) for place in range(100)], False)
@settings(max_examples=150, deadline=None)
def test_thinning_keeps_lowest_highest_last_and_first_gap_of_every_visit(
    points: list[tuple[float, float]], ordered: bool
) -> None:
    if ordered:
        points = sorted(points, key=lambda point: point[0])
    x, y = [point[0] for point in points], [point[1] for point in points]
    kept = thinned(np.array(x, float), np.array(y), 8).tolist()
    assert kept == slow_thinning(x, y, 8)
    assert len(kept) <= 4 * 4 * 8


def test_where_points_are_few_all_of_them_stay() -> None:
    assert thinned(np.arange(24.0), np.zeros(24), 8).tolist() == list(range(24))
    assert len(thinned(np.arange(25.0), np.zeros(25), 8)) == 2 * 8  # first and last of each bucket


def test_an_outlier_of_one_point_in_a_million_is_still_there() -> None:
    y = np.zeros(1_000_000)
    y[123_457] = 5.0
    kept = thinned(np.arange(1_000_000.0), y, 280)
    assert len(kept) <= 4 * 280
    assert y[kept].max() == 5.0
    assert kept[-1] == 999_999


def test_points_that_cannot_be_placed_are_left_out() -> None:
    assert thinned(np.array([math.nan, 1.0, math.inf]), np.zeros(3), 10).tolist() == [1]
    x = np.where(np.arange(100) % 10 == 9, math.nan, np.arange(100.0))
    assert not np.isnan(x[thinned(x, np.arange(100.0), 5)]).any()


def test_a_line_is_of_one_run_and_has_no_band() -> None:
    x = np.arange(10_000.0)
    drawn = line(3, x, np.sin(x), buckets=50)
    np.testing.assert_array_equal(drawn.x, thinned(x, np.sin(x), 50))
    np.testing.assert_array_equal(drawn.y, np.sin(drawn.x))
    assert (drawn.runs, drawn.low, drawn.high) == ((3,), None, None)


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


def slow_mean_line(curves: list[dict[float, list[float]]], buckets: int) -> list[tuple[float, float, float]]:
    """Place by place: every run by its value there, or by a line between its neighbours."""
    curves = [{x: [y for y in values if math.isfinite(y)] for x, values in curve.items()} for curve in curves]
    places = sorted({x for curve in curves for x, values in curve.items() if values})
    if len(places) > buckets:
        low, width = places[0], (places[-1] - places[0]) / buckets
        binned: list[dict[float, list[float]]] = [{} for _ in curves]
        for run, curve in enumerate(curves):
            for x, values in curve.items():
                middle = low + (min(int((x - low) / width), buckets - 1) + 0.5) * width
                binned[run].setdefault(middle, []).extend(values)
        places, curves = [low + (bucket + 0.5) * width for bucket in range(buckets)], binned
    out = []
    for place in places:
        found = []
        for curve in curves:
            own = {x: statistics.fmean(values) for x, values in curve.items() if values}
            before, after = [x for x in own if x <= place], [x for x in own if x >= place]
            if before and after:
                left, right = max(before), min(after)
                share = (place - left) / (right - left) if right > left else 0.0
                found.append(own[left] + share * (own[right] - own[left]))
        if found:
            band = statistics.stdev(found) if len(found) > 1 else 0.0
            out.append((place, statistics.fmean(found), band))
    return out


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 64), st.floats(-1e3, 1e3) | st.sampled_from([math.nan, math.inf, -math.inf])
            ),
            max_size=30,
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([8, 16, 1000]),
)
@example([[(0, 1.0), (8, 3.0), (9, 5.0), (64, 7.0)], [(16, 2.0), (16, 4.0), (40, math.nan)]], 4)
@example([[(float(x), float(x * x)) for x in (0, 8, 16, 20, 24, 40, 48)]], 8)  # as many places as buckets
@example([[(float(x), float(x * x)) for x in (0, 8, 16, 20, 24, 40, 48, 50)]], 8)  # one more
@example([[(float(x), float(x * x)) for x in range(65)]], 64)  # the middles of buckets are no whole numbers
@settings(max_examples=150, deadline=None)
def test_a_mean_over_runs_counts_every_run_once_at_every_place(
    runs: list[list[tuple[float, float]]], buckets: int
) -> None:
    runs = [*runs, [(0, 0.25)], [(64, 0.75)]]  # a range whose buckets begin at whole numbers
    curves = [(np.array([x for x, _ in run], float), np.array([y for _, y in run], float)) for run in runs]
    mean = mean_line(list(range(len(runs))), curves, buckets=buckets)
    slow: list[dict[float, list[float]]] = []
    for run in runs:
        slow.append({})
        for x, y in run:
            slow[-1].setdefault(x, []).append(y)
    wanted = slow_mean_line(slow, buckets)
    assert mean.low is not None
    assert mean.high is not None
    assert mean.runs == tuple(range(len(runs)))
    assert mean.x.tolist() == [place for place, _, _ in wanted]
    np.testing.assert_allclose(mean.y, [middle for _, middle, _ in wanted], atol=1e-9)
    np.testing.assert_allclose(mean.high - mean.y, [band for _, _, band in wanted], atol=1e-6)
    np.testing.assert_allclose(mean.y - mean.low, [band for _, _, band in wanted], atol=1e-6)


def test_points_that_cannot_be_placed_count_for_no_mean() -> None:
    x = np.array([0.0, math.nan, 1.0, math.inf])
    mean = mean_line([1, 2], [(x, np.array([1.0, 9.0, 2.0, 9.0])), (x, np.full(4, math.nan))], buckets=5)
    assert (mean.x.tolist(), mean.y.tolist()) == ([0.0, 1.0], [1.0, 2.0])


def test_a_mean_over_many_points_takes_the_mean_of_each_bucket() -> None:
    x = np.arange(10_000.0)
    mean = mean_line([1, 2], [(x, x), (x, x + 2)], buckets=100)
    assert len(mean.x) == 100
    np.testing.assert_allclose(mean.y, mean.x + 1, atol=1)
    np.testing.assert_allclose(mean.high - mean.y, math.sqrt(2), atol=1e-6)  # type: ignore[operator]


def test_a_mean_of_nothing_is_empty() -> None:
    mean = mean_line([1], [(np.array([1.0]), np.array([math.nan]))], buckets=5)
    assert mean.runs == (1,)
    assert [len(part) for part in (mean.x, mean.y, mean.low, mean.high) if part is not None] == [0] * 4


def test_a_line_is_itself_and_does_not_change_afterwards() -> None:
    x = np.arange(3.0)
    for one, other in (
        (line(1, x, x, buckets=5), line(1, x, x, buckets=5)),
        (series([1], [2]), series([1], [2])),
    ):
        assert one != other  # to compare arrays is no yes or no
        assert len({one, other}) == 2
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, dataclasses.fields(one)[0].name, "another")


@pytest.mark.parametrize(
    ("axis", "start", "places"),
    [("time", 0.0, [1.7e9, 1.7e9 + 2]), ("relative", 1.7e9, [0, 2]), ("relative", None, [0, 2])],
)
def test_a_point_without_a_usable_time_has_no_place_on_an_axis_of_time(
    axis: str, start: float | None, places: list[float]
) -> None:
    times = [math.nan, 1.7e9, math.inf, 1.7e12, -5.0, 1.7e9 + 2]
    x = x_values(series(list(range(6)), [0.0] * 6, times), axis, start=start)
    here = [False, True, False, False, False, True]
    assert np.isfinite(x).tolist() == here
    assert x[here].tolist() == places
    assert np.isnan(x_values(series([0], [1.0], [math.nan]), axis, start=start)).all()
