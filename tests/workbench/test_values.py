"""What may be logged: numbers, steps, columns and settings, and what each becomes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.values import HIGHEST_STEP, MOST_NESTED, as_column, as_number, as_step, plain


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


def nested(levels: int, *, kind: type = dict) -> Any:
    """Return that many dictionaries, or lists, one in the other."""
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if kind is dict else kind([value])
    return value


@pytest.mark.parametrize("kind", [dict, list, tuple])
def test_how_deep_a_value_may_be_nested_is_the_same_on_every_interpreter(kind: type) -> None:
    deepest = nested(MOST_NESTED, kind=kind)
    assert json.loads(json.dumps(plain(deepest, "config"))) == json.loads(json.dumps(deepest))
    for levels in (MOST_NESTED + 1, 700, 50_000):
        with pytest.raises(wb.BadInput, match=f"^config: .* nested at most {MOST_NESTED} levels"):
            plain(nested(levels, kind=kind), "config")


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(wb.BadInput, match="nested at most"):
        plain(value, "options")


def test_a_run_with_such_a_config_is_not_begun(workspace: wb.Workspace) -> None:
    with pytest.raises(wb.BadInput, match="nested at most"):
        workspace.start_run("e", config=nested(700))
    assert workspace.runs() == []
