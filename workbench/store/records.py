"""The rows of the database.

Times are seconds since 1970 in UTC. A metric's NaN is stored as NULL, since SQLite cannot store NaN; the
store converts between the two. The queries are in :mod:`workbench.store.store`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]


#: A job in one of these states never changes state again.
FINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled"})


JOB_STATUSES: tuple[JobStatus, ...] = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")


#: The key under which a value that does not have the form of its column is shown.
DAMAGED = "(damaged)"


class Json(TypeDecorator[Any]):
    """A JSON object, or a list, that can be read whatever is stored.

    An older version, another program or a damaged disk may have stored something else. One row must not make
    all others unreadable, so that an object is then shown as ``{DAMAGED: …}`` and a list as empty. A list in
    place of an object of tags, which version 0.2.0 accepted, is read as tags without values.

    Parameters
    ----------
    kind : type
        ``dict`` or ``list``.
    none_as_null : bool
        Whether None is stored as NULL.
    each : callable, optional
        Whether an element of a list has the right form; others are left out.
    """

    impl = JSON
    cache_ok = True

    def __init__(
        self, kind: Any, none_as_null: bool = False, each: Callable[[Any], bool] | None = None
    ) -> None:
        self.kind = kind
        self.each = each
        self.none_as_null = none_as_null
        super().__init__(none_as_null=none_as_null)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Return a stored value in the form of the column."""
        if value is None:
            return None if self.none_as_null else self.kind()
        if isinstance(value, self.kind):
            if self.each is not None and not all(self.each(one) for one in value):
                return [one for one in value if self.each(one)]
            return value
        if self.kind is list:
            return []
        if isinstance(value, list) and all(isinstance(one, str) for one in value):
            return dict.fromkeys(value, True)
        return {DAMAGED: str(value)[:1000]}


def _is_direction(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value)


def _is_stage(value: Any) -> bool:
    return isinstance(value, dict) and "name" in value and value.keys() <= {"name", "done", "total"}


class Record(SQLModel, registry=registry()):
    """Base of the rows; its own registry keeps them apart from tables that users declare with SQLModel."""


