"""Which lines one chart shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.compare.charts import ChartWish, chart_lines
from workbench.compare.curves import smoothed
from workbench.store.points import Series
from workbench.store.runs import RunRow


def row(run_id: int, **config: Any) -> RunRow:
    return RunRow(run_id, f"run-{run_id}", "tries", "succeeded", config, {}, [], None, None, 0.0, 1.0, "")


def series(values: Any, start: float = 0.0) -> Series:
    steps = np.arange(len(values)) + start
    return Series(steps.astype(np.int64), steps, np.asarray(values, np.float64))


def test_each_run_has_its_own_line_and_one_without_the_metric_has_none() -> None:
    held = {(1, "loss"): series([3.0, 2.0]), (3, "loss"): series([1.0])}
    drawn = chart_lines("loss", [row(3), row(2), row(1)], held, ChartWish())
    assert [line.runs for line in drawn] == [(3,), (1,)]
    assert drawn[1].x.tolist() == [0, 1]
    assert drawn[1].y.tolist() == [3, 2]


def test_a_line_is_smoothed_over_all_of_its_points_before_it_is_thinned() -> None:
    values = np.sin(np.arange(10_000.0)) + np.arange(10_000) / 1000
    (drawn,) = chart_lines(
        "loss", [row(1)], {(1, "loss"): series(values)}, ChartWish(smoothing=0.9, buckets=50)
    )
    assert len(drawn.x) < 1000
    np.testing.assert_allclose(drawn.y, smoothed(values, 0.9)[drawn.x.astype(int)])


def test_a_window_shows_what_is_in_it_and_one_point_on_either_side() -> None:
    held = {(1, "loss"): series([5.0, 4.0, 3.0, 2.0, 1.0, 0.0])}
    (drawn,) = chart_lines("loss", [row(1)], held, ChartWish(window=(2.0, 3.0)))
    assert drawn.x.tolist() == [1, 2, 3, 4]
    (empty,) = chart_lines("loss", [row(1)], held, ChartWish(window=(8.0, 9.0)))
    assert len(empty.x) == 0


def test_runs_that_differ_in_one_setting_only_are_averaged_over_it() -> None:
    held = {(run_id, "loss"): series([float(run_id), 2.0 * run_id]) for run_id in (1, 2, 3)}
    runs = [row(1, lr=0.1, seed=1), row(2, lr=0.1, seed=2), row(3, lr=0.5, seed=1)]
    mean, alone = chart_lines("loss", runs, held, ChartWish(average="seed"))
    assert mean.runs == (1, 2)
    assert mean.y.tolist() == [1.5, 3]
    assert mean.low is not None
    assert alone.runs == (3,)
    assert alone.low is None


def test_a_metric_may_stand_on_the_axis() -> None:
    held = {(1, "loss"): series([3.0, 2.0]), (1, "epoch"): series([0.5, 1.0]), (2, "loss"): series([9.0])}
    drawn = chart_lines("loss", [row(1), row(2)], held, ChartWish(axis="epoch"))
    assert [line.runs for line in drawn] == [(1,)]  # the other run has no epoch to be placed by
    assert drawn[0].x.tolist() == [0.5, 1]
