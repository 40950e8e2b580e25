"""The evaluation report: what was measured, written down as generic views for somebody who sees it first.

It reads from the outside in: the headline and the rules, every number with its interval, what ties could have
done, how the code stands against the float it came from and against codes nobody had to learn, why (the
bits themselves), where it fails (pictures), and what has to be known to make the numbers again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization import baselines, code_health, uncertainty
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluation import FLOAT, FLOAT_QUERY, LEARNED, RESCORED, Task
from adapters.vlm_quantization.evaluator import MetricRecord, precision_recall_curve

#: Recalls at which a precision-recall curve is drawn.
RECALLS = tuple(round(0.05 * step, 2) for step in range(1, 21))

_WORDS = {
    "mAP": "mAP: mean average precision",
    "R": "R@k: share of the relevant items among the first k (true recall)",
    "hit": "hit@k: share of queries with any relevant item among the first k",
    "MedR": "MedR: median rank of the first relevant item",
}


def summary(
    found: Sequence[Task], metrics: Mapping[str, float], ks: Sequence[int], n_runs: int = 1
) -> wb.View:
    """Return the headline with its intervals, and the rules in words."""
    last, part = max(ks), found[0].part
    rows: list[dict[str, Any]] = []
    for direction in dict.fromkeys(task.direction for task in found):
        members = [task for task in found if (task.part, task.direction) == (part, direction)]
        languages = ", ".join(task.language for task in members)
        for name, method, bits in (
            (f"R@{last}", LEARNED, 128),
            (f"R@{last}", LEARNED, 64),
            (f"R@{last}", FLOAT, None),
            ("mAP", LEARNED, 128),
        ):
            row = _headline_row(members, method, bits, name)
            if row:
                length = "float cosine" if bits is None else f"{bits} bits"
                row["name"] = f"{name}, {members[0].arrow}, {length}"
                row["note"] = f"{members[0].split}; mean over {languages}" if len(members) > 1 else languages
                rows.append(row)
        kept = metrics.get(f"{direction}/retention@128")
        if kept is not None:
            rows.append(
                {
                    "name": f"Kept of the float at 128 bits, {members[0].arrow}",
                    "value": kept,
                    "format": ".1%",
                    "note": f"R@{last} of the code over R@{last} of the float cosine",
                }
            )
    first = found[0]
    random_order = min(last, first.gallery_size) / first.gallery_size
    rows.append(
        {
            "name": f"R@{last} by chance",
            "value": random_order,
            "format": ".3f",
            "note": f"gallery of {first.gallery_size:,} in random order",
        }
    )
    return wb.View(kind="metrics_table", title="Summary", data={"rows": rows}, notes=_rules(found))


def _headline_row(members: Sequence[Task], method: str, bits: int | None, name: str) -> dict[str, Any] | None:
    records = [task.record(method, name, bits) for task in members]
    values = [record.value for record in records if record and not math.isnan(record.value)]
    if not values:
        return None
    draws = [one for task in members if (one := task.draws.get((method, bits, name))) is not None]
    row: dict[str, Any] = {"value": float(np.mean(values)), "format": ".3f"}
    if len(draws) == len(values):
        low, high = uncertainty.interval(np.mean(draws, axis=0))
        row |= {"low": number(float(low)), "high": number(float(high))}
    return row


def _rules(found: Sequence[Task]) -> list[str]:
    record = found[0].records[LEARNED][0]
    relevances = ", ".join(dict.fromkeys(task.relevance.words for task in found))
    notes = [
        f"{record.rules.words} Relevant: {relevances}. Source of the rules: {record.rules.source}.",
        "Figures in brackets are 95 % bootstrap intervals over queries; queries about one thing are drawn "
        "together. They say what other queries would give, not what another training run would.",
    ]
    alike: dict[tuple[str, str, str], list[str]] = {}
    for task in found:
        first = task.records[LEARNED][0]
        counts = (
            f"{first.n_queries:,} queries, {first.n_without_relevant:,} of them without a relevant item; "
            f"gallery of {task.gallery_size:,}; split {task.fingerprint[:12]}."
        )
        alike.setdefault((task.split, task.arrow, counts), []).append(task.language)
    notes += [
        f"{split.capitalize()}, {arrow} ({', '.join(languages)}): {counts}"
        for (split, arrow, counts), languages in alike.items()
    ]
    return notes


def retrieval_tables(found: Sequence[Task], ks: Sequence[int]) -> list[wb.View]:
    """Return a table a part: length by direction and language, each value with its interval over queries."""
    out = []
    for split, members in _by_part(found):
        order = ["mAP", "MedR", *(f"R@{k}" for k in ks)]
        if any(_value(task, f"hit@{max(ks)}") != _value(task, f"R@{max(ks)}") for task in members):
            order.append(f"hit@{max(ks)}")  # several relevant items a query: the two kinds of recall differ
        rows = [
            {
                "task": f"{task.arrow}, {task.language}",
                "length": "float cosine" if bits is None else f"{bits} bits",
                **{name: _with_interval(task, method, bits, name) for name in order},
            }
            for task in members
            for method, bits in (*((LEARNED, b) for b in CODE_LENGTHS), (FLOAT, None))
        ]
        words = dict.fromkeys(name.split("@")[0] for name in order)
        out.append(
            wb.View(
                kind="retrieval_table",
                title=f"Retrieval: {split}",
                data={"columns": _columns_of(order), "rows": rows},
                notes=[
                    "Brackets: 95 % interval over queries. Bold: the best of a direction and language.",
                    "; ".join(_WORDS[name] for name in words) + ".",
                ],
            )
        )
    return out


def _columns_of(names: Sequence[str]) -> list[dict[str, Any]]:
    groups = {"mAP": "Whole ranking", "MedR": "First relevant"}
    columns: list[dict[str, Any]] = [
        {"key": "task", "label": "Direction, language"},
        {"key": "length", "label": "Length"},
    ]
    for name in names:
        median = name == "MedR"
        columns.append(
            {
                "key": name,
                "label": name,
                "format": ".1f" if median else ".3f",
                "better": "lower" if median else "higher",
                "group": groups.get(name, "Among the first k"),
            }
        )
    return columns


def _value(task: Task, name: str) -> float:
    record = task.record(LEARNED, name, max(CODE_LENGTHS))
    return math.nan if record is None else record.value


def _with_interval(task: Task, method: str, bits: int | None, name: str) -> dict[str, float | None] | None:
    record = task.record(method, name, bits)
    if record is None or math.isnan(record.value):
        return None
    low, high = task.interval(method, name, bits) or (None, None)
    return {"value": record.value, "low": low, "high": high}


def ties_table(found: Sequence[Task], ks: Sequence[int]) -> wb.View:
    """Return what the order of tied items could have made of the numbers."""
    names = ["mAP", f"R@{min(ks)}", f"R@{max(ks)}"]
    columns: list[dict[str, Any]] = [
        {"key": "split", "label": "Split"},
        {"key": "task", "label": "Direction, language"},
        {"key": "length", "label": "Length"},
        *({"key": n, "label": n, "format": ".3f", "group": "Value (worst – best order)"} for n in names),
        {"key": "first", "label": "rank 1", "format": ".1f", "group": "Items tied at"},
        {"key": "tenth", "label": "rank 10", "format": ".1f", "group": "Items tied at"},
    ]
    rows = []
    for task in found:
        health = code_health.tie_health(task.queries.codes, task.gallery.codes)
        for one in health:
            row: dict[str, Any] = {
                "split": task.split,
                "task": f"{task.arrow}, {task.language}",
                "length": f"{one.bits} bits",
                "first": one.tied_first,
                "tenth": one.tied_tenth,
            }
            row |= {name: _with_bounds(task.record(LEARNED, name, one.bits)) for name in names}
            rows.append(row)
    return wb.View(
        kind="retrieval_table",
        title="What ties could have done",
        data={"columns": columns, "rows": rows},
        notes=[
            "At short codes many items stand at one distance, and a sort has to order them somehow. "
            "Brackets: "
            "the same ranking with every tie in the worst and in the best order. No order, and no library's "
            "sort, can leave them.",
        ],
    )


def _with_bounds(record: MetricRecord | None) -> dict[str, float] | None:
    if record is None or math.isnan(record.value):
        return None
    return {"value": record.value, "low": record.low, "high": record.high}


def length_curves(found: Sequence[Task], name: str) -> list[wb.View]:
    """Return, for each part, a metric over code length, the float beside."""
    out = []
    for split, members in _by_part(found):
        series: list[dict[str, Any]] = []
        for task in members:
            label = f"{task.arrow}, {task.language}"
            series.append(_series(task, LEARNED, name, label))
            level = task.record(FLOAT, name, None)
            if level is not None:
                flat = [number(level.value)] * len(CODE_LENGTHS)
                series.append({"name": f"{label}, float", "y": flat, "dashed": True})
        out.append(_by_length(f"{name} by code length: {split}", name, series))
    return out


def retention_curves(found: Sequence[Task], name: str) -> list[wb.View]:
    """Return, for each part, what share of the float ranking's metric the learned code keeps."""
    out = []
    for split, members in _by_part(found):
        series = []
        for task in members:
            kept = baselines.retention(task.records[LEARNED], task.records[FLOAT], name)
            y = [number(100 * kept.get(bits, math.nan)) for bits in CODE_LENGTHS]
            one: dict[str, Any] = {"name": f"{task.arrow}, {task.language}", "y": y}
            level = task.draws.get((FLOAT, None, name))
            drawn = [task.draws.get((LEARNED, bits, name)) for bits in CODE_LENGTHS]
            codes = [code for code in drawn if code is not None]
            if level is not None and len(codes) == len(drawn):
                with np.errstate(divide="ignore", invalid="ignore"):
                    ratios = np.where(level > 0, 100 * np.stack(codes) / level, np.nan)
                low, high = uncertainty.interval(ratios)
                one |= {"low": [number(v) for v in low], "high": [number(v) for v in high]}
            series.append(one)
        series.append({"name": "float", "y": [100.0] * len(CODE_LENGTHS), "dashed": True})
        out.append(_by_length(f"Kept of the float {name}: {split}", f"% of float {name}", series))
    return out


