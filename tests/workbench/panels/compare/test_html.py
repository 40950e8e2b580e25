"""The static charts: round ticks, visible gaps, escaped text."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from workbench.compare.curves import Line
from workbench.panels.compare.html import chart_svg, log_ticks, number, ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.0, 7.0, [-2.0, 0.0, 2.0, 4.0, 6.0]),
        (1e-9, 3e-9, [1e-9, 1.5e-9, 2e-9, 2.5e-9, 3e-9]),
    ],
)
def test_ticks_are_round_numbers_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-3.0, 0.0, [0.001, 0.01, 0.1, 1]),
        (0.1, 1.8, [3, 10, 30]),
        (0.2, 0.62, [2, 3]),
    ],
)
def test_ticks_of_a_logarithmic_scale_are_round_too(low: float, high: float, expected: list[float]) -> None:
    values = [round(10**tick, 9) for tick in log_ticks(low, high, 4)]
    assert set(expected) <= set(values)
    assert all(number(tick) in {number(float(f"{tick:.2g}"))} for tick in values)


def drawn(y: list[float], **how: bool) -> str:
    line = Line((1,), np.arange(float(len(y))), np.array(y))
    return chart_svg("a <metric>", [line], [0], **how)  # type: ignore[arg-type]


def test_a_gap_is_a_gap_and_a_single_point_a_dot() -> None:
    svg = drawn([1.0, 2.0, math.nan, 3.0])
    path = next(part for part in svg.split("<path ") if 'stroke-width="1.8"' in part)
    assert path.count("M") == 2
    assert path.count("h0") == 2
    assert "a &lt;metric&gt;" in svg


def test_a_value_without_a_logarithm_is_a_gap_and_a_line_without_points_is_not_drawn() -> None:
    assert drawn([0.1, -1.0, 10.0], log=True).count("M") >= 2
    assert drawn([-1.0, -2.0], log=True) == ""
    assert drawn([math.nan]) == ""


def test_one_point_is_a_dot_on_a_whole_step() -> None:
    line = Line(runs=(1,), x=np.array([0.0]), y=np.array([0.3]))
    svg = chart_svg("loss", [line], [0])
    assert svg.count("<circle") == 1
    assert re.findall(r">([^<>]+)</text>", svg)[-1] == "0"  # one step, and no "-0 -0 0 0 1"
    steps = Line(runs=(1,), x=np.array([4.0, 5.0]), y=np.array([0.3, 0.2]))
    labels = re.findall(r'y="212"[^>]*>([^<>]+)</text>', chart_svg("loss", [steps], [0]))
    assert labels == ["4", "5"]
    gaps = Line(runs=(1,), x=np.arange(5.0), y=np.array([1.0, np.nan, 2.0, np.nan, 3.0]))
    assert chart_svg("loss", [gaps], [0]).count("<circle") == 3
