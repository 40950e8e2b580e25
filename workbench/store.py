"""Every query there is.

A :class:`Store` is one database: SQLite in a file, or PostgreSQL. Each method is one transaction that
either happened or did not. Ids are whole numbers counted from 1, times are seconds since 1970, and a
thing that is not there is None (the callers turn that into an error that names it).

A job moves only if it was what the mover thought: :meth:`Store.move_job` is the one statement that
changes a status, it names the status (and the attempt) it expects, and says whether it moved anything.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    Table,
    create_engine,
    event,
    func,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from workbench import migrations
from workbench.errors import BadInput, MissingExtra, StoreError, StoreUnavailable
from workbench.mounts import network_filesystem
from workbench.records import (
    Checkpoint,
    EvalResult,
    Experiment,
    Job,
    MetricPoint,
    MetricSummary,
    Record,
    Run,
)

#: Seconds a writer waits for its turn before giving up.
BUSY_SECONDS = 30.0

# As text for the driver itself: compiling a statement for each batch costs more than the batch.
_INSERT_POINTS = "insert into metric_point (metric_id, seq, step, time, value) values (?, ?, ?, ?, ?)"

_R = TypeVar("_R", bound=Record)
_T = TypeVar("_T")

#: SQLite from here on (and these older ones) has no WAL-reset bug, which can corrupt a database that several
#: processes write.
SOUND_SQLITE = (3, 51, 3)
REPAIRED_SQLITE = frozenset({(3, 50, 7), (3, 44, 6)})

#: Seconds that a server which does not answer is asked again, before a transaction has begun.
CONNECT_SECONDS = 5.0

#: Pauses of :func:`patiently`, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Point(NamedTuple):
    """One logged value on its way to the database."""

    run_id: int
    name: str
    step: int
    time: float
    value: float


def _table(record: type[Record]) -> Table:
    return cast(Table, record.__table__)  # type: ignore[attr-defined]  # SQLModel sets it on table classes


_experiments, _runs, _checkpoints = _table(Experiment), _table(Run), _table(Checkpoint)
_summaries, _points = _table(MetricSummary), _table(MetricPoint)
_jobs, _results = _table(Job), _table(EvalResult)


def sqlite_module() -> Any:
    """Return the SQLite driver in use: the newer ``pysqlite3`` where it is installed.

    The SQLite that an interpreter links may have the WAL-reset bug (before 3.51.3, and not 3.50.7 or
    3.44.6), which can corrupt a database under several writers.
    """
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        import sqlite3 as dbapi2
    return dbapi2


def is_sound(version: str) -> bool:
    """Say whether an SQLite of this version is free of the WAL-reset bug."""
    number = tuple(int(part) for part in version.split("."))[:3]
    return number >= SOUND_SQLITE or number in REPAIRED_SQLITE


def patiently(call: Callable[[], _T], seconds: float = 30.0) -> _T:
    """Return what a call returns, calling again while the database is out of reach.

    Parameters
    ----------
    call : callable
        Something that may happen twice: where the connection is lost while it is committed, nobody knows
        whether it was. A guarded update, a result that is replaced by itself and a read are; adding a job or
        a run is not.
    seconds : float
        How long to go on.

    Raises
    ------
    StoreUnavailable
        It was still out of reach at the end.
    """
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        try:
            return call()
        except StoreUnavailable:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


class Store:
    """One database of experiments, runs, metrics, jobs and results.

    Parameters
    ----------
    url : str or path
        A path of an SQLite file (made if it is not there), or an SQLAlchemy URL: ``sqlite:///…`` or
        ``postgresql://…``.

    Raises
    ------
    MissingExtra
        PostgreSQL was asked for and its driver is not installed.
    StoreError
        The database cannot be opened, or was made by a newer version.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = _parse(url)
        self._engine = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url)
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    def __repr__(self) -> str:
        return f"<Store {self.url.render_as_string(hide_password=True)}>"

    def close(self) -> None:
        """Close every connection; the store opens new ones if it is used again."""
        self._engine.dispose()

    def forget_connections(self) -> None:
        """Leave inherited connections alone in a process that was forked."""
        self._engine.dispose(close=False)

    def version(self) -> str:
        """Return the database's own name and version, such as ``"SQLite 3.53.0"``."""
        with self._reading() as connection:
            asked = "select sqlite_version()" if self.is_sqlite else "show server_version"
            kind = "SQLite" if self.is_sqlite else "PostgreSQL"
            return f"{kind} {connection.execute(text(asked)).scalar_one()}"

    def clock(self) -> float:
        """Return the seconds since 1970 that leases are measured by: the server's, or this host's."""
        if self.is_sqlite:
            return time.time()
        with self._reading() as connection:
            return self._clock(connection)

    def _clock(self, connection: Connection) -> float:
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(text("select extract(epoch from clock_timestamp())")).scalar_one())

    # Transactions ------------------------------------------------------------------------------

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._connected() as connection:
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Open a connection; a server that is just starting again is waited for a little.

        Before there is a connection nothing has happened, so to ask again is always safe.
        """
        with _refusals():
            if self.is_sqlite:
                connection = self._engine.connect()
            else:
                connection = patiently(self._connect, CONNECT_SECONDS)
            with connection:
                yield connection

    def _connect(self) -> Connection:
        with _refusals():
            return self._engine.connect()

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[Connection]:
        """Open a transaction that holds the write lock from its first statement.

        A deferred transaction that reads and then writes fails with 'database is locked' when another
        writer was faster; ``BEGIN IMMEDIATE`` waits its turn. What is not ``durable`` may be rolled back
        by a power cut (never by a crash of this process): metric points and progress, nothing else.
        """
        with self._connected() as connection:
            connection.execution_options(writes=True, durable=durable)
            with connection.begin():
                if not durable and not self.is_sqlite:
                    connection.execute(text("set local synchronous_commit = off"))
                yield connection

    def _migrate(self) -> None:
        if self._revision() == migrations.HEAD:
            return
        with self._writing() as connection:
            if not self.is_sqlite:
                # Two processes that open a new database at once: one makes it, the other waits.
                connection.execute(text("select pg_advisory_xact_lock(7391204455)"))
            if (found := _revision(connection)) == migrations.HEAD:
                return
            if found is not None and found > migrations.HEAD:
                raise StoreError(
                    f"the database is at step {found}; this version knows steps up to {migrations.HEAD}",
                    hint="Install the version that made it, or a newer one.",
                )
            migrations.upgrade(connection)

    def _revision(self) -> str | None:
        with self._reading() as connection:
            return _revision(connection)

    # Experiments and runs ----------------------------------------------------------------------

    def experiments(self) -> list[Experiment]:
        """Return every experiment, by name."""
        return self._all(Experiment, select(_experiments).order_by(_experiments.c.name))

    def experiment(self, key: str | int) -> Experiment | None:
        """Return an experiment by name or id."""
        column = _experiments.c.id if isinstance(key, int) else _experiments.c.name
        return self._one(Experiment, select(_experiments).where(column == key))

    def add_run(self, run: Run, experiment: str) -> Run:
        """Add a run, and its experiment if that is new; return the run with its ids.

        A run without a name is called ``run-<id>``.
        """
        with self._writing() as connection:
            found = connection.execute(select(_experiments.c.id).where(_experiments.c.name == experiment))
            experiment_id = found.scalar()
            if experiment_id is None:
                made = insert(_experiments).values(name=experiment, created_at=run.created_at)
                experiment_id = _new_id(connection, made, _experiments)
            row = {**_values(run), "experiment_id": experiment_id}
            run_id = _new_id(connection, insert(_runs).values(row), _runs)
            row["name"] = run.name or f"run-{run_id}"
            connection.execute(update(_runs).where(_runs.c.id == run_id).values(name=row["name"]))
            if run.job_id is not None:
                connection.execute(update(_jobs).where(_jobs.c.id == run.job_id).values(run_id=run_id))
        return Run(**{**row, "id": run_id})

    def run(self, run_id: int) -> Run | None:
        """Return a run."""
        return self._one(Run, select(_runs).where(_runs.c.id == run_id))

    def runs(
        self,
        *,
        experiment_id: int | None = None,
        ids: Collection[int] | None = None,
        job_id: int | None = None,
        status: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Run]:
        """Return runs, newest first."""
        query = select(_runs).order_by(_runs.c.id.desc()).limit(limit).offset(offset)
        if experiment_id is not None:
            query = query.where(_runs.c.experiment_id == experiment_id)
        if ids is not None:
            query = query.where(_runs.c.id.in_(ids))
        if job_id is not None:
            query = query.where(_runs.c.job_id == job_id)
        if status is not None:
            query = query.where(_runs.c.status == status)
        return self._all(Run, query)

    def newest_run(self) -> int | None:
        """Return the highest run id."""
        with self._reading() as connection:
            return connection.execute(select(func.max(_runs.c.id))).scalar()

    def end_run(self, run_id: int, status: str, error: Mapping[str, Any] | None = None) -> bool:
        """End a run that is running; say whether it was."""
        wanted = (_runs.c.id == run_id) & (_runs.c.status == "running")
        change = {"status": status, "error": dict(error) if error else None, "finished_at": time.time()}
        with self._writing() as connection:
            return connection.execute(update(_runs).where(wanted).values(change)).rowcount == 1

    # Metrics -----------------------------------------------------------------------------------

    def add_points(self, points: Sequence[Point], better: Mapping[tuple[int, str], str | None]) -> None:
        """Add metric points and bring their summaries up to date, in one transaction.

        Parameters
        ----------
        points : sequence of Point
            In the order they were logged.
        better : mapping of (run id, name) to {"higher", "lower", None}
            Direction of a metric that is new; one that is known keeps its own.
        """
        if not points:
            return
        with self._writing(durable=False) as connection:
            tallies = self._tallies(connection, {point.run_id for point in points})
            rows: list[tuple[int, int, int, float, float | None]] = []
            for point in points:
                run_id, name, step, at, value = point
                if (tally := tallies.get((run_id, name))) is None:
                    tally = _new_tally(connection, run_id, name, better.get((run_id, name)))
                    tallies[run_id, name] = tally
                rows.append((tally.id, tally.count, step, at, None if math.isnan(value) else value))
                tally.add(step, value)
            insert_points = _INSERT_POINTS if self.is_sqlite else _INSERT_POINTS.replace("?", "%s")
            connection.exec_driver_sql(insert_points, cast(Any, rows))
            for tally in tallies.values():
                if tally.changed:
                    mine = _summaries.c.id == tally.id
                    connection.execute(update(_summaries).where(mine).values(tally.columns()))

    def _tallies(self, connection: Connection, run_ids: Collection[int]) -> dict[tuple[int, str], _Tally]:
        if not self.is_sqlite:  # SQLite has one writer at a time; here the run's row is the lock
            ordered = select(_runs.c.id).where(_runs.c.id.in_(run_ids)).order_by(_runs.c.id)
            connection.execute(ordered.with_for_update())
        wanted = _summaries.c.run_id.in_(run_ids)
        return {
            (row.run_id, row.name): _Tally(**{name: getattr(row, name) for name in _TALLIED}, id=row.id)
            for row in connection.execute(select(_summaries).where(wanted))
        }

    def summaries(self, run_ids: Collection[int]) -> dict[int, list[MetricSummary]]:
        """Return the metric summaries of some runs, by run, in the order they first appeared."""
        out: dict[int, list[MetricSummary]] = {run_id: [] for run_id in run_ids}
        query = select(_summaries).where(_summaries.c.run_id.in_(run_ids)).order_by(_summaries.c.id)
        for summary in self._all(MetricSummary, query):
            out[summary.run_id].append(summary)
        return out

    def points(self, run_id: int, name: str, *, after: int = -1) -> list[tuple[int, float, float]]:
        """Return (step, time, value) of one metric in the order logged, from sequence ``after`` + 1 on."""
        metric = select(_summaries.c.id).where(_summaries.c.run_id == run_id, _summaries.c.name == name)
        query = (
            select(_points.c.step, _points.c.time, _points.c.value)
            .where(_points.c.metric_id == metric.scalar_subquery(), _points.c.seq > after)
            .order_by(_points.c.seq)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [(step, at, math.nan if value is None else value) for step, at, value in rows]

    # Checkpoints -------------------------------------------------------------------------------

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint, or replace the record of the run's checkpoint of that name."""
        values = _values(checkpoint)
        same = (_checkpoints.c.run_id == checkpoint.run_id) & (_checkpoints.c.name == checkpoint.name)
        with self._writing() as connection:
            if connection.execute(update(_checkpoints).where(same).values(values)).rowcount == 0:
                connection.execute(insert(_checkpoints).values(values))

    def checkpoints(self, run_id: int) -> list[Checkpoint]:
        """Return a run's checkpoints, oldest first."""
        query = select(_checkpoints).where(_checkpoints.c.run_id == run_id).order_by(_checkpoints.c.id)
        return self._all(Checkpoint, query)

    # Jobs --------------------------------------------------------------------------------------

    def add_job(self, job: Job) -> Job:
        """Add a job as it is; return it with its id."""
        row = _values(job)
        with self._writing() as connection:
            return Job(**{**row, "id": _new_id(connection, insert(_jobs).values(row), _jobs)})

    def job(self, job_id: int) -> Job | None:
        """Return a job."""
        return self._one(Job, select(_jobs).where(_jobs.c.id == job_id))

    def jobs(
        self,
        *,
        type: str | None = None,  # noqa: A002  # the word for it everywhere
        status: str | Collection[str] | None = None,
        host: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Job]:
        """Return jobs, newest first."""
        return self._all(Job, _some_jobs(type, status, host, limit, offset))

    def job_rows(
        self,
        *,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Job]:
        """Return jobs, newest first, as plain rows to read from: of a thousand, five times as fast."""
        with self._reading() as connection:
            rows = connection.execute(_some_jobs(type, status, None, limit, offset)).all()
        return cast("list[Job]", rows)

    def count_jobs(
        self,
        status: str | Collection[str] | None = None,
        *,
        type: str | None = None,  # noqa: A002  # the word for it everywhere
    ) -> int:
        """Return how many jobs there are."""
        query = select(func.count()).select_from(_jobs)
        if type is not None:
            query = query.where(_jobs.c.type == type)
        if status is not None:
            query = query.where(_jobs.c.status.in_([status] if isinstance(status, str) else status))
        with self._reading() as connection:
            return connection.execute(query).scalar_one()

    def newest_job(self) -> int | None:
        """Return the highest job id."""
        with self._reading() as connection:
            return connection.execute(select(func.max(_jobs.c.id))).scalar()

    def claim_job(self, worker: Mapping[str, Any], lease_seconds: float) -> Job | None:
        """Take the oldest queued job for a worker, or return None; one job is never taken by two.

        Parameters
        ----------
        worker : mapping
            Values of the columns that say who runs it: ``worker_id``, ``host``, ``worker_pid`` and
            ``worker_pid_started``; and, where the process is there already, ``pid``, ``pid_started`` and
            ``token``.
        lease_seconds : float
            How long the claim holds if it is never renewed.
        """
        oldest = select(_jobs.c.id).where(_jobs.c.status == "queued").order_by(_jobs.c.id).limit(1)
        with self._reading() as connection:  # no write lock for the many times there is nothing
            if connection.execute(oldest).first() is None:
                return None
        with self._writing() as connection:
            job_id = connection.execute(oldest.with_for_update(skip_locked=True)).scalar()
            if job_id is None:
                return None
            now = self._clock(connection)
            change = {
                "status": "running",
                "attempt": _jobs.c.attempt + 1,
                "started_at": now,
                "finished_at": None,
                "heartbeat_at": now,
                "lease_until": now + lease_seconds,
                "pid": None,
                "pid_started": "",
                "token": "",
                "error": None,
                "summary": "",
                "progress_done": 0.0,
                "progress_total": None,
                "progress_message": "",
                "progress_stages": [],
                "progress_rate": None,
                "progress_left": None,
                **worker,
            }
            mine = (_jobs.c.id == job_id) & (_jobs.c.status == "queued")
            if connection.execute(update(_jobs).where(mine).values(change)).rowcount != 1:
                return None
            row = connection.execute(select(_jobs).where(_jobs.c.id == job_id)).one()
        return _record(Job, row)

    def move_job(
        self,
        job_id: int,
        *,
        expect: str | Collection[str],
        to: str,
        attempt: int | None = None,
        **change: Any,
    ) -> bool:
        """Move a job to another state if it is in one of those expected; say whether it moved.

        Parameters
        ----------
        job_id : int
            The job.
        expect : str or collection of str
            States the mover believes the job to be in.
        to : str
            The state it moves to; a final one sets ``finished_at`` too.
        attempt : int, optional
            The attempt the mover speaks for. A job that has since begun another one does not move.
        **change
            Further columns to set.
        """
        wanted = _expected(job_id, expect, attempt)
        if to in ("succeeded", "failed", "cancelled"):
            change.setdefault("finished_at", time.time())
        with self._writing() as connection:
            done = connection.execute(update(_jobs).where(wanted).values(status=to, **change))
            return done.rowcount == 1

    def update_job(
        self,
        job_id: int,
        *,
        attempt: int,
        expect: str | Collection[str] = ("running", "cancelling"),
        durable: bool = False,
        **change: Any,
    ) -> str | None:
        """Change columns of a running attempt; return the job's status, or None if nothing changed."""
        wanted = _expected(job_id, expect, attempt)
        changed = update(_jobs).where(wanted).values(change).returning(_jobs.c.status)
        with self._writing(durable=durable) as connection:
            status = connection.execute(changed).scalar()
        return None if status is None else str(status)

    def renew_leases(self, worker_id: str, lease_seconds: float) -> dict[int, tuple[str, int]]:
        """Renew a worker's leases; return (status, attempt) of each job it still holds, by id."""
        wanted = (_jobs.c.worker_id == worker_id) & _jobs.c.status.in_(("running", "cancelling"))
        with self._writing(durable=False) as connection:
            now = self._clock(connection)
            change = {"heartbeat_at": now, "lease_until": now + lease_seconds}
            connection.execute(update(_jobs).where(wanted).values(change))
            rows = connection.execute(select(_jobs.c.id, _jobs.c.status, _jobs.c.attempt).where(wanted)).all()
        return {job_id: (status, attempt) for job_id, status, attempt in rows}

    def held_jobs(self, worker_id: str) -> dict[int, tuple[str, int]]:
        """Return (status, attempt) of each job a worker holds, by id."""
        wanted = (_jobs.c.worker_id == worker_id) & _jobs.c.status.in_(("running", "cancelling"))
        with self._reading() as connection:
            rows = connection.execute(select(_jobs.c.id, _jobs.c.status, _jobs.c.attempt).where(wanted)).all()
        return {job_id: (status, attempt) for job_id, status, attempt in rows}

    def save_result(self, job_id: int, attempt: int, data: Mapping[str, Any]) -> bool:
        """Keep what a running attempt returned; say whether it was still that attempt's turn."""
        wanted = _expected(job_id, ("running", "cancelling"), attempt)
        row = {"attempt": attempt, "data": dict(data), "created_at": time.time()}
        with self._writing() as connection:
            summary = str(data.get("summary", ""))
            if connection.execute(update(_jobs).where(wanted).values(summary=summary)).rowcount != 1:
                return False
            mine = _results.c.job_id == job_id
            if connection.execute(update(_results).where(mine).values(row)).rowcount == 0:
                connection.execute(insert(_results).values(job_id=job_id, **row))
        return True

    def result(self, job_id: int) -> EvalResult | None:
        """Return what a job's latest attempt returned."""
        current = select(_jobs.c.attempt).where(_jobs.c.id == job_id).scalar_subquery()
        wanted = (_results.c.job_id == job_id) & (_results.c.attempt == current)
        return self._one(EvalResult, select(_results).where(wanted))

    def _all(self, record: type[_R], query: Select[Any]) -> list[_R]:
        with self._reading() as connection:
            return [_record(record, row) for row in connection.execute(query)]

    def _one(self, record: type[_R], query: Select[Any]) -> _R | None:
        with self._reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else _record(record, row)


