"""What people hold: a workspace, in a folder of this machine or on a server."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from workbench.errors import WrongState

if TYPE_CHECKING:
    from workbench.adapter.contract import BaseAdapter
    from workbench.compare import Better, Comparison
    from workbench.compare.reading import Curves, Runs
    from workbench.compare.results import ResultsComparison
    from workbench.jobs.job import Job
    from workbench.results.result import Metric
    from workbench.runs import description
    from workbench.runs.run import Run
    from workbench.search.searcher import Searcher


class BaseWorkspace(ABC):
    """Experiments, runs, jobs and indexes, wherever they are.

    :class:`~workbench.workspace.Workspace` is a folder of this machine, and ``workbench.connect`` returns one
    on a server. What is written against this class works with both.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    @abstractmethod
    def location(self) -> str:
        """The folder, or the address of the server."""

    @abstractmethod
    def close(self) -> None:
        """Keep what is queued and close every connection; jobs go on."""

    # Runs --------------------------------------------------------------------------------------

    @abstractmethod
    def start_run(
        self,
        experiment: str,
        name: str | None = None,
        config: Mapping[str, Any] | BaseModel | None = None,
        job_id: int | None = None,
        *,
        tags: Mapping[str, Any] | None = None,
        notes: str = "",
        seed: int | None = None,
        better: description.Better | Sequence[Metric] | None = None,
    ) -> Run:
        """Start a run; use it in a ``with`` statement, or call its ``finish``.

        Beside what is given it keeps the git revision of the current folder and what it runs on.

        Parameters
        ----------
        experiment : str
            The question it belongs to; a new one is made.
        name : str, optional
            ``run-<id>`` if not given.
        config, tags : mapping, optional
            Anything with a plain JSON form, nested as you like.
        job_id : int, optional
            The job that makes the run.
        notes : str
            What to remember of it, in words.
        seed : int, optional
            The random seed; ``config["seed"]`` if not given and a whole number.
        better : mapping of str to {"higher", "lower"}, or sequence of Metric, optional
            Direction by metric name or glob pattern (``{"val/*": "higher"}``). A metric without one has no
            best value.
        """

    @abstractmethod
    def run(self, run_id: int) -> Run:
        """Return a run by id.

        Raises
        ------
        UnknownRun
            There is none.
        """

    @abstractmethod
    def runs(self, experiment: str | None = None) -> Sequence[Run]:
        """Return runs, newest first; those of one experiment if it is named.

        Raises
        ------
        UnknownExperiment
            There is no experiment of that name.
        """

    @abstractmethod
    def experiments(self) -> list[str]:
        """Return the names of the experiments, sorted."""

    # Comparing ---------------------------------------------------------------------------------

    @abstractmethod
    def compare(
        self,
        run_ids: Sequence[int],
        *,
        statistic: str = "last",
        baseline: int | None = None,
        better: Mapping[str, Better | None] | None = None,
    ) -> Comparison:
        """Compare runs: how their configs differ, and which is best at what.

        Parameters
        ----------
        run_ids : sequence of int
            In the order of the columns.
        statistic : {"last", "best", "min", "max"}
            Which number of each metric counts.
        baseline : int, optional
            The run that the others are held against.
        better : mapping of str to {"higher", "lower", None}, optional
            Directions by name or pattern that hold instead of what was declared.

        Raises
        ------
        UnknownRun, BadInput
            See :class:`workbench.compare.Comparison`.
        """

    @abstractmethod
    def run_reader(self) -> Runs:
        """Return what reads runs and their summaries again and again, for a panel that compares them."""

    @abstractmethod
    def curve_reader(self) -> Curves:
        """Return what reads curves once, and then only what was logged since."""

    @abstractmethod
    def family_metrics(self, families: Collection[str]) -> list[Metric]:
        """Return what adapters declare of their metrics, in the order of their names; unknown ones nothing.

        Parameters
        ----------
        families : collection of str
            Names of adapters.
        """

    def compare_results(
        self,
        job_ids: Sequence[int],
        *,
        baseline: int | None = None,
        better: Mapping[str, Better | None] | None = None,
        seed: int = 0,
    ) -> ResultsComparison:
        """Put the results of jobs beside each other, and say which differences are more than chance.

        Parameters
        ----------
        job_ids : sequence of int
            Jobs that have a result, in the order of the columns.
        baseline : int, optional
            The job that the others are held against; the first if not given.
        better : mapping of str to {"higher", "lower", None}, optional
            Directions by name or pattern that hold instead of what was declared.
        seed : int
            Of the bootstrap.

        Raises
        ------
        UnknownJob, WrongState, BadInput
            No such job, one without a result, or none at all.
        """
        from workbench.compare.results import NamedResult, ResultsComparison

        jobs = [self.job(job_id) for job_id in job_ids]
        named = []
        for job in jobs:
            if job.result is None:
                raise WrongState(
                    f"job {job.id} is {job.status}: it has no result to compare",
                    hint="Compare jobs that have succeeded.",
                )
            called = job.options.get("name") or job.options.get("experiment") or job.type
            named.append(NamedResult(job.id, f"#{job.id} {called}", job.result, job.options))
        declared = self.family_metrics({job.adapter for job in jobs})
        return ResultsComparison(named, declared, baseline=baseline, better=better, seed=seed)

    # Jobs --------------------------------------------------------------------------------------

    @abstractmethod
    def submit(
        self,
        type: str,  # noqa: A002  # the word for it everywhere
        adapter: str | BaseAdapter | None = None,
        options: Mapping[str, Any] | BaseModel | None = None,
        *,
        fail_below: Mapping[str, float] | str | None = None,
    ) -> Job:
        """Queue a job and see to it that a worker runs it.

        Parameters
        ----------
        type : str
            ``train``, ``eval``, ``index_build``, or another type the adapter offers.
        adapter : str or BaseAdapter, optional
            The family; the only one installed if not given.
        options : mapping or model, optional
            The adapter's options for that type. Checked before anything is queued.
        fail_below : mapping or JSON text, optional
            Metrics of the result that must reach a value: ``{"R@10": 0.35}``. Below it the job fails, with
            its result kept.

        Raises
        ------
        BadOptions
            Options that do not fit; every problem is named.
        BadInput, NotSupported, UnknownAdapter
            A type that the adapter does not offer, or no such adapter.
        """

    @abstractmethod
    def submit_notebook(
        self, path: str | os.PathLike[str], parameters: Mapping[str, Any] | None = None
    ) -> Job:
        """Queue a notebook of your own as a job; its type is ``notebook``.

        What is executed is the notebook as it is now, in its own folder, with ``parameters`` in place of
        what its cell tagged ``parameters`` assigns.

        Parameters
        ----------
        path : path
            The notebook, on this machine.
        parameters : mapping, optional
            Values for names that it declares.

        Raises
        ------
        BadOptions
            A name that is not declared, or a value of another type than the notebook says.
        BadInput
            No such notebook, or its parameters cell cannot be read.
        """

    @abstractmethod
    def job(self, job_id: int) -> Job:
        """Return a job by id.

        Raises
        ------
        UnknownJob
            There is none.
        """

    @abstractmethod
    def jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
        limit: int | None = 100,
        offset: int = 0,
    ) -> Sequence[Job]:
        """Return jobs, newest first, one page at a time.

        Parameters
        ----------
        type : str, optional
            Only those of one type.
        status : str or several, optional
            Only those in one of these states.
        limit : int or None
            At most that many; None for all.
        offset : int
            How many of the newest to pass over.
        """

    @abstractmethod
    def count_jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
    ) -> int:
        """Return how many jobs there are, of a type and in some states where they are given."""

    @abstractmethod
    def job_types(self) -> list[str]:
        """Return the types of the jobs there are, sorted."""

    # Indexes -----------------------------------------------------------------------------------

    @abstractmethod
    def index_names(self) -> list[str]:
        """Return the names of the indexes that are whole, sorted."""

    @abstractmethod
    def newest_index(self) -> str | None:
        """Return the index that was built last; on a server, the last one by name. None without any."""

    @abstractmethod
    def open_search(self, name: str, *, service: bool = False) -> Searcher:
        """Open an index for searching, whatever family made it.

        Parameters
        ----------
        name : str
            The index.
        service : bool
            Whether the workspace's search service holds it instead of this process: opened once for all who
            ask, and this process loads neither the model nor the adapter.

        Raises
        ------
        UnknownIndex
            There is none of that name.
        CorruptFile
            Its manifest cannot be read, or names no adapter.
        """
