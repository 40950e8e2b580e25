"""The tables that queries name are those of the database."""

from __future__ import annotations

from sqlalchemy import Table, inspect

from workbench.store import tables
from workbench.store.store import Store


def test_every_table_is_in_a_new_database_with_its_columns(database: str) -> None:
    store = Store(database)
    with store._reading() as connection:
        there = inspect(connection)
        named = [value for value in vars(tables).values() if isinstance(value, Table)]
        assert len(named) == 11
        for table in named:
            columns = {column["name"] for column in there.get_columns(table.name)}
            assert columns == set(table.columns.keys()), table.name
    store.close()
