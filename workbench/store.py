"""Every query there is.

A :class:`Store` is one database: SQLite in a file, or PostgreSQL. Each method is one transaction that
either happened or did not. Ids are whole numbers counted from 1, times are seconds since 1970, and a
thing that is not there is None (the callers turn that into an error that names it).

A job moves only if it was what the mover thought: :meth:`Store.move_job` is the one statement that
changes a status, it names the status (and the attempt) it expects, and says whether it moved anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import (
    JSON,
    URL,
    ColumnElement,
    Connection,
    Engine,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import configure_mappers
from sqlalchemy.orm.attributes import manager_of_class

from workbench import migrations, series
from workbench.errors import BadInput, MissingExtra, StoreError, StoreUnavailable, WrongState
from workbench.heartbeats import Hearing
from workbench.mounts import network_filesystem
from workbench.outcome import collect
from workbench.records import (
    Artifact,
    Checkpoint,
    EvalResult,
    Experiment,
    Job,
    MetricSummary,
    Record,
    Run,
    Sender,
)
from workbench.series import Batch, Curve, Key, Point

#: Seconds a writer waits for its turn before giving up.
BUSY_SECONDS = 30.0

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


class RunRow(NamedTuple):
    """A run without what only its own page shows."""

    id: int
    name: str
    experiment: str
    status: str
    config: dict[str, Any]
    tags: dict[str, Any]
    directions: list[list[str]]
    job_id: int | None
    error: dict[str, Any] | None
    created_at: float
    finished_at: float | None
    notes: str


def _table(record: type[Record]) -> Table:
    return cast(Table, record.__table__)  # type: ignore[attr-defined]  # SQLModel sets it on table classes


_experiments, _runs, _summaries = _table(Experiment), _table(Run), _table(MetricSummary)
_checkpoints, _artifacts = _table(Checkpoint), _table(Artifact)
_senders = _table(Sender)
_jobs, _results = _table(Job), _table(EvalResult)

#: What :meth:`Store.summary_table` reads of each metric, in the order that it takes them apart in.
_SUMMARY_COLUMNS = ("last", "min", "max", "best", "best_step", "last_step", "count", "nonfinite", "better")

# Put together once: that takes as long as asking.
_IDS: Any = bindparam("ids", expanding=True)
_SUMMARY_TABLE = (
    select(*(_summaries.c[name] for name in ("run_id", "name", *_SUMMARY_COLUMNS)))
    .where(_summaries.c.run_id.in_(_IDS))
    .order_by(_summaries.c.id)
)
_RUN_TABLE = (
    select(
        *(
            _experiments.c.name.label("experiment") if name == "experiment" else _runs.c[name]
            for name in RunRow._fields
        )
    )
    .join(_experiments, _experiments.c.id == _runs.c.experiment_id)
    .order_by(_runs.c.id.desc())
)
_RUN_TABLE_OF = _RUN_TABLE.where(_runs.c.id.in_(_IDS))


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
        #: What a server has heard of the runs that are logged to it; None where nobody listens.
        self.hearing: Hearing | None = None
        configure_mappers()  # which a record's constructor would do, and `_record` calls none
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
        committing = False
        try:
            with self._connected() as connection:
                connection.execution_options(writes=True, durable=durable)
                with connection.begin():
                    if not durable and not self.is_sqlite:
                        connection.execute(text("set local synchronous_commit = off"))
                    yield connection
                    committing = True
        except StoreUnavailable as error:
            error.undone = not committing
            raise

    def _adding(self, call: Callable[[], _T]) -> _T:
        """Return what a transaction returns that must not happen twice; again only where it did not."""
        deadline = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                if not error.undone or time.monotonic() > deadline:
                    raise
            time.sleep(_FIRST_PAUSE)

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
        def read() -> str | None:
            with self._reading() as connection:
                return _revision(connection)

        return patiently(read, CONNECT_SECONDS)

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

        def add() -> Run:
            with self._writing() as connection:
                return self._add_run(connection, run, experiment)

        return self._adding(add)

    def _add_run(self, connection: Connection, run: Run, experiment: str) -> Run:
        # What is JSON escapes any text by itself; a column of text does not.
        texts = {name: _storable(value) for name, value in _values(run).items() if isinstance(value, str)}
        experiment_id = _experiment_id(connection, experiment, run.created_at)
        row = {**_values(run), **texts, "experiment_id": experiment_id}
        run_id = _new_id(connection, insert(_runs).values(row), _runs)
        row["name"] = run.name or f"run-{run_id}"
        connection.execute(update(_runs).where(_runs.c.id == run_id).values(name=row["name"]))
        if run.job_id is not None:
            connection.execute(update(_jobs).where(_jobs.c.id == run.job_id).values(run_id=run_id))
        return Run(**{**row, "id": run_id})

    def put_run(self, run: Run, experiment: str) -> Run:
        """Add a run that has an ``origin``, or bring the one that came from there up to date.

        A run that is there keeps its id, its notes, its experiment and the tags it was given here; all else
        is as ``run`` says, its state too.
        """
        with self._writing() as connection:
            there = connection.execute(select(_runs).where(_runs.c.origin == run.origin)).first()
            if there is None:
                added = self._add_run(connection, run, experiment)
                self._collect(connection, [added.id or 0])
                return added
            kept = {
                "id": there.id,
                "experiment_id": there.experiment_id,
                "notes": there.notes or run.notes,
                "tags": {**there.tags, **run.tags},
                "outcome": there.outcome,
            }
            row = {**_values(run), **kept}
            connection.execute(update(_runs).where(_runs.c.id == there.id).values(row))
            self._collect(connection, [there.id])
        return Run(**row)

    def change_run(self, run_id: int, **change: Any) -> None:
        """Change columns of a run that say nothing of its state, such as its notes and tags."""
        with self._writing() as connection:
            connection.execute(update(_runs).where(_runs.c.id == run_id).values(change))

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

    def run_table(self, run_ids: Collection[int] | None = None) -> dict[int, RunRow]:
        """Return runs by id, newest first, without what only a run's own page shows; all of them if None."""
        with self._reading() as connection:
            if run_ids is None:
                found = connection.execute(_RUN_TABLE)
            else:
                found = connection.execute(_RUN_TABLE_OF, {"ids": list(run_ids)})
            return {row[0]: RunRow(*row) for row in found}

    def run_marks(self, run_ids: Collection[int]) -> dict[int, str]:
        """Return by id a mark that is another one when a run's row of ``run_table`` is.

        Of a run that is running, also when it has logged more points. Texts are compared as they lie in the
        database: nothing of them is read.
        """
        read = [_runs.c[name] for name in RunRow._fields if name != "experiment"]
        columns = [one.cast(Text) if isinstance(one.type, JSON) else one for one in read]
        table = select(*columns).where(_runs.c.id.in_(run_ids))
        counts = (
            select(_summaries.c.run_id, func.sum(_summaries.c.count))
            .join(_runs, _runs.c.id == _summaries.c.run_id)
            .where(_runs.c.id.in_(run_ids), _runs.c.status == "running")
            .group_by(_summaries.c.run_id)
        )
        with self._reading() as connection:
            # Counted first: what is logged between the two questions changes the mark the next time.
            logged = {run_id: int(count) for run_id, count in connection.execute(counts)}
            return {
                row[0]: blake2b(repr((*row, logged.get(row[0]))).encode(), digest_size=9).hexdigest()
                for row in connection.execute(table.order_by(_runs.c.id.desc()))
            }

    def run_of(self, origin: str) -> Run | None:
        """Return the run that was brought from somewhere."""
        return self._one(Run, select(_runs).where(_runs.c.origin == origin))

    def running(self) -> list[tuple[int, str, int | None, str]]:
        """Return (id, host, pid, when that process started) of the runs that are running."""
        query = select(_runs.c.id, _runs.c.host, _runs.c.pid, _runs.c.pid_started)
        with self._reading() as connection:
            return [tuple(row) for row in connection.execute(query.where(_runs.c.status == "running"))]

    def newest_run(self) -> int | None:
        """Return the highest run id."""
        with self._reading() as connection:
            return connection.execute(select(func.max(_runs.c.id))).scalar()

    def end_run(
        self,
        run_id: int,
        status: str,
        error: Mapping[str, Any] | None = None,
        *,
        finished_at: float | None = None,
        heard_at: float | None = None,
    ) -> bool:
        """End a run that is running and collect its outcome, in one; say whether it was running.

        With ``heard_at`` only if nothing was heard since of who logs it from elsewhere.
        """
        wanted = (_runs.c.id == run_id) & (_runs.c.status == "running")
        if heard_at is not None:
            silent = select(_senders.c.run_id).where(_senders.c.owner, _senders.c.heard_at == heard_at)
            wanted &= _runs.c.id.in_(silent)
        change = {
            "status": status,
            "error": dict(error) if error else None,
            "finished_at": time.time() if finished_at is None else finished_at,
        }
        with self._writing() as connection:
            if connection.execute(update(_runs).where(wanted).values(change)).rowcount != 1:
                return False
            self._collect(connection, [run_id])
        return True

    def outcome(self, run_id: int) -> dict[str, Any] | None:
        """Return what a run has come to: what was collected at its end, or how it stands now."""
        with self._reading() as connection:
            row = connection.execute(select(_runs).where(_runs.c.id == run_id)).first()
            if row is None:
                return None
            stored: dict[str, Any] | None = row.outcome
            return stored or self._outcome(connection, _record(Run, row))

    def _collect(self, connection: Connection, run_ids: Collection[int]) -> None:
        """Write the outcomes of runs that have ended, again where more was logged since."""
        ended = select(_runs).where(_runs.c.id.in_(run_ids), _runs.c.status != "running")
        for row in connection.execute(ended).all():
            outcome = self._outcome(connection, _record(Run, row))
            connection.execute(update(_runs).where(_runs.c.id == row.id).values(outcome=outcome))

    def _outcome(self, connection: Connection, run: Run) -> dict[str, Any]:
        run_id = run.id or 0
        summaries = self._summary_table(connection, [run_id])[run_id]
        rows = connection.execute(
            select(_checkpoints).where(_checkpoints.c.run_id == run_id).order_by(_checkpoints.c.id)
        )
        checkpoints = [_record(Checkpoint, row) for row in rows]
        steps = {one.step for one in checkpoints if one.step is not None}
        values = self._at_steps(connection, run_id, summaries, steps)
        return collect(run, summaries, checkpoints, values)

    # Metrics -----------------------------------------------------------------------------------

    def add_points(self, points: Sequence[Point], better: Mapping[Key, str | None]) -> None:
        """Add metric points and bring their summaries up to date, in one transaction.

        Parameters
        ----------
        points : sequence of Point
            In the order they were logged.
        better : mapping of (run id, name) to {"higher", "lower", None}
            Direction of a metric that is new; one that is known keeps its own.
        """
        self.add_batches(series.grouped(points), better)

    def add_batches(
        self, batches: Mapping[Key, Batch], better: Mapping[Key, str | None], *, durable: bool = False
    ) -> None:
        """Add points by (run id, metric name), each batch in the order logged, in one transaction.

        What this has returned from survives the end of this process, however it ends. With ``durable`` a
        power cut too; without, that comes with the next state that is written, such as the run's end.
        """
        batches = {key: batch for key, batch in batches.items() if len(batch.values)}
        if not batches:
            return
        with self._writing(durable=durable) as connection:
            series.append(connection, batches, better, sqlite=self.is_sqlite)
            self._collect(connection, {run_id for run_id, _ in batches})

    def summaries(self, run_ids: Collection[int]) -> dict[int, list[MetricSummary]]:
        """Return the metric summaries of some runs, by run, in the order they first appeared."""
        out: dict[int, list[MetricSummary]] = {run_id: [] for run_id in run_ids}
        query = select(_summaries).where(_summaries.c.run_id.in_(run_ids)).order_by(_summaries.c.id)
        for summary in self._all(MetricSummary, query):
            out[summary.run_id].append(summary)
        return out

    def summary_table(self, run_ids: Collection[int]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return by run and metric name, in the order they first appeared, what each metric came to.

        Plain values, quick for many runs at once: ``last``, ``min``, ``max``, ``best``, ``best_step``,
        ``last_step``, ``count``, ``nonfinite`` and ``better``. ``last`` is None where it was NaN.
        """
        with self._reading() as connection:
            return self._summary_table(connection, run_ids)

    def _summary_table(
        self, connection: Connection, run_ids: Collection[int]
    ) -> dict[int, dict[str, dict[str, Any]]]:
        out: dict[int, dict[str, dict[str, Any]]] = {run_id: {} for run_id in run_ids}
        # The driver's own rows, and each dict written out: there are thousands, and nothing wants converting.
        found = connection.execute(_SUMMARY_TABLE, {"ids": list(run_ids)}).cursor.fetchall()
        for run_id, name, last, low, high, best, best_step, last_step, count, nonfinite, better in found:
            out[run_id][name] = {
                "last": last,
                "min": low,
                "max": high,
                "best": best,
                "best_step": best_step,
                "last_step": last_step,
                "count": count,
                "nonfinite": nonfinite,
                "better": better,
            }
        return out

    def curves(
        self, keys: Sequence[Key], after: Mapping[Key, int] | None = None, most: int | None = None
    ) -> dict[Key, Curve]:
        """Return the points of many metrics at once, in the order logged.

        Parameters
        ----------
        keys : sequence of (run id, metric name)
            Which.
        after : mapping of (run id, metric name) to int, optional
            Only what comes after that ``seq``; all, for those not in it.
        most : int, optional
            At most so many points in all: some metrics whole or from their first on, the others not at all.

        Returns
        -------
        dict of (run id, metric name) to Curve
            One for every key; of length 0 where there is no such metric, or nothing new. The arrays may be
            read-only.
        """
        with self._reading() as connection:
            return series.read(connection, keys, after, most)

    def points(self, run_id: int, name: str, *, after: int = -1) -> list[tuple[int, float, float]]:
        """Return (step, time, value) of one metric in the order logged, from sequence ``after`` + 1 on."""
        key = (run_id, name)
        curve = self.curves([key], {key: after})[key]
        return list(zip(curve.step.tolist(), curve.time.tolist(), curve.value.tolist(), strict=True))

    def at_steps(self, run_id: int, steps: Collection[int]) -> dict[int, dict[str, float]]:
        """Return by step the metrics of a run that were logged at it, the value logged last of each."""
        with self._reading() as connection:
            names = self._summary_table(connection, [run_id])[run_id]
            return self._at_steps(connection, run_id, names, steps)

    def _at_steps(
        self, connection: Connection, run_id: int, names: Iterable[str], steps: Collection[int]
    ) -> dict[int, dict[str, float]]:
        if not steps:
            return {}
        return series.at_steps(series.read(connection, [(run_id, name) for name in names]), steps)

    # Runs logged from elsewhere ----------------------------------------------------------------

    def add_sent_run(self, run: Run, experiment: str, key: str) -> Run:
        """Add a run that is logged from another machine; asked again with the same key, it is the same run.

        Parameters
        ----------
        run : Run
            The new run.
        experiment : str
            Its experiment, which is made if it is new.
        key : str
            What the sender calls itself.
        """

        def add() -> Run:
            with self._writing() as connection:
                known = select(_runs).join(_senders, _senders.c.run_id == _runs.c.id)
                there = connection.execute(known.where(_senders.c.key == key)).first()
                if there is not None:
                    return _record(Run, there)
                added = self._add_run(connection, run, experiment)
                sender = Sender(key=key, run_id=added.id or 0, owner=True, heard_at=self._clock(connection))
                connection.execute(insert(_senders).values(sender.model_dump()))
                return added

        return self._adding(add)

    def take_batch(
        self,
        run_id: int,
        key: str,
        number: int,
        batches: Mapping[str, Batch],
        better: Mapping[Key, str | None],
    ) -> int | None:
        """Keep a numbered batch that was sent from elsewhere; one that is kept already changes nothing.

        What this has returned from survives a power cut, since its sender forgets it.

        Parameters
        ----------
        run_id : int
            The run.
        key : str
            What the sender calls itself; one that was never heard of begins with batch 1.
        number : int
            Counted from 1. The number of the last one again, or 0 before the first, is a sign of life.
        batches : mapping of str to Batch
            New points by metric.
        better : mapping of (run id, name) to {"higher", "lower", None}
            As in :meth:`add_batches`.

        Returns
        -------
        int or None
            The number of the last batch that is kept; None where there is no such run.

        Raises
        ------
        WrongState
            The run is over, or a batch is missing before this one, or the key is another run's.
        """
        new = {(run_id, name): batch for name, batch in batches.items() if len(batch.values)}
        with self._writing() as connection:
            # On PostgreSQL the run's row is the lock; an SQLite file has one writer at a time.
            run = connection.execute(select(_runs.c.status).where(_runs.c.id == run_id).with_for_update())
            status = run.scalar()
            if status is None:
                return None
            found = connection.execute(select(_senders).where(_senders.c.key == key)).first()
            kept = 0 if found is None else int(found.received)
            if found is not None and found.run_id != run_id:
                raise WrongState(f"who sends this logs run {found.run_id}, and not run {run_id}")
            if status != "running" and (number > kept or not new):
                raise WrongState(
                    f"run {run_id} is {status}: nothing more can be logged to it",
                    hint="It was ended by somebody else, or silent for so long that it was taken for lost.",
                )
            if number > kept + 1:
                raise WrongState(f"batch {number} of run {run_id} comes before batch {kept + 1}")
            if number == kept + 1 and new:
                series.append(connection, new, better, sqlite=self.is_sqlite)
                self._collect(connection, [run_id])
                kept = number
            change: dict[str, Any] = {"received": kept, "heard_at": self._clock(connection)}
            if found is None:
                sender = Sender(key=key, run_id=run_id, **change)
                connection.execute(insert(_senders).values(sender.model_dump()))
            else:
                connection.execute(update(_senders).where(_senders.c.key == key).values(change))
        return kept

    def heard_of(self, run_ids: Collection[int]) -> dict[int, float]:
        """Return when runs that were started from elsewhere were heard of last, by the store's clock."""
        query = select(_senders.c.run_id, _senders.c.heard_at)
        with self._reading() as connection:
            rows = connection.execute(query.where(_senders.c.owner, _senders.c.run_id.in_(run_ids)))
            return {row.run_id: row.heard_at for row in rows}

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

    def forget_checkpoint(self, run_id: int, name: str) -> bool:
        """Remove the record of a checkpoint; say whether there was one."""
        mine = (_checkpoints.c.run_id == run_id) & (_checkpoints.c.name == name)
        with self._writing() as connection:
            gone = connection.execute(delete(_checkpoints).where(mine)).rowcount == 1
            if gone:
                self._collect(connection, [run_id])
        return gone

    def add_artifact(self, artifact: Artifact) -> None:
        """Add an artifact, or replace the record of the run's artifact of that name."""
        values = _values(artifact)
        same = (_artifacts.c.run_id == artifact.run_id) & (_artifacts.c.name == artifact.name)
        with self._writing() as connection:
            if connection.execute(update(_artifacts).where(same).values(values)).rowcount == 0:
                connection.execute(insert(_artifacts).values(values))

    def artifacts(self, run_id: int) -> list[Artifact]:
        """Return a run's artifacts, oldest first."""
        query = select(_artifacts).where(_artifacts.c.run_id == run_id).order_by(_artifacts.c.id)
        return self._all(Artifact, query)

    # Jobs --------------------------------------------------------------------------------------

    def add_job(self, job: Job) -> Job:
        """Add a job as it is; return it with its id."""
        row = _storable(_values(job))

        def add() -> int:
            with self._writing() as connection:
                return _new_id(connection, insert(_jobs).values(row), _jobs)

        return Job(**{**row, "id": self._adding(add)})

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

    def job_adapters(self, job_ids: Collection[int]) -> dict[int, str]:
        """Return whose adapter's some jobs are, by id."""
        query = select(_jobs.c.id, _jobs.c.adapter).where(_jobs.c.id.in_(job_ids))
        with self._reading() as connection:
            return {row.id: row.adapter for row in connection.execute(query)}

    def job_types(self) -> list[str]:
        """Return the types of the jobs there are, sorted."""
        with self._reading() as connection:
            return sorted(connection.execute(select(_jobs.c.type).distinct()).scalars())

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
        runs: str = "",
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
        runs : str
            How the runs end that the attempt left open, with the job's ``error``: in the same transaction,
            since a moment later they could be the next attempt's.
        **change
            Further columns to set.
        """
        wanted = _expected(job_id, expect, attempt)
        now = time.time()
        if to in ("succeeded", "failed", "cancelled"):
            change.setdefault("finished_at", now)
        change = _storable(change)
        with self._writing() as connection:
            done = connection.execute(update(_jobs).where(wanted).values(status=to, **change))
            if done.rowcount == 1 and runs:
                left = (_runs.c.job_id == job_id) & (_runs.c.status == "running")
                ended = {"status": runs, "error": change.get("error"), "finished_at": now}
                stopped = update(_runs).where(left).values(ended).returning(_runs.c.id)
                self._collect(connection, connection.execute(stopped).scalars().all())
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
        changed = update(_jobs).where(wanted).values(_storable(change)).returning(_jobs.c.status)
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
        row = _storable({"attempt": attempt, "data": dict(data), "created_at": time.time()})
        summary = str(row["data"].get("summary", ""))
        with self._writing() as connection:
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
        def read() -> list[_R]:
            with self._reading() as connection:
                return [_record(record, row) for row in connection.execute(query)]

        return patiently(read, CONNECT_SECONDS)  # a connection that was cut is no reason to know nothing

    def _one(self, record: type[_R], query: Select[Any]) -> _R | None:
        def read() -> Row[Any] | None:
            with self._reading() as connection:
                return connection.execute(query).first()

        row = patiently(read, CONNECT_SECONDS)
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


def _storable(value: Any) -> Any:
    """Return a value whose texts any database takes.

    A file's name that is no UTF-8 reaches an error's message as half characters, and text from a process may
    hold a NUL: neither can be stored, and neither may keep a job's end from being written.
    """
    if isinstance(value, str):
        if "\0" in value:
            value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, (list, tuple)) else value


def _to_json(value: Any) -> str:
    said = json.dumps(value, ensure_ascii=False)
    # A file name that is no UTF-8 reaches Python as half characters; a run must end with them too.
    return said if said.isascii() or _is_text(said) else json.dumps(value)


def _is_text(said: str) -> bool:
    try:
        said.encode()
    except UnicodeEncodeError:
        return False
    return True


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
        raise StoreError(f"the database refused: {said}", hint=_hint(said)) from error
    except SQLAlchemyError as error:
        raise StoreError(f"the database refused: {error}") from error
    except sqlite_module().Error as error:  # where a transaction begins, the driver is asked directly
        said = str(error)
        if "locked" in said or "busy" in said:
            hint = "Another process holds the database; try again."
            raise StoreUnavailable(f"the database is out of reach: {said}", hint=hint) from error
        raise StoreError(f"the database refused: {said}", hint=_hint(said)) from error


def _hint(said: str) -> str:
    if "full" in said or "No space" in said:
        return "Free some space on the disk and try again."
    if "readonly" in said or "read-only" in said or "unable to open" in said:
        return "See whether the workspace's folder and its files can be written."
    return "See whether the disk is healthy, and has space left." if "I/O error" in said else ""


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
    """Return a row as its record.

    What comes out of the database was checked on its way in, and a constructor that sets one attribute after
    the other takes four times as long as the query.
    """
    made: _R = manager_of_class(record).new_instance()
    made.__dict__.update(row._mapping)
    made.__pydantic_fields_set__.update(row._fields)
    return made


def _values(record: Record) -> dict[str, Any]:
    """Return a new row's columns, without the id that the database gives."""
    return record.model_dump(exclude={"id"})


def _experiment_id(connection: Connection, name: str, created_at: float) -> int:
    """Return the id of an experiment, which is made if it is new."""
    found = connection.execute(select(_experiments.c.id).where(_experiments.c.name == name)).scalar()
    if found is not None:
        return int(found)
    return _new_id(connection, insert(_experiments).values(name=name, created_at=created_at), _experiments)


def _new_id(connection: Connection, statement: Any, table: Table) -> int:
    return int(connection.execute(statement.returning(table.c.id)).scalar_one())


def _expected(job_id: int, expect: str | Collection[str], attempt: int | None) -> ColumnElement[bool]:
    states = [expect] if isinstance(expect, str) else list(expect)
    wanted = (_jobs.c.id == job_id) & _jobs.c.status.in_(states)
    return wanted if attempt is None else wanted & (_jobs.c.attempt == attempt)
