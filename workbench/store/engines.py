"""Database URLs, engines, and connection setup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError

from workbench.errors import BadInput, MissingExtra, StoreError
from workbench.host.mounts import network_filesystem
from workbench.store.sqlite_file import SqliteFile

#: Seconds a writer waits for the lock before giving up.
BUSY_SECONDS = 30.0


#: SQLite from this version on (and the older ones below) is free of the WAL-reset bug, which can corrupt a
#: database with several writers.
SOUND_SQLITE = (3, 51, 3)


REPAIRED_SQLITE = frozenset({(3, 50, 7), (3, 44, 6)})


def sqlite_module() -> Any:
    """Return the SQLite driver in use: ``pysqlite3`` if installed, which is newer.

    The SQLite linked into the interpreter may have the WAL-reset bug (before 3.51.3, and not 3.50.7 or
    3.44.6), which can corrupt a database under several writers.
    """
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        import sqlite3 as dbapi2
    return dbapi2


def is_sound(version: str) -> bool:
    """Return whether this SQLite version is free of the WAL-reset bug."""
    number = tuple(int(part) for part in version.split("."))[:3]
    return number >= SOUND_SQLITE or number in REPAIRED_SQLITE


def parse_url(url: str | Path) -> URL:
    """Return a database URL from a path or a string.

    Raises
    ------
    BadInput
        The URL is invalid, or names an unsupported database.
    """
    if isinstance(url, Path) or "://" not in url:
        return URL.create("sqlite", database=str(Path(url).absolute()))
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgres", "postgresql"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        kind = parsed.get_backend_name()
    except ArgumentError:
        raise BadInput("invalid database URL", hint="Use the form postgresql://user@host/name.") from None
    if kind not in ("sqlite", "postgresql"):
        raise BadInput(f"{kind!r} databases are not supported", hint="Give an SQLite file or postgresql://…")
    if kind == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise BadInput("an in-memory database is not visible to workers", hint="Give the path of a file.")
    return parsed


def sqlite_engine(url: URL) -> tuple[Engine, SqliteFile]:
    """Return an engine for an SQLite file, and the file; its folder is created if missing.

    Raises
    ------
    StoreError
        The folder cannot be made, or is on a network file system, where SQLite's locks do not work.
    """
    path = Path(str(url.database)).absolute()
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot hold a database: {error.strerror or error}") from None
    if kind := network_filesystem(folder):
        raise StoreError(
            f"{folder} is on a network file system ({kind}), where SQLite's locks do not work: "
            "a database there would be corrupted sooner or later",
            hint="Keep the database elsewhere and the workspace here: set WORKBENCH_DATABASE_URL to "
            "postgresql://user@host/name, or to sqlite:////a/local/folder/workbench.db.",
        )
    module = sqlite_module()
    engine = create_engine(
        url,
        module=module,
        connect_args={"timeout": BUSY_SECONDS},
        json_serializer=_to_json,
        json_deserializer=_from_json,
    )
    # With the bug, do without the write-ahead log: slower, and readers wait for writers.
    file = SqliteFile(path, module, "wal" if is_sound(module.sqlite_version) else "truncate")

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: list[Any], settings: dict[str, Any]) -> Any:
        opened = file.connect(arguments[0], settings)
        record.info["seen"] = file.seen
        return opened

    @event.listens_for(engine, "checkout")
    def checkout(connection: Any, record: Any, proxy: Any) -> None:
        file.check()
        if not file.is_current(record.info.get("seen")):
            raise DisconnectionError("the file changed")  # the pool opens it again

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("writes"):
            connection.exec_driver_sql("begin")
            return
        raw = cast(Any, connection.connection.dbapi_connection)
        raw.execute(f"pragma synchronous = {'full' if options.get('durable', True) else 'normal'}")
        raw.execute("begin immediate")

    @event.listens_for(engine, "commit")
    def commit(connection: Connection) -> None:
        if connection.get_execution_options().get("writes"):
            file.check()  # what is committed into a deleted file is lost

    return engine, file


def postgres_engine(url: URL) -> Engine:
    """Return an engine for a PostgreSQL server.

    Raises
    ------
    MissingExtra
        The driver is not installed.
    """
    try:
        return create_engine(url, pool_pre_ping=True, json_serializer=_to_json, json_deserializer=_from_json)
    except ModuleNotFoundError:
        raise MissingExtra("the PostgreSQL driver (psycopg)", "postgres") from None


def _from_json(text: str) -> Any:
    """Return stored JSON; damaged text as it is, for :class:`workbench.store.records.Json` to show."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _to_json(value: Any) -> str:
    encoded = json.dumps(value, ensure_ascii=False)
    # File names that are not UTF-8 contain unpaired surrogates; a run must still be able to end.
    return encoded if encoded.isascii() or _is_text(encoded) else json.dumps(value)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
