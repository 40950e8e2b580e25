"""Floors of metrics: what may be asked for, and what a result does not reach."""

from __future__ import annotations

import math
from typing import Any

import pytest

import workbench as wb
from workbench.jobs.floors import below_floor, check_floors


def test_floors_are_a_mapping_or_its_json() -> None:
    assert check_floors({"R@10": 1}) == check_floors('{"R@10": 1}') == {"R@10": 1.0}
    assert check_floors(None) == check_floors("") == {}


@pytest.mark.parametrize("given", ["{", "[1]", 5, {"R@10": "high"}, {"R@10": True}, {"R@10": math.nan}])
def test_what_is_no_floor_is_refused(given: Any) -> None:
    with pytest.raises(wb.BadOptions, match="fail_below"):
        check_floors(given)


def test_what_a_result_does_not_reach_is_named() -> None:
    result = wb.Result(summary="", metrics={"R@10": 0.3, "mAP": 0.5})
    assert below_floor(result, {}) is None
    assert below_floor(result, {"R@10": 0.3, "mAP": 0.4}) is None
    below = below_floor(result, {"R@10": 0.35, "mAP": 0.4})
    assert below is not None
    assert "R@10" in below.message
    assert "0.35" in below.message
    assert "mAP" not in below.message
    misspelled = below_floor(result, {"r@10": 0.1})
    assert misspelled is not None
    assert "did you mean 'R@10'" in misspelled.message
    assert below_floor(None, {"mAP": 0.0}) is not None
