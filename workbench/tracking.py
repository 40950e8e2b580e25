"""What people hold while they log: a run.

``run.log`` puts numbers into a queue and returns; one writer thread a workspace commits them in batches,
at most :data:`BATCH_SECONDS` later, and keeps each metric's summary. Nothing is lost when a run ends, when
its block raises, or when the interpreter exits; a process killed outright loses at most the last batch.
"""

from __future__ import annotations

import atexit
import fnmatch
import math
import operator
import os
import shutil
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType, TracebackType
from typing import Any, Literal, Self

from pydantic import BaseModel

from workbench import processes, records
from workbench.adapter import Metric
from workbench.errors import BadInput, StoreError, StoreUnavailable, UnknownRun, WorkbenchError, WrongState
from workbench.series import Point
from workbench.store import Store, patiently

#: A logged number is in the database after at most this many seconds.
BATCH_SECONDS = 0.25

#: Points in one transaction at most, so that no batch holds the write lock for long.
BATCH_POINTS = 50_000

#: The writer is allowed to be this far behind; then ``log`` waits instead of filling the memory.
QUEUE_POINTS = 1_000_000

_NAME_CHARACTERS = 250

Better = Mapping[str, Literal["higher", "lower"]]


@dataclass(frozen=True)
class CheckpointFile(os.PathLike[str]):
    """One checkpoint of a run; usable wherever a path is."""

    name: str
    path: Path
    size: int
    step: int | None
    created_at: datetime

    def __fspath__(self) -> str:
        return str(self.path)