class Experiment(Record, table=True):
    """A named group of runs that answer one question."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    created_at: float = Field(default_factory=time.time, sa_type=Float)
    #: When it was archived: then lists omit it and its runs. None if it is not.
    archived_at: float | None = Field(default=None, sa_type=Float)


class RunRecord(Record, table=True):
    """One attempt at an experiment."""

    __tablename__: ClassVar[Any] = "run"
    __table_args__: ClassVar[Any] = (
        Index("ix_run_experiment_id_id", "experiment_id", "id"),
        Index("ix_run_status_id", "status", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    experiment_id: int = Field(sa_column=Column(ForeignKey("experiment.id"), nullable=False))
    name: str = ""
    status: str = "running"
    config: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json(dict), nullable=False))
    tags: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json(dict), nullable=False))
    #: The better direction of each metric: a list of (glob pattern, "higher" | "lower"), first match counts.
    directions: list[list[str]] = Field(
        default_factory=list, sa_column=Column(Json(list, each=_is_direction), nullable=False)
    )
    job_id: int | None = Field(default=None, index=True)
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(Json(dict, none_as_null=True)))
    created_at: float = Field(default_factory=time.time, sa_type=Float)
    finished_at: float | None = Field(default=None, sa_type=Float)
    # The process that logs: a run is lost when its process is gone.
    host: str = ""
    pid: int | None = None
    pid_started: str = ""
    #: Free text.
    notes: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    #: ``{"commit", "branch", "dirty"}`` of the folder it was started in; empty outside a repository.
    git: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(Json(dict), nullable=False, server_default="{}")
    )
    #: Where it ran: interpreter, platform, package versions, host, command.
    environment: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(Json(dict), nullable=False, server_default="{}")
    )
    #: The random seed, a whole number of any size; JSON, since it may exceed eight bytes.
    seed: Any = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    #: Its outcome, collected when it ended; see :mod:`workbench.store.outcome`.
    outcome: dict[str, Any] | None = Field(default=None, sa_column=Column(Json(dict, none_as_null=True)))
    #: The tool and run that it was imported from (``mlflow:<id>``); importing again finds the same run.
    origin: str | None = Field(default=None, unique=True, index=True)
    #: When it was archived: then lists omit it. None if it is not.
    archived_at: float | None = Field(default=None, sa_type=Float)


class Sender(Record, table=True):
    """A process that logs a run, its last heartbeat, and the last batch saved from it.

    Senders on other machines have one, and local processes that others may be unable to check.
    """

    #: Random and known only to the sender.
    key: str = Field(primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False, index=True))
    #: Whether it started the run: then the run is lost when its heartbeats stop.
    owner: bool = Field(default=False)
    #: Number of the last batch that was saved; a repeated batch changes nothing.
    received: int = Field(default=0, sa_type=BigInteger)
    #: Time of its last heartbeat, by the store's clock.
    heard_at: float = Field(default=0.0, sa_type=Float)


class MetricSummary(Record, table=True):
    """The summary of one metric of one run, updated by the writer while points arrive."""

    __tablename__: ClassVar[Any] = "metric_summary"
    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False))
    name: str
    better: str | None = None
    count: int = 0
    #: Number of NaN or infinite values; these are never min, max or best.
    nonfinite: int = 0
    last: float | None = Field(default=None, sa_type=Float)
    last_step: int | None = Field(default=None, sa_type=BigInteger)
    min: float | None = Field(default=None, sa_type=Float)
    max: float | None = Field(default=None, sa_type=Float)
    best: float | None = Field(default=None, sa_type=Float)
    best_step: int | None = Field(default=None, sa_type=BigInteger)
    #: Points with a ``seq`` below this are in chunks, the others in single rows.
    sealed: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))


class MetricPoint(Record, table=True):
    """One logged value. ``seq`` counts a metric's points from 0 in the order they were logged.

    When a metric has many points, they move into a :class:`MetricChunk`.
    """

    __tablename__: ClassVar[Any] = "metric_point"
    __table_args__: ClassVar[Any] = ({"sqlite_with_rowid": False},)

    metric_id: int = Field(sa_column=Column(ForeignKey("metric_summary.id"), primary_key=True))
    seq: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    step: int = Field(sa_column=Column(BigInteger, nullable=False))
    time: float = Field(sa_column=Column(Float, nullable=False))
    value: float | None = Field(default=None, sa_column=Column(Float))


class MetricChunk(Record, table=True):
    """Many values of one metric in one row, so that a curve of a million points is read as a few blobs.

    ``step``, ``time`` and ``value`` are arrays of ``count`` little-endian numbers of 8 bytes: int64, float64,
    float64 (NaN if it was not a number). Chunks of a metric are contiguous: no gaps, no overlaps.
    """

    __tablename__: ClassVar[Any] = "metric_chunk"

    metric_id: int = Field(sa_column=Column(ForeignKey("metric_summary.id"), primary_key=True))
    first: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    count: int
    step: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    time: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Checkpoint(Record, table=True):
    """One file that a run saved, at ``runs/<run id>/checkpoints/<name>``."""

    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False))
    name: str
    step: int | None = Field(default=None, sa_type=BigInteger)
    size: int = Field(default=0, sa_type=BigInteger)
    created_at: float = Field(default_factory=time.time, sa_type=Float)
    #: The metric that decides whether it is kept, and its value then; empty if it is always kept.
    metric: str = Field(default="", sa_column=Column(String, nullable=False, server_default=""))
    value: float | None = Field(default=None, sa_type=Float)


class Artifact(Record, table=True):
    """One file of a run that is not a checkpoint, at ``runs/<run id>/artifacts/<name>``."""

    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False))
    name: str
    size: int = Field(default=0, sa_type=BigInteger)
    created_at: float = Field(default_factory=time.time, sa_type=Float)


class Media(Record, table=True):
    """One picture, figure, table, text or histogram of a run, at ``runs/<run id>/media/<file>``."""

    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "file"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False))
    kind: str
    #: What it was logged as: ``val/worst queries``.
    label: str
    step: int = Field(sa_type=BigInteger)
    file: str
    caption: str = Field(default="", sa_type=Text)
    size: int = Field(default=0, sa_type=BigInteger)
    created_at: float = Field(default_factory=time.time, sa_type=Float)


class JobRecord(Record, table=True):
    """One execution of a job notebook."""

    __tablename__: ClassVar[Any] = "job"
    __table_args__: ClassVar[Any] = (
        Index("ix_job_status_id", "status", "id"),
        Index("ix_job_type_id", "type", "id"),
        {"sqlite_autoincrement": True},  # an id is also a folder's name: never reused
    )

    id: int | None = Field(default=None, primary_key=True)
    type: str
    adapter: str = ""
    status: str = "queued"
    options: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json(dict), nullable=False))
    progress_done: float = Field(default=0.0, sa_type=Float)
    progress_total: float | None = Field(default=None, sa_type=Float)
    progress_message: str = Field(default="", sa_type=Text)
    #: Its current stages, outermost first, each ``{"name", "done", "total"}``.
    progress_stages: list[dict[str, Any]] = Field(
        default_factory=list,
        sa_column=Column(Json(list, each=_is_stage), nullable=False, server_default="[]"),
    )
    #: Units of the innermost stage per second, and seconds left in total; None while unknown.
    progress_rate: float | None = Field(default=None, sa_type=Float)
    progress_left: float | None = Field(default=None, sa_type=Float)
    #: The result's one-sentence summary; the result has its own table, so that lists stay small.
    summary: str = Field(default="", sa_type=Text)
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(Json(dict, none_as_null=True)))
    #: Minimum values of its result's metrics; below one, the job fails.
    floors: dict[str, float] = Field(
        default_factory=dict, sa_column=Column(Json(dict), nullable=False, server_default="{}")
    )
    #: The notebook to execute, if not that of the job's type; ``options`` are its parameters.
    source: str = Field(default="", sa_type=Text)
    #: SHA-256 of the copy taken when the job was submitted, stored as ``jobs/.sources/<this>.ipynb``.
    source_sha256: str = Field(default="", sa_column=Column(String, nullable=False, server_default=""))
    #: The executed notebook, relative to the workspace; empty until there is one.
    notebook: str = Field(default="", sa_type=Text)
    #: Folder the job was submitted from; relative paths in its options are relative to it.
    cwd: str = Field(default="", sa_type=Text)
    run_id: int | None = None
    created_at: float = Field(default_factory=time.time, sa_type=Float)
    started_at: float | None = Field(default=None, sa_type=Float)
    finished_at: float | None = Field(default=None, sa_type=Float)
    # Every write of a running job names its attempt, so an earlier attempt changes nothing.
    attempt: int = 0
    max_attempts: int = 1
    # The process that runs it. A job run by hand has no worker, and `pid` is the kernel's.
    worker_id: str = ""
    host: str = ""
    worker_pid: int | None = None
    worker_pid_started: str = ""
    pid: int | None = None
    pid_started: str = ""
    #: Token in the environment of every process of the attempt, to find orphans.
    token: str = ""
    heartbeat_at: float | None = Field(default=None, sa_type=Float)
    lease_until: float | None = Field(default=None, sa_type=Float)
    #: Schema version of the worker's code and the attempt that it claimed, ``0005/1``; a trigger checks it.
    claim: str = Field(default="", sa_column=Column(String, nullable=False, server_default=""))
    #: The name that a person gave it; empty without one.
    name: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    #: When it was archived: then lists omit it. None if it is not.
    archived_at: float | None = Field(default=None, sa_type=Float)


class EvalResult(Record, table=True):
    """The result of a job: an evaluation's tables and curves, or another job's result in the same form."""

    __tablename__: ClassVar[Any] = "eval_result"

    job_id: int = Field(sa_column=Column(ForeignKey("job.id"), primary_key=True, autoincrement=False))
    attempt: int = 0
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(Json(dict), nullable=False))
    created_at: float = Field(default_factory=time.time, sa_type=Float)
