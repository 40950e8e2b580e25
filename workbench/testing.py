"""The contract of every adapter, as tests to inherit.

The whole test of an adapter can be three lines::

    from workbench.testing import AdapterContract

    class TestMyModel(AdapterContract):
        adapter = "my_model"

Each job that the adapter offers is run once, in a temporary workspace; the index it builds is then searched.
Methods that it does not offer must raise ``NotSupported``. Only this module of the package needs pytest.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from pydantic import BaseModel

from workbench.adapter.contract import JOB_METHODS, BaseAdapter
from workbench.adapter.options import Options, check_options
from workbench.adapter.registry import adapters, get_adapter
from workbench.errors import BadInput, BadOptions, NotFound, NotSupported
from workbench.notebooks.shipped import own_notebooks
from workbench.notebooks.typed_options import is_in_step
from workbench.panels.results.show import render_html
from workbench.results.explanation import Explanation, Term
from workbench.results.result import Result
from workbench.scope import job_scope
from workbench.search.filters import Condition, FilterValue
from workbench.search.searcher import Searcher
from workbench.workspace import Workspace

if TYPE_CHECKING:
    from pathlib import Path

_NONSENSE = "nonsense"

#: Methods that an adapter may leave out, each with arguments to call it with.
_OPTIONAL: Mapping[str, tuple[Any, ...]] = {
    **{method: (Options(), None) for method in JOB_METHODS.values()},
    "load_model": (None,),
    "load_index": (None,),
    "search_by_text": (None, "a", 1, Options()),
    "search_by_image": (None, b"a", 1, Options()),
    "search_by_item": (None, "a", 1, Options()),
    "explain": (None, Term("text", "a"), Term("text", "b"), Options()),
    "filter_fields": (None,),
    "check_data": ("", None),
    "demo": (),
}


@dataclass(frozen=True)
class Outcome:
    """The output of an adapter's jobs: their results by job type, and the opened index, if any."""

    adapter: BaseAdapter
    workspace: Workspace
    results: Mapping[str, Result]
    index: Searcher | None

    @property
    def searcher(self) -> Searcher:
        """The opened index; tests that need it are skipped for adapters that do not build one."""
        if self.index is None:
            pytest.skip(f"{self.adapter.name} does not build an index")
        return self.index


