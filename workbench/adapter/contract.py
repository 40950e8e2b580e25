"""What a model family offers the workbench, and how it is found.

The whole contract is :class:`BaseAdapter`. An adapter says which options each task takes (a pydantic
model), runs jobs, and searches what an ``index_build`` job made. The workbench turns the options into a
form, an HTTP schema and a command-line check, and knows nothing else about the family.

Adapters are declared by the entry-point group ``workbench.adapters``; the entry point names an instance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel

from workbench.errors import NotSupported
from workbench.results.hits import SampleQuery, SearchResult
from workbench.results.result import Metric, Result

if TYPE_CHECKING:
    from workbench.runs.run import Run


#: Job types every workbench knows, and the adapter method that runs each.
JOB_METHODS: Mapping[str, str] = {"train": "train", "eval": "evaluate", "index_build": "build_index"}


class WorkspaceView(Protocol):
    """The part of a workspace that an adapter's job may use."""

    @property
    def path(self) -> Path:
        """The workspace folder."""

    @property
    def cache(self) -> Path:
        """A folder for what can be made again."""

    @property
    def indexes(self) -> Path:
        """The folder that holds one folder an index."""

    def run(self, run_id: int) -> Run:
        """Return a run by id."""

    def runs(self, experiment: str | None = None) -> Sequence[Run]:
        """Return runs, newest first."""


class JobContext(Protocol):
    """What a job gives the adapter's method that runs it."""

    @property
    def id(self) -> int:
        """The job's id."""

    @property
    def workspace(self) -> WorkspaceView:
        """The workspace the job belongs to."""

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the work is; cheap enough for an inner loop. Raises when the job is cancelled."""

    def start_run(
        self, experiment: str, *, name: str | None = None, config: Mapping[str, Any] | None = None
    ) -> Run:
        """Start a run that belongs to this job."""


class BaseAdapter:
    """One family of models. Subclass it, set the names, write the methods the family offers."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    metrics: ClassVar[Sequence[Metric]] = ()

    def options(self, task: str) -> type[BaseModel]:
        """Return the schema of a task's options: a job type or ``"search"``."""
        raise NotSupported(self.name, f"options for {task!r}")

    def train(self, options: Any, job: JobContext) -> Result:
        """Train a model."""
        raise NotSupported(self.name, "train")

    def evaluate(self, options: Any, job: JobContext) -> Result:
        """Evaluate a model."""
        raise NotSupported(self.name, "evaluate")

    def build_index(self, options: Any, job: JobContext) -> Result:
        """Build an index folder in the workspace."""
        raise NotSupported(self.name, "build_index")

    def load_model(self, path: Path) -> Any:
        """Open a checkpoint."""
        raise NotSupported(self.name, "load_model")

    def load_index(self, path: Path) -> Any:
        """Open an index folder for searching; the value is handed back to the search methods."""
        raise NotSupported(self.name, "load_index")

    def describe_index(self, index: Any) -> dict[str, Any]:
        """Return what a search page says of an index: ``{"title", "subtitle", "count", "credits": […]}``."""
        return {}

    def search_by_text(self, index: Any, query: str, k: int, options: Any) -> SearchResult:
        """Search with a text."""
        raise NotSupported(self.name, "search_by_text")

    def search_by_image(self, index: Any, data: bytes, k: int, options: Any) -> SearchResult:
        """Search with an encoded picture."""
        raise NotSupported(self.name, "search_by_image")

    def search_by_item(self, index: Any, item_id: str, k: int, options: Any) -> SearchResult:
        """Search with an item of the index itself: more like this."""
        raise NotSupported(self.name, "search_by_item")

    def sample_queries(self, index: Any) -> Sequence[SampleQuery]:
        """Return queries worth trying on an index."""
        return ()

    def demo(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the options that ``workbench demo`` submits, by job type, in the order of submission."""
        raise NotSupported(self.name, "demo")

    def offers(self, method: str) -> bool:
        """Say whether this adapter overrides a method of the contract."""
        return getattr(type(self), method) is not getattr(BaseAdapter, method)

    def job_types(self) -> list[str]:
        """Return the job types this adapter offers."""
        return [kind for kind, method in JOB_METHODS.items() if self.offers(method)]
