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
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from workbench.errors import BadInput, WorkbenchError, WrongState
from workbench.runs.description import (
    check_metric_name,
    direction_of,
)
from workbench.runs.kept_files import ArtifactFile, CheckpointFile, check_ranking, named
from workbench.store import records
from workbench.store.points import Batch
from workbench.store.writer import BATCH_POINTS, Writer
from workbench.values import HIGHEST_STEP, LOWEST_STEP, as_column, as_number, as_step


class Run(ABC):
    """One attempt at an experiment: its config, its metrics, its checkpoints.

    Made by ``workspace.start_run``; also what ``workspace.run`` returns for one that is over. As a context
    manager it finishes by itself, as failed if the block raises. A run of this machine and one on a server
    are both runs; this class says what both can do.

    Parameters
    ----------
    row : records.Run
        The run as it was read.
    experiment : str
        The experiment it belongs to.
    """

    def __init__(self, row: records.Run, experiment: str) -> None:
        self._row = row
        self._id = row.id or 0
        self._over = row.status != "running"
        self._known: set[str] = set()
        self._auto_step: int | None = None
        self.experiment = experiment

    @property
    @abstractmethod
    def _writer(self) -> Writer:
        """The thread that takes what is logged."""

    def _whole_row(self) -> records.Run:
        """Return the row with what a list of runs may leave out."""
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
        """What the run was started with."""
        return self._row.config

    @property
    def tags(self) -> dict[str, Any]:
        """Words to find the run by."""
        return self._row.tags

    @property
    def notes(self) -> str:
        """What a person wants to remember of it; see :meth:`annotate`."""
        return self._whole_row().notes

    @property
    def git(self) -> dict[str, Any]:
        """``commit``, ``branch`` and ``dirty`` of the folder it was started in; empty if no repository."""
        return self._whole_row().git

    @property
    def environment(self) -> dict[str, Any]:
        """What it ran on: interpreter, platform, package versions, host, folder, command."""
        return self._whole_row().environment

    @property
    def seed(self) -> int | None:
        """The random seed it was started with, if one was said."""
        seed: int | None = self._whole_row().seed
        return seed

    @property
    def origin(self) -> str | None:
        """Which run of another tool it was brought from: ``mlflow:<id>``, ``tensorboard:<folder>``."""
        return self._whole_row().origin

    @property
    def job_id(self) -> int | None:
        """The job that made the run, if one did."""
        return self._row.job_id

    @property
    def status(self) -> str:
        """``running``, ``succeeded``, ``failed``, ``cancelled`` or ``lost``."""
        if self._row.status == "running":
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

    @abstractmethod
    def refresh(self) -> Self:
        """Read the run again; one whose process has vanished is lost from now on."""

    @abstractmethod
    def annotate(self, *, notes: str | None = None, tags: Mapping[str, Any] | None = None) -> Self:
        """Write notes, or add tags; also to a run that is over.

        Parameters
        ----------
        notes : str, optional
            What to remember of the run; what was there is replaced.
        tags : mapping, optional
            Tags to add or replace; one whose value is None is removed.
        """

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

    @abstractmethod
    def flush(self) -> None:
        """Return when everything logged so far is in the workspace's database."""

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
        """What each metric came to.

        By name: ``last``, ``min``, ``max``, ``best`` (None where no direction is declared), ``best_step``,
        ``last_step``, ``count``, ``nonfinite`` (how many were NaN or infinite) and ``better``. ``last`` is
        None if it was NaN.
        """

    @property
    @abstractmethod
    def outcome(self) -> dict[str, Any]:
        """What the run came to, as plain JSON: collected when it ended, as it stands while it runs.

        ``status``, ``error``, ``seconds``, ``steps``, ``epochs`` (of a metric called ``epoch``), ``points``,
        ``metrics`` (as :attr:`summary`; NaN and infinity as texts) and ``checkpoints``.
        """

    @abstractmethod
    def metric_points(self, name: str, after: int = -1) -> list[tuple[int, float, float]]:
        """Return (step, time in seconds since 1970, value) of a metric, in the order logged.

        Parameters
        ----------
        name : str
            The metric; one never logged has no points.
        after : int
            Only what came after that many points, less one: pass the number already held minus 1.
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
        """Keep a copy of a file as a checkpoint; one of that name is replaced whole.

        Parameters
        ----------
        name : str
            A plain file name.
        path : path
            The file; one that already is in the run's folder of checkpoints under that name is only
            recorded.
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
            Where it is kept, on a server only its name; None if it was not good enough.

        Raises
        ------
        BadName
            A name that could mean a file elsewhere.
        BadInput
            There is no such file, or it is a folder; or it cannot be ranked.
        TooLarge
            It has more bytes than a server takes.
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
        """Keep a checkpoint of which step and ranking are checked; see :meth:`log_checkpoint`."""

    @abstractmethod
    def checkpoints(self) -> list[CheckpointFile]:
        """Return this run's checkpoints whose files are there, oldest first."""

    def checkpoint(self, name: str) -> CheckpointFile:
        """Return one checkpoint; ``open()`` is a stream of its bytes, and ``save(path)`` copies it.

        Raises
        ------
        BadName, UnknownCheckpoint
            A name that could mean a file elsewhere, or of no checkpoint.
        """
        return named(name, "checkpoint", self.checkpoints)

    @abstractmethod
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

    # Artifacts ---------------------------------------------------------------------------------

    @abstractmethod
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
            Where it is kept; on a server only its name.

        Raises
        ------
        BadName
            A name that could mean a file elsewhere.
        BadInput
            There is no such file, or it is a folder.
        """

    @abstractmethod
    def artifacts(self) -> list[ArtifactFile]:
        """Return this run's artifacts whose files are there, oldest first."""

    def artifact(self, name: str) -> ArtifactFile:
        """Return one artifact; ``open()`` is a stream of its bytes, and ``save(path)`` copies it.

        Raises
        ------
        BadName, UnknownArtifact
            A name that could mean a file elsewhere, or of no artifact.
        """
        return named(name, "artifact", self.artifacts)

    # Ending ------------------------------------------------------------------------------------

    @abstractmethod
    def finish(
        self,
        status: Literal["succeeded", "failed", "cancelled"] = "succeeded",
        error: BaseException | None = None,
    ) -> None:
        """Write what is queued and end the run; a run that is over stays as it ended."""

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
