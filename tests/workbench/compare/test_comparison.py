"""Comparing runs: what differs, what is best, and what is not guessed."""

from __future__ import annotations

import dataclasses
import math
from collections import UserDict
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.compare import (
    MISSING,
    Comparison,
    RunSnapshot,
    best_marks,
    cell_number,
    config_rows,
    declared,
    delta_text,
    final_rows,
    flatten,
    groups,
    number_text,
    setting_text,
)


def record(number: int, config: dict[str, Any] | None = None, **last: float | None) -> RunSnapshot:
    summary = {name: {"last": value, "min": 0.0, "max": 9.0, "best": 9.0} for name, value in last.items()}
    return RunSnapshot(number, f"run {number}", "tries", "succeeded", config or {}, summary)


@pytest.mark.parametrize(
    ("values", "better", "marked"),
    [
        ((0.1, 0.3, 0.2), "higher", (False, True, False)),
        ((0.1, 0.3, 0.2), "lower", (True, False, False)),
        ((0.1, 0.3, 0.2), None, (False, False, False)),
        ((0.3, None, 0.2), "higher", (True, False, False)),
        ((0.3, math.nan, 0.2), "higher", (True, False, False)),
        ((math.nan, 0.3, 0.2), "higher", (False, True, False)),
        ((0.3, 0.3, 0.2), "higher", (True, True, False)),  # a tie is shared, not broken
        ((0.3, 0.3), "higher", (False, False)),  # nobody is better than anybody
        ((0.3, None), "higher", (False, False)),  # one value is no comparison
        ((math.inf, 1.0), "lower", (False, True)),
        ((math.inf, 1.0), "higher", (True, False)),
        ((math.nan, None, math.nan), "higher", (False,) * 3),
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
        (-0.00004, ".3f", "−4e−05"),
        (0.00004, "+.3f", "4e−05"),
        (0.0, ".3f", "0.000"),
        (math.nan, ".3f", "NaN"),
        (math.inf, ".3f", "∞"),
        (-math.inf, ".3f", "−∞"),
        (0.125, ".1%", "12.5%"),
        (0.0004, ".1%", "0.0004"),
    ],
)
def test_numbers_are_written_so_that_nothing_small_looks_like_zero(
    value: float, spec: str, text: str
) -> None:
    assert number_text(value, spec) == text


def test_a_number_without_a_format_of_its_own_has_three_decimals() -> None:
    assert number_text(0.5) == "0.500"


def test_a_format_that_is_none_says_so() -> None:
    with pytest.raises(wb.BadInput, match="'%d'"):
        number_text(1.0, "%d")


@pytest.mark.parametrize(
    ("value", "base", "text"),
    [
        (0.75, 0.5, "+0.250"),
        (0.5, 0.75, "−0.250"),
        (0.5, 0.5, "±0.000"),
        (1.5e308, 1.5e308, "±0.000"),  # their sum and product overflow
        (0.50001, 0.5, "+1e−05"),  # too small for the format, and not the same
        (None, 0.5, ""),
        (0.5, None, ""),
        (math.nan, 0.5, ""),
        (math.inf, 0.5, ""),
    ],
)
def test_a_difference_is_written_with_its_sign(value: float | None, base: float | None, text: str) -> None:
    assert delta_text(value, base, ".3f") == text


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (3, 3.0),
        (0.5, 0.5),
        ({"value": 0.5, "low": 0.25, "high": 0.75}, 0.5),
        (math.inf, math.inf),
        (math.nan, None),
        (True, None),
        ("0.5", None),
        (None, None),
        ({"low": 0.25}, None),
        ({"value": math.nan}, None),
    ],
)
def test_a_cell_holds_a_number_alone_or_with_its_bounds(cell: Any, number: float | None) -> None:
    assert cell_number(cell) == number


