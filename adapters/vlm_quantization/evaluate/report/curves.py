"""Curves of the report: metrics by length, retention, precision and recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluate import baselines
from adapters.vlm_quantization.evaluate.report.parts import by_length, by_part, series_of
from adapters.vlm_quantization.evaluate.tasks import FLOAT, LEARNED, Task
from adapters.vlm_quantization.metrics import uncertainty
from adapters.vlm_quantization.metrics.precision_recall import precision_recall_curve
from adapters.vlm_quantization.views import number

#: Recalls at which a precision-recall curve is drawn.
RECALLS = tuple(round(0.05 * step, 2) for step in range(1, 21))


def length_curves(tasks: Sequence[Task], name: str) -> list[wb.View]:
    """Return for each part a metric over code length, with that of the float features."""
    out = []
    for split, members in by_part(tasks):
        series: list[dict[str, Any]] = []
        for task in members:
            label = f"{task.arrow}, {task.language}"
            series.append(series_of(task, LEARNED, name, label))
            level = task.record(FLOAT, name, None)
            if level is not None:
                flat = [number(level.value)] * len(CODE_LENGTHS)
                series.append({"name": f"{label}, float", "y": flat, "dashed": True})
        out.append(by_length(f"{name} by code length: {split}", name, series))
    return out


def retention_curves(tasks: Sequence[Task], name: str) -> list[wb.View]:
    """Return for each part the learned code's metric as a share of the float ranking's."""
    out = []
    for split, members in by_part(tasks):
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
        out.append(by_length(f"Retention of float {name}: {split}", f"% of float {name}", series))
    return out


def precision_recall_views(tasks: Sequence[Task]) -> list[wb.View]:
    """Return precision-recall curves at every length for the first task of each direction."""
    out = []
    for direction in dict.fromkeys(task.direction for task in tasks):
        task = next(task for task in tasks if task.direction == direction)
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
                        "ties by expectation. Each line begins at the recall of k = 1."
                    ],
                )
            )
    return out