def _parse(url: str | Path) -> URL:
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(Path(url).absolute()))
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        kind = parsed.get_backend_name()
    except ArgumentError:
        raise BadInput("the database URL cannot be read", hint="Give postgresql://user@host/name.") from None
    if kind not in ("sqlite", "postgresql"):
        raise BadInput(f"no store for {kind!r} databases", hint="Give an SQLite file or postgresql://…")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise BadInput("a store in memory would be seen by no worker", hint="Give the path of a file.")
    return parsed


def _sqlite_engine(url: URL) -> Engine:
    folder = Path(str(url.database)).parent
    folder.mkdir(parents=True, exist_ok=True)
    if kind := network_filesystem(folder):
        raise StoreError(
            f"{folder} is on a network file system ({kind}), where SQLite's locks do not hold: "
            "a database there is corrupted sooner or later",
            hint="Keep the database elsewhere and the workspace here: set WORKBENCH_DATABASE_URL to "
            "postgresql://user@host/name, or to sqlite:////a/local/folder/workbench.db.",
        )
    module = sqlite_module()
    engine = create_engine(
        url, module=module, connect_args={"timeout": BUSY_SECONDS}, json_serializer=_to_json
    )
    # An SQLite with the bug does without the write-ahead log: slower, and readers wait for writers.
    journal = "wal" if is_sound(module.sqlite_version) else "truncate"

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where `begin` below says, and how
        connection.execute(f"pragma journal_mode = {journal}")
        connection.execute("pragma foreign_keys = on")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("writes"):
            connection.exec_driver_sql("begin")
            return
        raw = cast(Any, connection.connection.dbapi_connection)
        raw.execute(f"pragma synchronous = {'full' if options.get('durable', True) else 'normal'}")
        raw.execute("begin immediate")

    return engine


