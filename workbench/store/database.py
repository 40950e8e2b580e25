"""One database and its transactions; subclasses add the queries."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Table, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import configure_mappers
from sqlalchemy.orm.attributes import manager_of_class

from workbench.errors import NewerDatabase, ReadOnly, StoreError, StoreUnavailable, WorkbenchError
from workbench.host.signals import undisturbed
from workbench.store import migrations
from workbench.store.damage import RowCheck
from workbench.store.engines import parse_url, postgres_engine, sqlite_engine, sqlite_module
from workbench.store.records import Record
from workbench.store.sqlite_file import SqliteFile

_R = TypeVar("_R", bound=Record)


_T = TypeVar("_T")


#: Seconds to retry connecting to a server that does not answer, before a transaction begins.
CONNECT_SECONDS = 5.0


#: Seconds after which :class:`Changes` assumes that something has changed.
UNSEEN_SECONDS = 1.0


#: Pauses between the tries of :func:`patiently`, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Database:
    """One database: its connections and its transactions.

    Parameters
    ----------
    url : str or path
        The path of an SQLite file (created if missing), or an SQLAlchemy URL: ``sqlite:///…`` or
        ``postgresql://…``.

    Raises
    ------
    MissingExtra
        The URL is PostgreSQL's and its driver is not installed.
    NewerDatabase
        The database was created or upgraded by a newer version.
    StoreError
        The database cannot be opened.
    """

    def __init__(self, url: str | Path) -> None:
        self.url = parse_url(url)
        configure_mappers()  # usually done by a record's constructor, which `as_record` skips
        self._file: SqliteFile | None = None
        #: Ends that are known here and cannot be written: what is read shows them. Runs by id, jobs by id and
        #: attempt.
        self.unwritten_runs: dict[int, dict[str, Any]] = {}
        self.unwritten_jobs: dict[tuple[int, int], dict[str, Any]] = {}
        if self.is_sqlite:
            self._engine, self._file = sqlite_engine(self.url)
        else:
            self._engine = postgres_engine(self.url)
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    @property
    def read_only(self) -> str:
        """Why the database can only be read; empty if it can be written."""
        return "" if self._file is None else self._file.problem

    def written(self) -> object:
        """Return what changes when anybody commits, without a query; None if that takes one.

        It may miss a commit that follows another one within milliseconds, see :class:`Changes`.
        """
        return None if self._file is None or self._file.problem else self._file.written()

    def check_there(self) -> None:
        """Check that the database is the one that was opened first, before files are written beside it.

        Raises
        ------
        StoreError
            Its file was deleted, moved or replaced.
        """
        if self._file is not None:
            self._file.check()

    def check_version(self) -> None:
        """Check that the database has not been upgraded since it was opened.

        Raises
        ------
        NewerDatabase
            A newer version has upgraded it.
        """
        revision, has_tables = self._revision()
        if revision != migrations.HEAD:
            _check_revision(revision, has_tables)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is an SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def address(self) -> str:
        """The path of the SQLite file, or the URL with its password, for a process of the same user."""
        return str(self.url.database) if self.is_sqlite else self.url.render_as_string(hide_password=False)

    def __repr__(self) -> str:
        return f"<Store {self.url.render_as_string(hide_password=True)}>"

    def close(self) -> None:
        """Close all connections; the store reopens them on the next use."""
        self._engine.dispose()
        if self._file is not None:
            self._file.close()

    def forget_connections(self) -> None:
        """Drop inherited connections, without closing them, in a forked process."""
        self._engine.dispose(close=False)

    def version(self) -> str:
        """Return the database's name and version, such as ``"SQLite 3.53.0"``."""
        with self._reading() as connection:
            query = "select sqlite_version()" if self.is_sqlite else "show server_version"
            kind = "SQLite" if self.is_sqlite else "PostgreSQL"
            return f"{kind} {connection.execute(text(query)).scalar_one()}"

    def clock(self) -> float:
        """Return the clock for leases, in seconds since 1970: the server's, or this host's for SQLite."""
        if self.is_sqlite:
            return time.time()
        with self._reading() as connection:
            return self._clock(connection)

    def _clock(self, connection: Connection) -> float:
        if self.is_sqlite:
            return time.time()
        return float(connection.execute(text("select extract(epoch from clock_timestamp())")).scalar_one())

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._connected() as connection:
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Open a connection, waiting briefly for a server that is restarting.

        Before there is a connection nothing has happened, so retrying is always safe.
        """
        with undisturbed(), _refusals():
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

        A deferred transaction that reads and then writes fails with 'database is locked' if another writer
        was faster; ``BEGIN IMMEDIATE`` waits its turn. Writes that are not ``durable`` may be lost in a
        power cut or a crash of the database server (never in a crash of this process): progress, heartbeats
        and, in a file, metric points are written so.
        """
        committing = False
        if self.read_only:
            self._try_to_write_again()
        try:
            with self._connected() as connection:
                if self._file is not None and self._file.problem:
                    self._file.refuse()
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
        """Return the result of a transaction that must run once; retry only if it changed nothing."""
        deadline = time.monotonic() + CONNECT_SECONDS
        while True:
            try:
                return call()
            except StoreUnavailable as error:
                if not error.undone or time.monotonic() > deadline:
                    raise
            time.sleep(_FIRST_PAUSE)

    def _try_to_write_again(self) -> None:
        """Open the file again: the disk may have space now, or the folder other permissions."""
        if self._file is not None:
            self._engine.dispose()
            self._file.forget_problem()

    def _migrate(self) -> None:
        revision, has_tables = self._revision()
        if revision == migrations.HEAD:
            return
        _check_revision(revision, has_tables)
        if self.read_only:
            raise ReadOnly(
                f"the database has schema version {revision or 'none'}, this version needs "
                f"{migrations.HEAD}, and it cannot be upgraded in place: {self.read_only}",
                hint="Copy the folder to a place of your own, and open it there.",
            )
        with self._writing() as connection:
            if not self.is_sqlite:
                # If two processes open a new database at once, one creates it and the other waits.
                connection.execute(text("select pg_advisory_xact_lock(7391204455)"))
            revision, has_tables = _revision(connection)
            if revision == migrations.HEAD:
                return
            _check_revision(revision, has_tables)
            try:
                migrations.upgrade(connection)
            except (WorkbenchError, SQLAlchemyError, sqlite_module().Error):
                raise
            except Exception as error:
                raise StoreError(
                    f"the database of schema version {revision} could not be upgraded to "
                    f"{migrations.HEAD}: {error!r}",
                    hint="Nothing was changed. See: workbench doctor",
                ) from error

    def _revision(self) -> tuple[str | None, bool]:
        def read() -> tuple[str | None, bool]:
            with self._reading() as connection:
                return _revision(connection)

        return patiently(read, CONNECT_SECONDS)

    def _all(self, record: type[_R], query: Select[Any]) -> list[_R]:
        def read() -> list[_R]:
            with self._reading() as connection:
                return [as_record(record, row) for row in connection.execute(query)]

        return patiently(read, CONNECT_SECONDS)  # reads are retried on a lost connection

    def _one(self, record: type[_R], query: Select[Any]) -> _R | None:
        def read() -> Row[Any] | None:
            with self._reading() as connection:
                return connection.execute(query).first()

        row = patiently(read, CONNECT_SECONDS)
        return None if row is None else as_record(record, row)


