"""The report on the funnel: recall and time of each stage, as a table and as plots over oversampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.evaluate.funnel import LENGTHS, OVERSAMPLINGS, TOP
from adapters.vlm_quantization.search.options import OVERSAMPLING
from adapters.vlm_quantization.views import number

if TYPE_CHECKING:
    from adapters.vlm_quantization.evaluate.funnel import Funnel

TITLE = "Search by funnel"


def funnel_views(measured: Funnel) -> list[wb.View]:
    """Return the section."""
    columns: list[dict[str, Any]] = [
        {"key": "stage", "label": "Stage"},
        {"key": "left", "label": "Items left", "format": ",.0f"},
        {"key": "recall", "label": f"Recall of the exact top {TOP}", "format": ".3f", "better": "higher"},
        {"key": "ms", "label": "ms per query", "format": ".3f"},
    ]
    rows = [
        {"stage": row.name, "left": number(row.left), "recall": number(row.recall), "ms": number(row.ms)}
        for row in [*measured.by_oversampling[OVERSAMPLING], *measured.others]
    ]
    asked = f"{measured.queries:,} queries ({measured.words}), at most {measured.gallery:,} items"
    notes = [
        f"{asked}. Oversampling {OVERSAMPLING:g}, as in a search with method=funnel. Recall: mean share of "
        f"the {TOP} nearest by float cosine that are among the items left; the last stage's is that of the "
        "funnel. Time: median per query of each stage by itself, on the machine of this job; few items take "
        "less than calling a function does.",
    ]
    return [
        wb.View(kind="retrieval_table", title=TITLE, data={"columns": columns, "rows": rows}, notes=notes),
        _over(
            measured, "recall", f"Recall of the exact top {TOP}", "recall after each stage by oversampling"
        ),
        _over(measured, "ms", "ms per query", "time of each stage by oversampling"),
    ]


def _over(measured: Funnel, what: str, label: str, title: str) -> wb.View:
    """Return a chart of one value of each stage over oversampling."""
    names = [*(f"{length} bits" for length in LENGTHS), "float cosine"]
    last = len(LENGTHS) - 1
    hidden: list[int] = []
    if what == "recall":  # ranking by float cosine loses nothing of its own top, so one line is both
        names[-1], hidden = f"{names[last]}, then float cosine", [last]
    series = [
        {
            "name": name,
            "y": [number(getattr(measured.by_oversampling[one][place], what)) for one in OVERSAMPLINGS],
            "dashed": place < len(LENGTHS),
        }
        for place, name in enumerate(names)
        if place not in hidden
    ]
    data = {
        "x_label": "Oversampling",
        "y_label": label,
        "x": list(OVERSAMPLINGS),
        "x_scale": "log2",
        "series": series,
    }
    return wb.View(kind="curve", title=f"{TITLE}: {title}", data=data)
