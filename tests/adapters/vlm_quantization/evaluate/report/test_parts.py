"""Pieces of the report, on a task small enough to reckon by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.evaluate.report import card, curves, parts
from adapters.vlm_quantization.evaluate.tasks import FLOAT, LEARNED, Task, TaskSide
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores
from adapters.vlm_quantization.metrics.relevance import SameItem


def side(kind: str, codes: np.ndarray) -> TaskSide:
    names = [f"thing {row}" for row in range(len(codes))]
    signs = np.unpackbits(codes, axis=1).astype(np.float32) * 2 - 1
    features = signs / np.linalg.norm(signs, axis=1, keepdims=True)
    labels: list[tuple[str, ...]] = [()] * len(names)
    return TaskSide(kind, names, names, labels, names, np.arange(len(names)), codes, features, signs)


@pytest.fixture
def task() -> Task:
    codes = np.random.default_rng(0).integers(0, 256, (12, 16), dtype=np.uint8)
    relevance = SameItem(np.arange(12), np.arange(12))
    task = Task("drawings", "t2i", "en", "held-out drawings", "text → image", "f" * 64,
                side("text", codes), side("image", codes), relevance)  # fmt: skip
    task.records[LEARNED] = evaluate_codes(codes, codes, relevance, ks=(1,))
    task.records[FLOAT] = evaluate_scores(task.queries.features, task.gallery.features, relevance, ks=(1,))
    return task


def test_a_value_has_its_interval_once_it_was_drawn(task: Task) -> None:
    assert parts.with_interval(task, LEARNED, 128, "R@1") == {"value": 1.0, "low": None, "high": None}
    assert parts.with_interval(task, LEARNED, 128, "R@7") is None
    task.resample([(LEARNED, bits, "R@1") for bits in CODE_LENGTHS], 20)
    assert parts.with_interval(task, LEARNED, 128, "R@1") == {"value": 1.0, "low": 1.0, "high": 1.0}
    series = parts.series_of(task, LEARNED, "R@1", "codes")
    assert len(series["y"]) == len(series["low"]) == len(CODE_LENGTHS)
    assert all(
        low <= y <= high for low, y, high in zip(series["low"], series["y"], series["high"], strict=True)
    )


def test_a_chart_stands_over_the_code_lengths_with_the_float_beside(task: Task) -> None:
    (view,) = curves.length_curves([task], "R@1")
    assert view.title == "R@1 by code length: held-out drawings"
    assert view.data["x"] == list(CODE_LENGTHS)
    codes, level = view.data["series"]
    assert codes["y"][-1] == 1.0
    assert level["y"] == [1.0] * len(CODE_LENGTHS)
    (kept,) = curves.retention_curves([task], "R@1")
    assert kept.data["series"][0]["y"][-1] == 100.0
    (recall,) = curves.precision_recall_views([task])
    assert [one["name"] for one in recall.data["series"]][-1] == FLOAT


def test_tasks_are_grouped_by_their_split(task: Task) -> None:
    other = Task(**{**vars(task), "split": "held-out concepts", "part": "concepts"})
    found = parts.by_part([task, other, task])
    assert [(split, len(members)) for split, members in found] == [
        ("held-out drawings", 2),
        ("held-out concepts", 1),
    ]


def test_the_leakage_check_is_said_in_words() -> None:
    view = card.leakage_view({"items": 7, "odd": 1}, SimpleNamespace(notes=("No flags.",)))
    assert view.data["rows"] == [
        {"name": "Items, each in exactly one part", "value": 7},
        {"name": "odd", "value": 1},
    ]
    assert view.notes[-1] == "No flags."
