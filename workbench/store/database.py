"""One database, and the transactions on it; the classes over it hold the queries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, Select, Table, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import configure_mappers
from sqlalchemy.orm.attributes import manager_of_class

from workbench.errors import StoreError, StoreUnavailable
from workbench.host.signals import undisturbed
from workbench.store import migrations
from workbench.store.engines import parse_url, postgres_engine, sqlite_engine, sqlite_module
from workbench.store.records import Record

_R = TypeVar("_R", bound=Record)


_T = TypeVar("_T")


#: Seconds that a server which does not answer is asked again, before a transaction has begun.
CONNECT_SECONDS = 5.0


#: Pauses of :func:`patiently`, in seconds.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class Database:
    """One database: its connections and its transactions.

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
        self.url = parse_url(url)
        configure_mappers()  # which a record's constructor would do, and `as_record` calls none
        self._engine = sqlite_engine(self.url) if self.is_sqlite else postgres_engine(self.url)
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

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._connected() as connection:
            yield connection

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Open a connection; a server that is just starting again is waited for a little.

        Before there is a connection nothing has happened, so to ask again is always safe.
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

    def _all(self, record: type[_R], query: Select[Any]) -> list[_R]:
        def read() -> list[_R]:
            with self._reading() as connection:
                return [as_record(record, row) for row in connection.execute(query)]

        return patiently(read, CONNECT_SECONDS)  # a connection that was cut is no reason to know nothing

    def _one(self, record: type[_R], query: Select[Any]) -> _R | None:
        def read() -> Row[Any] | None:
            with self._reading() as connection:
                return connection.execute(query).first()

        row = patiently(read, CONNECT_SECONDS)
        return None if row is None else as_record(record, row)


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


def as_record(record: type[_R], row: Row[Any]) -> _R:
    """Return a row as its record.

    What comes out of the database was checked on its way in, and a constructor that sets one attribute after
    the other takes four times as long as the query.
    """
    made: _R = manager_of_class(record).new_instance()
    made.__dict__.update(row._mapping)
    made.__pydantic_fields_set__.update(row._fields)
    return made


def new_values(record: Record) -> dict[str, Any]:
    """Return a new row's columns, without the id that the database gives."""
    return record.model_dump(exclude={"id"})


def new_id(connection: Connection, statement: Any, table: Table) -> int:
    """Insert a row and return its id."""
    return int(connection.execute(statement.returning(table.c.id)).scalar_one())
