import pytest
from sqlalchemy import create_engine, inspect

import workbench as wb
from workbench import migrations, records


@pytest.mark.parametrize("name", ["epoch-3.safetensors", "강아지 1.bin", "a", "v1+2=3@x", "x" * 200])
def test_a_plain_file_name_is_itself(name: str) -> None:
    assert records.check_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "../a",
            "/etc/passwd",
            "a\\b",
            "a\0b",
            "a\nb",
            "x" * 201,
            "강" * 100,
        ),
        *("a.", "a ", " a", "-rf", "%2e%2e", "con", "NUL.txt", "a:b", None, 3),
    ],
)
def test_any_other_name_is_refused_by_name(name: object) -> None:
    with pytest.raises(wb.BadName, match="plain file name"):
        records.check_file_name(name)  # type: ignore[arg-type]


def test_the_migrations_make_exactly_what_the_records_say() -> None:
    made, meant = create_engine("sqlite://"), create_engine("sqlite://")
    with made.begin() as connection:
        migrations.upgrade(connection)
    records.Record.metadata.create_all(meant)
    tables = set(inspect(meant).get_table_names())
    assert set(inspect(made).get_table_names()) == tables | {"alembic_version"}
    for table in tables:
        for part in ("get_columns", "get_indexes", "get_unique_constraints", "get_foreign_keys"):
            found, wanted = (getattr(inspect(engine), part)(table) for engine in (made, meant))
            plain = [sorted(str(sorted(row.items(), key=str)) for row in rows) for rows in (found, wanted)]
            assert plain[0] == plain[1], (table, part)
    for engine in (made, meant):
        engine.dispose()


def test_the_newest_step_is_said_once() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_a_users_own_tables_do_not_mix_in() -> None:
    from sqlmodel import SQLModel

    assert not SQLModel.metadata.tables.keys() & records.Record.metadata.tables.keys()
