"""What may be logged: numbers, steps, columns and settings, and what each becomes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.values import HIGHEST_STEP, as_column, as_number, as_step, plain


def test_settings_become_plain_json() -> None:
    class Options(wb.Options):
        lr: float = 0.1

    given = {1: Options(), "path": Path("a/b"), "set": {"b", "a"}, "array": np.arange(2), "nan": math.nan}
    assert plain(given, "config") == {
        "1": {"lr": 0.1},
        "path": "a/b",
        "set": ["a", "b"],
        "array": [0, 1],
        "nan": "nan",
    }


def test_what_has_no_plain_form_is_named_by_its_place() -> None:
    with pytest.raises(wb.BadInput, match=r"config\.model\[1\]"):
        plain({"model": [1, object()]}, "config")


@pytest.mark.parametrize("value", [1, 1.5, np.float32(1.5), np.array([2]), math.inf])
def test_one_real_number_is_taken(value: Any) -> None:
    assert as_number("m", value) == float(np.asarray(value).item())


@pytest.mark.parametrize("value", ["1", None, True, np.bool_(True), 1j, [1], np.arange(2), object()])
def test_what_is_no_real_number_is_refused_with_the_metrics_name(value: Any) -> None:
    with pytest.raises(wb.BadInput, match="'val/mAP'"):
        as_number("val/mAP", value)


def test_steps_are_whole_and_fit_a_database() -> None:
    assert as_step(np.int64(5)) == 5
    assert as_step(HIGHEST_STEP) == HIGHEST_STEP
    for step in (1.0, "1", True, None, HIGHEST_STEP + 1):
        with pytest.raises(wb.BadInput, match="step"):
            as_step(step)


def test_a_column_has_one_dimension_of_numbers() -> None:
    assert as_column("steps", [1, 2], np.int64).dtype == np.int64
    assert as_column("m", [1, 2.5], np.float64).tolist() == [1, 2.5]
    for values, kind in (
        ([1.5], np.int64),
        ([[1]], np.float64),
        (["x"], np.float64),
        (np.array([2**63], np.uint64), np.int64),
    ):
        with pytest.raises(wb.BadInput, match="steps"):
            as_column("steps", values, kind)
