"""Views that several jobs draw."""

from __future__ import annotations

import math

import pytest

from adapters.vlm_quantization.views import card, number, seeds_view


def test_metrics_over_seeds_have_a_mean_and_its_interval() -> None:
    view = seeds_view({0: {"mAP": 0.5, "R@1": 1.0}, 3: {"mAP": 0.7}}, ["mAP", "R@1"])
    assert view.title == "Over 2 seeds"
    (row,) = view.data["rows"]  # the other metric was measured once only
    assert (row["name"], row["note"]) == ("mAP", "0.500, 0.700")
    assert row["value"] == pytest.approx(0.6)
    assert row["value"] - row["low"] == pytest.approx(row["high"] - row["value"])
    assert "0, 3" in view.notes[0]


def test_facts_are_a_table_of_two_columns() -> None:
    view = card([("Run", 7)], "Run card", ("What", "Value"))
    assert [column["label"] for column in view.data["columns"]] == ["What", "Value"]
    assert view.data["rows"] == [{"name": "Run", "value": 7}]


def test_json_has_no_nan() -> None:
    assert number(math.nan) is None
    assert number(0.5) == 0.5