def _postgres_engine(url: URL) -> Engine:
    try:
        return create_engine(url, pool_pre_ping=True, json_serializer=_to_json)
    except ModuleNotFoundError:
        raise MissingExtra("the PostgreSQL driver (psycopg)", "postgres") from None


def _to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn the driver's errors into one that says what the database said."""
    try:
        yield
    except DBAPIError as error:
        said = str(error.orig).strip()
        if _may_pass(error, said):
            hint = "Another process holds the database; try again." if "locked" in said else "Try again."
            raise StoreUnavailable(f"the database is out of reach: {said}", hint=hint) from error
        hint = "Free some space on the disk and try again." if "full" in said else ""
        raise StoreError(f"the database refused: {said}", hint=hint) from error
    except SQLAlchemyError as error:
        raise StoreError(f"the database refused: {error}") from error
    except sqlite_module().Error as error:  # where a transaction begins, the driver is asked directly
        said = str(error)
        if "locked" in said or "busy" in said:
            hint = "Another process holds the database; try again."
            raise StoreUnavailable(f"the database is out of reach: {said}", hint=hint) from error
        raise StoreError(f"the database refused: {said}") from error


def _may_pass(error: DBAPIError, said: str) -> bool:
    """Say whether it was the connection that failed, or somebody else's lock, rather than what was asked."""
    if error.connection_invalidated or "locked" in said or "busy" in said:
        return True
    # psycopg: class 08 is the connection, 57 the operator who stops or starts the server, 40 a transaction
    # that another one had to win against. What fails before there is a connection has no number.
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(error, OperationalError) and not _is_sqlite_error(error):
        return state is None or state[:2] in ("08", "40", "53", "57")
    return isinstance(state, str) and state[:2] in ("08", "40", "57")


