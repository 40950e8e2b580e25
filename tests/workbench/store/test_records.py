import pytest
import sqlalchemy as sa
from sqlalchemy import create_engine, inspect

import workbench as wb
from workbench.host import files
from workbench.store import migrations, records
from workbench.store.points import Batch
from workbench.store.store import Store


@pytest.mark.parametrize("name", ["epoch-3.safetensors", "강아지 1.bin", "a", "v1+2=3@x", "x" * 200])
def test_a_plain_file_name_is_itself(name: str) -> None:
    assert files.check_file_name(name) == name


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
        files.check_file_name(name)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_migrations_make_exactly_what_the_records_say(kind: str, request: pytest.FixtureRequest) -> None:
    def new() -> sa.Engine:
        if kind == "sqlite":
            return create_engine("sqlite://")
        url: str = request.getfixturevalue("postgres").new_database()
        return create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    made, meant = new(), new()
    with made.begin() as connection:
        migrations.upgrade(connection)
    records.Record.metadata.create_all(meant)
    tables = set(inspect(meant).get_table_names())
    assert set(inspect(made).get_table_names()) == tables | {"alembic_version"}
    for table in tables:
        for part in ("get_columns", "get_indexes", "get_unique_constraints", "get_foreign_keys"):
            found, expected = (getattr(inspect(engine), part)(table) for engine in (made, meant))
            plain = [sorted(str(sorted(row.items(), key=str)) for row in rows) for rows in (found, expected)]
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


_FIRST_ROWS = """
insert into experiment (id, name, created_at) values (1, '이모지', 1.5);
insert into run (id, experiment_id, name, config, tags, directions, status, created_at, host, pid_started)
    values (1, 1, 'first', '{"lr": 0.1}', '{}', '[]', 'succeeded', 2.5, 'h', '');
insert into metric_summary (id, run_id, name, count, nonfinite, last) values (1, 1, 'val/mAP', 2, 1, null);
insert into metric_point (metric_id, seq, step, time, value) values (1, 0, 7, 3.5, 0.5);
insert into checkpoint (id, run_id, name, size, created_at) values (1, 1, 'best.bin', 9, 4.5);
insert into metric_point (metric_id, seq, step, time, value) values (1, 1, 8, 4.5, null);
insert into job (id, type, adapter, status, options, progress_done, progress_message, summary, source,
    notebook, cwd, created_at, attempt, max_attempts, worker_id, host, worker_pid_started, pid_started, token)
    values (1, 'eval', 'a', 'succeeded', '{"k": 3}', 4.0, 'done', 's', '', '', '/',
        5.5, 1, 2, '', '', '', '', '');
insert into eval_result (job_id, attempt, data, created_at) values (1, 1, '{"summary": "s"}', 6.5)
"""


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
def test_what_an_earlier_version_wrote_is_kept(database: str, revision: str) -> None:
    # An engine without migrations, as the first version left its database.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_migrate", lambda self: None)
        first = Store(database)
    with first._writing() as connection:
        migrations.upgrade(connection, revision)
        for statement in _FIRST_ROWS.split(";"):
            connection.exec_driver_sql(statement)
    first.close()
    store = Store(database)
    with store._reading() as connection:
        found = connection.execute(sa.text("select version_num from alembic_version")).scalar()
        assert found == migrations.HEAD
    assert [experiment.name for experiment in store.experiments()] == ["이모지"]
    (run,) = store.runs()
    assert (run.name, run.config, run.status) == ("first", {"lr": 0.1}, "succeeded")
    assert str(store.points(1, "val/mAP")) == "[(7, 3.5, 0.5), (8, 4.5, nan)]"
    assert (run.notes, run.git, run.environment, run.seed, run.origin) == ("", {}, {}, None, None)
    assert run.outcome is None
    outcome = store.outcome(1)  # a run that ended before outcomes were stored has one too
    assert outcome is not None
    assert (outcome["status"], outcome["points"]) == ("succeeded", 2)
    assert outcome["metrics"]["val/mAP"]["last"] == "nan"
    (checkpoint,) = store.checkpoints(1)
    assert (checkpoint.name, checkpoint.metric, checkpoint.value) == ("best.bin", "", None)
    assert store.artifacts(1) == []
    # New points are appended to the old ones, and packed with them at the threshold.
    batch = Batch(list(range(2000)), [5.0] * 2000, [0.25] * 2000)
    store.add_batches({(1, "val/mAP"): batch}, {})
    assert str(store.points(1, "val/mAP")[:3]) == "[(7, 3.5, 0.5), (8, 4.5, nan), (0, 5.0, 0.25)]"
    assert store.summary_table([1])[1]["val/mAP"]["count"] == 2002
    (job,) = store.jobs()
    assert (job.options, job.progress_done, job.progress_stages, job.progress_rate) == (
        {"k": 3},
        4.0,
        [],
        None,
    )
    assert (job.floors, job.source_sha256) == ({}, "")
    result = store.result(1)
    assert result is not None
    assert result.data == {"summary": "s"}
    store.close()
