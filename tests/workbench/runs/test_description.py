"""What a run says of itself when it starts, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.runs.description import check_experiment, check_metric_name, direction_of, flat, new_row

ABSENT: dict[str, Any] = {"tags": None, "notes": "", "seed": None, "better": None}


def test_a_seed_is_taken_from_the_config_where_it_is_one() -> None:
    assert new_row(None, {"seed": np.int64(7)}, None, **ABSENT).seed == 7
    assert new_row(None, {"seed": "often"}, None, **ABSENT).seed is None
    assert new_row(None, {"seed": 7}, None, **{**ABSENT, "seed": 2**80}).seed == 2**80
    with pytest.raises(wb.BadInput, match="often"):
        new_row(None, {}, None, **{**ABSENT, "seed": "often"})


def test_the_first_pattern_that_fits_says_which_way_is_better() -> None:
    row = new_row(" a ", {}, None, **{**ABSENT, "better": {"val/loss": "lower", "val/*": "higher"}})
    assert row.name == "a"
    assert [direction_of(name, row.directions) for name in ("val/loss", "val/mAP", "train/loss")] == [
        "lower",
        "higher",
        None,
    ]
    declared = [wb.Metric("R@*", better="higher"), wb.Metric("seconds")]
    assert new_row("", {}, None, **{**ABSENT, "better": declared}).directions == [["R@*", "higher"]]
    with pytest.raises(wb.BadInput, match="upward"):
        new_row("", {}, None, **{**ABSENT, "better": {"loss": "upward"}})


def test_a_metrics_own_name_comes_before_patterns_and_may_have_brackets() -> None:
    directions = [["f1*", "lower"], ["f1[macro]", "higher"], ["loss[*]", "lower"], ["a*b", "higher"]]
    names = ("f1[macro]", "f1", "f1[micro]", "loss[delta=1.3]", "loss", "aXb", "a*b", "fm")
    assert [direction_of(name, directions) for name in names] == [
        "higher", "lower", "lower", "lower", None, "higher", "higher", None
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "  ", "a\0b", "\ud800", "x" * 251, 5, None])
def test_what_cannot_be_a_metrics_name_is_refused(name: Any) -> None:
    with pytest.raises(wb.BadInput, match="metric name"):
        check_metric_name(name)
    check_metric_name("val/mAP, 강")


def test_an_experiment_needs_a_name() -> None:
    assert check_experiment(" emoji ") == "emoji"
    for name in ("", " ", None, 3):
        with pytest.raises(wb.BadInput, match="experiment"):
            check_experiment(name)


def test_nested_metrics_have_the_names_of_their_groups() -> None:
    nested = {"a": 1, "val": {"mAP": {"t2i": 0.5}, "loss": 2}, "b": 3, "none": {}}
    assert list(flat(nested).items()) == [("a", 1), ("val/mAP/t2i", 0.5), ("val/loss", 2), ("b", 3)]
    with pytest.raises(wb.BadInput, match="'a/b' is given twice"):
        flat({"a/b": 1, "a": {"b": 2}})
    deep: dict[str, Any] = {}
    deep["x"] = deep
    with pytest.raises(wb.BadInput, match="nested at most"):
        flat(deep)
