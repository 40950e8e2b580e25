"""Comparing runs: what differs, what is best, and what is not guessed."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

import workbench as wb
from workbench.compare import (
    MISSING,
    Comparison,
    RunRecord,
    best_marks,
    config_rows,
    final_rows,
    flatten,
    groups,
    number_text,
)


def record(number: int, config: dict[str, Any] | None = None, **last: float | None) -> RunRecord:
    summary = {name: {"last": value, "min": 0.0, "max": 9.0, "best": 9.0} for name, value in last.items()}
    return RunRecord(number, f"run {number}", "tries", "succeeded", config or {}, summary)


@pytest.mark.parametrize(
    ("values", "better", "marked"),
    [
        ((0.1, 0.3, 0.2), "higher", (False, True, False)),
        ((0.1, 0.3, 0.2), "lower", (True, False, False)),
        ((0.1, 0.3, 0.2), None, (False, False, False)),
        ((0.3, None, 0.2), "higher", (True, False, False)),
        ((0.3, math.nan, 0.2), "higher", (True, False, False)),
        ((0.3, 0.3, 0.2), "higher", (True, True, False)),  # a tie is shared, not broken
        ((0.3, 0.3), "higher", (False, False)),  # nobody is better than anybody
        ((0.3, None), "higher", (False, False)),  # one value is no comparison
        ((math.inf, 1.0), "lower", (False, True)),
        ((), "higher", ()),
    ],
)
def test_the_best_is_marked_by_the_declared_direction(
    values: tuple[float | None, ...], better: Any, marked: tuple[bool, ...]
) -> None:
    assert best_marks(values, better) == marked


def test_a_direction_that_is_none_of_the_two_is_refused() -> None:
    with pytest.raises(wb.BadInput, match="'up'"):
        best_marks((1.0, 2.0), "up")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (0.43, ".3f", "0.430"),
        (-0.5, ".1f", "−0.5"),
        (0.00004, ".3f", "4e−05"),
        (0.0, ".3f", "0.000"),
        (math.nan, ".3f", "NaN"),
        (-math.inf, ".3f", "−∞"),
        (0.125, ".1%", "12.5%"),
    ],
)
def test_numbers_are_written_so_that_nothing_small_looks_like_zero(
    value: float, spec: str, text: str
) -> None:
    assert number_text(value, spec) == text


def test_a_format_that_is_none_says_so() -> None:
    with pytest.raises(wb.BadInput, match="'%d'"):
        number_text(1.0, "%d")


def test_nested_settings_become_dotted_paths_that_never_collide() -> None:
    flat = flatten({"optim": {"lr": 1e-3, "betas": [0.9, 0.99]}, "a": {"b": 1}, "a.b": 2, "empty": {}})
    assert flat == {"optim.lr": 1e-3, "optim.betas": [0.9, 0.99], "a.b": 1, '"a.b"': 2, "empty": {}}


def test_settings_differ_by_value_and_by_kind_and_by_being_there() -> None:
    rows = {
        row.key: row
        for row in config_rows(
            [
                {"same": 1, "number": 1, "flag": 1, "gone": None, "list": [1, {"x": 2}], "nan": math.nan},
                {"same": 1, "number": 1.0, "flag": True, "list": (1, {"x": 2}), "nan": math.nan},
            ]
        )
    }
    assert {key for key, row in rows.items() if row.differs} == {"flag", "gone"}
    assert rows["gone"].values == (None, MISSING)
    assert rows["gone"].texts == ("null", "–")
    assert rows["flag"].odd == (False, True)


@pytest.mark.parametrize(
    ("values", "baseline", "odd"),
    [
        ((1, 1, 2), None, (False, False, True)),
        ((2, 1, 1), None, (True, False, False)),  # the first may be the odd one
        ((1, 1, 2, 2), None, (False,) * 4),  # no majority, nobody is odd
        ((1, 2, 3), None, (False,) * 3),
        ((1, 1, 2, 3), None, (False, False, True, True)),
        ((1, 2), None, (False, True)),
        ((1, 1, 2), 2, (True, True, False)),  # a pinned baseline is never the odd one
        ((None, None, MISSING), None, (False, False, True)),  # null is a value, and missing is none
        ((1, True, 1.0), None, (False, True, False)),
    ],
)
def test_the_odd_one_out_is_marked(
    values: tuple[Any, ...], baseline: int | None, odd: tuple[bool, ...]
) -> None:
    configs = [{} if value is MISSING else {"key": value} for value in values]
    assert config_rows(configs, baseline=baseline)[0].odd == odd


def test_runs_that_are_the_same_but_for_a_setting_are_one_group() -> None:
    configs = [
        {"seed": 1, "optim": {"lr": 1}},
        {"seed": 2, "optim": {"lr": 1}},
        {"seed": 1, "optim": {"lr": 2}},
        {"optim": {"lr": 1}},
    ]
    assert groups(configs, ["seed"]) == [[0, 1, 3], [2]]
    assert groups(configs, ["seed", "optim"]) == [[0, 1, 2, 3]]
    assert groups(configs, ["opt"]) == [[0], [1], [2], [3]]


def test_only_differences_leaves_out_what_is_the_same() -> None:
    rows = config_rows([{"a": 1, "b": 1}, {"a": 1, "b": 2}], only_differences=True)
    assert [row.key for row in rows] == ["b"]


def test_a_metric_takes_direction_and_format_from_its_own_entry_before_a_pattern() -> None:
    metrics = [wb.Metric("val/*", "higher", ".1f"), wb.Metric("val/loss", "lower", ".2f", "cross-entropy")]
    runs = [record(1, **{"val/loss": 1.0, "val/mAP": 0.5}), record(2, **{"val/loss": 2.0, "val/mAP": 0.25})]
    loss, precision = final_rows([run.summary for run in runs], metrics)
    assert (loss.name, loss.texts, loss.best) == ("val/loss", ("1.00", "2.00"), (True, False))
    assert loss.description == "cross-entropy"
    assert (precision.better, precision.texts) == ("higher", ("0.5", "0.2"))
    assert precision.deltas == ("", "−0.2")


def test_without_adapters_the_direction_is_what_the_runs_declared_if_they_agree() -> None:
    def summary(value: float, better: str | None) -> dict[str, dict[str, Any]]:
        return {"x": {"last": value, "better": better}}

    assert final_rows([summary(1, "lower"), summary(2, None)])[0].best == (True, False)
    assert final_rows([summary(1, "lower"), summary(2, "higher")])[0].best == (False, False)


def test_a_missing_value_is_a_dash_and_has_no_difference() -> None:
    row = Comparison([record(1, loss=0.5), record(2)], [wb.Metric("loss", "lower")]).final[0]
    assert row.texts == ("0.500", "–")
    assert row.deltas == ("", "")


def test_metrics_stand_in_the_order_of_what_they_were_measured_on() -> None:
    names = ["train/a", "zeta", "val/m@10", "val/m@2", "test/a", "alpha", "val/up", "values/a"]
    rows = final_rows(
        [{name: {"last": 1.0} for name in names}], [wb.Metric("val/up", "higher"), wb.Metric("zeta", "lower")]
    )
    assert [row.name for row in rows] == [
        "val/up", "val/m@2", "val/m@10", "test/a", "train/a", "zeta", "alpha", "values/a"
    ]  # fmt: skip


def test_a_direction_can_be_given_instead_of_the_declared_one() -> None:
    runs = [record(1, loss=1.0, speed=1.0), record(2, loss=2.0, speed=2.0)]
    declared = [wb.Metric("loss", "lower")]
    turned = Comparison(runs, declared, better={"loss": "higher", "sp*": "lower"})
    assert {row.name: row.best for row in turned.final} == {"loss": (False, True), "speed": (True, False)}
    assert Comparison(runs, declared, better={"loss": None}).final[0].best == (False, False)


def test_the_best_of_a_run_follows_the_direction_in_force() -> None:
    row = final_rows(
        [{"x": {"best": 1.0, "min": 1.0, "max": 3.0}}], statistic="best", better={"x": "higher"}
    )[0]
    assert row.values == (3.0,)


def test_a_last_value_that_was_no_number_is_not_a_missing_one() -> None:
    row = final_rows([{"x": {"last": None, "count": 3}}, {}, {"x": {"last": 1.0, "count": 1}}])[0]
    assert row.texts == ("NaN", "–", "1")


def test_a_pinned_baseline_is_what_others_are_held_against() -> None:
    runs = [record(7, {"a": 1}, x=1.0), record(8, {"a": 1}, x=3.0), record(9, {"a": 2}, x=2.0)]
    pinned = Comparison(runs, baseline=9)
    assert pinned.final[0].deltas == ("−1", "+1", "")
    assert pinned.config[0].odd == (True, True, False)
    assert pinned.to_json()["baseline"] == 9
    with pytest.raises(wb.BadInput, match="baseline 3 is not among the compared runs: 7, 8, 9"):
        Comparison(runs, baseline=3)


def test_what_has_no_direction_stands_last_and_is_never_crowned() -> None:
    rows = Comparison(
        [record(1, speed=1.0, loss=2.0), record(2, speed=9.0, loss=1.0)], [wb.Metric("loss", "lower")]
    ).final
    assert [row.name for row in rows] == ["loss", "speed"]
    assert rows[1].best == (False, False)


def test_the_plain_form_is_json_even_where_values_are_not() -> None:
    plain = Comparison([record(1, x=math.nan), record(2, x=1.0)]).to_json()
    assert plain["final"][0]["values"] == [None, 1.0]
    assert plain["final"][0]["texts"] == ["NaN", "1"]
    assert [run["id"] for run in plain["runs"]] == [1, 2]


@pytest.mark.parametrize(
    ("runs", "statistic", "said"),
    [
        ([], "last", "no run"),
        ([1, 1], "last", "run 1 is named more than once"),
        ([1], "mean", "'mean'; allowed: last"),
    ],
)
def test_what_cannot_be_compared_is_refused(runs: list[int], statistic: str, said: str) -> None:
    with pytest.raises(wb.BadInput, match=said):
        Comparison([record(number, x=1.0) for number in runs], statistic=statistic)


def test_an_open_run_is_as_good_as_a_record(workspace: wb.Workspace) -> None:
    for value in (0.5, 0.25):
        with workspace.start_run("tries", config={"lr": value}, better={"loss": "lower"}) as run:
            run.log({"loss": value}, step=1)
    comparison = workspace.compare([1, 2])
    assert comparison.final[0].best == (False, True)
    assert [row.key for row in comparison.differences] == ["lr"]


def test_a_comparison_says_what_it_is() -> None:
    runs = [SimpleNamespace(id=1, name="a", experiment="e", status="running", config={}, summary={})]
    assert repr(Comparison(runs)) == "<Comparison of 1 'a': 0 metrics, 0 settings differ>"