def test_nested_settings_become_dotted_paths_that_never_collide() -> None:
    flat = flatten({"optim": {"lr": 1e-3, "betas": [0.9, 0.99]}, "a": {"b": 1}, "a.b": 2, "empty": {}})
    assert flat == {"optim.lr": 1e-3, "optim.betas": [0.9, 0.99], "a.b": 1, '"a.b"': 2, "empty": {}}
    assert flatten({"단계": {"층.1": 1, 0.5: 2, 3: 4}}) == {'단계."층.1"': 1, '단계."0.5"': 2, "단계.3": 4}
    assert flatten({"optim": UserDict({"lr": 1})}) == {"optim.lr": 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("adam", "adam"),
        ("", '""'),
        (True, "true"),
        (None, "null"),
        (3, "3"),
        (1e-3, "0.001"),
        (math.inf, "Infinity"),
        (["개", 1, None], '["개", 1, null]'),
        (PurePosixPath("/data"), '"/data"'),
        (MISSING, "–"),
    ],
)
def test_settings_are_written_as_json_and_texts_bare(value: Any, text: str) -> None:
    assert setting_text(value) == text


def test_what_is_missing_is_a_dash_and_no_value() -> None:
    assert not MISSING
    assert repr(MISSING) == "–"


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
    assert rows["same"].odd == (False, False)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (math.nan, float("nan"), True),
        (np.float64("nan"), math.nan, True),
        (np.float64("nan"), None, False),
        (math.nan, None, False),
        (True, False, False),
        (np.float64(0.5), 0.5, True),
        ([math.nan], [float("nan")], True),
        ([1, [2]], (1, (2,)), True),
        ([1], [True], False),
        ([], {}, False),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}], True),
        ([{"a": 1}], [{"a": True}], False),
        ([{1: "x"}], [{"1": "x"}], True),  # as JSON has it
        ({1}, {1}, True),
        ({1}, {2}, False),
    ],
)
def test_two_settings_are_the_same_where_people_would_say_so(one: Any, other: Any, same: bool) -> None:
    (row,) = config_rows([{"key": one}, {"key": other}])
    assert row.differs is not same


@pytest.mark.parametrize(
    ("values", "baseline", "odd"),
    [
        ((1, 1, 2), None, (False, False, True)),
        ((2, 1, 1), None, (True, False, False)),  # the first may be the odd one
        ((1, 1, 2, 2), None, (False,) * 4),  # no majority, nobody is odd
        ((1, 2, 3), None, (False,) * 3),
        ((1, 1, 2, 3), None, (False, False, True, True)),  # half of the runs are enough
        ((1, 1, 2, 3, 4), None, (False,) * 5),  # and fewer are not
        ((1, 1, 1, 2, 3, 4), None, (False, False, False, True, True, True)),
        ((1, 1, 1, 2, 2, 2), None, (False,) * 6),  # two halves
        ((1, 1, 1, 2, 3, 4, 5), None, (False,) * 7),
        ((1,), None, (False,)),
        ((1, 2), None, (False, True)),
        ((1, 2), 1, (True, False)),
        ((1, 1, 2), 2, (True, True, False)),  # a pinned baseline is never the odd one
        ((1, 2, 2), 0, (False, True, True)),
        ((None, None, MISSING), None, (False, False, True)),  # null is a value, and missing is none
        ((1, True, 1.0), None, (False, True, False)),
        ((1, True, "a", 0.5, None), 0, (False, True, True, True, True)),
        ((math.nan, 1.0, float("nan")), None, (False, True, False)),
    ],
)
def test_the_odd_one_out_is_marked(
    values: tuple[Any, ...], baseline: int | None, odd: tuple[bool, ...]
) -> None:
    configs = [{} if value is MISSING else {"key": value} for value in values]
    (row,) = config_rows(configs) if baseline is None else config_rows(configs, baseline=baseline)
    assert row.odd == odd


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
    assert groups([{"seed": 1}, {"seed": True}, {"seed": 1}], []) == [[0, 2], [1]]


def test_settings_stand_in_the_order_of_their_paths() -> None:
    rows = config_rows([{"b": 1, "a": {"z": 1, "y": 2}}, {"d": 1, "c": 2}])
    assert [row.key for row in rows] == ["a.y", "a.z", "b", "c", "d"]
    assert config_rows([{}, {}]) == []