def _series(task: Task, method: str, name: str, label: str) -> dict[str, Any]:
    records = [task.record(method, name, bits) for bits in CODE_LENGTHS]
    one: dict[str, Any] = {"name": label, "y": [record and number(record.value) for record in records]}
    bands = [task.interval(method, name, bits) for bits in CODE_LENGTHS]
    if all(bands):
        one["low"] = [band and band[0] for band in bands]
        one["high"] = [band and band[1] for band in bands]
    return one


def _by_length(title: str, y_label: str, series: list[dict[str, Any]], notes: Sequence[str] = ()) -> wb.View:
    data = {
        "x_label": "Code length (bits)",
        "y_label": y_label,
        "x": list(CODE_LENGTHS),
        "x_scale": "log2",
        "series": series,
    }
    return wb.View(
        kind="curve", title=title, data=data, notes=[*notes, "Shaded: 95 % interval over queries."]
    )


# --- against baselines --------------------------------------------------------------------------------------


def baseline_views(found: Sequence[Task], name: str, words: Mapping[str, str]) -> list[wb.View]:
    """Return the learned code against codes nobody learned, as a table and as a curve.

    Parameters
    ----------
    found : sequence of Task
    name : str
        The metric, such as ``"R@10"``.
    words : mapping of str to str
        What each baseline is.
    """
    if len(found[0].records) <= 2:
        return []
    measured = [task for task in found if len(task.records) > 2]
    codes = [m for m in measured[0].records if m not in (FLOAT, RESCORED, FLOAT_QUERY)]
    tables = [
        wb.View(
            kind="retrieval_table",
            title=f"Against codes of the same features, {name}: {split}",
            data=_methods(members, codes, name, lambda task, m, bits: _with_interval(task, m, bits, name)),
            notes=[
                "Same queries, gallery and float features for all; what is fitted is fitted on the training "
                "part. "
                "Bold: the best code of a length. Brackets: 95 % interval over queries.",
                *(f"{method}: {words[method]}." for method in codes if method in words),
            ],
        )
        for split, members in _by_part(measured)
    ]

    def kept(task: Task, method: str, bits: int) -> float | None:
        shares = baselines.retention(task.records[method], task.records[FLOAT], name)
        return number(shares.get(bits, math.nan))

    with_float = [LEARNED, *(m for m in (FLOAT_QUERY, RESCORED) if m in measured[0].records)]
    shares = [
        wb.View(
            kind="retrieval_table",
            title=f"Kept of the float {name}, without and with the float at hand: {split}",
            data=_methods(members, with_float, name, kept, ".0%"),
            notes=[
                f"{FLOAT_QUERY}: the query is not rounded, only the gallery is. {RESCORED}: the "
                f"{baselines.SHORTLIST} nearest by code, ranked again by the float features. Both need more "
                "than codes. Above 100 %: luck of these queries, or a code that leaves noise out.",
            ],
        )
        for split, members in _by_part(measured)
    ]
    task = measured[0]
    series = [_series(task, method, name, method) for method in codes]
    level = task.record(FLOAT, name, None)
    if level is not None:
        flat = [number(level.value)] * len(CODE_LENGTHS)
        series.append({"name": FLOAT, "y": flat, "dashed": True})
    for one in series[1:]:  # one band is a claim, seven are a fog
        one.pop("low", None)
        one.pop("high", None)
    curve = _by_length(f"{name} of learned and unlearned codes: {task.words}", name, series)
    return [*tables, curve, *shares]