class Writer:
    """The one thread of a workspace that writes metric points.

    Parameters
    ----------
    store : Store
        Where the points go.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[Point] = deque()
        self._better: dict[tuple[int, str], str | None] = {}
        self._wake = threading.Event()
        self._writing = threading.Lock()
        self._stopping = False
        self._error: WorkbenchError | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def put(self, points: Sequence[Point]) -> None:
        """Queue points; they are written soon."""
        if self._error is not None:
            self.flush()
        if len(self._queue) > QUEUE_POINTS:
            self.flush()
        self._queue.extend(points)
        if self._thread is None:
            self._start()
        if not self._wake.is_set():
            self._wake.set()

    def learn(self, run_id: int, name: str, better: str | None) -> None:
        """Say which way a metric of a run is better, before its first point."""
        self._better[run_id, name] = better

    def flush(self) -> None:
        """Return when everything queued so far is committed.

        Raises
        ------
        StoreError
            The database refused. Nothing is lost yet: the points stay queued, and the next flush tries again.
        """
        while self._queue:
            self._write()
        self._error = None

    def stop(self) -> None:
        """Flush and end the thread; a later point starts a new one."""
        self._stopping = True
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._stopping = False
        self.flush()

    def _start(self) -> None:
        with self._starting:
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="workbench-metrics", daemon=True)
            self._thread.start()
            # The interpreter keeps no workspace alive only to flush it at exit.
            here = weakref.ref(self)
            atexit.register(_flush_at_exit, here)

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            # Gather what comes within the interval: one transaction for all of it.
            deadline = time.monotonic() + BATCH_SECONDS
            while not self._stopping and len(self._queue) < BATCH_POINTS:
                if (left := deadline - time.monotonic()) <= 0:
                    break
                time.sleep(min(left, 0.05))
            self._wake.clear()
            try:
                while self._queue:
                    self._write()
            except StoreUnavailable:  # it may pass: tried again until the queue is full
                time.sleep(0 if self._stopping else 0.5)
                if not self._stopping:
                    self._wake.set()
            except WorkbenchError as error:
                self._error = error  # raised by the next log or flush, where somebody can see it
                time.sleep(0 if self._stopping else 1.0)
                if self._queue and not self._stopping:
                    self._wake.set()

    def _write(self) -> None:
        with self._writing:
            count = min(len(self._queue), BATCH_POINTS)
            batch = [self._queue[at] for at in range(count)] if count < 100 else list(self._queue)[:count]
            self._store.add_points(batch, self._better)
            for _ in batch:  # only now that they are committed; new ones may have come at the other end
                self._queue.popleft()


def _flush_at_exit(here: weakref.ref[Writer]) -> None:
    if (writer := here()) is not None:
        writer.flush()


class Run:
    """One attempt at an experiment: its config, its metrics, its checkpoints.

    Made by ``workspace.start_run``; also what ``workspace.run`` returns for one that is over. As a context
    manager it finishes by itself, as failed if the block raises.
    """

    def __init__(self, store: Store, writer: Writer, folder: Path, row: records.Run, experiment: str) -> None:
        self._store = store
        self._writer = writer
        self._row = row
        self._known: set[str] = set()
        self._auto_step: int | None = None
        self.folder = folder
        self.experiment = experiment

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.name!r} of {self.experiment!r}: {self.status}>"

    @property
    def id(self) -> int:
        """The run's id."""
        assert self._row.id is not None  # noqa: S101  # a stored row has one
        return self._row.id

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
    def directions(self) -> list[tuple[str, Literal["higher", "lower"]]]:
        """Which way metrics are better: (glob pattern, ``higher`` or ``lower``), the first match counts."""
        return [(pattern, "higher" if way == "higher" else "lower") for pattern, way in self._row.directions]

    def refresh(self) -> Self:
        """Read the run again."""
        row = self._store.run(self.id)
        if row is None:
            raise UnknownRun(self.id, self._store.newest_run())
        self._row = row
        return self

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
        if self._row.status != "running":
            raise WrongState(f"run {self.id} is {self._row.status}: nothing more can be logged to it")
        step = self._next_step() if step is None else _whole(step)
        now = time.time()
        run_id = self.id
        points = []
        for name, value in metrics.items():
            if name not in self._known:
                self._meet(name)
            number = value if type(value) is float else _number(name, value)
            points.append(Point(run_id, name, step, now, number))
        self._auto_step = step
        self._writer.put(points)

    def flush(self) -> None:
        """Return when everything logged so far is in the database."""
        self._writer.flush()

    def _next_step(self) -> int:
        if self._auto_step is None:
            self._writer.flush()
            steps = [summary.last_step for summary in self._store.summaries([self.id])[self.id]]
            self._auto_step = max((step for step in steps if step is not None), default=-1)
        return self._auto_step + 1

    def _meet(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip() or len(name) > _NAME_CHARACTERS or "\0" in name:
            raise BadInput(
                f"metric name {name!r}: a text of 1 to {_NAME_CHARACTERS} characters is wanted",
                hint='Such as "val/loss".',
            )
        better = (way for pattern, way in self._row.directions if fnmatch.fnmatchcase(name, pattern))
        self._writer.learn(self.id, name, next(better, None))
        self._known.add(name)

    # Reading -----------------------------------------------------------------------------------

    @property
    def summary(self) -> dict[str, dict[str, Any]]:
        """What each metric came to.

        By name: ``last``, ``min``, ``max``, ``best`` (None where no direction is declared), ``best_step``,
        ``last_step``, ``count``, ``nonfinite`` (how many were NaN or infinite) and ``better``. ``last`` is
        None if it was NaN.
        """
        self._writer.flush()
        keys = {"last", "min", "max", "best", "best_step", "count", "last_step", "nonfinite", "better"}
        rows = self._store.summaries([self.id])[self.id]
        return {row.name: row.model_dump(include=keys) for row in rows}

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

    def log_checkpoint(self, name: str, path: str | os.PathLike[str], step: int | None = None) -> Path:
        """Keep a copy of a file as a checkpoint; one of that name is replaced whole.

        Parameters
        ----------
        name : str
            A plain file name.
        path : path
            The file; one that already is in :attr:`checkpoint_dir` under that name is only recorded.
        step : int, optional
            The step it belongs to; the last one logged if not given.

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
        records.check_file_name(name, "checkpoint")
        source = Path(path)
        if not source.is_file():
            raise BadInput(f"no file {str(source)!r} to keep as checkpoint {name!r}")
        target = self.checkpoint_dir / name
        if not (target.exists() and target.samefile(source)):
            copy_whole(source, target)
        step = self._auto_step if step is None else _whole(step)
        size = target.stat().st_size
        self._store.add_checkpoint(records.Checkpoint(run_id=self.id, name=name, step=step, size=size))
        return target

    def checkpoints(self) -> list[CheckpointFile]:
        """Return this run's checkpoints whose files are there, oldest first."""
        folder = self.folder / "checkpoints"
        return [
            CheckpointFile(
                row.name, folder / row.name, row.size, row.step, datetime.fromtimestamp(row.created_at, UTC)
            )
            for row in self._store.checkpoints(self.id)
            if (folder / row.name).is_file()
        ]

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
            said = None if error is None else {"type": type(error).__name__, "message": str(error)}
            patiently(lambda: self._store.end_run(self.id, status, said))
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
        except StoreError as refused:
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
    job_id: int | None = None,
    better: Better | Sequence[Metric] | None = None,
) -> Run:
    """Add a run that is running and return its handle; see ``Workspace.start_run``."""
    if not isinstance(experiment, str) or not experiment.strip():
        raise BadInput(f"an experiment needs a name, not {experiment!r}")
    me = processes.this_process()
    row = records.Run(
        experiment_id=0,
        name=(name or "").strip(),
        config=plain(config or {}, "config"),
        tags=plain(tags or {}, "tags"),
        directions=[[pattern, way] for pattern, way in _directions(better)],
        job_id=job_id,
        host=processes.host(),
        pid=me.pid,
        pid_started=me.started,
    )
    row = store.add_run(row, experiment.strip())
    return Run(store, writer, runs_folder / str(row.id), row, experiment.strip())