def test_only_differences_leaves_out_what_is_the_same() -> None:
    rows = config_rows([{"a": 1, "b": 1}, {"a": 1, "b": 2}], only_differences=True)
    assert [row.key for row in rows] == ["b"]


def test_a_metric_takes_direction_and_format_from_its_own_entry_before_a_pattern() -> None:
    metrics = [wb.Metric("val/*", "higher", ".1f"), wb.Metric("val/loss", "lower", ".2f", "cross-entropy")]
    runs = [record(1, **{"val/loss": 1.0, "val/mAP": 0.5}), record(2, **{"val/loss": 2.0, "val/mAP": 0.25})]
    loss, precision = final_rows([run.summary for run in runs], [metrics, metrics])
    assert (loss.name, loss.texts, loss.best) == ("val/loss", ("1.00", "2.00"), (True, False))
    assert loss.description == "cross-entropy"
    assert (precision.better, precision.texts) == ("higher", ("0.5", "0.2"))
    assert precision.deltas == ("", "−0.2")
    assert precision.description == ""


def test_the_first_pattern_that_fits_declares_a_metric() -> None:
    metrics = [wb.Metric("val/m*", "higher"), wb.Metric("val/*", "lower")]
    found = [declared(name, metrics) for name in ("val/mAP", "val/loss", "VAL/mAP")]
    assert [one and one.better for one in found] == ["higher", "lower", None]


def test_without_adapters_the_direction_is_what_the_runs_declared_if_they_agree() -> None:
    def summary(value: float, better: str | None) -> dict[str, dict[str, Any]]:
        return {"x": {"last": value, "better": better}}

    assert final_rows([summary(1, "lower"), summary(2, None)])[0].best == (True, False)
    assert final_rows([summary(1, "lower"), summary(2, "higher")])[0].best == (False, False)
    assert final_rows([summary(1, "higher"), summary(2, None)])[0].best == (False, True)
    assert final_rows([summary(1, "downhill"), summary(2, None)])[0].better is None


LOWER = wb.Metric("train/*", "lower", ".1f", "an adapter's word")


def scored(better: str | None, **last: float) -> dict[str, dict[str, Any]]:
    """A run's summary, with the direction that the run itself declares."""
    return {name.replace("__", "/"): {"last": value, "better": better} for name, value in last.items()}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_word_of_an_adapter_does_not_hold_for_the_runs_of_others(position: int) -> None:
    """A listed run of an adapter turned the direction of a run's own metric."""
    summaries = [scored("higher", train__acc=0.2), scored("higher", train__acc=0.9)]
    families: list[list[wb.Metric]] = [[], []]
    summaries.insert(position, scored(None, train__loss=2.0))
    families.insert(position, [LOWER])
    rows = {row.name: row for row in final_rows(summaries, families)}
    acc = rows["train/acc"]
    winner = next(place for place, value in enumerate(acc.values) if value == 0.9)
    assert (acc.better, acc.best.index(True), acc.description) == ("higher", winner, "")
    assert (rows["train/loss"].better, rows["train/loss"].description) == ("lower", "an adapter's word")


def test_a_metric_that_nobody_declares_has_no_direction_beside_a_run_of_an_adapter() -> None:
    summaries = [scored(None, train__norm=1.0), scored(None, train__norm=2.0), scored(None, train__loss=1.0)]
    norm = next(row for row in final_rows(summaries, [[], [], [LOWER]]) if row.name == "train/norm")
    assert (norm.better, norm.best) == (None, (False, False, False))


def test_the_word_of_a_run_comes_before_that_of_its_adapter() -> None:
    summaries = [scored("higher", train__acc=0.2), scored("higher", train__acc=0.9)]
    (row,) = final_rows(summaries, [[LOWER], [LOWER]])
    assert (row.better, row.best, row.format) == ("higher", (False, True), ".1f")


def test_where_two_adapters_disagree_nobody_wins() -> None:
    summaries = [scored(None, train__x=0.2), scored(None, train__x=0.9)]
    (row,) = final_rows(summaries, [[LOWER], [wb.Metric("train/x", "higher")]])
    assert (row.better, row.best) == (None, (False, False))
    (row,) = final_rows(summaries, [[LOWER], []])  # the other says nothing
    assert (row.better, row.best) == ("lower", (True, False))


