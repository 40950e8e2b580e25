"""Results beside each other: what pairs, what differs, what is real."""

from __future__ import annotations

import base64
import dataclasses
import math
import random
import re
from typing import Any

import numpy as np
import pytest

import workbench as wb
from workbench.compare.results import NamedResult, ResultsComparison
from workbench.panels.results.show import render_html


def result(shift: float = 0.0, *, ids: list[str] | None = None, seed: int = 1, **more: Any) -> wb.Result:
    ids = ids or [f"q{number}" for number in range(400)]
    noise = np.random.default_rng(seed).normal(0, 0.3, len(ids))
    hard = np.random.default_rng(9).random(len(ids))  # hard questions are hard for both
    scores = hard + shift + noise * 0.1
    return wb.Result(
        metrics={"mAP": float(scores.mean()), "size": 3.0},
        samples=[wb.Samples(ids=ids, scores={"mAP": scores})],
        **more,
    )


def compared(*results: wb.Result, **how: Any) -> ResultsComparison:
    named = [NamedResult(number, f"#{number}", one) for number, one in enumerate(results, 1)]
    metrics = [wb.Metric("mAP", "higher", description="mean <b>")]
    return ResultsComparison(named, {one.id: metrics for one in named}, **how)


def row(comparison: ResultsComparison, name: str) -> Any:
    return next(row for row in comparison.rows if row.final.name == name)


def test_a_difference_on_the_same_questions_is_seen_through_how_hard_they_are() -> None:
    comparison = compared(result(), result(0.02, seed=2), result(seed=3))
    mean = row(comparison, "mAP")
    assert mean.verdicts == ("", "real", "within noise")
    interval = mean.intervals[1]
    assert interval.low < 0.02 < interval.high
    assert interval.pairs == 400
    # unpaired, this difference would drown: the spread among questions is fifteen times as large
    assert interval.high - interval.low < 0.02
    assert "1 real difference" in repr(comparison)
    assert mean.interval_texts[:2] == ("", f"+{interval.low:.3f} to +{interval.high:.3f}")
    assert row(comparison, "size").intervals == (None, None, None)
    assert row(comparison, "size").final.deltas == ("", "±0", "±0")
    assert row(comparison, "size").verdicts == row(comparison, "size").interval_texts == ("", "", "")


def test_the_baseline_can_be_another_one_and_its_differences_turn_round() -> None:
    there = row(compared(result(), result(0.02, seed=2)), "mAP")
    back = row(compared(result(), result(0.02, seed=2), baseline=2), "mAP")
    assert back.intervals[1] is None
    assert back.intervals[0].difference == pytest.approx(-there.intervals[1].difference)
    assert back.final.base == 1


def test_questions_pair_by_id_whatever_their_order() -> None:
    ids = [f"q{number}" for number in range(50)]
    mixed = list(range(50))
    random.Random(1).shuffle(mixed)
    scores = [number / 50 for number in range(50)]
    one = wb.Result(samples=[wb.Samples(ids=ids, scores={"m": scores})])
    other = wb.Result(
        samples=[
            wb.Samples(
                ids=[ids[place] for place in mixed], scores={"m": [scores[place] + 0.125 for place in mixed]}
            )
        ]
    )
    interval = row(compared(one, other), "m").intervals[1]
    assert interval.difference == pytest.approx(0.125)
    assert interval.low == pytest.approx(interval.high)
    assert interval.pairs == 50


def shuffled(samples: wb.Samples, seed: int) -> wb.Samples:
    places = list(range(len(samples.ids)))
    random.Random(seed).shuffle(places)
    return wb.Samples(
        ids=[samples.ids[place] for place in places],
        scores={name: [scores[place] for place in places] for name, scores in samples.scores.items()},
    )


