"""The common interface of workspaces, local or on a server."""

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
    from workbench.compare import Comparison
    from workbench.compare.reading import Curves, Runs
    from workbench.compare.results import ResultsComparison
    from workbench.jobs.job import Job
    from workbench.results.result import Better, Metric
    from workbench.runs.run import Run
    from workbench.search.searcher import Searcher
    from workbench.values import Settings, Tags


class BaseWorkspace(ABC):
    """Experiments, runs, jobs and indexes, local or on a server.

    :class:`~workbench.workspace.Workspace` is a local folder; ``workbench.connect`` returns one on a server.
    Code written against this class works with both.
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
        """The folder, or the server's URL."""

    @abstractmethod
    def close(self) -> None:
        """Save queued points and close all connections; jobs keep running."""

    # Runs --------------------------------------------------------------------------------------

    @abstractmethod
    def start_run(
        self,
        experiment: str,
        name: str | None = None,
        config: Settings | None = None,
        job_id: int | None = None,
        *,
        tags: Tags | None = None,
        notes: str = "",
        seed: int | None = None,
        better: Mapping[str, Better] | Sequence[Metric] | None = None,
    ) -> Run:
        """Start a run; use it in a ``with`` statement, or call its ``finish``.

        It also records the git revision of the current folder, and the environment.

        Parameters
        ----------
        experiment : str
            The experiment it belongs to; created if new.
        name : str, optional
            Default: ``run-<id>``.
        config : mapping, dataclass, pydantic model or argparse.Namespace, optional
            Settings; they may be nested. Values without a plain JSON form are kept as text.
        tags : mapping, or collection of str, optional
            Tags with values; from a collection, tags without.
        job_id : int, optional
            The job that creates the run.
        notes : str
            Free text.
        seed : int, optional
            The random seed; default: ``config["seed"]`` if that is a whole number.
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
            Not found.
        """

    @abstractmethod
    def runs(self, experiment: str | None = None) -> Sequence[Run]:
        """Return runs, newest first; of one experiment if given.

        Raises
        ------
        UnknownExperiment
            There is no experiment with that name.
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
        """Compare runs: which settings differ, and which run is best by each metric.

        Parameters
        ----------
        run_ids : sequence of int
            The runs, in column order.
        statistic : {"last", "best", "min", "max"}
            The statistic of each metric to compare.
        baseline : int, optional
            The run that the others are compared with.
        better : mapping of str to {"higher", "lower", None}, optional
            Directions by name or pattern; they override what was declared.

        Raises
        ------
        UnknownRun, BadInput
            See :class:`workbench.compare.Comparison`.
        """

    @abstractmethod
    def run_reader(self) -> Runs:
        """Return a reader that polls runs and their summaries, for the compare panel."""

    @abstractmethod
    def curve_reader(self) -> Curves:
        """Return a reader that caches curves and reads only new points."""

    @abstractmethod
    def family_metrics(self, families: Collection[str]) -> dict[str, list[Metric]]:
        """Return the metrics that adapters declare, ordered by adapter name; unknown adapters are skipped.

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
        """Compare the results of jobs, and test which differences are significant.

        Parameters
        ----------
        job_ids : sequence of int
            Jobs that have a result, in column order.
        baseline : int, optional
            The job that the others are compared with; default: the first.
        better : mapping of str to {"higher", "lower", None}, optional
            Directions by name or pattern; they override what was declared.
        seed : int
            Seed of the bootstrap.

        Raises
        ------
        UnknownJob, WrongState, BadInput
            A job is not found or has no result, or no job is given.
        """
        from workbench.compare.reading import by_run
        from workbench.compare.results import NamedResult, ResultsComparison

        jobs = [self.job(job_id) for job_id in job_ids]
        named = []
        for job in jobs:
            if job.result is None:
                raise WrongState(
                    f"job {job.id} is {job.status}: it has no result",
                    hint="Only jobs that succeeded can be compared.",
                )
            title = job.options.get("name") or job.options.get("experiment") or job.type
            named.append(NamedResult(job.id, f"#{job.id} {title}", job.result, job.options))
        declared = by_run({job.id: job.adapter or "" for job in jobs}, self.family_metrics)
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
        """Queue a job and make sure that a worker runs it.

        Parameters
        ----------
        type : str
            ``train``, ``eval``, ``index_build``, or another type the adapter offers.
        adapter : str or BaseAdapter, optional
            The adapter; default: the only one installed.
        options : mapping or model, optional
            The adapter's options for that type, validated before the job is queued.
        fail_below : mapping or JSON text, optional
            Minimum values of the result's metrics: ``{"t2i/R@10@128": 0.35}``. Names are checked
            before the job is queued, if the adapter can tell them. Below one the job fails; its result is
            kept.

        Raises
        ------
        BadOptions
            Invalid options; the message names every problem.
        BadInput, NotSupported, UnknownAdapter
            The adapter is not found or does not offer that type.
        """

    @abstractmethod
    def submit_notebook(
        self, path: str | os.PathLike[str], parameters: Mapping[str, Any] | None = None
    ) -> Job:
        """Queue your own notebook as a job of type ``notebook``.

        The notebook is copied now and runs in its own folder; ``parameters`` override the values that its
        cell tagged ``parameters`` assigns.

        Parameters
        ----------
        path : path
            The notebook, on this machine.
        parameters : mapping, optional
            Values for the names that the cell declares.

        Raises
        ------
        BadOptions
            A name is not declared, or a value has the wrong type.
        BadInput
            The notebook is not found, or its parameters cell cannot be read.
        """

    @abstractmethod
    def job(self, job_id: int) -> Job:
        """Return a job by id.

        Raises
        ------
        UnknownJob
            Not found.
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
            Only jobs of this type.
        status : str or several, optional
            Only jobs in one of these states.
        limit : int or None
            Maximum number; None for all.
        offset : int
            Skip the newest N.
        """

    @abstractmethod
    def count_jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
    ) -> int:
        """Return the number of jobs, optionally only of a type or in some states."""

    @abstractmethod
    def job_types(self) -> list[str]:
        """Return the types of the existing jobs, sorted."""

    # Indexes -----------------------------------------------------------------------------------

    @abstractmethod
    def index_names(self) -> list[str]:
        """Return the names of the complete indexes, sorted."""

    @abstractmethod
    def newest_index(self) -> str | None:
        """Return the most recently built index (on a server: the last by name), or None."""

    @abstractmethod
    def open_search(self, name: str, *, service: bool = False) -> Searcher:
        """Open an index for searching, made by any adapter.

        Parameters
        ----------
        name : str
            The index.
        service : bool
            Whether to search through the workspace's search service: it opens the index once for all clients,
            and this process loads neither the model nor the adapter.

        Raises
        ------
        UnknownIndex
            There is no index with that name.
        CorruptFile
            Its manifest cannot be read, or names no adapter.
        """