def test_names_with_brackets_are_names_and_fit_patterns() -> None:
    summaries = [{"f1[macro]": {"last": 1.0}}, {"f1[macro]": {"last": 2.0}}]
    for pattern in ("f1[macro]", "f1[*]", "f1*", "f[0-9][[]macro]"):
        (row,) = final_rows(summaries, [[wb.Metric(pattern, "higher")]] * 2)
        assert row.best == (False, True), pattern
        (row,) = final_rows(summaries, better={pattern: "lower"})
        assert row.best == (True, False), pattern
    assert final_rows(summaries, better={"f1[micro]": "lower"})[0].better is None


def test_a_missing_value_is_a_dash_and_has_no_difference() -> None:
    row = Comparison([record(1, loss=0.5), record(2)], {1: [wb.Metric("loss", "lower")]}).final[0]
    assert row.texts == ("0.500", "–")
    assert row.deltas == ("", "")


def test_metrics_stand_in_the_order_of_what_they_were_measured_on() -> None:
    names = ["train/a", "zeta", "val/m@10", "val/m@2", "test/a", "alpha", "val/up", "values/a", "val"]
    declared = [wb.Metric("val/up", "higher"), wb.Metric("zeta", "lower")]
    rows = final_rows([{name: {"last": 1.0} for name in names}], [declared])
    assert [row.name for row in rows] == [
        "val/up", "val/m@2", "val/m@10", "test/a", "train/a", "zeta", "alpha", "val", "values/a"
    ]  # fmt: skip


def test_a_direction_can_be_given_instead_of_the_declared_one() -> None:
    runs = [record(1, loss=1.0, speed=1.0), record(2, loss=2.0, speed=2.0)]
    declared = {number: [wb.Metric("loss", "lower")] for number in (1, 2)}
    turned = Comparison(runs, declared, better={"loss": "higher", "sp*": "lower"})
    assert {row.name: row.best for row in turned.final} == {"loss": (False, True), "speed": (True, False)}
    assert Comparison(runs, declared, better={"loss": None}).final[0].best == (False, False)
    both = Comparison(runs, better={"*s*": "lower", "lo*": "higher", "loss": "higher"})
    assert {row.name: row.better for row in both.final} == {"loss": "higher", "speed": "lower"}


@pytest.mark.parametrize(
    ("statistic", "better", "value"),
    [
        ("last", None, 2.0),
        ("min", None, 1.0),
        ("max", None, 3.0),
        ("best", None, 1.5),
        ("best", "higher", 3.0),  # of the direction in force, whichever the run was logged with
        ("best", "lower", 1.0),
    ],
)
def test_the_statistic_says_which_number_of_a_run_counts(statistic: str, better: Any, value: float) -> None:
    summary = {"x": {"last": 2.0, "best": 1.5, "min": 1.0, "max": 3.0}}
    (row,) = final_rows([summary], statistic=statistic, better={"x": better})
    assert row.values == (value,)


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_the_best_of_a_run_that_tells_no_extremes_is_what_it_calls_its_best(better: Any) -> None:
    (row,) = final_rows([{"x": {"best": 1.5}}], statistic="best", better={"x": better})
    assert row.values == (1.5,)


