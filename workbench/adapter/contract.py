"""The interface between a model family and the workbench.

The whole contract is :class:`BaseAdapter`. An adapter declares the options of each task (a pydantic model),
runs jobs, and searches the indexes that ``index_build`` jobs build. The workbench turns the options into a
form, an HTTP schema and a command-line check, and knows nothing else about the family.

Adapters are declared in the entry-point group ``workbench.adapters``; the entry point names an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pydantic import BaseModel

from workbench.errors import NotSupported
from workbench.results.explanation import Explanation, Term
from workbench.results.hits import Hit, SampleQuery, SearchResult
from workbench.results.result import Metric, Result
from workbench.search.filters import FilterField

if TYPE_CHECKING:
    from workbench.runs.run import Run


#: The type of the job that runs ``check_data``. Its options are what the adapter's ``options`` returns for
#: it, or else :class:`~workbench.adapter.options.DataCheck`.
DATA_CHECK = "data_check"


#: The standard job types, and the adapter method that runs each.
JOB_METHODS: Mapping[str, str] = {"train": "train", "eval": "evaluate", "index_build": "build_index"}


class WorkspaceView(Protocol):
    """The part of a workspace that an adapter's jobs may use."""

    @property
    def path(self) -> Path:
        """The workspace folder."""

    @property
    def cache(self) -> Path:
        """A folder for data that can be recomputed."""

    @property
    def indexes(self) -> Path:
        """The folder of the indexes, with one subfolder per index."""

    def run(self, run_id: int) -> Run:
        """Return a run by id."""

    def runs(self, experiment: str | None = None) -> Sequence[Run]:
        """Return runs, newest first."""

    def count_jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
    ) -> int:
        """Return the number of jobs, optionally only of a type or in some states."""


class JobContext(Protocol):
    """The job, as passed to the adapter method that runs it."""

    @property
    def id(self) -> int:
        """The job's id."""

    @property
    def workspace(self) -> WorkspaceView:
        """The workspace the job belongs to."""

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Report progress; cheap enough for an inner loop. Raises if the job was cancelled."""

    def write_file(self, name: str, text: str) -> Path:
        """Write a text file beside the job's notebook."""

    def start_run(
        self, experiment: str, *, name: str | None = None, config: Mapping[str, Any] | None = None
    ) -> Run:
        """Start a run that belongs to this job."""


