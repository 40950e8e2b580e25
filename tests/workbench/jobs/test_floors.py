"""Floors of metrics: what may be asked for, and what a result does not reach."""

from __future__ import annotations

import math
from typing import Any

import pytest

import workbench as wb
from workbench.jobs.floors import below_floor, check_floors, unknown_metrics


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


#: As many metrics as a real evaluation has.
MANY = {
    f"{part}/{k}/R@{k}@{n}": 0.5 for part in ("t2i", "concepts/en/t2i") for k in range(60) for n in range(10)
}


@pytest.mark.parametrize("name", ["R@10", "x" * 5_000_000, "nothing like it"])
def test_a_wrong_name_among_hundreds_is_a_short_sentence(name: str) -> None:
    below = below_floor(wb.Result(summary="", metrics=MANY), {name: 0.1})
    assert below is not None
    assert len(below.message) < 400
    if name == "R@10":
        assert "did you mean 't2i/10/R@10@0'" in below.message


def test_a_floor_for_what_no_result_can_have_is_found_before_there_is_one() -> None:
    names = ["t2i/R@10@128", "t2i/mAP@128", "drawings/*/t2i/R@10@128"]
    assert unknown_metrics(["t2i/R@10@128", "drawings/ko/t2i/R@10@128"], names) == []
    assert unknown_metrics(["anything"], None) == []
    (problem,) = unknown_metrics(["R@10", "t2i/mAP@128"], names)
    assert problem == ("fail_below", "no metric 'R@10'; did you mean 't2i/R@10@128'?")
