"""Views shared by several jobs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import workbench as wb
from adapters.vlm_quantization.metrics import uncertainty


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
            f"Mean over seeds {seeds}; brackets: 95 % t interval over runs; note: value of each run. All "
            "other tables and plots show the first run."
        ],
    )


def card(
    rows: Iterable[tuple[str, Any]], title: str, labels: tuple[str, str], notes: Sequence[str] = ()
) -> wb.View:
    """Return name-value pairs as a two-column table."""
    columns = [{"key": "name", "label": labels[0]}, {"key": "value", "label": labels[1]}]
    data = {"columns": columns, "rows": [{"name": name, "value": value} for name, value in rows]}
    return wb.View(kind="retrieval_table", title=title, data=data, notes=list(notes))


def number(value: float) -> float | None:
    """Return a number that JSON can hold: None instead of NaN."""
    return None if math.isnan(value) else float(value)
