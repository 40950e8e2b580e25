"""Find what is damaged in a database, and repair the rows that hold something else than their columns should.

What is repaired: values that are shown as damaged (:mod:`workbench.store.damage`) become what is shown; runs
without their experiment get one; a missing schema version is restored. Damaged pages are only reported.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Table, bindparam, insert, select, text, update

from workbench.errors import StoreError
from workbench.store.damage import LAST_MOMENT, RowCheck
from workbench.store.engines import sqlite_module
from workbench.store.records import DAMAGED, Json
from workbench.store.store import Store
from workbench.store.tables import ARTIFACTS, CHECKPOINTS, EXPERIMENTS, JOBS, MEDIA, RESULTS, RUNS, SUMMARIES

_TABLES = (EXPERIMENTS, RUNS, SUMMARIES, CHECKPOINTS, ARTIFACTS, MEDIA, JOBS, RESULTS)

#: Maximum number of damaged pages that are listed, and characters of a value in a finding.
_PAGES, _CHARACTERS = 5, 60

#: Tables and columns by which a schema version is known, newest first.
_MARKS = (
    ("0006", "media", "label"),
    ("0005", "job", "claim"),
    ("0004", "sender", "heard_at"),
    ("0003", "run", "origin"),
    ("0002", "job", "floors"),
    ("0001", "run", "id"),
)


class Finding(NamedTuple):
    """A stored value that does not have the form of its column, and what it becomes."""

    table: Table
    id: int
    column: str
    stored: Any
    becomes: Any

    def __str__(self) -> str:
        return f"{self.table.name} {self.id}, {self.column}: {_short(self.stored)} → {_short(self.becomes)}"


def find_rows(store: Store) -> list[Finding]:
    """Return the stored values that do not have the form of their columns."""
    with store._reading() as connection:
        return list(_findings(connection))


def find_pages(store: Store) -> list[str]:
    """Return what SQLite says of damaged pages; empty for a sound file, and for a database server."""
    if not store.is_sqlite:
        return []
    try:
        with store._reading() as connection:
            query = text(f"pragma quick_check({_PAGES})")
            lines = [str(line) for line in connection.execute(query).scalars()]
    except StoreError as error:
        return [error.message]  # not even that can be read
    return [] if lines == ["ok"] else lines


def repair_rows(store: Store) -> list[Finding]:
    """Replace damaged values by what is shown of them; return what was changed, all in one transaction."""
    with store._writing() as connection:
        findings = list(_findings(connection))
        if any(one.column == "experiment_id" for one in findings):
            known = connection.execute(select(EXPERIMENTS.c.id).where(EXPERIMENTS.c.name == DAMAGED)).scalar()
            if known is None:
                connection.execute(insert(EXPERIMENTS).values(name=DAMAGED, created_at=time.time()))
            known = connection.execute(select(EXPERIMENTS.c.id).where(EXPERIMENTS.c.name == DAMAGED)).scalar()
            findings = [
                one._replace(becomes=known) if one.column == "experiment_id" else one for one in findings
            ]
        for one in findings:
            key = next(iter(one.table.primary_key.columns))
            change = update(one.table).where(key == bindparam("_key")).values({one.column: one.becomes})
            connection.execute(change, {"_key": one.id})
    return findings


def _findings(connection: Connection) -> Iterator[Finding]:
    experiments = set(connection.execute(select(EXPERIMENTS.c.id)).scalars())
    for table in _TABLES:
        columns = list(table.columns)
        check, key = RowCheck(columns), [column.primary_key for column in columns].index(True)
        names = ", ".join(f'"{column.name}"' for column in columns)
        # Plain SQL: the columns' types would convert what is stored.
        for row in connection.exec_driver_sql(f'select {names} from "{table.name}"'):  # noqa: S608  # ours
            for at in check.problems(row):
                yield Finding(table, row[key], columns[at].name, row[at], _instead(columns[at], row[at]))
            for at, column in enumerate(columns):
                if isinstance(column.type, Json):
                    stored = _parsed(row[at]) if connection.dialect.name == "sqlite" else row[at]
                    shown = column.type.process_result_value(stored, connection.dialect)
                    if shown != stored:
                        yield Finding(table, row[key], column.name, row[at], shown)
            number = row._mapping["experiment_id"] if table is RUNS else None
            if isinstance(number, int) and number not in experiments:
                yield Finding(table, row[key], "experiment_id", number, DAMAGED)


def _parsed(stored: Any) -> Any:
    if stored is None:
        return None
    try:
        return json.loads(stored)
    except (ValueError, TypeError, RecursionError):
        return stored if isinstance(stored, str) else str(stored)


def _instead(column: Column[Any], value: Any) -> Any:
    """Return what replaces a damaged value: a time in milliseconds is one in seconds."""
    in_ms = column.name.endswith("_at") and isinstance(value, (int, float))
    if in_ms and LAST_MOMENT <= value < LAST_MOMENT * 1000:
        return value / 1000
    return RowCheck([column]).instead(0)


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else repr(value)
    return shown if len(shown) <= _CHARACTERS else f"{shown[:_CHARACTERS]}…"


# The file --------------------------------------------------------------------------------------


def back_up(path: Path) -> Path:
    """Copy an SQLite database, with everything that is committed; return the copy, beside it.

    Raises
    ------
    StoreError
        The copy cannot be written.
    """
    copy = path.with_name(f"{path.name}.before-repair-{time.strftime('%Y%m%d-%H%M%S')}")
    module = sqlite_module()
    try:
        source = module.connect(path)
        target = module.connect(copy)
        try:
            source.backup(target)
        finally:
            target.close()
            source.close()
        copy.chmod(0o600)
    except (module.Error, OSError) as error:
        raise StoreError(
            f"the database cannot be copied to {copy}: {error}", hint="Nothing was changed. Free some space."
        ) from None
    return copy


def missing_version(path: Path) -> str:
    """Return the schema version of a file that does not say it; empty if it does, or if it is unknown.

    A version is missing if its table is empty or gone, or holds something that is no version.
    """
    module = sqlite_module()
    try:
        connection = module.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            tables = {name for (name,) in connection.execute("select name from sqlite_master")}
            if "run" not in tables:
                return ""
            if "alembic_version" in tables:
                rows = connection.execute("select version_num from alembic_version").fetchall()
                if len(rows) == 1 and str(rows[0][0]).isdigit():
                    return ""
            for version, table, column in _MARKS:
                if column in {row[1] for row in connection.execute(f'pragma table_info("{table}")')}:
                    return version
        finally:
            connection.close()
    except module.Error:
        return ""
    return ""


def restore_version(path: Path, version: str) -> None:
    """Write the schema version of a file.

    Raises
    ------
    StoreError
        It cannot be written.
    """
    module = sqlite_module()
    connection = module.connect(path)
    try:
        with connection:
            connection.execute(
                "create table if not exists alembic_version (version_num varchar(32) not null primary key)"
            )
            connection.execute("delete from alembic_version")
            connection.execute("insert into alembic_version values (?)", (version,))
    except module.Error as error:
        raise StoreError(f"the schema version cannot be written: {error}") from None
    finally:
        connection.close()
