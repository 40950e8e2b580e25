"""What people hold while they log: a run.

``run.log`` puts numbers into a queue and returns; one thread a workspace (:mod:`workbench.store.writer`)
commits them in batches, a quarter of a second later, and keeps each metric's summary. Nothing is lost when a
run ends, when its block raises, when the interpreter exits, or when SIGTERM ends it
(:mod:`workbench.host.signals`). A process that is killed outright loses at most the last half second. What is
committed survives the process; the end of a run, as every other state, survives a power cut, with all that
was logged before it.

A value is one real number. NaN and infinity are kept, drawn as gaps, counted as ``nonfinite``, and never a
metric's minimum, maximum or best. Points stay in the order they were logged: a step that goes backwards, as
after a restart from a checkpoint, is kept as it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from pydantic import BaseModel

from workbench.errors import BadInput, UnknownRun, WorkbenchError, WrongState
from workbench.host import processes
from workbench.host.files import move_whole
from workbench.results.result import Metric
from workbench.runs.description import (
    Better,
    check_experiment,
    check_metric_name,
    check_notes,
    direction_of,
    new_row,
    said_of,
)
from workbench.runs.kept_files import ArtifactFile, CheckpointFile, KeptFiles, check_ranking
from workbench.runs.settling import settle_runs
from workbench.store import records
from workbench.store.database import patiently
from workbench.store.points import Batch
from workbench.store.store import Store
from workbench.store.writer import BATCH_POINTS, Writer
from workbench.values import HIGHEST_STEP, LOWEST_STEP, as_column, as_number, as_step, plain


class Run:
    """One attempt at an experiment: its config, its metrics, its checkpoints.

    Made by ``workspace.start_run``; also what ``workspace.run`` returns for one that is over. As a context
    manager it finishes by itself, as failed if the block raises.
    """

    def __init__(self, store: Store, writer: Writer, folder: Path, row: records.Run, experiment: str) -> None:
        self._store = store
        self._writer = writer
        self._row = row
        self._id = row.id or 0
        self._over = row.status != "running"
        self._known: set[str] = set()
        self._auto_step: int | None = None
        self._files = KeptFiles(store, folder)
        self.folder = folder
        self.experiment = experiment

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.name!r} of {self.experiment!r}: {self.status}>"

    @property
    def id(self) -> int:
        """The run's id."""
        return self._id

    @property
    def name(self) -> str:
        """The run's name."""
        return self._row.name

    @property
    def config(self) -> dict[str, Any]:
        """What the run was started with."""
        return self._row.config

    @property
    def tags(self) -> dict[str, Any]:
        """Words to find the run by."""
        return self._row.tags

    @property
    def notes(self) -> str:
        """What a person wants to remember of it; see :meth:`annotate`."""
        return self._row.notes

    @property
    def git(self) -> dict[str, Any]:
        """``commit``, ``branch`` and ``dirty`` of the folder it was started in; empty if no repository."""
        return self._row.git

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on: interpreter, platform, package versions, host, folder, command."""
        return self._row.environment

    @property
    def seed(self) -> int | None:
        """The random seed it was started with, if one was said."""
        seed: int | None = self._row.seed
        return seed

    @property
    def origin(self) -> str | None:
        """Which run of another tool it was brought from: ``mlflow:<id>``, ``tensorboard:<folder>``."""
        return self._row.origin

    @property
    def job_id(self) -> int | None:
        """The job that made the run, if one did."""
        return self._row.job_id

    @property
    def status(self) -> str:
        """``running``, ``succeeded``, ``failed``, ``cancelled`` or ``lost``."""
        if not self._over:
            self.refresh()
        return self._row.status

    @property
    def error(self) -> dict[str, Any] | None:
        """Type and message of what ended the run, if it failed."""
        return self._row.error

    @property
    def created_at(self) -> datetime:
        """When the run began."""
        return datetime.fromtimestamp(self._row.created_at, UTC)

    @property
    def finished_at(self) -> datetime | None:
        """When the run ended."""
        return None if self._row.finished_at is None else datetime.fromtimestamp(self._row.finished_at, UTC)

    @property
    def seconds(self) -> float:
        """How long it ran; so far, while it is running."""
        return max((self._row.finished_at or time.time()) - self._row.created_at, 0.0)

    @property
    def directions(self) -> list[tuple[str, Literal["higher", "lower"]]]:
        """Which way metrics are better: (glob pattern, ``higher`` or ``lower``), the first match counts."""
        return [(pattern, "higher" if way == "higher" else "lower") for pattern, way in self._row.directions]

    def refresh(self) -> Self:
        """Read the run again; one whose process has vanished from this host is lost from now on."""
        row = self._read()
        if row.status == "running" and settle_runs(self._store, [row]):
            row = self._read()
        self._row, self._over = row, row.status != "running"
        if self._over:
            self._writer.ended(self._id)
        return self

    def _read(self) -> records.Run:
        row = self._store.run(self._id)
        if row is None:
            raise UnknownRun(self._id, self._store.newest_run())
        return row

    def annotate(self, *, notes: str | None = None, tags: Mapping[str, Any] | None = None) -> Self:
        """Write notes, or add tags; also to a run that is over.

        Parameters
        ----------
        notes : str, optional
            What to remember of the run; what was there is replaced.
        tags : mapping, optional
            Tags to add or replace; one whose value is None is removed.
        """
        change: dict[str, Any] = {}
        if notes is not None:
            change["notes"] = check_notes(notes)
        if tags is not None:
            both = {**self._read().tags, **plain(tags, "tags")}
            change["tags"] = {name: value for name, value in both.items() if value is not None}
        if change:
            self._store.change_run(self._id, **change)
        return self.refresh()

    # Logging -----------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers; returns at once, they are written by a thread.

        Parameters
        ----------
        metrics : mapping of str to number
            Any real numbers, arrays of one number included. NaN and infinity are kept and shown, and are
            never a metric's minimum, maximum or best. Either all of them are logged or none.
        step : int, optional
            Where on the curve; one more than this handle's last step if not given. A step may go back.

        Raises
        ------
        BadInput
            A value that is not one real number, a name that is not a short text, a step that is not whole.
        WrongState
            The run is over.
        """
        if self._over:
            self._refuse()
        step = self._next_step() if step is None else step if type(step) is int else as_step(step)
        if not LOWEST_STEP <= step <= HIGHEST_STEP:
            as_step(step)
        known = self._known
        pairs = []
        for name, value in metrics.items():
            if name not in known:
                self._meet(name)
            pairs.append((name, value if type(value) is float else as_number(name, value)))
        self._auto_step = step
        self._writer.put((self._id, step, time.time(), pairs), len(pairs))

    def log_many(
        self,
        metrics: Mapping[str, Sequence[float] | Any],
        steps: Sequence[int] | Any = None,
        times: Sequence[float] | Any = None,
    ) -> None:
        """Log whole curves at once: many points of each metric, a few times quicker than one by one.

        Parameters
        ----------
        metrics : mapping of str to sequence or array of float, shape (n,)
            Real numbers, NaN and infinity among them. Either all of it is logged or nothing.
        steps : sequence or array of int, shape (n,), optional
            Their steps; counted on from this handle's last one if not given.
        times : sequence or array of float, shape (n,), optional
            Seconds since 1970; now, if not given.

        Raises
        ------
        BadInput
            Not one-dimensional, of different lengths, or not numbers.
        WrongState
            The run is over.
        """
        import numpy as np

        if self._over:
            self._refuse()
        columns = {}
        for name, values in metrics.items():
            if name not in self._known:
                self._meet(name)
            columns[name] = as_column(f"metric {name!r}", values, np.float64)
        number = max((len(column) for column in columns.values()), default=0)
        if not number:
            return
        if steps is None:
            first = self._next_step()
            steps = np.arange(first, first + number)
        places = as_column("steps", steps, np.int64)
        moments = np.full(number, time.time()) if times is None else as_column("times", times, np.float64)
        for what, column in (*columns.items(), ("steps", places), ("times", moments)):
            if len(column) != number:
                raise BadInput(f"{what} has {len(column)} values, others have {number}: one length is wanted")
        self._auto_step = int(places[-1])
        for name, column in columns.items():
            for at in range(0, number, BATCH_POINTS):
                parts = (part[at : at + BATCH_POINTS].tolist() for part in (places, moments, column))
                batch = Batch(*parts)
                self._writer.put(((self._id, name), batch), len(batch.values))

    def _refuse(self) -> None:
        raise WrongState(f"run {self.id} is {self._row.status}: nothing more can be logged to it")

    def flush(self) -> None:
        """Return when everything logged so far is in the database."""
        self._writer.flush()

    def _next_step(self) -> int:
        if self._auto_step is None:
            steps = (row["last_step"] for row in self.summary.values())
            self._auto_step = max((step for step in steps if step is not None), default=-1)
        return self._auto_step + 1

    def _meet(self, name: str) -> None:
        check_metric_name(name)
        self._writer.learn(self.id, name, self._direction(name))
        self._known.add(name)

    def _direction(self, name: str) -> str | None:
        return direction_of(name, self._row.directions)

    # Reading -----------------------------------------------------------------------------------

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        """What each metric came to.

        By name: ``last``, ``min``, ``max``, ``best`` (None where no direction is declared), ``best_step``,
        ``last_step``, ``count``, ``nonfinite`` (how many were NaN or infinite) and ``better``. ``last`` is
        None if it was NaN.
        """
        self._writer.flush()
        return self._store.summary_table([self._id])[self._id]

    @property
    def outcome(self) -> dict[str, Any]:
        """What the run came to, as plain JSON: collected when it ended, as it stands while it runs.

        ``status``, ``error``, ``seconds``, ``steps``, ``epochs`` (of a metric called ``epoch``), ``points``,
        ``metrics`` (as :attr:`summary`; NaN and infinity as texts) and ``checkpoints``.
        """
        self._writer.flush()
        self.refresh()
        return self._store.outcome(self._id) or {}

    def metric_points(self, name: str, after: int = -1) -> list[tuple[int, float, float]]:
        """Return (step, time in seconds since 1970, value) of a metric, in the order logged.

        Parameters
        ----------
        name : str
            The metric; one never logged has no points.
        after : int
            Only what came after that many points, less one: pass the number already held minus 1.
        """
        self._writer.flush()
        return self._store.points(self.id, name, after=after)

    # Checkpoints -------------------------------------------------------------------------------

    @property
    def checkpoint_dir(self) -> Path:
        """The folder of this run's checkpoints; made when first asked for."""
        folder = self.folder / "checkpoints"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @overload
    def log_checkpoint(self, name: str, path: str | os.PathLike[str], step: int | None = None) -> Path: ...

    @overload
    def log_checkpoint(
        self,
        name: str,
        path: str | os.PathLike[str],
        step: int | None = None,
        *,
        keep_best: int,
        metric: str,
    ) -> Path | None: ...

    def log_checkpoint(
        self,
        name: str,
        path: str | os.PathLike[str],
        step: int | None = None,
        *,
        keep_best: int | None = None,
        metric: str | None = None,
    ) -> Path | None:
        """Keep a copy of a file as a checkpoint; one of that name is replaced whole.

        Parameters
        ----------
        name : str
            A plain file name.
        path : path
            The file; one that already is in :attr:`checkpoint_dir` under that name is only recorded.
        step : int, optional
            The step it belongs to; the last one logged if not given.
        keep_best : int, optional
            Keep it only if it is among so many best by ``metric``, and delete those that are not any more.
            Checkpoints that were logged without this, or for another metric, neither compete nor go.
        metric : str, optional
            The metric, logged at that step, whose direction was declared when the run was started. Of two
            equal ones the earlier is better; one that is NaN is worse than any number.

        Returns
        -------
        Path or None
            Where it is kept; None if it was not good enough.

        Raises
        ------
        BadName
            A name that could mean a file elsewhere.
        BadInput
            There is no such file, or it is a folder; or it cannot be ranked.
        """
        step = self._auto_step if step is None else as_step(step)
        check_ranking(keep_best, metric)
        if keep_best is None or metric is None:
            return self._files.keep_checkpoint(name, path, step)
        better = self._direction(metric)
        if better is None:
            raise BadInput(
                f"no direction is declared for {metric!r}, so no checkpoint is best by it",
                hint=f'Start the run with better={{{metric!r}: "higher"}}, or "lower".',
            )
        self._writer.flush()
        return self._files.keep_if_best(name, path, step, metric, keep_best, better)

    def taking(self) -> Self:
        """Return this handle, which from now on moves the files that it is given instead of copying them."""
        self._files = KeptFiles(self._store, self.folder, move_whole)
        return self

    def checkpoints(self) -> list[CheckpointFile]:
        """Return this run's checkpoints whose files are there, oldest first."""
        self._writer.flush()
        return self._files.checkpoints()

    def checkpoint(self, name: str) -> CheckpointFile:
        """Return one checkpoint; its ``open()`` is a stream of its bytes.

        Raises
        ------
        BadName, UnknownCheckpoint
            A name that could mean a file elsewhere, or of no checkpoint.
        """
        self._writer.flush()
        return self._files.checkpoint(name)

    def delete_checkpoint(self, name: str) -> None:
        """Delete one checkpoint of this run and nothing else; the name may come from anywhere.

        Raises
        ------
        BadName
            A name that could mean anything but one file in that folder.
        UnknownCheckpoint
            There is no such checkpoint; a file that nobody logged as one is left alone.
        WrongState
            What stands there is a link or no regular file, or its folder is a link: nothing is deleted.
        """
        self._files.delete_checkpoint(name)

    # Artifacts ---------------------------------------------------------------------------------

    def log_artifact(self, name: str, path: str | os.PathLike[str]) -> Path:
        """Keep a copy of any other file; one of that name is replaced whole.

        Parameters
        ----------
        name : str
            A plain file name.
        path : path
            The file.

        Returns
        -------
        Path
            Where it is kept.

        Raises
        ------
        BadName
            A name that could mean a file elsewhere.
        BadInput
            There is no such file, or it is a folder.
        """
        return self._files.keep_artifact(name, path)

    def artifacts(self) -> list[ArtifactFile]:
        """Return this run's artifacts whose files are there, oldest first."""
        return self._files.artifacts()

    def artifact(self, name: str) -> ArtifactFile:
        """Return one artifact; it is usable wherever a path is.

        Raises
        ------
        BadName, UnknownArtifact
            A name that could mean a file elsewhere, or of no artifact.
        """
        return self._files.artifact(name)

    # Ending ------------------------------------------------------------------------------------

    def finish(
        self,
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded",
        error: BaseException | None = None,
    ) -> None:
        """Write what is queued and end the run; a run that is over stays as it ended."""
        try:
            patiently(self._writer.flush)
        finally:
            patiently(lambda: self._store.end_run(self.id, status, said_of(error)))
            self._writer.ended(self.id)
            self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
            return
        cancelled = isinstance(error, KeyboardInterrupt) or (
            kind is not None and kind.__name__ == "JobCancelled"
        )
        try:
            self.finish("cancelled" if cancelled else "failed", error)
        except WorkbenchError as refused:
            error.add_note(f"The run could not be ended either: {refused}")


def start(
    store: Store,
    writer: Writer,
    runs_folder: Path,
    experiment: str,
    *,
    name: str | None = None,
    config: Mapping[str, Any] | BaseModel | None = None,
    tags: Mapping[str, Any] | None = None,
    notes: str = "",
    seed: int | None = None,
    job_id: int | None = None,
    better: Better | Sequence[Metric] | None = None,
) -> Run:
    """Add a run that is running and return its handle; see ``Workspace.start_run``."""
    experiment = check_experiment(experiment)
    row = new_row(name, config, job_id, tags=tags, notes=notes, seed=seed, better=better)
    row.host, (row.pid, row.pid_started) = processes.host(), processes.this_process()
    row = store.add_run(row, experiment)
    run = Run(store, writer, runs_folder / str(row.id), row, experiment)
    writer.begin(run.id)
    return run