def _methods(
    found: Sequence[Task],
    methods: Sequence[str],
    name: str,
    cell: Callable[[Task, str, int], Any],
    form: str = ".3f",
) -> dict[str, Any]:
    columns: list[dict[str, Any]] = [
        {"key": "task", "label": "Direction, language"},
        {"key": "method", "label": "Ranking"},
    ]
    columns += [
        {"key": str(b), "label": f"{b} bits", "format": form, "better": "higher", "group": name}
        for b in CODE_LENGTHS
    ]
    rows = [
        {
            "task": f"{task.arrow}, {task.language}",
            "method": method,
            **{str(bits): cell(task, method, bits) for bits in CODE_LENGTHS},
        }
        for task in found
        for method in methods
    ]
    return {"columns": columns, "rows": rows}


def precision_recall_views(found: Sequence[Task]) -> list[wb.View]:
    """Return precision over recall at every length for the first task of each direction."""
    out = []
    for direction in dict.fromkeys(task.direction for task in found):
        task = next(task for task in found if task.direction == direction)
        if task.itself is not None:
            continue
        curves = precision_recall_curve(
            task.queries.codes,
            task.gallery.codes,
            task.relevance,
            features=(task.queries.features, task.gallery.features),
        )
        series: list[dict[str, Any]] = []
        for curve in curves:
            y = [number(value) for value in curve.at(RECALLS)]
            label = FLOAT if curve.bits is None else f"{curve.bits} bits"
            series.append({"name": label, "y": y, "dashed": curve.bits is None})
        if series:
            data = {"x_label": "Recall", "y_label": "Precision", "x": list(RECALLS), "series": series}
            out.append(
                wb.View(
                    kind="curve",
                    title=f"Precision and recall: {task.words}",
                    data={**data, "x_scale": "linear"},
                    notes=[
                        "Mean precision and mean recall of the first k, for k from 1 to the whole gallery; "
                        "ties by expectation. A line begins where the first place ends."
                    ],
                )
            )
    return out