class Changes:
    """Report when a database may have changed, to a caller that looks many times per second.

    Looking at the files of an SQLite database takes a hundredth of the time of a query.

    Parameters
    ----------
    database : Database
        The database. One on a server counts as changed at all times.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: object = None
        self._again_at = 0.0

    def due(self) -> bool:
        """Return whether anything was committed since the last call, or that call is a second ago."""
        now, written = time.monotonic(), self._database.written()  # before the query that follows
        if written is not None and written == self._seen and now < self._again_at:
            return False
        self._seen, self._again_at = written, now + UNSEEN_SECONDS
        return True


def patiently(call: Callable[[], _T], seconds: float = 30.0) -> _T:
    """Return the result of a call, retrying while the database is unreachable.

    Parameters
    ----------
    call : callable
        Must be idempotent: if the connection is lost during a commit, it is unknown whether the commit
        succeeded. A guarded update, replacing a result and a read are idempotent; adding a job or a run is
        not.
    seconds : float
        How long to retry.

    Raises
    ------
    StoreUnavailable
        The database was still unreachable after ``seconds``.
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


@contextmanager
def _refusals() -> Iterator[None]:
    """Convert the driver's errors to store errors with the database's message."""
    try:
        yield
    except DBAPIError as error:
        message = str(error.orig).strip()
        if _may_pass(error, message):
            hint = (
                "Another process has locked the database; try again." if "locked" in message else "Try again."
            )
            raise StoreUnavailable(f"cannot reach the database: {message}", hint=hint) from error
        raise StoreError(f"database error: {message}", hint=_hint(message)) from error
    except SQLAlchemyError as error:
        raise StoreError(f"database error: {error}") from error
    except sqlite_module().Error as error:  # transactions begin directly on the driver
        message = str(error)
        if "locked" in message or "busy" in message:
            hint = "Another process has locked the database; try again."
            raise StoreUnavailable(f"cannot reach the database: {message}", hint=hint) from error
        raise StoreError(f"database error: {message}", hint=_hint(message)) from error


