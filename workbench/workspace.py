"""The object people hold: one folder with a database and everything that runs and jobs made."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from workbench.adapter.contract import BaseAdapter
from workbench.errors import UnknownExperiment, UnknownRun, WrongState
from workbench.home import Home, as_id
from workbench.results.result import Metric
from workbench.runs import description
from workbench.runs.run import Run, start
from workbench.runs.settling import settle_runs
from workbench.search import indexes
from workbench.search.searcher import Searcher
from workbench.store import records
from workbench.store.runs import RunRow

if TYPE_CHECKING:
    from workbench.compare import Better, Comparison
    from workbench.compare.reading import Curves, Runs
    from workbench.compare.results import ResultsComparison
    from workbench.jobs.job import Job
    from workbench.runs.imports import Imported, OnProgress


class Workspace(Home):
    """One folder holding the database and every artifact.

    Parameters
    ----------
    path : path, optional
        The folder, made if it is not there; ``$WORKBENCH_HOME`` or ``./results`` if not given.
    database_url : str, optional
        A database elsewhere; ``$WORKBENCH_DATABASE_URL``, or ``workbench.db`` in the folder, if not given.

    Raises
    ------
    BadInput
        The path is a file, or cannot be written.
    """

    # Runs --------------------------------------------------------------------------------------

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
        return start(
            self.store,
            self._writer,
            self.runs_dir,
            experiment,
            name=name,
            config=config,
            tags=tags,
            notes=notes,
            seed=seed,
            job_id=job_id,
            better=better,
        )

    def run(self, run_id: int) -> Run:
        """Return a run by id.

        Raises
        ------
        UnknownRun
            There is none.
        """
        number = as_id(run_id)
        row = None if number is None else self.store.run(number)
        if row is not None and settle_runs(self.store, [row], hearing=self.hearing):
            row = self.store.run(row.id or 0)
        if row is None:
            raise UnknownRun(run_id, self.store.newest_run())
        return self._handle(row, self._experiment_names())

    def runs(self, experiment: str | None = None) -> list[Run]:
        """Return runs, newest first; those of one experiment if it is named.

        Raises
        ------
        UnknownExperiment
            There is no experiment of that name.
        """
        names = self._experiment_names()
        experiment_id = None
        if experiment is not None:
            experiment_id = next((key for key, name in names.items() if name == experiment), None)
            if experiment_id is None:
                raise UnknownExperiment(experiment, names.values())
        rows = self.store.runs(experiment_id=experiment_id)
        if settle_runs(self.store, rows, hearing=self.hearing):
            rows = self.store.runs(experiment_id=experiment_id)
        return [self._handle(row, names) for row in rows]

    def experiments(self) -> list[str]:
        """Return the names of the experiments, sorted."""
        return sorted(self._experiment_names().values())

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
        from workbench.compare import Comparison, RunRecord

        ids = [self._known_id(run_id) for run_id in run_ids]
        self._writer.flush()
        settle_runs(self.store, hearing=self.hearing)
        rows, summaries = self.store.run_table(ids), self.store.summary_table(ids)
        for given, run_id in zip(run_ids, ids, strict=True):
            if run_id not in rows:
                raise UnknownRun(given, self.store.newest_run())
        runs = [rows[run_id] for run_id in ids]
        shown = [
            RunRecord(run.id, run.name, run.experiment, run.status, run.config, summaries[run.id])
            for run in runs
        ]
        return Comparison(shown, self._declared(runs), statistic=statistic, baseline=baseline, better=better)

    def run_reader(self) -> Runs:
        """Return what reads runs and their summaries again and again, for a panel that compares them."""
        from workbench.compare.reading import RunReader

        return RunReader(self.store, self._writer.flush, self.hearing)

    def curve_reader(self) -> Curves:
        """Return what reads curves once, and then only what was logged since."""
        from workbench.compare.reading import Curves

        return Curves(self.store)

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
        declared = self._family_metrics({job.adapter for job in jobs})
        return ResultsComparison(named, declared, baseline=baseline, better=better, seed=seed)

    def _known_id(self, given: Any) -> int:
        number = as_id(given)
        if number is None:
            raise UnknownRun(given, self.store.newest_run())
        return number

    def _declared(self, runs: Sequence[RunRow]) -> list[Metric]:
        """Return what is declared of the runs' metrics: by the adapters of their jobs, then by the runs."""
        from workbench.compare.reading import said_directions

        job_ids = {run.job_id for run in runs if run.job_id is not None}
        families = set(self.store.job_adapters(job_ids).values()) if job_ids else set()
        return self._family_metrics(families) + said_directions(runs)

    def _family_metrics(self, families: Collection[str]) -> list[Metric]:
        """Return what adapters declare of their metrics, in the order of their names."""
        from workbench.compare.reading import family_metrics

        return family_metrics(families)

    def _experiment_names(self) -> dict[int, str]:
        return {experiment.id or 0: experiment.name for experiment in self.store.experiments()}

    def _handle(self, row: records.Run, names: Mapping[int, str]) -> Run:
        return Run(self.store, self._writer, self.runs_dir / str(row.id), row, names[row.experiment_id])

    # From elsewhere ----------------------------------------------------------------------------

    def import_mlflow(self, uri: str, on_progress: OnProgress | None = None) -> Imported:
        """Bring the runs of an MLflow store here: configs, tags, metrics with steps and times, status.

        Brought again, runs are continued and never doubled. Artifacts stay where they are; deleted runs and
        traces are left out.

        Parameters
        ----------
        uri : str
            ``sqlite:///path/mlflow.db``, another database's address, the path of such a file or of a folder
            ``mlruns``, which are read without MLflow; or ``https://server``, which needs its client.
        on_progress : callable, optional
            Called with the runs done, how many there are, and the points so far.

        Raises
        ------
        BadInput
            There is no MLflow store.
        MissingExtra
            A server was named, and MLflow's client is not installed.
        """
        from workbench.runs.imports.mlflow import import_mlflow

        return import_mlflow(self.store, uri, on_progress)

    def import_tensorboard(
        self,
        folder: str | os.PathLike[str],
        experiment: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Imported:
        """Bring runs that were written for TensorBoard here: scalars with steps and times, hyperparameters.

        Each folder with event files is a run. Brought again, runs are continued and never doubled, also where
        the folder was moved.

        Parameters
        ----------
        folder : path
            What ``tensorboard --logdir`` is given.
        experiment : str, optional
            The experiment they go to; called as the folder if not given.
        on_progress : callable, optional
            Called with the runs done, how many there are, and the points so far.

        Raises
        ------
        BadInput
            There are no event files.
        """
        from workbench.runs.imports.tensorboard import import_tensorboard

        return import_tensorboard(self.store, Path(folder), experiment, on_progress)

    # Jobs --------------------------------------------------------------------------------------

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
        from workbench.jobs import submission

        return submission.submit(self, type, adapter, options, fail_below=fail_below)

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
        from workbench.jobs import submission

        return submission.submit_notebook(self, path, parameters)

    def job(self, job_id: int) -> Job:
        """Return a job by id.

        Raises
        ------
        UnknownJob
            There is none.
        """
        from workbench.jobs import submission

        return submission.find(self, job_id)

    def jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
        limit: int | None = 100,
        offset: int = 0,
    ) -> list[Job]:
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
        from workbench.jobs import submission

        return submission.listed(self, type, status, limit, offset)

    def count_jobs(
        self,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
    ) -> int:
        """Return how many jobs there are, of a type and in some states where they are given."""
        return self.store.count_jobs(status, type=type)

    def job_types(self) -> list[str]:
        """Return the types of the jobs there are, sorted."""
        return self.store.job_types()

    # Indexes -----------------------------------------------------------------------------------

    def index_names(self) -> list[str]:
        """Return the names of the indexes that are whole, sorted."""
        return indexes.index_names(self.indexes)

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
        if service:
            from workbench.search.client import SearchClient

            return SearchClient(self.path).open_search(name)
        return indexes.open_index(self.indexes, name)