# --- what has to be known -----------------------------------------------------------------------------------


def seeds_view(by_seed: Mapping[int, Mapping[str, float]], names: Sequence[str]) -> wb.View:
    """Return metrics over runs that differ only in their seed."""
    rows = []
    for name in names:
        values = [metrics[name] for metrics in by_seed.values() if name in metrics]
        if len(values) > 1:
            mean, half = uncertainty.over_seeds(values)
            each = ", ".join(f"{value:.3f}" for value in values)
            rows.append(
                {
                    "name": name,
                    "value": mean,
                    "low": mean - half,
                    "high": mean + half,
                    "format": ".3f",
                    "note": each,
                }
            )
    seeds = ", ".join(str(seed) for seed in by_seed)
    return wb.View(
        kind="metrics_table",
        title=f"Over {len(by_seed)} seeds",
        data={"rows": rows},
        notes=[
            f"Mean over seeds {seeds}; brackets: 95 % t interval over runs; note: each run. All other "
            "tables and plots are of the first run."
        ],
    )


def card(
    rows: Iterable[tuple[str, Any]], title: str, labels: tuple[str, str], notes: Sequence[str] = ()
) -> wb.View:
    """Return facts by name as a table of two columns."""
    columns = [{"key": "name", "label": labels[0]}, {"key": "value", "label": labels[1]}]
    data = {"columns": columns, "rows": [{"name": name, "value": value} for name, value in rows]}
    return wb.View(kind="retrieval_table", title=title, data=data, notes=list(notes))


def _by_part(found: Sequence[Task]) -> list[tuple[str, list[Task]]]:
    return [
        (split, [task for task in found if task.split == split])
        for split in dict.fromkeys(task.split for task in found)
    ]


def number(value: float) -> float | None:
    """Return a number as JSON has it: nothing in place of NaN."""
    return None if math.isnan(value) else float(value)
