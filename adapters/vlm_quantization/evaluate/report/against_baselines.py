"""The report's tables against the baselines."""

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
            data=_methods(members, codes, name, lambda task, m, bits: with_interval(task, m, bits, name)),
            notes=[
                "Same queries, gallery and float features for all; what is fitted is fitted on the training "
                "part. "
                "Bold: the best code of a length. Brackets: 95 % interval over queries.",
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
            title=f"Kept of the float {name}, without and with the float at hand: {split}",
            data=_methods(members, with_float, name, kept, ".0%"),
            notes=[
                f"{FLOAT_QUERY}: the query is not rounded, only the gallery is. {RESCORED}: the "
                f"{baselines.SHORTLIST} nearest by code, ranked again by the float features. Both need more "
                "than codes. Above 100 %: luck of these queries, or a code that leaves noise out.",
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
    for one in series[1:]:  # one band is a claim, seven are a fog
        one.pop("low", None)
        one.pop("high", None)
    curve = by_length(f"{name} of learned and unlearned codes: {task.words}", name, series)
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