def test_the_same_answers_give_the_same_interval_in_whatever_order_they_stand() -> None:
    one, other = result(), result(0.02, seed=2)
    wanted = row(compared(one, other), "mAP").intervals
    mixed = [wb.Result(samples=[shuffled(each.samples[0], seed)]) for seed, each in enumerate((one, other))]
    assert row(compared(*mixed), "mAP").intervals == wanted


def test_the_seed_of_the_bootstrap_can_be_another() -> None:
    one, other = result(), result(0.02, seed=2)
    zero, again, seven = (
        row(compared(one, other, **how), "mAP").intervals for how in ({}, {"seed": 0}, {"seed": 7})
    )
    assert zero == again
    assert zero != seven


def test_questions_that_only_one_answered_are_left_out() -> None:
    one = wb.Result(samples=[wb.Samples(ids=["a", "b", "c"], scores={"m": [1.0, None, 0.0]})])
    other = wb.Result(samples=[wb.Samples(ids=["b", "c", "a", "d"], scores={"m": [1.0, 0.5, 0.5, 9.0]})])
    interval = row(compared(one, other), "m").intervals[1]
    assert interval.pairs == 2
    assert interval.difference == pytest.approx(0.0)
    strangers = wb.Result(samples=[wb.Samples(ids=["x", "y"], scores={"m": [1.0, 2.0]})])
    assert row(compared(one, strangers), "m").intervals == (None, None)


def test_a_result_without_scores_keeps_no_other_from_its_interval() -> None:
    def scored(shift: float) -> wb.Result:
        return wb.Result(samples=[wb.Samples(ids=["a", "b"], scores={"m": [shift, shift + 0.5]})])

    three = [scored(0.0), wb.Result(metrics={"m": 0.5}), scored(0.25)]
    assert [one is not None for one in row(compared(*three), "m").intervals] == [False, False, True]
    assert row(compared(*three, baseline=2), "m").intervals == (None, None, None)
    assert [one and one.difference for one in row(compared(*three, baseline=3), "m").intervals] == [
        -0.25,
        None,
        None,
    ]


def test_scores_without_a_metric_are_compared_by_their_mean() -> None:
    scores = {"m": [0.25, None, 0.75], "n": [None, None, None], "told": [0.0, 0.0, 0.0]}
    one = wb.Result(metrics={"told": 0.5}, samples=[wb.Samples(ids=["a", "b", "c"], scores=scores)])
    values = {one.final.name: one.final.values for one in compared(one).rows}
    assert values == {"m": (0.5,), "told": (0.5,)}  # none of n counts; what the result tells holds


@pytest.mark.parametrize(
    ("column", "kind", "better", "text"),
    [
        ({"better": "lower"}, "retrieval_table", "lower", "0.250"),
        ({"better": "higher", "format": ".1%"}, "retrieval_table", "higher", "25.0%"),
        ({"better": "upwards"}, "retrieval_table", None, "0.250"),
        ({"better": "lower", "key": "*"}, "retrieval_table", None, "0.250"),  # no pattern, only a name
        ({"better": "lower"}, "metrics_table", None, "0.250"),
    ],
)
def test_a_table_declares_the_direction_of_the_metric_its_column_is_called_as(
    column: dict[str, Any], kind: Any, better: str | None, text: str
) -> None:
    view = wb.View(kind=kind, title="t", data={"columns": [{"key": "r", "label": "R", **column}], "rows": []})
    one = wb.Result(
        metrics={"r": 0.25}, views=[wb.View(kind="retrieval_table", title="no columns", data={}), view]
    )
    final = row(compared(one), "r").final
    assert (final.better, final.texts) == (better, (text,))


def test_what_is_declared_or_wished_holds_before_what_a_table_says() -> None:
    column = {"key": "mAP", "label": "mAP", "better": "lower"}
    view = wb.View(kind="retrieval_table", title="t", data={"columns": [column], "rows": []})
    one = wb.Result(metrics={"mAP": 0.25}, views=[view])
    assert row(compared(one), "mAP").final.better == "higher"
    assert row(compared(one, better={"mAP": "lower"}), "mAP").final.better == "lower"