class AdapterContract:
    """The tests of the contract; inherit them and set the adapter.

    Attributes
    ----------
    adapter : str or BaseAdapter
        Name of the adapter, loaded through its entry point as in production, or the object itself.
    query : str
        Text with at least one hit; default: the first of the adapter's sample queries.
    picture : bytes
        Encoded picture with at least one hit; default: a red square.
    """

    adapter: ClassVar[str | BaseAdapter] = ""
    query: ClassVar[str] = ""
    picture: ClassVar[bytes] = b""

    @classmethod
    def options(cls, folder: Path) -> Mapping[str, Mapping[str, Any]]:
        """Return options by job type, small enough for a test; the others keep their defaults.

        Parameters
        ----------
        folder : Path
            An empty folder for files that the options point to.
        """
        return {}

    @pytest.fixture(scope="class")
    @classmethod
    def outcome(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
        """Run each job that the adapter offers once, and open the index it built."""
        adapter = get_adapter(cls.adapter) if isinstance(cls.adapter, str) else cls.adapter
        folder = tmp_path_factory.mktemp(adapter.name)
        (folder / "given").mkdir()
        given, results, index = cls.options(folder / "given"), {}, None
        with Workspace(folder / "results") as workspace:
            for kind in adapter.job_types():
                with job_scope(kind, adapter, given.get(kind, {}), workspace=workspace) as job:
                    results[kind] = job.finish(getattr(adapter, JOB_METHODS[kind])(job.options, job))
            if name := next((made["index"] for made in _made(results) if "index" in made), None):
                index = Searcher(adapter, adapter.load_index(workspace.indexes / name), name)
            yield Outcome(adapter, workspace, results, index)

    # What it is ----------------------------------------------------------------------------------------

    def test_it_is_found_by_its_name(self, outcome: Outcome) -> None:
        """Its name is that of its entry point."""
        if isinstance(type(self).adapter, str):
            assert outcome.adapter.name == type(self).adapter
            assert outcome.adapter.name in adapters()

    def test_it_has_a_name_a_title_and_directions(self, outcome: Outcome) -> None:
        """The title is shown to users, as is the better direction of each metric."""
        adapter = outcome.adapter
        assert isinstance(adapter, BaseAdapter)
        assert adapter.name.isidentifier(), f"the name {adapter.name!r} must be an identifier"
        assert adapter.title, "the title is missing"
        for metric in adapter.metrics:
            assert metric.better in ("higher", "lower", None), metric
            assert format(0.5, metric.format), metric

    def test_its_own_notebooks_are_in_step_with_its_options(self, outcome: Outcome) -> None:
        """Their parameters cells are what ``workbench notebooks sync`` writes."""
        adapter = outcome.adapter
        for kind, path in own_notebooks(adapter).items():
            assert kind in adapter.job_types(), f"a notebook of {kind!r}, which is no job of {adapter.name!r}"
            assert is_in_step(path, adapter.options(kind), adapter.name), (
                f"{path.name} is out of step; run: workbench notebooks sync {adapter.name}"
            )

    def test_every_task_has_a_schema_whose_defaults_are_allowed(self, outcome: Outcome) -> None:
        """A form can be drawn for it, and submitted unchanged."""
        for task in _tasks(outcome):
            schema = outcome.adapter.options(task)
            assert issubclass(schema, BaseModel), f"options({task!r}) must be a model, got {schema!r}"
            json.dumps(schema.model_json_schema())
            assert isinstance(check_options(outcome.adapter, task, {}), schema)

    def test_an_unknown_task_or_option_is_refused_by_name(self, outcome: Outcome) -> None:
        """Misspelled options are reported."""
        with pytest.raises(NotSupported, match=_NONSENSE):
            outcome.adapter.options(_NONSENSE)
        for task in _tasks(outcome):
            with pytest.raises(BadOptions, match=f"{_NONSENSE}: unknown option; "):
                check_options(outcome.adapter, task, {_NONSENSE: 1})

    def test_what_it_does_not_offer_says_so(self, outcome: Outcome) -> None:
        """The error names the adapter and the method."""
        for method, arguments in _OPTIONAL.items():
            if not outcome.adapter.offers(method):
                with pytest.raises(NotSupported, match=method) as raised:
                    getattr(outcome.adapter, method)(*arguments)
                assert raised.value.adapter == outcome.adapter.name

    # What its jobs do ----------------------------------------------------------------------------------

    def test_jobs_succeed_and_their_results_are_plain_json_that_is_drawn_by_view(
        self, outcome: Outcome
    ) -> None:
        """A result has a one-sentence summary, and is unchanged by storing and loading it."""
        jobs = {job.type: job for job in outcome.workspace.jobs()}
        assert set(jobs) == set(outcome.adapter.job_types())
        for kind, result in outcome.results.items():
            assert jobs[kind].status == "succeeded"
            assert result.summary, f"the result of {kind} must have a summary"
            assert all(math.isfinite(value) for value in result.metrics.values()), result.metrics
            assert Result.model_validate_json(result.model_dump_json()) == result
            assert jobs[kind].result == result
            html = render_html(result)
            assert all(view.title in html for view in result.views)

    def test_evaluation_measures_and_shows(self, outcome: Outcome) -> None:
        """An evaluation has metrics to compare, and views to read."""
        if "eval" in outcome.results:
            assert outcome.results["eval"].metrics, "evaluate must return metrics"
            assert outcome.results["eval"].views, "evaluate must return views"

    def test_training_leaves_a_run_with_metrics_and_a_checkpoint(self, outcome: Outcome) -> None:
        """Trained models can be compared and used."""
        if "train" in outcome.results:
            run = outcome.workspace.run(outcome.results["train"].made["run"])
            assert run.status == "succeeded"
            assert run.summary, "train must log metrics"
            assert run.checkpoints(), "train must log a checkpoint"

    def test_the_demo_submits_what_it_offers(self, outcome: Outcome) -> None:
        """The demo submits each job type that the adapter offers, with valid option names."""
        if outcome.adapter.offers("demo"):
            demo = outcome.adapter.demo()
            assert list(demo) == outcome.adapter.job_types()
            for kind, options in demo.items():
                assert set(options) <= set(outcome.adapter.options(kind).model_fields)

    # How it searches -----------------------------------------------------------------------------------

    def test_a_text_finds_hits_best_first(self, outcome: Outcome) -> None:
        """Hits are distinct, sorted best first, and have captions."""
        result = outcome.searcher.by_text(self._query(outcome), k=3)
        assert 0 < len(result) <= 3
        assert list(result) == sorted(result, key=lambda hit: -hit.score)
        assert len({hit.id for hit in result}) == len(result)
        assert all(0 <= hit.meter <= 1 and hit.caption for hit in result), list(result)
        assert result.took_ms["total"] >= 0
        json.dumps(result.to_json())

    def test_a_picture_finds_hits(self, outcome: Outcome) -> None:
        """If the adapter searches by picture, a picture has hits."""
        if outcome.adapter.offers("search_by_image"):
            assert len(outcome.searcher.by_image(type(self).picture or _red_square(), k=2)) > 0

    def test_the_same_question_has_the_same_answer(self, outcome: Outcome) -> None:
        """Ties are broken the same way every time."""
        first, again = (outcome.searcher.by_text(self._query(outcome), k=7) for _ in range(2))
        assert first.hits == again.hits

    def test_more_than_there_is_returns_all_there_is(self, outcome: Outcome) -> None:
        """A larger k does not change the first hits."""
        query = self._query(outcome)
        everything = outcome.searcher.by_text(query, k=10_000)
        few = outcome.searcher.by_text(query, k=3)
        assert 0 < len(everything) < 10_000
        assert everything.hits[: len(few)] == few.hits

    def test_questions_that_are_none_are_refused(self, outcome: Outcome) -> None:
        """An empty query, an invalid k, and an unknown option are refused."""
        for query in ("", "   ", "\n"):
            with pytest.raises(BadInput, match="empty"):
                outcome.searcher.by_text(query)
        for k in (0, -1, True, 1.5, "3"):
            with pytest.raises(BadInput, match="whole number of at least 1"):
                outcome.searcher.by_text(self._query(outcome), k=k)  # type: ignore[arg-type]
        with pytest.raises(BadOptions, match=_NONSENSE):
            outcome.searcher.by_text(self._query(outcome), nonsense=1)

    def test_it_explains_why_two_things_are_near(self, outcome: Outcome) -> None:
        """If the adapter explains: texts, pictures and items are compared, and what it says can be drawn."""
        if not outcome.adapter.offers("explain"):
            return  # no part of searching, so nothing is missing without it
        query = self._query(outcome)
        hit = outcome.searcher.by_text(query, k=1)[0]
        pairs = [(query, hit), (Term("item", hit.id), query)]
        if outcome.adapter.offers("search_by_image"):
            pairs.append((Term("image", type(self).picture or _red_square(), "a square"), hit))
        for left, right in pairs:
            explanation = outcome.searcher.explain(left, right)
            assert explanation.summary, "an explanation must have a summary"
            assert explanation.views, "an explanation must have views"
            assert hit.id in (explanation.left.id, explanation.right.id)
            assert Explanation.model_validate_json(explanation.model_dump_json()) == explanation
            html = render_html(explanation)
            assert all(view.title in html for view in explanation.views)
        with pytest.raises(NotFound):
            outcome.searcher.explain(query, Term("item", "\0 no such item"))
        with pytest.raises(BadInput, match="empty"):
            outcome.searcher.explain(" ", hit)

    def test_its_filters_leave_what_matches(self, outcome: Outcome) -> None:
        """If the adapter filters: each value that it suggests is found, and an unknown field is refused."""
        if not outcome.adapter.offers("filter_fields"):
            return  # no part of searching, so nothing is missing without it
        query = self._query(outcome)
        everything = outcome.searcher.by_text(query, k=10_000)
        fields = outcome.searcher.filter_fields()
        assert fields, "an index must have fields to filter by"
        for field in fields:
            for value, count in field.values[:2]:
                assert count > 0
                text = str(Condition(field.name, ":", (FilterValue(value),)))
                found = outcome.searcher.by_text(query, k=10_000, filter=text)
                others = outcome.searcher.by_text(query, k=10_000, filter=f"not {text}")
                assert found.hits, f"{text} must leave something"
                assert {hit.id for hit in found} <= {hit.id for hit in everything}
                assert not {hit.id for hit in found} & {hit.id for hit in others}
                assert len(found) + len(others) == len(everything)
        for wrong in (f"{_NONSENSE}:1", "(", "label:"):
            with pytest.raises(BadOptions, match="filter, column") as caught:
                outcome.searcher.by_text(query, filter=wrong)
            assert [name for name, _ in caught.value.problems] == ["filter"]

    def test_its_samples_find_something_and_it_says_what_it_is(self, outcome: Outcome) -> None:
        """Sample queries have hits, and the description is plain JSON."""
        for sample in outcome.searcher.sample_queries():
            assert len(outcome.searcher.by_text(sample.text, k=1)) == 1, sample
        json.dumps(outcome.searcher.describe())

    def test_items_to_start_with_are_items_and_unknown_ones_have_no_file(self, outcome: Outcome) -> None:
        """Each has an id and a thumbnail, can be searched with, and a made-up id leads to no file."""
        searcher = outcome.searcher
        for hit in searcher.sample_items():
            assert hit.thumbnail, f"{hit.id} has no thumbnail"
            if outcome.adapter.offers("search_by_item"):
                searcher.by_item(hit.id, k=1)
        if outcome.adapter.offers("item_file"):
            with pytest.raises(NotFound):
                searcher.item_file("\0 no such item")

    def _query(self, outcome: Outcome) -> str:
        if not outcome.adapter.offers("search_by_text"):
            pytest.skip(f"{outcome.adapter.name} does not search by text")
        samples = outcome.searcher.sample_queries()
        query = type(self).query or next((sample.text for sample in samples), "")
        assert query, "set query on the test class, or implement sample_queries in the adapter"
        return query


def _made(results: Mapping[str, Result]) -> list[dict[str, Any]]:
    return [result.made for result in results.values()]


def _tasks(outcome: Outcome) -> list[str]:
    searches = any(outcome.adapter.offers(f"search_by_{what}") for what in ("text", "image", "item"))
    return [*outcome.adapter.job_types(), *(["search"] if searches else [])]


def _red_square() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (20, 20), "red").save(file, "PNG")
    return file.getvalue()