def _is_sqlite_error(error: DBAPIError) -> bool:
    return type(error.orig).__module__.split(".")[0] in ("sqlite3", "pysqlite3")


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found = connection.execute(text("select version_num from alembic_version")).scalar()
    return None if found is None else str(found)


def _some_jobs(
    kind: str | None,
    status: str | Collection[str] | None,
    host: str | None,
    limit: int | None,
    offset: int,
) -> Select[Any]:
    query = select(_jobs).order_by(_jobs.c.id.desc()).limit(limit).offset(offset)
    if kind is not None:
        query = query.where(_jobs.c.type == kind)
    if status is not None:
        query = query.where(_jobs.c.status.in_([status] if isinstance(status, str) else status))
    return query if host is None else query.where(_jobs.c.host == host)


def _record(record: type[_R], row: Row[Any]) -> _R:
    return record(**row._mapping)


def _values(record: Record) -> dict[str, Any]:
    """Return a new row's columns, without the id that the database gives."""
    return record.model_dump(exclude={"id"})


def _new_id(connection: Connection, statement: Any, table: Table) -> int:
    return int(connection.execute(statement.returning(table.c.id)).scalar_one())


def _expected(job_id: int, expect: str | Collection[str], attempt: int | None) -> ColumnElement[bool]:
    states = [expect] if isinstance(expect, str) else list(expect)
    wanted = (_jobs.c.id == job_id) & _jobs.c.status.in_(states)
    return wanted if attempt is None else wanted & (_jobs.c.attempt == attempt)


@dataclass(slots=True)
class _Tally:
    """A metric's summary while points are added: plain attributes, since there may be very many points."""

    id: int
    better: str | None
    count: int = 0
    nonfinite: int = 0
    last: float | None = None
    last_step: int | None = None
    min: float | None = None
    max: float | None = None
    best: float | None = None
    best_step: int | None = None
    changed: bool = False

    def add(self, step: int, value: float) -> None:
        self.changed = True
        self.count += 1
        self.last_step = step
        self.last = None if math.isnan(value) else value
        if not math.isfinite(value):
            self.nonfinite += 1
            return
        if self.min is None or value < self.min:
            self.min = value
        if self.max is None or value > self.max:
            self.max = value
        if self.better is None:
            return
        if self.best is None or (value > self.best if self.better == "higher" else value < self.best):
            self.best, self.best_step = value, step

    def columns(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _TALLIED}


_TALLIED = ("better", "count", "nonfinite", "last", "last_step", "min", "max", "best", "best_step")


def _new_tally(connection: Connection, run_id: int, name: str, better: str | None) -> _Tally:
    row = _values(MetricSummary(run_id=run_id, name=name, better=better))
    return _Tally(id=_new_id(connection, insert(_summaries).values(row), _summaries), better=better)
