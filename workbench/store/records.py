"""What a row of the database is.

Times are seconds since 1970 in UTC. A metric's value is NULL where it was not a number (NaN), since
SQLite keeps no NaN; the store turns one into the other. What happens to rows is in
:mod:`workbench.store.store`.
"""

from __future__ import annotations

import time
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
    UniqueConstraint,
)
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]


#: A job in one of these states will not move again.
FINAL_STATUSES = frozenset({"succeeded", "failed", "cancelled"})


JOB_STATUSES: tuple[JobStatus, ...] = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")


class Record(SQLModel, registry=registry()):
    """Base of the rows; the registry is our own, so tables a user declares with SQLModel do not mix in."""


class Experiment(Record, table=True):
    """A question that runs try to answer."""

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True, index=True)
    created_at: float = Field(default_factory=time.time, sa_type=Float)


class Run(Record, table=True):
    """One attempt at an experiment."""

    __table_args__: ClassVar[Any] = (
        Index("ix_run_experiment_id_id", "experiment_id", "id"),
        Index("ix_run_status_id", "status", "id"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    experiment_id: int = Field(sa_column=Column(ForeignKey("experiment.id"), nullable=False))
    name: str = ""
    status: str = "running"
    config: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    tags: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    #: Which way each metric is better: a list of (glob pattern, "higher" | "lower"), first match counts.
    directions: list[list[str]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    job_id: int | None = Field(default=None, index=True)
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    created_at: float = Field(default_factory=time.time, sa_type=Float)
    finished_at: float | None = Field(default=None, sa_type=Float)
    # The process that logs: a run whose process vanished did not keep running.
    host: str = ""
    pid: int | None = None
    pid_started: str = ""
    #: What a person wants to remember of it.
    notes: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    #: ``{"commit", "branch", "dirty"}`` of the folder it was started in; empty where that is no repository.
    git: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}")
    )
    #: Where and by what it was run: interpreter, platform, package versions, host, command.
    environment: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}")
    )
    #: The random seed, a whole number of any size; JSON, since those may have more than 64 binary digits.
    seed: Any = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    #: What it came to, collected when it ended; see :mod:`workbench.store.outcome`.
    outcome: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    #: Which run of which other tool it was brought from (``mlflow:<id>``): brought again, it is the same run.
    origin: str | None = Field(default=None, unique=True, index=True)


class Sender(Record, table=True):
    """Who logs a run from another machine, and how much of what it sent is kept."""

    #: What it calls itself: random, and known to nobody else.
    key: str = Field(primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False, index=True))
    #: Whether it started the run: then the run is lost when nothing is heard of it any more.
    owner: bool = Field(default=False)
    #: Number of the last batch that is kept; one that comes again changes nothing.
    received: int = Field(default=0, sa_type=BigInteger)
    #: When it was heard of last, by the store's clock.
    heard_at: float = Field(default=0.0, sa_type=Float)


class MetricSummary(Record, table=True):
    """One metric of one run: what it came to, kept by the writer while points arrive."""

    __tablename__: ClassVar[Any] = "metric_summary"
    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False))
    name: str
    better: str | None = None
    count: int = 0
    #: How many of them were NaN or infinite; those are never min, max or best.
    nonfinite: int = 0
    last: float | None = Field(default=None, sa_type=Float)
    last_step: int | None = Field(default=None, sa_type=BigInteger)
    min: float | None = Field(default=None, sa_type=Float)
    max: float | None = Field(default=None, sa_type=Float)
    best: float | None = Field(default=None, sa_type=Float)
    best_step: int | None = Field(default=None, sa_type=BigInteger)
    #: Points with a ``seq`` below this are in chunks, the others in rows of their own.
    sealed: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))


class MetricPoint(Record, table=True):
    """One logged value. ``seq`` counts a metric's points from 0 in the order they were logged.

    When a metric has many of them they move into a :class:`MetricChunk`.
    """

    __tablename__: ClassVar[Any] = "metric_point"
    __table_args__: ClassVar[Any] = ({"sqlite_with_rowid": False},)

    metric_id: int = Field(sa_column=Column(ForeignKey("metric_summary.id"), primary_key=True))
    seq: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    step: int = Field(sa_column=Column(BigInteger, nullable=False))
    time: float = Field(sa_column=Column(Float, nullable=False))
    value: float | None = Field(default=None, sa_column=Column(Float))


