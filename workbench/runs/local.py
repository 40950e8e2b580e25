"""Local runs: their points go to the workspace's database, their files into its folder."""

from __future__ import annotations

import functools
import multiprocessing.util
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from typing_extensions import override

from workbench.errors import BadInput, UnknownRun
from workbench.home import Home
from workbench.host import processes
from workbench.host.files import delete_folder, move_whole
from workbench.results.result import Better, Metric
from workbench.runs.description import check_experiment, check_notes, check_tags, new_row, said_of
from workbench.runs.files import KeptFiles
from workbench.runs.fixed import summary_of
from workbench.runs.kept_files import ArtifactFile, CheckpointFile
from workbench.runs.media import MediaFile
from workbench.runs.order import check_new_name
from workbench.runs.run import Run
from workbench.runs.settling import settle_runs
from workbench.runs.system import Sampler
from workbench.store import records
from workbench.store.database import patiently
from workbench.store.outcome import SYSTEM
from workbench.store.store import Store
from workbench.store.writer import Writer
from workbench.values import Settings, Tags, as_step


class LocalRun(Run):
    """A run of a local workspace.

    Parameters
    ----------
    store : Store
        The workspace's database.
    writer : Writer
        Writes the logged points.
    folder : Path
        The run's folder, named by its id.
    row : records.RunRecord
        The run's row.
    experiment : str
        The experiment it belongs to.
    """

    def __init__(
        self, store: Store, writer: Writer, folder: Path, row: records.RunRecord, experiment: str
    ) -> None:
        super().__init__(row, experiment)
        self._store = store
        self._points = writer
        self._files = KeptFiles(store, folder)
        self._sampler: Sampler | None = None
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the handle as what another process opens it with; the run stays this process's."""
        self._writer.flush()  # the other process counts its steps on from here
        url = self._store.url.render_as_string(hide_password=False)
        return _open_again, (str(self.folder.parents[1]), url, self._id)

    @property
    @override
    def _writer(self) -> Writer:
        return self._points

    @override
    def refresh(self) -> Self:
        row = self._read()
        if row.status == "running" and settle_runs(self._store, [row]):
            row = self._read()
        self._row, self._over = row, row.status != "running"
        if self._over:
            self._writer.ended(self._id)
            self._end_samples()
        return self

    def sample(self, sampler: Sampler) -> Self:
        """Log what the machine does, until the run ends; return this handle."""
        self._sampler = sampler
        sampler.begin(self._id, self._writer, self._row.created_at)
        return self

    def _end_samples(self) -> None:
        if self._sampler is not None:
            self._sampler.end(self._id)

    def _read(self) -> records.RunRecord:
        row = self._store.run(self._id)
        if row is None:
            raise UnknownRun(self._id, self._store.newest_run())
        return row

    @override
    def annotate(self, *, notes: str | None = None, tags: Tags | None = None) -> Self:
        change: dict[str, Any] = {}
        if notes is not None:
            change["notes"] = check_notes(notes)
        if tags is not None:
            both = {**self._read().tags, **check_tags(tags)}
            change["tags"] = {name: value for name, value in both.items() if value is not None}
        if change:
            self._store.change_run(self._id, **change)
        return self.refresh()

    # Order -------------------------------------------------------------------------------------

    @override
    def rename(self, name: str) -> Self:
        self._store.change_run(self._id, name=check_new_name(name, "a run"))
        return self.refresh()

    @override
    def move(self, experiment: str) -> Self:
        self._read()
        self.experiment = check_experiment(experiment)
        self._store.move_run(self._id, self.experiment, time.time())
        return self.refresh()

    @override
    def archive(self) -> Self:
        if self._read().archived_at is None:
            self._store.change_run(self._id, archived_at=time.time())
        return self.refresh()

    @override
    def restore(self) -> Self:
        self._store.change_run(self._id, archived_at=None)
        return self.refresh()

    @override
    def delete(self) -> dict[str, int]:
        self.refresh()  # a run whose process is gone is not running
        counts = self._store.delete_runs([self._id])
        self._over = True
        return {**counts, "bytes": delete_folder(self.folder.parent, self.folder.name)}

    @override
    def flush(self) -> None:
        self._writer.flush()

    # Reading -----------------------------------------------------------------------------------

    @property
    @override
    def summary(self) -> dict[str, dict[str, Any]]:
        self._writer.flush()
        return summary_of(self._id, self._store.summary_table([self._id])[self._id])

    @property
    @override
    def system(self) -> dict[str, dict[str, Any]]:
        self._writer.flush()
        table = self._store.summary_table([self._id])[self._id]
        return {name: row for name, row in table.items() if name.startswith(SYSTEM)}

    @property
    @override
    def outcome(self) -> dict[str, Any]:
        self._writer.flush()
        self.refresh()
        return self._store.outcome(self._id) or {}

    @override
    def metric_points(self, name: str, after: int = -1) -> list[tuple[int, float, float]]:
        self._writer.flush()
        return self._store.points(self.id, name, after=after)

    # Files -------------------------------------------------------------------------------------

    @property
    def checkpoint_dir(self) -> Path:
        """The folder of this run's checkpoints; created on first use."""
        self._store.check_there()
        folder = self.folder / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @override
    def _keep_checkpoint(
        self,
        name: str,
        path: str | os.PathLike[str],
        step: int | None,
        keep_best: int | None,
        metric: str | None,
    ) -> Path | None:
        if keep_best is None or metric is None:
            return self._files.keep_checkpoint(name, path, step)
        better = self._direction(metric)
        if better is None:
            raise BadInput(
                f"no direction is declared for {metric!r}, so checkpoints cannot be ranked by it",
                hint=f'Start the run with better={{{metric!r}: "higher"}} or "lower".',
            )
        self._writer.flush()
        return self._files.keep_if_best(name, path, step, metric, keep_best, better)

    def taking(self) -> Self:
        """Return this handle; from now on it moves files instead of copying them."""
        self._files = KeptFiles(self._store, self.folder, move_whole)
        return self

    @override
    def checkpoints(self) -> list[CheckpointFile]:
        self._writer.flush()
        return self._files.checkpoints()

    @override
    def delete_checkpoint(self, name: str) -> None:
        self._files.delete_checkpoint(name)

    @override
    def log_artifact(self, name: str, path: str | os.PathLike[str]) -> Path:
        return self._files.keep_artifact(name, path)

    @override
    def artifacts(self) -> list[ArtifactFile]:
        return self._files.artifacts()

    @override
    def _keep_media(self, kind: str, label: str, data: bytes, step: int, caption: str) -> bool:
        return self.keep_media(kind, label, data, step, caption)

    def keep_media(self, kind: str, label: str, data: bytes, step: int, caption: str) -> bool:
        """Keep a file whose content is checked; see :func:`workbench.runs.media.checked`."""
        return self._files.keep_media(kind, label, data, step, caption)

    @override
    def _media(self, kind: str | None, label: str | None) -> list[MediaFile]:
        return self._files.media(kind, label)

    # Ending ------------------------------------------------------------------------------------

    @override
    def finish(
        self,
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded",
        error: BaseException | None = None,
    ) -> None:
        self._end_samples()
        try:
            patiently(self._writer.flush)
        finally:
            patiently(lambda: self._store.end_run(self.id, status, said_of(error)))
            self._writer.ended(self.id)
            self.refresh()


