"""The handle of a run, for logging and reading.

``run.log`` puts values into a queue and returns; one thread per workspace (:mod:`workbench.store.writer`)
commits them in batches, a quarter of a second later, and updates each metric's summary. Nothing is lost when
a run ends, when its block raises, when the interpreter exits, or when SIGTERM ends the process
(:mod:`workbench.host.signals`). A process that is killed loses at most the last half second. Committed
values survive the process; the end of a run and everything logged before it survive a power cut.

A value is one real number. NaN and infinity are kept, drawn as gaps, counted as ``nonfinite``, and never a
metric's minimum, maximum or best. Points keep the order in which they were logged: steps may go back, as
after a restart from a checkpoint.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from typing_extensions import override

from workbench.errors import BadInput, WorkbenchError, WrongState
from workbench.runs.description import (
    check_metric_name,
    direction_of,
    flat,
)
from workbench.runs.fixed import fixed
from workbench.runs.kept_files import ArtifactFile, CheckpointFile, check_ranking, named
from workbench.runs.media_log import MediaLog
from workbench.runs.order import RunOrder
from workbench.store import records
from workbench.store.outcome import seconds_of
from workbench.store.points import Batch
from workbench.store.writer import BATCH_POINTS, Writer
from workbench.values import (
    HIGHEST_STEP,
    LOWEST_STEP,
    Tags,
    as_column,
    as_moment,
    as_number,
    as_step,
    as_times,
)


def _is_flat(metrics: Mapping[str, Any]) -> bool:
    """Return whether no value of a call is a dictionary; most are floats, which takes no time to see."""
    return not any(type(value) is not float and isinstance(value, Mapping) for value in metrics.values())


class Run(MediaLog, RunOrder):
    """One attempt at an experiment: its config, its metrics, its checkpoints.

    Returned by ``workspace.start_run`` and ``workspace.run``. As a context manager it finishes at the end of
    the block, as failed if the block raises. This is the common interface of local runs and runs on a
    server.

    Parameters
    ----------
    row : records.RunRecord
        The run's row.
    experiment : str
        The experiment it belongs to.
    """

    def __init__(self, row: records.RunRecord, experiment: str) -> None:
        self._row = row
        self._id = row.id or 0
        self._over = row.status != "running"
        self._known: set[str] = set()
        self._full_labels: set[str] = set()
        self._auto_step: int | None = None
        self._fixed: tuple[records.RunRecord, dict[str, Any], dict[str, Any]] | None = None
        self.experiment = experiment

    @property
    @abstractmethod
    def _writer(self) -> Writer:
        """The thread that writes logged points."""

    def _whole_row(self) -> records.RunRecord:
        """Return the full row, including columns that lists of runs omit."""
        return self._row

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
        """The run's settings, as they were when it started; they cannot be changed."""
        return self._description()[0]

    @property
    def tags(self) -> dict[str, Any]:
        """The run's tags; see :meth:`annotate` to change them."""
        return self._description()[1]

    def _description(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return settings and tags, in a form that refuses changes."""
        row = self._row
        if self._fixed is None or self._fixed[0] is not row:
            hint = "Give it to start_run(config=…), log it as a metric, or tag the run: run.annotate(tags=…)."
            config = fixed(row.config, f"the settings of run {self.id}", hint)
            tags = fixed(row.tags, f"the tags of run {self.id}", "Use run.annotate(tags=…).")
            self._fixed = row, config, tags
        return self._fixed[1:]

    @property
    def notes(self) -> str:
        """Free text; see :meth:`annotate`."""
        return self._whole_row().notes

    @property
    def git(self) -> dict[str, Any]:
        """``commit``, ``branch`` and ``dirty`` of the start folder; empty outside a repository."""
        return self._whole_row().git

    @property
    def environment(self) -> dict[str, Any]:
        """The environment it ran in: interpreter, platform, package versions, host, folder, command."""
        return self._whole_row().environment

    @property
    def seed(self) -> int | None:
        """The random seed, if one was given."""
        seed: int | None = self._whole_row().seed
        return seed

    @property
    def origin(self) -> str | None:
        """The foreign run that it was imported from: ``mlflow:<id>``, ``tensorboard:<folder>``."""
        return self._whole_row().origin

    @property
    def job_id(self) -> int | None:
        """The job that created the run, if any."""
        return self._row.job_id

    @property
    def status(self) -> str:
        """``running``, ``succeeded``, ``failed``, ``cancelled`` or ``lost``."""
        if self._row.status == "running":
            self.refresh()
        return self._row.status

    @property
    def error(self) -> dict[str, Any] | None:
        """Type and message of the error that ended the run, if it failed."""
        return self._row.error

    @property
    def created_at(self) -> datetime | None:
        """When the run began; None if an import recorded no usable time."""
        return as_moment(self._row.created_at)

    @property
    def finished_at(self) -> datetime | None:
        """When the run ended; None while it is running, or if the time is unknown."""
        return as_moment(self._row.finished_at)

    @property
    @override
    def archived_at(self) -> datetime | None:
        return as_moment(self._row.archived_at)

    @property
    def seconds(self) -> float | None:
        """Its duration in seconds; so far, if it is running. None if it is unknown when it began or ended."""
        return seconds_of(self._row)

    @property
    def directions(self) -> list[tuple[str, Literal["higher", "lower"]]]:
        """Better directions of metrics: (glob pattern, ``higher`` or ``lower``); the first match counts."""
        return [(pattern, "higher" if way == "higher" else "lower") for pattern, way in self._row.directions]

    @abstractmethod
    def refresh(self) -> Self:
        """Read the run again; it is marked as lost if its process is gone."""

    @abstractmethod
    def annotate(self, *, notes: str | None = None, tags: Tags | None = None) -> Self:
        """Replace notes or add tags; also after the run has ended.

        Parameters
        ----------
        notes : str, optional
            The new notes; they replace the old ones.
        tags : mapping, optional
            Tags to add or replace; a tag whose value is None is removed.
        """

    # Logging -----------------------------------------------------------------------------------

    def log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log values; returns at once, a thread writes them.

        Parameters
        ----------
        metrics : mapping of str to number
            Real numbers, or arrays of one number. NaN and infinity are kept and shown, and are never a
            metric's minimum, maximum or best. A dictionary in it is a group: ``{"val": {"mAP": 0.6}}`` logs
            ``val/mAP``. Either all values are logged or none.
        step : int, optional
            The step; default: this handle's last step + 1. Steps may go back.

        Raises
        ------
        BadInput
            A value is not a real number, a name is not a short string, or a step is not a whole number.
        WrongState
            The run has ended.
        """
        if self._over:
            self._refuse()
        step = self._next_step() if step is None else step if type(step) is int else as_step(step)
        if not LOWEST_STEP <= step <= HIGHEST_STEP:
            as_step(step)
        known = self._known
        pairs = []
        for name, value in metrics.items() if _is_flat(metrics) else flat(metrics).items():
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
        """Log whole curves: many points of each metric, a few times faster than one by one.

        Parameters
        ----------
        metrics : mapping of str to sequence or array of float, shape (n,)
            Real numbers, including NaN and infinity; a dictionary in it is a group, as for :meth:`log`.
            Either all values are logged or none.
        steps : sequence or array of int, shape (n,), optional
            The steps; default: counting from this handle's last step + 1.
        times : sequence or array of float, shape (n,), optional
            Seconds since 1970; default: now.

        Raises
        ------
        BadInput
            The columns are not one-dimensional, differ in length, or are not numbers, or a time is not in
            seconds since 1970.
        WrongState
            The run has ended.
        """
        import numpy as np

        if self._over:
            self._refuse()
        columns = {}
        for name, values in flat(metrics).items():
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
        moments = np.full(number, time.time()) if times is None else as_times(times)
        for what, column in (*columns.items(), ("steps", places), ("times", moments)):
            if len(column) != number:
                raise BadInput(f"columns must have equal length ({what} has {len(column)}, others {number})")
        self._auto_step = int(places[-1])
        for name, column in columns.items():
            for at in range(0, number, BATCH_POINTS):
                parts = (part[at : at + BATCH_POINTS].tolist() for part in (places, moments, column))
                batch = Batch(*parts)
                self._writer.put(((self._id, name), batch), len(batch.values))

    def _refuse(self) -> None:
        raise WrongState(f"run {self.id} is {self._row.status}: no more values can be logged")

    @abstractmethod
    def flush(self) -> None:
        """Wait until everything logged so far is in the workspace's database."""

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
    @abstractmethod
    def summary(self) -> dict[str, dict[str, Any]]:
        """The summary of each metric.

        By name: ``last``, ``min``, ``max``, ``best`` (None if no direction is declared), ``best_step``,
        ``last_step``, ``count``, ``nonfinite`` (number of NaN or infinite values) and ``better``. ``last`` is
        None if it was NaN.
        """

    @property
    @abstractmethod
    def system(self) -> dict[str, dict[str, Any]]:
        """The summary of what the machine did, as :attr:`summary`: ``system/cpu``, ``system/memory``, ….

        Their points are ``run.metric_points("system/cpu")``, by seconds since the run began; see
        :mod:`workbench.runs.system`.
        """

    @property
    @abstractmethod
    def outcome(self) -> dict[str, Any]:
        """The outcome of the run, as plain JSON: collected when it ended, or its current state.

        ``status``, ``error``, ``seconds``, ``steps``, ``epochs`` (of a metric called ``epoch``), ``points``,
        ``metrics`` (as :attr:`summary`; NaN and infinity as strings) and ``checkpoints``.
        """

    @abstractmethod
    def metric_points(self, name: str, after: int = -1) -> list[tuple[int, float, float]]:
        """Return (step, time in seconds since 1970, value) of a metric, in the order logged.

        Parameters
        ----------
        name : str
            The metric; no points if it was never logged.
        after : int
            Only points with an index above this: pass the number of points already read, minus 1.
        """

    # Checkpoints -------------------------------------------------------------------------------

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
        """Save a copy of a file as a checkpoint; an existing one with that name is replaced atomically.

        Parameters
        ----------
        name : str
            A plain file name.
        path : path
            The file; if it is already in the run's checkpoint folder under that name, it is only recorded.
        step : int, optional
            The step it belongs to; default: the last logged step.
        keep_best : int, optional
            Keep it only if it is among the best N by ``metric``, and delete those that no longer are.
            Checkpoints logged without this, or for another metric, are neither ranked nor deleted.
        metric : str, optional
            The metric to rank by: it must be logged at that step, and its direction declared when the run
            was started. Of equal values the earlier is better; NaN is worse than any number.

        Returns
        -------
        Path or None
            Its path (on a server only its name); None if it was not among the best.

        Raises
        ------
        BadName
            The name could refer to a file outside the folder.
        BadInput
            The file is missing or a folder, or the checkpoint cannot be ranked.
        TooLarge
            It exceeds the server's size limit.
        """
        step = self._auto_step if step is None else as_step(step)
        check_ranking(keep_best, metric)
        return self._keep_checkpoint(name, path, step, keep_best, metric)

    @abstractmethod
    def _keep_checkpoint(
        self,
        name: str,
        path: str | os.PathLike[str],
        step: int | None,
        keep_best: int | None,
        metric: str | None,
    ) -> Path | None:
        """Save a checkpoint whose step and ranking are validated; see :meth:`log_checkpoint`."""

    @abstractmethod
    def checkpoints(self) -> list[CheckpointFile]:
        """Return this run's checkpoints whose files exist, oldest first."""

    def checkpoint(self, name: str) -> CheckpointFile:
        """Return one checkpoint; ``open()`` is a stream of its bytes, and ``save(path)`` copies it.

        Raises
        ------
        BadName, UnknownCheckpoint
            The name is not a plain file name, or there is no such checkpoint.
        """
        return named(name, "checkpoint", self.checkpoints)

    @abstractmethod
    def delete_checkpoint(self, name: str) -> None:
        """Delete exactly one checkpoint of this run; the name may be untrusted.

        Raises
        ------
        BadName
            The name could refer to a file outside the folder.
        UnknownCheckpoint
            There is no such checkpoint; an unrecorded file is not deleted.
        WrongState
            It is a link or not a regular file, or its folder is a link; nothing is deleted.
        """

    # Artifacts ---------------------------------------------------------------------------------

    @abstractmethod
    def log_artifact(self, name: str, path: str | os.PathLike[str]) -> Path:
        """Save a copy of any other file; an existing one with that name is replaced atomically.

        Parameters
        ----------
        name : str
            A plain file name.
        path : path
            The file.

        Returns
        -------
        Path
            Its path; on a server only its name.

        Raises
        ------
        BadName
            The name could refer to a file outside the folder.
        BadInput
            The file is missing or a folder.
        """

    @abstractmethod
    def artifacts(self) -> list[ArtifactFile]:
        """Return this run's artifacts whose files exist, oldest first."""

    def artifact(self, name: str) -> ArtifactFile:
        """Return one artifact; ``open()`` is a stream of its bytes, and ``save(path)`` copies it.

        Raises
        ------
        BadName, UnknownArtifact
            The name is not a plain file name, or there is no such artifact.
        """
        return named(name, "artifact", self.artifacts)

    # Ending ------------------------------------------------------------------------------------

    @abstractmethod
    def finish(
        self,
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded",
        error: BaseException | None = None,
    ) -> None:
        """Write queued points and end the run; a run that has ended keeps its status."""

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