class MetricChunk(Record, table=True):
    """Many values of one metric in one row: reading a curve of a million points is reading some blobs.

    ``step``, ``time`` and ``value`` are arrays of ``count`` little-endian numbers of 8 bytes: int64, float64,
    float64 (NaN where it was none). Chunks of a metric follow each other without gap or overlap.
    """

    __tablename__: ClassVar[Any] = "metric_chunk"

    metric_id: int = Field(sa_column=Column(ForeignKey("metric_summary.id"), primary_key=True))
    first: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    count: int
    step: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    time: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    value: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Checkpoint(Record, table=True):
    """One file a run kept, at ``runs/<run id>/checkpoints/<name>``."""

    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False))
    name: str
    step: int | None = Field(default=None, sa_type=BigInteger)
    size: int = Field(default=0, sa_type=BigInteger)
    created_at: float = Field(default_factory=time.time, sa_type=Float)
    #: The metric it competes by for being kept, and its value then; empty where it is kept in any case.
    metric: str = Field(default="", sa_column=Column(String, nullable=False, server_default=""))
    value: float | None = Field(default=None, sa_type=Float)


class Artifact(Record, table=True):
    """One file a run made that is no checkpoint, at ``runs/<run id>/artifacts/<name>``."""

    __table_args__: ClassVar[Any] = (UniqueConstraint("run_id", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    run_id: int = Field(sa_column=Column(ForeignKey("run.id"), nullable=False))
    name: str
    size: int = Field(default=0, sa_type=BigInteger)
    created_at: float = Field(default_factory=time.time, sa_type=Float)


class Job(Record, table=True):
    """One execution of a job notebook."""

    __table_args__: ClassVar[Any] = (
        Index("ix_job_status_id", "status", "id"),
        Index("ix_job_type_id", "type", "id"),
        {"sqlite_autoincrement": True},  # an id is a folder's name too: never used twice
    )

    id: int | None = Field(default=None, primary_key=True)
    type: str
    adapter: str = ""
    status: str = "queued"
    options: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    progress_done: float = Field(default=0.0, sa_type=Float)
    progress_total: float | None = Field(default=None, sa_type=Float)
    progress_message: str = Field(default="", sa_type=Text)
    #: The stages it is in, outermost first: ``{"name", "done", "total"}`` each.
    progress_stages: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]")
    )
    #: Units of the innermost stage a second, and seconds left for the whole; None while unknown.
    progress_rate: float | None = Field(default=None, sa_type=Float)
    progress_left: float | None = Field(default=None, sa_type=Float)
    #: The result's one sentence; the result itself has a table of its own, so that lists stay light.
    summary: str = Field(default="", sa_type=Text)
    error: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    #: Metrics of its result that must reach a value: below it, the job fails.
    floors: dict[str, float] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}")
    )
    #: The notebook to execute where it is not the one of the job's type; ``options`` are its parameters.
    source: str = Field(default="", sa_type=Text)
    #: The copy of it that was taken when the job was submitted, as ``jobs/.sources/<this>.ipynb``.
    source_sha256: str = Field(default="", sa_column=Column(String, nullable=False, server_default=""))
    #: The executed notebook, relative to the workspace; empty while there is none.
    notebook: str = Field(default="", sa_type=Text)
    #: Folder the job was submitted from: relative paths in its options mean what the submitter meant.
    cwd: str = Field(default="", sa_type=Text)
    run_id: int | None = None
    created_at: float = Field(default_factory=time.time, sa_type=Float)
    started_at: float | None = Field(default=None, sa_type=Float)
    finished_at: float | None = Field(default=None, sa_type=Float)
    # Every write of a running job names the attempt it belongs to, so an earlier one changes nothing.
    attempt: int = 0
    max_attempts: int = 1
    # Who runs it. By hand there is no worker and `pid` is the kernel's own.
    worker_id: str = ""
    host: str = ""
    worker_pid: int | None = None
    worker_pid_started: str = ""
    pid: int | None = None
    pid_started: str = ""
    #: Mark in the environment of every process of the attempt, to find those whose parents are gone.
    token: str = ""
    heartbeat_at: float | None = Field(default=None, sa_type=Float)
    lease_until: float | None = Field(default=None, sa_type=Float)


class EvalResult(Record, table=True):
    """What a job returned: an evaluation's tables and curves, or another job's outcome in the same form."""

    __tablename__: ClassVar[Any] = "eval_result"

    job_id: int = Field(sa_column=Column(ForeignKey("job.id"), primary_key=True, autoincrement=False))
    attempt: int = 0
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    created_at: float = Field(default_factory=time.time, sa_type=Float)