@pytest.mark.parametrize(
    ("statistic", "texts"),
    [("last", ("NaN", "–", "–", "1")), ("min", ("–", "–", "–", "0")), ("best", ("–",) * 4)],
)
def test_a_last_value_that_was_no_number_is_not_a_missing_one(statistic: str, texts: tuple[str, ...]) -> None:
    entries = [
        {"last": None, "count": 3},
        {"last": None, "count": 0},
        None,
        {"last": 1.0, "min": 0.0, "count": 2},
    ]
    (row,) = final_rows([{"x": entry} if entry else {} for entry in entries], statistic=statistic)
    assert row.texts == texts


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((3.0, -20.0), ("3", "−20")),
        ((3.0, 0.5), ("3.000", "0.500")),
        ((999.5, -1.0), ("999.500", "−1.000")),
        ((-1000.5, 1.0), ("−1e+03", "1")),  # no more than three digits of anything so large
        ((1000.0, 0.5), ("1e+03", "0.5")),
        ((0.01, 0.001), ("0.010", "0.001")),
        ((0.0099, 0.001), ("0.0099", "0.001")),
        ((0.5, None, math.nan, math.inf), ("0.500", "–", "NaN", "∞")),
        ((math.nan, None), ("NaN", "–")),
    ],
)
def test_numbers_of_a_metric_that_nobody_declared_stand_in_one_format(
    values: tuple[float | None, ...], texts: tuple[str, ...]
) -> None:
    runs = [record(number, x=value) for number, value in enumerate(values)]
    assert Comparison(runs).final[0].texts == texts


def test_a_pinned_baseline_is_what_others_are_held_against() -> None:
    runs = [record(7, {"a": 1}, x=1.0), record(8, {"a": 1}, x=3.0), record(9, {"a": 2}, x=2.0)]
    pinned = Comparison(runs, baseline=9)
    assert pinned.final[0].deltas == ("−1", "+1", "")
    assert pinned.config[0].odd == (True, True, False)
    assert pinned.to_json()["baseline"] == 9
    with pytest.raises(wb.BadInput, match="baseline 3 is not among the compared runs: 7, 8, 9"):
        Comparison(runs, baseline=3)


def test_the_first_run_is_the_odd_one_until_it_is_pinned() -> None:
    runs = [record(7, {"a": 2}, x=1.0), record(8, {"a": 1}, x=3.0), record(9, {"a": 1}, x=2.0)]
    assert Comparison(runs).config[0].odd == (True, False, False)
    assert Comparison(runs, baseline=7).config[0].odd == (False, True, True)
    assert (
        Comparison(runs).final[0].deltas == Comparison(runs, baseline=7).final[0].deltas == ("", "+2", "+1")
    )


def test_what_has_no_direction_stands_last_and_is_never_crowned() -> None:
    rows = Comparison(
        [record(1, speed=1.0, loss=2.0), record(2, speed=9.0, loss=1.0)], {2: [wb.Metric("loss", "lower")]}
    ).final
    assert [row.name for row in rows] == ["loss", "speed"]
    assert rows[1].best == (False, False)


def test_the_plain_form_is_json_even_where_values_are_not() -> None:
    runs = [record(1, {"lr": 0.5}, x=math.nan), record(2, x=1.0), record(3), record(4, x=math.inf)]
    metrics = {3: [wb.Metric("x", "lower", ".2f")], 4: [wb.Metric("x", "lower", ".1f", "what x says")]}
    assert Comparison(runs, metrics, statistic="last", baseline=2).to_json() == {
        "statistic": "last",
        "baseline": 2,
        "runs": [
            {"id": number, "name": f"run {number}", "experiment": "tries", "status": "succeeded"}
            for number in (1, 2, 3, 4)
        ],
        "config": [
            {
                "key": "lr",
                "values": ["0.5", "–", "–", "–"],
                "differs": True,
                "odd": [True, False, False, False],
            }
        ],
        "final": [
            {
                "name": "x",
                "better": "lower",
                "description": "what x says",
                "values": [None, 1.0, None, None],
                "texts": ["NaN", "1.0", "–", "∞"],
                "deltas": ["", "", "", ""],
                "best": [False, True, False, False],
            }
        ],
    }


@pytest.mark.parametrize(
    ("runs", "statistic", "said"),
    [
        ([], "last", "no run"),
        ([1, 1], "last", r"runs must be unique; repeated: 1\n"),
        ([2, 3, 2, 1, 1], "last", r"runs must be unique; repeated: 1, 2\n"),
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


def test_what_was_compared_does_not_change_afterwards() -> None:
    comparison = Comparison([record(1, {"a": 1}, x=1.0), record(2, {"a": 2}, x=2.0)])
    for one in (comparison.runs[0], comparison.config[0], comparison.final[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, dataclasses.fields(one)[0].name, "another")