def resume(run: LocalRun, writer: Writer, step: int | None) -> LocalRun:
    """Let a run that has ended go on in this process; see ``BaseWorkspace.resume_run``."""
    step = None if step is None else as_step(step)
    pid, started = processes.this_process()
    process = {"host": processes.host(), "pid": pid, "pid_started": started}
    store = run._store
    row, _ = store.resume_run(run.id, step, process)
    store.unwritten_runs.pop(run.id, None)
    resumed = LocalRun(store, writer, run.folder, row, run.experiment)
    resumed._auto_step = step
    writer.begin(run.id)
    return resumed


@functools.cache
def _opened_home(path: str, url: str, pid: int) -> Home:
    """Return a workspace opened in this process (``pid``) for unpickled handles, which share it."""
    home = Home(path, database_url=url)
    # A process of multiprocessing ends without Python's exit handlers.
    multiprocessing.util.Finalize(None, home.close, exitpriority=10)
    return home


def _open_again(path: str, url: str, run_id: int) -> LocalRun:
    """Return the handle of a run that was pickled in another process."""
    home = _opened_home(path, url, os.getpid())
    row = home.store.run(run_id)
    if row is None:
        raise UnknownRun(run_id, home.store.newest_run())
    experiment = home.store.experiment(row.experiment_id)
    name = "" if experiment is None else experiment.name
    return LocalRun(home.store, home._writer, home.runs_dir / str(run_id), row, name)


def start(
    store: Store,
    writer: Writer,
    runs_folder: Path,
    experiment: str,
    *,
    name: str | None = None,
    config: Settings | None = None,
    tags: Tags | None = None,
    notes: str = "",
    seed: int | None = None,
    job_id: int | None = None,
    better: Mapping[str, Better] | Sequence[Metric] | None = None,
) -> LocalRun:
    """Add a running run and return its handle; see ``Workspace.start_run``."""
    experiment = check_experiment(experiment)
    row = new_row(name, config, job_id, tags=tags, notes=notes, seed=seed, better=better)
    row.host, (row.pid, row.pid_started) = processes.host(), processes.this_process()
    row = store.add_run(row, experiment)
    run = LocalRun(store, writer, runs_folder / str(row.id), row, experiment)
    writer.begin(run.id)
    return run
