"""A local workspace: one folder with a database and all output of runs and jobs."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from typing_extensions import override

from workbench.adapter.contract import BaseAdapter
from workbench.base_workspace import BaseWorkspace, check_page
from workbench.errors import UnknownRun
from workbench.home import Home, as_id
from workbench.results.result import Better, Metric
from workbench.runs import experiments
from workbench.runs.local import LocalRun, resume, start
from workbench.runs.settling import settle_runs
from workbench.runs.system import Sampler, switched_on
from workbench.search import index_order, indexes
from workbench.search.searcher import Searcher
from workbench.store import records
from workbench.store.runs import RunRow

if TYPE_CHECKING:
    from workbench.compare import Comparison
    from workbench.compare.reading import Curves, Runs
    from workbench.jobs.local import LocalJob
    from workbench.runs.heartbeats import Hearing
    from workbench.runs.imports import Imported, OnProgress
    from workbench.values import Settings, Tags


class Workspace(Home, BaseWorkspace):
    """A workspace in a folder: the database and all files of runs and jobs.

    Parameters
    ----------
    path : path, optional
        The folder, created if missing; default: ``$WORKBENCH_HOME`` or ``./results``.
    database_url : str, optional
        The database; default: ``$WORKBENCH_DATABASE_URL``, or ``workbench.db`` in the folder.

    Raises
    ------
    BadInput
        The path is a file, or is not writable.
    """

    #: Last heartbeats of the runs that are logged to this server; None outside a server.
    hearing: Hearing | None = None

    @property
    @override
    def location(self) -> str:
        return str(self.path)

    @override
    def close(self) -> None:
        if "_sampler" in self.__dict__:
            self._sampler.stop()
        super().close()

    # Runs --------------------------------------------------------------------------------------

    @override
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
    ) -> LocalRun:
        run = start(
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
        return run.sample(self._sampler) if switched_on(system) else run

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler()

    @override
    def run(self, run_id: int) -> LocalRun:
        number = as_id(run_id)
        row = None if number is None else self.store.run(number)
        if row is not None and settle_runs(self.store, [row], hearing=self.hearing):
            row = self.store.run(row.id or 0)
        if row is None:
            raise UnknownRun(run_id, self.store.newest_run())
        return self.handles([row])[0]

    @override
    def runs(
        self,
        experiment: str | None = None,
        *,
        where: str | None = None,
        sort: str | Sequence[str] | None = None,
        archived: bool | None = False,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[LocalRun]:
        from workbench.runs.selection import check_settings, selection

        check_page(limit, offset)
        if where is not None:
            self._writer.flush()  # what this process logged is compared too
            settle_runs(self.store, hearing=self.hearing)
        chosen = selection(self.store, experiment, where=where, sort=sort, archived=archived)
        chosen |= {"limit": limit, "offset": offset}
        rows = self.store.runs(**chosen)
        if settle_runs(self.store, rows, hearing=self.hearing):
            rows = self.store.runs(**chosen)
        if where is not None and not rows and not offset:
            check_settings(self.store, where)
        return self.handles(rows)

    @override
    def count_runs(
        self, experiment: str | None = None, *, where: str | None = None, archived: bool | None = False
    ) -> int:
        from workbench.runs.selection import selection

        return self.store.count_runs(**selection(self.store, experiment, where=where, archived=archived))

    @override
    def resume_run(self, run_id: int, step: int | None = None) -> LocalRun:
        run = resume(self.run(run_id), self._writer, step)
        return run.sample(self._sampler) if switched_on(None) else run

    @override
    def experiments(self, *, archived: bool | None = False) -> list[str]:
        rows = self.store.experiments()
        return [row.name for row in rows if archived in (None, row.archived_at is not None)]

    @override
    def rename_experiment(self, name: str, new: str) -> None:
        experiments.rename_experiment(self.store, name, new)

    @override
    def archive_experiment(self, name: str) -> None:
        experiments.archive_experiment(self.store, name)

    @override
    def restore_experiment(self, name: str) -> None:
        experiments.archive_experiment(self.store, name, archived=False)

    @override
    def delete_experiment(self, name: str) -> dict[str, int]:
        settle_runs(self.store, hearing=self.hearing)
        return experiments.delete_experiment(self.store, name, self.runs_dir)

    @override
    def compare(
        self,
        run_ids: Sequence[int],
        *,
        statistic: str = "last",
        baseline: int | None = None,
        better: Mapping[str, Better | None] | None = None,
    ) -> Comparison:
        from workbench.compare import Comparison, RunSnapshot

        ids = [self._known_id(run_id) for run_id in run_ids]
        self._writer.flush()
        settle_runs(self.store, hearing=self.hearing)
        rows, summaries = self.store.run_table(ids), self.store.summary_table(ids)
        for requested, run_id in zip(run_ids, ids, strict=True):
            if run_id not in rows:
                raise UnknownRun(requested, self.store.newest_run())
        runs = [rows[run_id] for run_id in ids]
        shown = [
            RunSnapshot(run.id, run.name, run.experiment, run.status, run.config, summaries[run.id])
            for run in runs
        ]
        return Comparison(shown, self._declared(runs), statistic=statistic, baseline=baseline, better=better)

    @override
    def run_reader(self) -> Runs:
        from workbench.compare.reading import RunReader

        return RunReader(self.store, self._writer.flush, self.hearing)

    @override
    def curve_reader(self) -> Curves:
        from workbench.compare.reading import Curves

        return Curves(self.store)

    def _known_id(self, value: Any) -> int:
        number = as_id(value)
        if number is None:
            raise UnknownRun(value, self.store.newest_run())
        return number

    def _declared(self, runs: Sequence[RunRow]) -> dict[int, list[Metric]]:
        """Return the metrics that the adapters of the runs' jobs declare, by run."""
        from workbench.compare.reading import by_run

        job_of = {run.id: run.job_id for run in runs if run.job_id is not None}
        adapters = self.store.job_adapters(set(job_of.values())) if job_of else {}
        return by_run({run: adapters.get(job, "") for run, job in job_of.items()}, self.family_metrics)

    @override
    def family_metrics(self, families: Collection[str]) -> dict[str, list[Metric]]:
        from workbench.compare.reading import family_metrics

        return family_metrics(families)

    def _experiment_names(self) -> dict[int, str]:
        return {experiment.id or 0: experiment.name for experiment in self.store.experiments()}

    def handles(self, rows: Iterable[records.RunRecord]) -> list[LocalRun]:
        """Return handles for run rows already read, in the same order."""
        names = self._experiment_names()
        return [
            LocalRun(
                self.store,
                self._writer,
                self.runs_dir / str(row.id),
                row,
                names.get(row.experiment_id, records.DAMAGED),
            )
            for row in rows
        ]

    # Importing ---------------------------------------------------------------------------------

    def import_mlflow(self, uri: str, on_progress: OnProgress | None = None) -> Imported:
        """Import runs from MLflow: configs, tags, metrics with steps and times, status.

        Importing again adds what is new and never duplicates a run. Artifacts are not copied; deleted runs
        and traces are skipped. A file that cannot be read is named in ``passed_over`` of the result, and the
        rest is imported; in a folder, links that lead out of a run are not followed.

        Parameters
        ----------
        uri : str
            ``sqlite:///path/mlflow.db``, another database URL, or the path of such a file or of an ``mlruns``
            folder, which are read without MLflow; or ``https://server``, which needs MLflow's client.
        on_progress : callable, optional
            Called with the number of runs done, the number of runs, and the points so far.

        Raises
        ------
        BadInput
            No MLflow store was found there.
        MissingExtra
            The URI is a server, and MLflow's client is not installed.
        """
        from workbench.runs.imports.mlflow import import_mlflow

        return import_mlflow(self.store, uri, on_progress)

    def import_tensorboard(
        self,
        folder: str | os.PathLike[str],
        experiment: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Imported:
        """Import TensorBoard runs: scalars with steps and times, hyperparameters.

        Each folder with event files is a run, links to folders included. Importing again adds what is new and
        never duplicates a run, even if the folder was moved; a copy that was trained on is a run of its own.
        What TensorBoard no longer shows, since the training restarted at an earlier step, is removed. A file
        or record that cannot be read is named in ``passed_over`` of the result, and the rest is imported.

        Parameters
        ----------
        folder : path
            The folder to pass to ``tensorboard --logdir``.
        experiment : str, optional
            The experiment for the runs; default: the folder's name.
        on_progress : callable, optional
            Called with the number of runs done, the number of runs, and the points so far.

        Raises
        ------
        BadInput
            No event files were found.
        """
        from workbench.runs.imports.tensorboard import import_tensorboard

        return import_tensorboard(self.store, Path(folder), experiment, on_progress)

    # Jobs --------------------------------------------------------------------------------------

    @override
    def submit(
        self,
        type: str,
        adapter: str | BaseAdapter | None = None,
        options: Mapping[str, Any] | BaseModel | None = None,
        *,
        fail_below: Mapping[str, float] | str | None = None,
    ) -> LocalJob:
        from workbench.jobs import submission

        return submission.submit(self, type, adapter, options, fail_below=fail_below)

    @override
    def submit_notebook(
        self, path: str | os.PathLike[str], parameters: Mapping[str, Any] | None = None
    ) -> LocalJob:
        from workbench.jobs import submission

        return submission.submit_notebook(self, path, parameters)

    @override
    def job(self, job_id: int) -> LocalJob:
        from workbench.jobs import submission

        return submission.find(self, job_id)

    @override
    def jobs(
        self,
        type: str | None = None,
        status: str | Collection[str] | None = None,
        limit: int | None = 100,
        offset: int = 0,
        *,
        archived: bool | None = False,
    ) -> list[LocalJob]:
        from workbench.jobs import submission

        return submission.listed(self, type, status, limit, offset, archived=archived)

    @override
    def count_jobs(
        self,
        type: str | None = None,
        status: str | Collection[str] | None = None,
        *,
        archived: bool | None = False,
    ) -> int:
        return self.store.count_jobs(status, type=type, archived=archived)

    @override
    def job_types(self) -> list[str]:
        return self.store.job_types()

    # Indexes -----------------------------------------------------------------------------------

    @override
    def index_names(self, *, archived: bool = False) -> list[str]:
        if archived:
            return index_order.archived_names(self.indexes)
        return indexes.index_names(self.indexes)

    @override
    def rename_index(self, name: str, new: str) -> str:
        return index_order.rename_index(self.indexes, name, new, self._indexes_of_jobs())

    @override
    def archive_index(self, name: str) -> str:
        return index_order.archive_index(self.indexes, name, self._indexes_of_jobs())

    @override
    def restore_index(self, name: str) -> str:
        return index_order.restore_index(self.indexes, name)

    @override
    def delete_index(self, name: str) -> dict[str, int]:
        return index_order.delete_index(self.indexes, name, self._indexes_of_jobs())

    def _indexes_of_jobs(self) -> set[str]:
        """Return the names of the indexes that jobs are about to build."""
        jobs = self.store.active_jobs()
        return {str(job.options.get("name")) for job in jobs if job.type == "index_build"}

    @override
    def newest_index(self) -> str | None:
        return indexes.newest_index(self.indexes)

    @override
    def open_search(self, name: str, *, service: bool = False) -> Searcher:
        if service:
            from workbench.search.client import SearchClient

            return SearchClient(self.path).open_search(name)
        return indexes.open_index(self.indexes, name)
