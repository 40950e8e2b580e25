"""The state that the compare panel sends to the page, as plain JSON and packed arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.compare import Better, Comparison, ConfigRow, FinalRow, best_marks, number_text, setting_text
from workbench.compare.curves import Line
from workbench.panels.compare.view import Display, is_number
from workbench.store.outcome import SYSTEM
from workbench.store.runs import RunRow

#: Maximum number of characters of a run's notes in its tooltip.
_NOTE_CHARACTERS = 300


def packed(lines: Sequence[tuple[str, Line]]) -> dict[str, Any]:
    """Return lines as one block of float32 numbers with a table of offsets."""
    parts: list[Any] = []
    table = []
    at = 0
    for metric, line in lines:
        known = line.x[np.isfinite(line.x)]
        x0 = float(known.min()) if len(known) else 0.0
        band = line.low is not None and line.high is not None
        arrays = [line.x - x0, line.y, *([line.low, line.high] if band else [])]
        table.append(
            {
                "metric": metric,
                "runs": list(line.runs),
                "at": at,
                "count": len(line.x),
                "band": band,
                "x0": x0,
            }
        )
        parts += arrays
        at += len(line.x) * len(arrays)
    data = np.concatenate(parts) if parts else np.empty(0)
    return {"lines": table, "data": data.astype("<f4").tobytes()}


def plain_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison in the page's format: each text of a setting once, marks as positions."""
    ids = [run.id for run in comparison.runs]
    return {
        "base": 0 if comparison.baseline is None else ids.index(comparison.baseline),
        "config": [_plain_setting(row) for row in comparison.config],
        "final": [_plain_final(row) for row in comparison.final],
    }


def _plain_setting(row: ConfigRow) -> dict[str, Any]:
    if not row.differs:
        return {
            "key": row.key,
            "texts": [setting_text(row.values[0])],
            "which": None,
            "odd": [],
            "number": False,
        }
    texts: dict[str, int] = {}
    which = [texts.setdefault(text, len(texts)) for text in row.texts]
    numbers = all(is_number(value) for value in row.values)
    odd = [place for place, mark in enumerate(row.odd) if mark]
    return {"key": row.key, "texts": list(texts), "which": which, "odd": odd, "number": numbers}


def _plain_final(row: FinalRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "better": row.better,
        "description": row.description,
        "values": [value if value is not None and math.isfinite(value) else None for value in row.values],
        "texts": list(row.texts),
        "deltas": list(row.deltas),
        "best": [place for place, mark in enumerate(row.best) if mark],
    }


def listed_runs(
    shown: Sequence[RunRow],
    summaries: Mapping[int, Mapping[str, Mapping[str, Any]]],
    declared: Mapping[int, Sequence[Any]],
    view: Display,
) -> dict[str, Any]:
    """Return the list of runs with one metric for each."""
    from workbench.compare import final_rows

    metrics = [declared.get(row.id, ()) for row in shown]
    rows = final_rows([summaries[row.id] for row in shown], metrics, better=view.better)
    ways = [row for row in rows if row.better]
    column = next((row for row in rows if row.name == view.column), None) or next(iter(ways or rows), None)
    texts: Sequence[str] = [""] * len(shown)
    values: Sequence[float | None] = [None] * len(shown)
    marks: Sequence[bool] = [False] * len(shown)
    if column is not None:
        # Each run's best value if the metric has a direction, else its last.
        statistic = "best" if column.better else "last"
        values = [_best(summaries[row.id].get(column.name), column.better, statistic) for row in shown]
        texts = ["" if value is None else number_text(value, column.format) for value in values]
        marks = best_marks(values, column.better)
    return {
        "runs": [
            {
                "id": row.id,
                "name": row.name,
                "experiment": row.experiment,
                "status": row.status,
                "tags": [_tag(name, value) for name, value in row.tags.items()],
                "notes": row.notes[:_NOTE_CHARACTERS],
                "reason": _reason(row.error),
                "began": row.created_at,
                "ended": row.finished_at,
                "archived": row.archived_at is not None,
                "value": text,
                "number": value if value is not None and math.isfinite(value) else None,
                "best": mark,
            }
            for row, text, value, mark in zip(shown, texts, values, marks, strict=True)
        ],
        "metrics": [row.name for row in rows] + _system(summaries[row.id] for row in shown),
        "column": column.name if column is not None else None,
        "column_better": column.better if column is not None else None,
    }


def _system(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of the metrics of the machines, of which charts can be made too."""
    return sorted({name for summary in summaries for name in summary if name.startswith(SYSTEM)})


def _best(entry: Mapping[str, Any] | None, better: Better | None, statistic: str) -> float | None:
    """Return a run's best value by the current direction, which may differ from the logged one."""
    if entry is None:
        return None
    value = entry.get({"higher": "max", "lower": "min"}[better] if better else statistic)
    return None if value is None else float(value)


def _reason(error: Mapping[str, Any] | None) -> str:
    """Return why a run failed or was lost, in one line."""
    parts = (str((error or {}).get(key) or "") for key in ("type", "message"))
    return " ".join(": ".join(filter(None, parts)).split())[:_NOTE_CHARACTERS]


def _tag(name: str, value: Any) -> str:
    return name if value is True else f"{name}={setting_text(value)}"