def test_what_was_asked_is_shown_where_it_differs() -> None:
    named = [
        NamedResult(number, "x", wb.Result(), {"k": k, "same": 1}) for number, k in enumerate((5, 10, 10), 1)
    ]

    def odd(**how: Any) -> dict[str, tuple[bool, ...]]:
        return {row.key: row.odd for row in ResultsComparison(named, **how).config}

    assert odd() == {"k": (True, False, False)}
    assert odd(baseline=1) == {"k": (False, True, True)}
    assert ResultsComparison([NamedResult(1, "x", wb.Result())]).config == []


def test_views_of_one_kind_and_title_stand_beside_each_other_in_their_order() -> None:
    def view(title: str, number: int, kind: Any = "curve") -> wb.View:
        return wb.View(kind=kind, title=title, data={"x": [number]})

    a1, a2, a3, b, c = view("a", 1), view("a", 2), view("a", 3), view("b", 4), view("b", 5, "image_grid")
    comparison = compared(wb.Result(views=[a1, b, a2]), wb.Result(views=[c, a3]))
    assert [(group.kind, group.title, group.views) for group in comparison.views] == [
        ("curve", "a", (a1, a3)),
        ("curve", "b", (b, None)),
        ("curve", "a", (a2, None)),
        ("image_grid", "b", (None, c)),
    ]


