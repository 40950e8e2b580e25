"""Helpers shared by the tables and curves of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluate.tasks import Task
from adapters.vlm_quantization.views import number


def with_interval(task: Task, method: str, bits: int | None, name: str) -> dict[str, float | None] | None:
    """Return a metric's value with its interval, or None if it was not measured."""
    record = task.record(method, name, bits)
    if record is None or math.isnan(record.value):
        return None
    low, high = task.interval(method, name, bits) or (None, None)
    return {"value": record.value, "low": low, "high": high}


def series_of(task: Task, method: str, name: str, label: str) -> dict[str, Any]:
    """Return a metric by code length as one series of a chart, with its interval if there is one."""
    records = [task.record(method, name, bits) for bits in CODE_LENGTHS]
    one: dict[str, Any] = {"name": label, "y": [record and number(record.value) for record in records]}
    bands = [task.interval(method, name, bits) for bits in CODE_LENGTHS]
    if all(bands):
        one["low"] = [band and band[0] for band in bands]
        one["high"] = [band and band[1] for band in bands]
    return one


def by_length(title: str, y_label: str, series: list[dict[str, Any]]) -> wb.View:
    """Return a chart over code lengths."""
    data = {
        "x_label": "Code length (bits)",
        "y_label": y_label,
        "x": list(CODE_LENGTHS),
        "x_scale": "log2",
        "series": series,
    }
    return wb.View(kind="curve", title=title, data=data, notes=["Shaded: 95 % interval over queries."])


def by_part(tasks: Sequence[Task]) -> list[tuple[str, list[Task]]]:
    """Return the tasks by split, in order of first occurrence."""
    return [
        (split, [task for task in tasks if task.split == split])
        for split in dict.fromkeys(task.split for task in tasks)
    ]
