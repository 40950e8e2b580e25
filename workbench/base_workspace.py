"""The common interface of workspaces, local or on a server."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from workbench.errors import BadInput, WrongState

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


def check_page(limit: Any, offset: Any) -> None:
    """Raise unless the limit and offset of a list are whole numbers of at least 0; a limit may be None.

    Raises
    ------
    BadInput
        One of them is not.
    """
    for value in (offset if limit is None else limit, offset):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadInput(f"limit and offset must be at least 0, got limit={limit!r}, offset={offset!r}")


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
        system: bool | None = None,
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
        system : bool, optional
            Whether to log what the machine does every ten seconds, as ``run.system``; default: yes, unless
            ``WORKBENCH_SYSTEM_METRICS`` is ``0``.
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
    def runs(
        self,
        experiment: str | None = None,
        *,
        where: str | None = None,
        sort: str | Sequence[str] | None = None,
        archived: bool | None = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> Sequence[Run]:
        """Return runs, newest first.

        Parameters
        ----------
        experiment : str, optional
            Only of this experiment.
        where : str, optional
            A condition, such as ``"config.lr < 0.01 and tag:baseline"``. Fields are ``config.…`` (settings),
            ``metric.…`` (last values; ``.best``, ``.min``, ``.max`` and ``.count`` for others), ``tag``,
            ``tag.…``, ``name``, ``experiment``, ``status``, ``notes``, ``origin``, ``id``, ``job``, ``seed``,
            ``created``, ``finished``, ``seconds`` and ``archived``. Conditions are joined by ``and``, ``or``
            and ``not``; a value may end in ``*``, and several are ``status:(failed, lost)``.
        sort : str or sequence of str, optional
            Fields to sort by, such as ``"-metric.val/mAP"``; ``-`` means descending. Runs without the value
            come last.
        archived : bool or None
            Whether to return only archived runs, instead of only others; None for all.
        limit : int or None
            Maximum number; None for all.
        offset : int
            Skip the first N.

        Raises
        ------
        UnknownExperiment
            There is no experiment with that name.
        BadInput
            The condition or the order cannot be read; the message shows where.
        """

    @abstractmethod
    def count_runs(
        self, experiment: str | None = None, *, where: str | None = None, archived: bool | None = False
    ) -> int:
        """Return the number of runs that :meth:`runs` returns."""

    def group_runs(self, by: str, runs: Sequence[Run]) -> dict[Any, list[Run]]:
        """Return runs in groups: by the value of a setting or tag, or by experiment, status, name or seed.

        Parameters
        ----------
        by : str
            Such as ``"config.model.width"``, ``"tag.owner"`` or ``"status"``.
        runs : sequence of Run
            What :meth:`runs` returned.

        Returns
        -------
        dict
            Lists of runs by value, in order of first appearance; None for runs without one. Lists and
            dictionaries are JSON text.

        Raises
        ------
        BadInput
            Runs have no such field.
        """
        from workbench.runs.groups import grouped

        return grouped(by, runs)

    @abstractmethod
    def resume_run(self, run_id: int, step: int | None = None) -> Run:
        """Let a run that has ended go on in this process, as after a crash.

        Parameters
        ----------
        run_id : int
            The run.
        step : int, optional
            The step of the checkpoint that the training goes on from. Points behind it are set aside: they
            move to a new, archived run with the tag ``set_aside``. Files stay. Default: keep all points.

        Returns
        -------
        Run
            The run, which is running; its next automatic step is ``step`` + 1.

        Raises
        ------
        UnknownRun
            Not found.
        WrongState
            It is running.
        """

    @abstractmethod
    def experiments(self, *, archived: bool | None = False) -> list[str]:
        """Return the names of the experiments, sorted: those not archived, only archived ones, or all."""

    @abstractmethod
    def rename_experiment(self, name: str, new: str) -> None:
        """Give an experiment another name.

        Raises
        ------
        UnknownExperiment, BadInput
            There is no such experiment, or the new name is invalid.
        WrongState
            Another experiment has the new name.
        """

    @abstractmethod
    def archive_experiment(self, name: str) -> None:
        """Hide an experiment and its runs from lists."""

    @abstractmethod
    def restore_experiment(self, name: str) -> None:
        """Show an archived experiment in lists again."""

    @abstractmethod
    def delete_experiment(self, name: str) -> dict[str, int]:
        """Delete an experiment with its runs and their files; see ``Run.delete``.

        Raises
        ------
        WrongState
            One of its runs is running, or used by a job that is queued or running; nothing is deleted.
        """

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
        *,
        archived: bool | None = False,
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
        archived : bool or None
            Whether to return only archived jobs, instead of only others; None for all.
        """

    @abstractmethod
    def count_jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
        *,
        archived: bool | None = False,
    ) -> int:
        """Return the number of jobs, optionally only of a type or in some states."""

    @abstractmethod
    def job_types(self) -> list[str]:
        """Return the types of the existing jobs, sorted."""

    # Indexes -----------------------------------------------------------------------------------

    @abstractmethod
    def index_names(self, *, archived: bool = False) -> list[str]:
        """Return the names of the complete indexes, or of the archived ones, sorted."""

    @abstractmethod
    def rename_index(self, name: str, new: str) -> str:
        """Give an index another name, under which it is searched from then on; return it.

        Raises
        ------
        UnknownIndex, BadName
            There is no such index, or the new name could refer to another place.
        WrongState
            The new name is taken, or a job that is queued or running builds one of the two.
        """

    @abstractmethod
    def archive_index(self, name: str) -> str:
        """Hide an index from lists and searches; return its name."""

    @abstractmethod
    def restore_index(self, name: str) -> str:
        """Show an archived index in lists and searches again; return its name."""

    @abstractmethod
    def delete_index(self, name: str) -> dict[str, int]:
        """Delete an index, archived or not, with its files; return how many ``indexes`` and ``bytes``.

        Raises
        ------
        UnknownIndex
            There is no such index.
        WrongState
            A job that is queued or running builds it.
        """

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