class BaseAdapter:
    """One family of models. Subclass it, set the names, and implement the methods that the family offers."""

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    metrics: ClassVar[Sequence[Metric]] = ()

    def options(self, task: str) -> type[BaseModel]:
        """Return the schema of a task's options: a job type or ``"search"``.

        For ``"data_check"`` it may return a schema with at least ``source`` and ``thorough``.
        """
        raise NotSupported(self.name, f"options for {task!r}")

    def find_problems(self, task: str, options: Any, workspace: WorkspaceView) -> Iterable[tuple[str, str]]:
        """Find what keeps a job from beginning: a missing run or file, or a name that is not allowed.

        It is called before a job is queued, so it must be quick: it reads no collection and loads no model.

        Parameters
        ----------
        task : str
            The job's type.
        options : model
            Its options, of the schema for that type.
        workspace : WorkspaceView
            The workspace of the job.

        Returns
        -------
        iterable of (option, message)
            One pair per problem; none if the job can begin.
        """
        return ()

    def metric_names(self, task: str, options: Any) -> Sequence[str] | None:
        """Return the names of the metrics that a job's result can have, so that floors are checked at once.

        Returns
        -------
        sequence of str or None
            The most important names first. ``*`` in a name stands for what the data decides. None, the
            default: unknown, so any name is accepted until the result is there.
        """
        return None

    def check_data(
        self,
        source: str,
        folder: Path,
        *,
        thorough: bool = False,
        progress: Callable[[float, float | None, str], None] | None = None,
    ) -> Result:
        """Say what a source of data holds, before anything long is started with it.

        Parameters
        ----------
        source : str
            What the options of a training would name.
        folder : Path
            Where lists of problems and samples are written, made if missing; ``made`` of the result names
            the files.
            ``made["options"]``, if there is one, maps job types to the options of a job that uses this
            source, such as ``{"train": {"collection": "photos"}}``; a panel offers their forms, filled in.
        thorough : bool
            Whether to open every file whole. If not, it ends in seconds, and says what was not looked at.
        progress : callable, optional
            Called as ``progress(done, total, message)``.
        """
        raise NotSupported(self.name, "check_data")

    def train(self, options: Any, job: JobContext) -> Result:
        """Train a model."""
        raise NotSupported(self.name, "train")

    def evaluate(self, options: Any, job: JobContext) -> Result:
        """Evaluate a model."""
        raise NotSupported(self.name, "evaluate")

    def build_index(self, options: Any, job: JobContext) -> Result:
        """Build an index folder in the workspace."""
        raise NotSupported(self.name, "build_index")

    def quick_index(self, source: str, options: Any) -> Mapping[str, Any]:
        """Return the options of the ``index_build`` job that makes a collection searchable at once.

        Nothing has to be trained for it. ``workbench index`` submits the job.

        Parameters
        ----------
        source : str
            Name or path of the collection, as the user typed it.
        options : model
            Of the schema ``"quick_index"``, which has at least ``name``; ``--encoder`` and ``--option`` set
            the others.
        """
        raise NotSupported(self.name, "quick_index")

    def load_model(self, path: Path) -> Any:
        """Open a checkpoint."""
        raise NotSupported(self.name, "load_model")

    def load_index(self, path: Path) -> Any:
        """Open an index folder for searching; the returned value is passed to the search methods."""
        raise NotSupported(self.name, "load_index")

    def describe_index(self, index: Any) -> dict[str, Any]:
        """Describe an index for a search page: ``{"title", "subtitle", "count", "credits": […]}``.

        Optional keys: ``"note"``, a sentence below the subtitle, which visitors read too; ``"lead":
        "picture"``, if pictures find more than words do; and ``"by"``, the ways the index can be searched, of
        ``"text"``, ``"image"`` and ``"item"``, if they are fewer than the adapter's; and ``"choices"``, by
        search option the values that make sense on this index, such as ``{"target": ["pictures"]}``: a page
        offers no others, and leaves out an option that has only one; and ``"private_fields"``, the fields of
        :meth:`filter_fields` that tell where files are, which a published page refuses.
        """
        return {}

    def search_by_text(self, index: Any, query: str, k: int, options: Any) -> SearchResult:
        """Search with text."""
        raise NotSupported(self.name, "search_by_text")

    def search_by_image(self, index: Any, data: Any, k: int, options: Any) -> SearchResult:
        """Search with a picture, as :meth:`open_picture` returned it."""
        raise NotSupported(self.name, "search_by_image")

    def open_picture(self, data: bytes) -> Any:
        """Decode an encoded picture; ``search_by_image`` gets what this returns. Default: the bytes.

        A search service calls it in another thread, at the same time as searches, so that a picture that
        takes long does not hold up others.
        """
        return data

    def search_by_item(self, index: Any, item_id: str, k: int, options: Any) -> SearchResult:
        """Search with an item of the index, for more like it."""
        raise NotSupported(self.name, "search_by_item")

    def explain(self, index: Any, left: Term, right: Term, options: Any) -> Explanation:
        """Explain why two things are near, or far from each other.

        Parameters
        ----------
        index : object
            The index, as ``load_index`` returned it.
        left, right : Term
            A text, a picture as :meth:`open_picture` returned it, or the id of an item of the index.
        options : model
            The search options.

        Raises
        ------
        BadInput
            A text says nothing that the model could read.
        NotFound
            The index has no such item.
        """
        raise NotSupported(self.name, "explain")

    def sample_queries(self, index: Any) -> Sequence[SampleQuery]:
        """Return queries worth trying on an index."""
        return ()

    def sample_items(self, index: Any, count: int) -> Sequence[Hit]:
        """Return at most ``count`` items of an index to start a search with, each with its thumbnail.

        A page that leads with pictures shows them while nothing was searched for.
        """
        return ()

    def item_file(self, index: Any, item_id: str) -> Path:
        """Return the file of an item, once it is known to be the one that was indexed.

        Only those who may read the machine's files get it: see ``Searcher.item_file``.

        Raises
        ------
        NotFound
            The index has no such item, it has no file of its own, or the file is missing.
        WrongState
            The file has changed since it was indexed, or its path leads elsewhere by now.
        """
        raise NotSupported(self.name, "item_file")

    def filter_fields(self, index: Any) -> Sequence[FilterField]:
        """Return the fields that a search of an index can be filtered by, with their most frequent values.

        An adapter that has them has a search option ``filter``, a text of schema format ``"filter"`` in the
        language of :func:`workbench.parse_filter`. Called when somebody asks for suggestions, so the values
        may take a moment; of very many items, count a part.
        """
        raise NotSupported(self.name, "filter_fields")

    def demo(self, collection: str = "") -> Mapping[str, Mapping[str, Any]]:
        """Return the options that ``workbench demo`` submits, by job type, in the order of submission.

        ``collection`` is what the user names with ``--collection``, to be used instead of the adapter's own
        data; an adapter without that choice leaves the parameter out.
        """
        raise NotSupported(self.name, "demo")

    def notebooks(self) -> Mapping[str, Path]:
        """Return notebooks of the adapter's own that execute its jobs, by job type.

        The generic notebooks execute the other types: one cell that calls the method above. A notebook of
        one's own starts with :func:`workbench.start_job` and has the steps in cells, so that a person can
        read and change them; its parameters cell names each option, and ``workbench notebooks sync`` writes
        that cell from the schema. The files belong to the adapter's package.
        """
        return {}

    def notebook(self, task: str, options: Mapping[str, Any]) -> Path | None:
        """Return the notebook that executes one job, or None: the generic one. Default: of :meth:`notebooks`.

        Parameters
        ----------
        task : str
            The job's type.
        options : mapping
            Its options, checked, as plain JSON values.
        """
        return self.notebooks().get(task)

    def template(self) -> Path | None:
        """Return a folder of starter files for a family made of this one's parts, or None.

        ``workbench new adapter NAME --from THIS`` writes them over the general ones: ``*.tmpl`` files, in
        which ``$name``, ``$title`` and ``$distribution`` are replaced; those in ``package/`` go to ``NAME/``.
        """
        return None

    def offers(self, method: str) -> bool:
        """Return whether this adapter overrides a method of the contract."""
        return getattr(type(self), method) is not getattr(BaseAdapter, method)

    def job_types(self) -> list[str]:
        """Return the job types this adapter offers; a check of data comes beside them."""
        return [kind for kind, method in JOB_METHODS.items() if self.offers(method)]