def _directions(better: Better | Sequence[Metric] | None) -> Iterator[tuple[str, str]]:
    if better is None:
        return
    pairs: list[tuple[str, Any]] = (
        list(better.items())
        if isinstance(better, Mapping)
        else [(metric.name, metric.better) for metric in better]
    )
    for pattern, way in pairs:
        if way is None:
            continue
        if way not in ("higher", "lower"):
            raise BadInput(f"better={way!r} for {pattern!r}: 'higher' or 'lower' is wanted")
        yield pattern, way


def plain(value: Any, what: str) -> Any:
    """Return a value as plain JSON: pydantic models, paths, sets and array scalars are turned into it.

    Raises
    ------
    BadInput
        Something in it has no plain form; the message says where.
    """
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no NaN; a text keeps what it was
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"), what)
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{what}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [plain(item, f"{what}[{at}]") for at, item in enumerate(items)]
    if isinstance(value, (os.PathLike, datetime)):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch: scalars and arrays
        return plain(value.tolist(), what)
    raise BadInput(
        f"{what} is a {type(value).__name__}, which has no plain JSON form",
        hint="Use numbers, texts, lists and dictionaries.",
    )


def copy_whole(source: Path, target: Path) -> None:
    """Copy a file so that ``target`` is, at every moment, the old file or the whole new one."""
    with _beside(target) as beside:
        shutil.copyfile(source, beside)


def write_whole(target: Path, data: bytes) -> None:
    """Write a file so that ``target`` is, at every moment, the old file (or none) or the whole new one."""
    with _beside(target) as beside:
        beside.write_bytes(data)


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Yield a path beside ``target`` to write to; what is there then takes its place, durably."""
    beside = target.with_name(f".{target.name[:100]}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _number(name: str, value: Any) -> float:
    problem = f"is a {type(value).__name__}"
    try:
        number = value.item() if hasattr(value, "item") else value  # numpy and torch: one number, or refused
        if not isinstance(number, (str, bytes, bool, complex, NoneType)):
            return float(number)
        problem = f"is {number!r}"
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        problem += f" ({error})"
    raise BadInput(
        f"metric {name!r} {problem}: one real number is wanted", hint="Nothing of this call is logged."
    )


def _whole(step: Any) -> int:
    try:
        number = operator.index(step)
    except (TypeError, RuntimeError):
        raise BadInput(f"step {step!r}: a whole number is wanted") from None
    if isinstance(step, bool) or not -(2**63) <= number < 2**63:
        raise BadInput(f"step {step!r}: a whole number of a size that fits a database is wanted")
    return number
