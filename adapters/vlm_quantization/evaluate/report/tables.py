"""Tables of the evaluation report, as generic views for a reader who sees it for the first time.

The report goes from the general to the specific: the headline and the rules, every metric with its interval,
the range over tie orders, the comparison with the float features and with the baselines, code health, the
worst queries with their pictures, and what is needed to reproduce the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluate.report.parts import by_part, with_interval
from adapters.vlm_quantization.evaluate.tasks import FLOAT, LEARNED, Task
from adapters.vlm_quantization.metrics import code_health, uncertainty
from adapters.vlm_quantization.metrics.protocols import protocol_of
from adapters.vlm_quantization.metrics.records import MetricRecord
from adapters.vlm_quantization.views import number

_WORDS = {
    "mAP": "mAP: mean average precision",
    "R": "R@k: share of the relevant items among the first k (true recall)",
    "R as hit": "R@k: share of queries with any relevant item among the first k (hit rate)",
    "hit": "hit@k: share of queries with any relevant item among the first k",
    "MedR": "MedR: median rank of the first relevant item",
}


def summary(tasks: Sequence[Task], metrics: Mapping[str, float], ks: Sequence[int]) -> wb.View:
    """Return the headline metrics with their intervals, and the rules in words."""
    last, part = max(ks), tasks[0].part
    rows: list[dict[str, Any]] = []
    for direction in dict.fromkeys(task.direction for task in tasks):
        members = [task for task in tasks if (task.part, task.direction) == (part, direction)]
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
                    "name": f"Retention at 128 bits, {members[0].arrow}",
                    "value": kept,
                    "format": ".1%",
                    "note": f"R@{last} of the code divided by R@{last} of float cosine",
                }
            )
    first = tasks[0]
    random_order = min(last, first.gallery_size) / first.gallery_size
    rows.append(
        {
            "name": f"R@{last} by chance",
            "value": random_order,
            "format": ".3f",
            "note": f"gallery of {first.gallery_size:,} in random order",
        }
    )
    return wb.View(kind="metrics_table", title="Summary", data={"rows": rows}, notes=_rules(tasks))


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


def _rules(tasks: Sequence[Task]) -> list[str]:
    record = tasks[0].records[LEARNED][0]
    relevances = ", ".join(dict.fromkeys(task.relevance.words for task in tasks))
    notes = [
        f"{record.rules.words} Relevant: {relevances}. Source of the rules: {record.rules.source}.",
        "Brackets: 95 % bootstrap intervals over queries; queries about one thing are drawn together. They "
        "cover variation between queries, not variation between training runs.",
    ]
    groups: dict[tuple[str, str, str], list[str]] = {}
    for task in tasks:
        first = task.records[LEARNED][0]
        counts = (
            f"{first.n_queries:,} queries, {first.n_without_relevant:,} of them without a relevant item; "
            f"gallery of {task.gallery_size:,}; split {task.fingerprint[:12]}."
        )
        groups.setdefault((task.split, task.arrow, counts), []).append(task.language)
    notes += [
        f"{split.capitalize()}, {arrow} ({', '.join(languages)}): {counts}"
        for (split, arrow, counts), languages in groups.items()
    ]
    return notes


def retrieval_tables(tasks: Sequence[Task], ks: Sequence[int], protocol: str) -> list[wb.View]:
    """Return one table per part: lengths by direction and language, each value with its interval."""
    out = []
    names = {"R": "R as hit"} if protocol_of(protocol).recall == "hit" else {}
    for split, members in by_part(tasks):
        order = ["mAP", "MedR", *(f"R@{k}" for k in ks)]
        if any(_value(task, f"hit@{max(ks)}") != _value(task, f"R@{max(ks)}") for task in members):
            order.append(f"hit@{max(ks)}")  # several relevant items per query: the two kinds of recall differ
        rows = [
            {
                "task": f"{task.arrow}, {task.language}",
                "length": "float cosine" if bits is None else f"{bits} bits",
                **{name: with_interval(task, method, bits, name) for name in order},
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
                    "Brackets: 95 % interval over queries. Bold: the best per direction and language.",
                    "; ".join(_WORDS[names.get(name, name)] for name in words) + ".",
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


def ties_table(tasks: Sequence[Task], ks: Sequence[int]) -> wb.View:
    """Return the range of the metrics over all orders of tied items."""
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
    for task in tasks:
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
        title="Range over tie orders",
        data={"columns": columns, "rows": rows},
        notes=[
            "At short code lengths, many items have the same distance, and a sort breaks these ties "
            "arbitrarily. Brackets: the same ranking with every tie in the worst and in the best order. No "
            "order, and no library's sort, can fall outside them.",
        ],
    )


def _with_bounds(record: MetricRecord | None) -> dict[str, float] | None:
    if record is None or math.isnan(record.value):
        return None
    return {"value": record.value, "low": record.low, "high": record.high}
