"""Comparison of the learned code with the baselines."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluate import baselines
from adapters.vlm_quantization.evaluate.report.parts import by_length, by_part, series_of, with_interval
from adapters.vlm_quantization.evaluate.tasks import FLOAT, FLOAT_QUERY, LEARNED, RESCORED, Task
from adapters.vlm_quantization.views import number


def baseline_views(tasks: Sequence[Task], name: str, words: Mapping[str, str]) -> list[wb.View]:
    """Return the comparison of the learned code with the baselines, as tables and a curve.

    Parameters
    ----------
    tasks : sequence of Task
    name : str
        The metric, such as ``"R@10"``.
    words : mapping of str to str
        Description of each baseline.
    """
    if len(tasks[0].records) <= 2:
        return []
    measured = [task for task in tasks if len(task.records) > 2]
    codes = [m for m in measured[0].records if m not in (FLOAT, RESCORED, FLOAT_QUERY)]
    tables = [
        wb.View(
            kind="retrieval_table",
            title=f"Other codes of the same features, {name}: {split}",
            data=_methods(members, codes, name, lambda task, m, bits: with_interval(task, m, bits, name)),
            notes=[
                "All use the same queries, gallery and float features, and are fitted on the training part. "
                "Bold: the best code at each length. Brackets: 95 % interval over queries.",
                *(f"{method}: {words[method]}." for method in codes if method in words),
            ],
        )
        for split, members in by_part(measured)
    ]

    def kept(task: Task, method: str, bits: int) -> float | None:
        shares = baselines.retention(task.records[method], task.records[FLOAT], name)
        return number(shares.get(bits, math.nan))

    with_float = [LEARNED, *(m for m in (FLOAT_QUERY, RESCORED) if m in measured[0].records)]
    shares = [
        wb.View(
            kind="retrieval_table",
            title=f"Retention of float {name}, without and with float features: {split}",
            data=_methods(members, with_float, name, kept, ".0%"),
            notes=[
                f"{FLOAT_QUERY}: only the gallery is binarised, not the query. {RESCORED}: the "
                f"{baselines.SHORTLIST} nearest by code, reranked by the float features. Both need more than "
                "codes. Above 100 %: chance on these queries, or a code that filters out noise.",
            ],
        )
        for split, members in by_part(measured)
    ]
    task = measured[0]
    series = [series_of(task, method, name, method) for method in codes]
    level = task.record(FLOAT, name, None)
    if level is not None:
        flat = [number(level.value)] * len(CODE_LENGTHS)
        series.append({"name": FLOAT, "y": flat, "dashed": True})
    for one in series[1:]:  # draw one band; seven are unreadable
        one.pop("low", None)
        one.pop("high", None)
    curve = by_length(f"{name} of the nested code and baselines: {task.words}", name, series)
    return [*tables, curve, *shares]


def _methods(
    tasks: Sequence[Task],
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
        for task in tasks
        for method in methods
    ]
    return {"columns": columns, "rows": rows}
