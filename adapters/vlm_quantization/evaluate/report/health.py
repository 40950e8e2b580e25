"""The report on code health: a table and two plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.evaluate.tasks import Task
from adapters.vlm_quantization.metrics import code_health
from adapters.vlm_quantization.views import number


def health_views(tasks: Sequence[Task]) -> list[wb.View]:
    """Return how the codes of both sides use their bits, as a table and two plots."""
    task = next((one for one in tasks if one.direction == "t2i"), None)
    if task is None:
        return []
    texts, pictures = task.queries, task.gallery
    rows: list[dict[str, Any]] = []
    for label, side, other in (
        ("pictures", pictures, texts),
        (f"texts, {task.language}", texts, pictures),
    ):
        own, others = code_health.agreement(side.codes, other.codes, _partners(side.concepts, other.concepts))
        for one in code_health.side_health(side.codes, side.margins):
            rows.append(
                {
                    "side": label,
                    "length": f"{one.bits} bits",
                    "balance": one.balance,
                    "entropy": one.entropy,
                    "correlation": one.correlation,
                    "highest": one.highest_correlation,
                    "rounding": number(one.rounding),
                    "distinct": one.distinct,
                    "own": number(float(own[: one.bits].mean())),
                    "others": number(float(others[: one.bits].mean())),
                }
            )
    columns: list[dict[str, Any]] = [
        {"key": "side", "label": "Side"},
        {"key": "length", "label": "Length"},
        {"key": "balance", "label": "rarer value", "format": ".3f", "group": "Per bit"},
        {"key": "entropy", "label": "entropy", "format": ".3f", "group": "Per bit"},
        {"key": "correlation", "label": "mean", "format": ".3f", "group": "Correlation of two bits"},
        {"key": "highest", "label": "highest", "format": ".3f", "group": "Correlation of two bits"},
        {"key": "rounding", "label": "quantisation error", "format": ".3f", "group": "Per code"},
        {"key": "distinct", "label": "distinct", "format": ".0%", "group": "Per code"},
        {"key": "own", "label": "its own", "format": ".1%", "group": "Bits shared with the other side"},
        {"key": "others", "label": "others", "format": ".1%", "group": "Bits shared with the other side"},
    ]
    table = wb.View(
        kind="retrieval_table",
        title=f"Code health: {task.split}",
        data={"columns": columns, "rows": rows},
        notes=[
            "rarer value: share of a bit's rarer value, best 0.5. entropy: of a bit, best 1. Correlation: "
            "absolute, best 0. quantisation error: 1 - cosine between margins and their signs, best 0. "
            "distinct: distinct codes divided by items. Bits shared: share of bits equal to those of the own "
            "text or picture, and to those of all others.",
        ],
    )
    return [table, *_bit_plots(task, pictures.codes, texts.codes)]


def _partners(concepts: Sequence[str], others: Sequence[str]) -> NDArray[np.int64]:
    """Return for each row of one side the row of the other with the same concept, -1 for none."""
    place = {concept: row for row, concept in reversed(list(enumerate(others)))}
    return np.array([place.get(concept, -1) for concept in concepts], np.int64)


def _bit_plots(task: Task, pictures: NDArray[np.uint8], texts: NDArray[np.uint8]) -> list[wb.View]:
    own, others = code_health.agreement(
        pictures, texts, _partners(task.gallery.concepts, task.queries.concepts)
    )
    x = list(range(1, len(own) + 1))
    plots = [
        (
            "Share of ones per bit",
            "Share of ones",
            {"pictures": code_health.shares_of_ones(pictures), "texts": code_health.shares_of_ones(texts)},
            "Bits in the order of the code: the first 8 are the 8-bit code. A bit is most informative at one "
            "half.",
        ),
        (
            "Picture-text agreement per bit",
            "Share of agreement",
            {"a picture and its own text": own, "a picture and other texts": others},
            f"Over all {len(own)} bits a picture agrees with its own text in {np.mean(own):.1%} and with "
            f"other texts in {np.mean(others):.1%}. The gap between the lines is what a search relies on.",
        ),
    ]
    if np.isnan(own).any():  # the queries are texts of other pictures
        plots.pop()
    return [
        wb.View(
            kind="curve",
            title=f"{title}: {task.split}, {task.language}",
            data={
                "x_label": "Bit",
                "y_label": y_label,
                "x": x,
                "x_scale": "linear",
                "series": [
                    {"name": name, "y": [number(value) for value in values], "dashed": False}
                    for name, values in series.items()
                ],
            },
            notes=[note],
        )
        for title, y_label, series, note in plots
    ]
