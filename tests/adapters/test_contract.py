"""What every adapter promises, walked for each: the toy without torch, and each real one.

An adapter's case says how small its options must be for a test; everything else is the same for all.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import BaseModel
from vlm_quantization import shapes

import workbench as wb
from adapters.vlm_quantization.dummy import write_dummy_collection
from workbench.adapter import JOB_METHODS, check_options
from workbench.panels.results import render_html


@dataclass
class Case:
    """One adapter, small: options by job type, and a query that finds something."""

    adapter: Callable[[], wb.BaseAdapter]
    options: Callable[[Path], dict[str, dict[str, Any]]]
    query: str
    picture: bytes


def toy() -> wb.BaseAdapter:
    import toy as module

    return module.adapter


def vlm_quantization() -> wb.BaseAdapter:
    return wb.get_adapter("vlm_quantization")


def vlm_options(folder: Path) -> dict[str, dict[str, Any]]:
    collection = str(write_dummy_collection(folder / "shapes"))
    train = shapes.options(collection=collection, experiment="shapes").model_dump()
    return {"train": train, "eval": {}, "index_build": {"name": "도형"}}


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "PNG")
    return file.getvalue()


CASES = {
    "toy": Case(toy, lambda _: {"train": {}, "eval": {}, "index_build": {}}, "dog", b"dog"),
    "vlm_quantization": Case(vlm_quantization, vlm_options, "빨간 원", picture()),
}


@dataclass
class Done:
    case: Case
    adapter: wb.BaseAdapter
    workspace: wb.Workspace
    results: dict[str, wb.Result]
    searcher: wb.Searcher


@pytest.fixture(scope="module", params=CASES)
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """Every job the adapter offers, run once, and its index opened."""
    case = CASES[request.param]
    adapter, folder = case.adapter(), tmp_path_factory.mktemp(request.param)
    workspace = wb.Workspace(folder / "results")
    given, results = case.options(folder), {}
    for kind in adapter.job_types():
        with wb.job_scope(kind, adapter, given[kind], workspace=workspace) as job:
            results[kind] = job.finish(getattr(adapter, JOB_METHODS[kind])(job.options, job))
    name = results["index_build"].made["index"]
    index = adapter.load_index(workspace.indexes / name)
    yield Done(case, adapter, workspace, results, wb.Searcher(adapter, index, name))
    workspace.close()


def test_it_has_a_name_a_title_and_directions(done: Done) -> None:
    assert done.adapter.name.isidentifier()
    assert done.adapter.title
    assert all(metric.better in ("higher", "lower", None) for metric in done.adapter.metrics)
    assert all(format(0.5, metric.format) for metric in done.adapter.metrics)


def test_every_task_has_a_schema_whose_defaults_are_allowed(done: Done) -> None:
    for task in [*done.adapter.job_types(), "search"]:
        schema = done.adapter.options(task)
        assert issubclass(schema, BaseModel)
        json.dumps(schema.model_json_schema())
        assert isinstance(check_options(done.adapter, task, {}), schema)


def test_an_unknown_task_or_option_is_refused_by_name(done: Done) -> None:
    with pytest.raises(wb.NotSupported, match="nonsense"):
        done.adapter.options("nonsense")
    for task in [*done.adapter.job_types(), "search"]:
        with pytest.raises(wb.BadOptions, match="nonsense: unknown option; allowed"):
            check_options(done.adapter, task, {"nonsense": 1})


def test_jobs_succeed_and_their_results_are_plain_json_that_is_drawn_by_view(done: Done) -> None:
    jobs = {job.type: job for job in done.workspace.jobs()}
    assert set(jobs) == set(done.adapter.job_types())
    for kind, result in done.results.items():
        assert jobs[kind].status == "succeeded"
        assert result.summary
        assert all(math.isfinite(value) for value in result.metrics.values())
        assert wb.Result.model_validate_json(result.model_dump_json()) == result
        assert jobs[kind].result == result
        html = render_html(result)
        assert all(view.title in html for view in result.views)


def test_evaluation_has_a_table_and_a_curve(done: Done) -> None:
    kinds = [view.kind for view in done.results["eval"].views]
    assert "retrieval_table" in kinds
    assert "curve" in kinds


def test_training_leaves_a_run_with_metrics_and_a_checkpoint(done: Done) -> None:
    run = done.workspace.run(done.results["train"].made["run"])
    assert run.status == "succeeded"
    assert run.summary
    assert run.checkpoints()


def test_a_text_finds_hits_best_first(done: Done) -> None:
    result = done.searcher.by_text(done.case.query, k=3)
    assert len(result) == 3
    assert list(result) == sorted(result, key=lambda hit: -hit.score)
    assert len({hit.id for hit in result}) == 3
    assert all(0 <= hit.meter <= 1 and hit.caption for hit in result)
    assert result.took_ms["total"] > 0
    json.dumps(result.to_json())


def test_a_picture_finds_hits(done: Done) -> None:
    assert len(done.searcher.by_image(done.case.picture, k=2)) == 2


def test_the_same_question_has_the_same_answer(done: Done) -> None:
    first, again = (done.searcher.by_text(done.case.query, k=7) for _ in range(2))
    assert first.hits == again.hits


def test_more_than_there_is_returns_all_there_is(done: Done) -> None:
    everything = done.searcher.by_text(done.case.query, k=10_000)
    assert 0 < len(everything) < 10_000
    assert everything.hits[:3] == done.searcher.by_text(done.case.query, k=3).hits


@pytest.mark.parametrize("query", ["", "   ", "\n"])
def test_an_empty_query_is_refused(done: Done, query: str) -> None:
    with pytest.raises(wb.BadInput, match="empty"):
        done.searcher.by_text(query)


@pytest.mark.parametrize("k", [0, -1, True, 1.5, "3"])
def test_a_k_that_is_no_count_is_refused(done: Done, k: Any) -> None:
    with pytest.raises(wb.BadInput, match="whole number of at least 1"):
        done.searcher.by_text(done.case.query, k=k)


def test_unknown_search_options_are_refused(done: Done) -> None:
    with pytest.raises(wb.BadOptions, match="nonsense"):
        done.searcher.by_text(done.case.query, nonsense=1)


def test_it_offers_samples_that_find_something_and_says_what_it_is(done: Done) -> None:
    samples = done.searcher.sample_queries()
    assert {sample.language for sample in samples} == {"en", "ko"}
    for sample in samples:
        assert len(done.searcher.by_text(sample.text, k=1)) == 1
    json.dumps(done.searcher.describe())


def test_the_demo_submits_what_it_offers(done: Done) -> None:
    demo = done.adapter.demo()
    assert list(demo) == done.adapter.job_types()
    for kind, options in demo.items():
        known = done.adapter.options(kind).model_fields
        assert set(options) <= set(known)
