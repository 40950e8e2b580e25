"""How much of an exact search a funnel finds: counted by hand, named for gates, and drawn."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, pack_codes
from adapters.vlm_quantization.evaluate import funnel
from adapters.vlm_quantization.evaluate.funnel import OVERSAMPLINGS, TOP, measure_funnel, possible_names
from adapters.vlm_quantization.evaluate.metric_names import possible_names as all_names
from adapters.vlm_quantization.evaluate.report.funnel import TITLE, funnel_views
from adapters.vlm_quantization.evaluate.subject import FromPictures
from adapters.vlm_quantization.evaluate.tasks import Part, Task, tasks
from adapters.vlm_quantization.options import EvalOptions
from adapters.vlm_quantization.search.funnel import survivors_of
from adapters.vlm_quantization.search.options import OVERSAMPLING, SearchOptions
from tests.adapters.vlm_quantization import shapes
from tests.adapters.vlm_quantization.small_index import SmallEncoder
from workbench.panels.results.show import render_html


def measured_tasks(**options: object) -> list[Task]:
    collection = shapes.collection()
    rows = np.arange(len(collection))
    part = Part("test", "test split", rows, rows, "f")
    subject = FromPictures(SmallEncoder(), collection)
    return list(tasks(collection, [part], subject, EvalOptions.model_validate(options)))


def test_recall_is_the_share_of_the_exact_top_that_each_stage_leaves() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((300, 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    codes = pack_codes(features @ random.standard_normal((16, 128)) >= 0)
    task = measured_tasks(directions=["t2i"])[0]
    ids = [str(row) for row in range(300)]
    for side in (task.queries, task.gallery):
        vars(side).update(ids=ids, codes=codes, features=features)
    got = measure_funnel([task])
    rows = np.linspace(0, 300, num=funnel.QUERIES, endpoint=False).astype(int)
    kept = []
    for row in rows:
        exact = np.argsort(-(features @ features[row]), kind="stable")[:TOP]
        far = np.bitwise_count(codes[:, :1] ^ codes[row, :1]).sum(axis=1)
        left = np.lexsort((np.arange(300), far))[: survivors_of(TOP, 1.0, 300, 3)[0]]
        kept.append(np.isin(exact, left).mean())
    first = got.by_oversampling[1.0][0]
    assert (first.name, first.left) == ("8 bits", 160)
    assert first.recall == pytest.approx(np.mean(kept))
    for stages in got.by_oversampling.values():
        recalls = [stage.recall for stage in stages]
        assert recalls == sorted(recalls, reverse=True)
        assert recalls[-1] == recalls[-2]  # the float cosine of the rest loses none of the exact top
        assert all(stage.ms > 0 for stage in stages)
    assert [stages[-1].recall for stages in got.by_oversampling.values()][-1] == 1.0  # all items survive
    assert [row.recall for row in got.others][1] == 1.0
    assert (got.queries, got.gallery) == (funnel.QUERIES, 300)


def test_metrics_are_those_that_gates_may_name() -> None:
    measured = measure_funnel(measured_tasks(directions=["t2i", "i2t"]))
    assert list(measured.metrics) == list(reversed(possible_names()))
    assert possible_names() == ["funnel/recall@10", *(f"funnel/recall@10@{bits}" for bits in (128, 32, 8))]
    assert set(possible_names()) <= set(all_names(EvalOptions()))
    assert all(0 <= value <= 1 for value in measured.metrics.values())
    assert measured.words.endswith("text → image, en and ko")
    assert SearchOptions().oversampling == OVERSAMPLING in OVERSAMPLINGS
    assert funnel.LENGTHS == (8, 32, 128)
    assert CODE_LENGTHS[-1] == funnel.LENGTHS[-1]


@pytest.mark.parametrize("direction", ["i2i", "i2t"])
def test_without_queries_by_text_the_first_task_is_measured(direction: str) -> None:
    measured = measure_funnel(measured_tasks(directions=[direction]))
    assert {"i2i": "image → image", "i2t": "image → text"}[direction] in measured.words
    assert 0 < measured.metrics["funnel/recall@10"] <= 1


def test_the_section_has_a_table_and_two_plots() -> None:
    measured = measure_funnel(measured_tasks(directions=["t2i"]))
    table, recall, times = funnel_views(measured)
    stages = [row["stage"] for row in table.data["rows"]]
    assert stages == [
        *("8 bits", "32 bits", "128 bits", "float cosine of the rest"),
        *("128 bits alone", "float cosine of all (exact)"),
    ]
    assert table.data["rows"][3]["recall"] == measured.metrics["funnel/recall@10"]
    assert [len(view.data["series"]) for view in (recall, times)] == [3, 4]
    assert recall.data["series"][-1]["name"] == "128 bits, then float cosine"
    assert recall.data["x"] == list(OVERSAMPLINGS)
    assert "Oversampling 20" in table.notes[0]
    for view in (table, recall, times):
        assert view.title.startswith(TITLE)
    assert "float cosine of the rest" in render_html(wb.Result(summary="x", views=[table, recall, times]))