def _hint(message: str) -> str:
    if "full" in message or "No space" in message:
        return "Free some disk space and try again."
    if "readonly" in message or "read-only" in message or "unable to open" in message:
        return "Check that the workspace's folder and its files are writable."
    if "malformed" in message or "not a database" in message:
        return "The file is damaged. See which parts: workbench doctor"
    return "Check that the disk is healthy and has free space." if "I/O error" in message else ""


def _may_pass(error: DBAPIError, message: str) -> bool:
    """Return whether a retry may succeed: the connection failed, or another process holds a lock."""
    if error.connection_invalidated or "locked" in message or "busy" in message:
        return True
    # psycopg: class 08 is a connection failure, 57 an operator stopping or starting the server, 40 a
    # transaction rollback after a conflict. Failures before there is a connection have no code.
    state = getattr(error.orig, "sqlstate", None)
    if isinstance(error, OperationalError) and not _is_sqlite_error(error):
        return state is None or state[:2] in ("08", "40", "53", "57")
    return isinstance(state, str) and state[:2] in ("08", "40", "57")


def _is_sqlite_error(error: DBAPIError) -> bool:
    return type(error.orig).__module__.split(".")[0] in ("sqlite3", "pysqlite3")


def _revision(connection: Connection) -> tuple[str | None, bool]:
    """Return the schema version, if one is recorded, and whether there are tables of ours."""
    has_tables = connection.dialect.has_table(connection, "run")
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None, has_tables
    version = connection.execute(text("select version_num from alembic_version")).scalar()
    return None if version is None else str(version), has_tables


def _check_revision(revision: str | None, has_tables: bool) -> None:
    """Raise if a database cannot be upgraded from this schema version.

    Raises
    ------
    NewerDatabase
        It is newer than this version.
    StoreError
        It is unknown, or missing although there are tables.
    """
    if (revision is None and not has_tables) or revision in migrations.KNOWN:
        return
    if revision is None or not revision.isdigit():
        raise StoreError(
            "the database has tables, but its schema version is "
            + ("missing" if revision is None else f"unknown: {revision[:40]!r}"),
            hint="It was damaged or changed by another program. To restore the version, if the tables are "
            "known: workbench doctor --repair",
        )
    raise NewerDatabase(
        f"the database has schema version {revision}; at most {migrations.HEAD} is supported",
        hint="Install the version that created it, or a newer one.",
    )


@functools.cache
def _check_of(record: type[Record]) -> RowCheck:
    return RowCheck(list(record.__table__.columns))  # type: ignore[attr-defined]  # SQLModel sets it


def as_record(record: type[_R], row: Row[Any]) -> _R:
    """Return a row as its record; damaged values as described in :mod:`workbench.store.damage`.

    Values were validated when written, and a constructor that sets attributes one by one takes four times as
    long as the query.
    """
    made: _R = manager_of_class(record).new_instance()
    mended = _check_of(record).mended(row)
    made.__dict__.update(row._mapping if mended is None else zip(row._fields, mended, strict=True))
    made.__pydantic_fields_set__.update(row._fields)
    return made


def new_values(record: Record) -> dict[str, Any]:
    """Return a new row's columns, without the id, which the database assigns."""
    return record.model_dump(exclude={"id"})


def new_id(connection: Connection, statement: Any, table: Table) -> int:
    """Insert a row and return its id."""
    return int(connection.execute(statement.returning(table.c.id)).scalar_one())