@pytest.mark.parametrize(
    ("jobs", "how", "said"),
    [
        ([], {}, "no results to compare"),
        ([1, 1], {}, r"jobs must be unique; repeated: 1\n"),
        ([1, 2, 2], {}, r"jobs must be unique; repeated: 2\n"),
        ([1, 2], {"baseline": 7}, "baseline 7 is not among the compared jobs: 1, 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(jobs: list[int], how: dict[str, Any], said: str) -> None:
    named = [NamedResult(number, "x", wb.Result()) for number in jobs]
    with pytest.raises(wb.BadInput, match=said):
        ResultsComparison(named, **how)


TABLE = {
    "columns": [
        {"key": "code", "label": "Code"},
        {"key": "r", "label": "R@1", "better": "higher", "group": "text → image"},
    ],
}


def test_tables_are_laid_beside_each_other_by_the_rows_they_share() -> None:
    rows = [{"code": "8 <i>", "r": 0.1}, {"code": "16", "r": {"value": 0.3, "low": 0.2, "high": 0.4}}]
    one = wb.Result(
        metrics={"r": 0.3},
        views=[wb.View(kind="retrieval_table", title="Codes & more", data={**TABLE, "rows": rows})],
    )
    other = wb.Result(
        metrics={"r": 0.4},
        views=[
            wb.View(
                kind="retrieval_table",
                title="Codes & more",
                data={**TABLE, "rows": [{"code": "16", "r": 0.4}, {"code": "32", "r": 0.5}]},
            )
        ],
    )
    comparison = compared(one, other)
    assert row(comparison, "r").final.better == "higher"  # as the table's own column declares
    html = render_html(comparison)
    cells = [part.split("<")[0] for part in html.split(">")]
    assert "Codes &amp; more" in html
    assert "8 &lt;i&gt;" in html
    assert cells.count("#2") >= 4  # heads, and a line in each of three rows
    assert '<b class="wb-best">0.400</b> <small class="wb-note">+0.100</small>' in html
    assert "text → image R@1 ↑" in html
    assert re.search(r"No interval.*no scores", html)


def test_every_kind_of_view_is_drawn_and_a_missing_one_is_said() -> None:
    curve = {"x_label": "k", "y_label": "r", "x": [1, 2], "series": [{"name": "kept", "y": [0.1, 0.2]}]}
    longer = {**curve, "x": [2, 3], "series": [{"name": "kept", "y": [0.3, 0.4], "dashed": True}]}
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    one = wb.Result(
        views=[
            wb.View(kind="curve", title="Along k", data=curve),
            wb.View(kind="image_grid", title="Seen", data={"items": [{"caption": "개", "image": pixel}]}),
            wb.View(kind="metrics_table", title="Extra", data={"rows": [{"name": "kept", "value": 0.5}]}),
        ]
    )
    other = wb.Result(
        views=[
            wb.View(kind="curve", title="Along k", data=longer),
            wb.View(kind="metrics_table", title="Extra", data={"rows": [{"name": "kept", "value": 0.75}]}),
        ]
    )
    html = render_html(compared(one, other))
    (drawing,) = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", html)
    svg = base64.b64decode(drawing).decode("utf-8")
    assert "#1 · kept" in svg
    assert "#2 · kept" in svg
    assert re.search(r"wb-none[^>]*>#2 ", html)  # instead of the picture
    assert '0.750 <small class="wb-note">+0.250</small>' in html
    assert "개" in html


def test_the_interval_and_what_it_does_not_say_stand_with_the_numbers() -> None:
    html = render_html(compared(result(), result(0.02, seed=2)))
    assert "real</small>" in html
    assert "95% interval" in html
    assert "400 questions" in html
    assert "training seed" in html
    assert "mean &lt;b&gt;" in html


def test_data_that_do_not_fit_their_kind_say_which_view() -> None:
    broken = wb.Result(views=[wb.View(kind="retrieval_table", title="Broken", data={"columns": []})])
    with pytest.raises(wb.BadInput, match="view 'Broken'"):
        render_html(compared(broken))


def test_it_is_plain_json_too() -> None:
    def scored(shift: float, **metrics: float) -> wb.Result:
        samples = wb.Samples(ids=["a", "b"], scores={"mAP": [shift, shift + 0.5]})
        return wb.Result(summary=f"{shift} more", metrics=metrics, samples=[samples])

    named = [
        NamedResult(4, "four", scored(0.0, size=math.nan), {"k": 5, "same": 1}),
        NamedResult(7, "seven", scored(0.25, size=3.0), {"k": 10, "same": 1}),
        NamedResult(9, "nine", wb.Result(), {"k": 10, "same": 1}),
    ]
    comparison = ResultsComparison(named, {4: [wb.Metric("mAP", "higher")]})
    assert comparison.to_json() == {
        "results": [
            {"id": 4, "name": "four", "summary": "0.0 more"},
            {"id": 7, "name": "seven", "summary": "0.25 more"},
            {"id": 9, "name": "nine", "summary": ""},
        ],
        "baseline": 4,
        "level": 0.95,
        "options": [{"key": "k", "values": ["5", "10", "10"], "odd": [True, False, False]}],
        "metrics": [
            {
                "name": "mAP",
                "better": "higher",
                "values": [0.25, 0.5, None],
                "texts": ["0.250", "0.500", "–"],
                "deltas": ["", "+0.250", ""],
                "best": [False, True, False],
                "intervals": [None, {"low": 0.25, "high": 0.25, "pairs": 2, "real": True}, None],
            },
            {
                "name": "size",
                "better": None,
                "values": [None, 3.0, None],
                "texts": ["NaN", "3", "–"],
                "deltas": ["", "", ""],
                "best": [False, False, False],
                "intervals": [None, None, None],
            },
        ],
    }
    said = "<ResultsComparison of 4 'four', 7 'seven', 9 'nine': 2 metrics, 1 real differences>"
    assert repr(comparison) == said
    assert ResultsComparison(named, baseline=9).to_json()["baseline"] == 9


def test_what_was_compared_does_not_change_afterwards() -> None:
    comparison = compared(wb.Result(metrics={"m": 1.0}, views=[wb.View(kind="curve", title="a", data={})]))
    for one in (comparison.results[0], comparison.rows[0], comparison.views[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(one, dataclasses.fields(one)[0].name, "another")
