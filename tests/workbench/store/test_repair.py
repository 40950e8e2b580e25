"""Damaged rows and pages: they are named, shown without ending anything, and repaired on request."""

from __future__ import annotations

import contextlib
import io
import json
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench import cli
from workbench.commands.examination import examine
from workbench.errors import StoreError
from workbench.store import records, repair
from workbench.store.damage import RowCheck
from workbench.store.records import DAMAGED
from workbench.store.tables import RUNS

#: What lists and shows everything that a workspace holds.
READERS = (
    "runs",
    "runs --json",
    "jobs list",
    "jobs list --json",
    "jobs show 1",
    "compare 1 2",
    "compare 1 2 --json",
)

#: A wrongly stored value: table, column, value, and what is shown of it (None: not looked at).
VALUES: list[tuple[str, str, Any, Any]] = [
    ("run", "config", '{"lr": ', {DAMAGED: '{"lr": '}),
    ("run", "config", None, {}),
    ("run", "tags", '["x", "y"]', {"x": True, "y": True}),
    ("run", "tags", "[1]", {DAMAGED: "[1]"}),
    ("run", "directions", '[["m", "higher"], 5]', [["m", "higher"]]),
    ("run", "name", None, DAMAGED),
    ("run", "name", b"\xff", DAMAGED),
    ("run", "created_at", 1.7e12, 1.7e9),
    ("run", "created_at", "soon", 0.0),
    ("run", "finished_at", 1e300, None),
    ("run", "experiment_id", 77, None),
    ("run", "git", "5", {DAMAGED: "5"}),
    ("run", "seed", "x", None),
    ("experiment", "name", None, DAMAGED),
    ("metric_summary", "name", None, DAMAGED),
    ("metric_summary", "last", "high", None),
    ("metric_summary", "count", None, 0),
    ("checkpoint", "name", b"\0", DAMAGED),
    ("artifact", "size", None, 0),
    ("job", "type", None, DAMAGED),
    ("job", "options", "[3]", {DAMAGED: "[3]"}),
    ("job", "error", '"no"', {DAMAGED: "no"}),
    ("job", "progress_stages", '[{"name": "a"}, 3]', [{"name": "a"}]),
    ("job", "started_at", "x", None),
    ("eval_result", "data", "7", {DAMAGED: "7"}),
]


@pytest.fixture
def filled(workspace: wb.Workspace, tmp_path: Path) -> wb.Workspace:
    """A workspace that holds one of everything."""
    (tmp_path / "a.bin").write_bytes(b"x")
    for _ in range(2):
        with workspace.start_run("e", config={"lr": 1}, better={"m": "higher"}) as run:
            run.log({"m": 0.5})
            run.log_checkpoint("a.bin", tmp_path / "a.bin")
            run.log_artifact("a.bin", tmp_path / "a.bin")
    row = records.JobRecord(type="eval", adapter="toy", status="running", attempt=1, worker_id="w", host="h")
    job = workspace.store.add_job(row)
    workspace.store.save_result(job.id or 0, 1, {"summary": "fine"})
    workspace.store.move_job(job.id or 0, expect="running", to="succeeded")
    workspace.close()
    return workspace


def put(home: wb.Workspace, table: str, column: str, value: Any) -> None:
    """Store a value that the database would refuse."""
    path = home.path / "workbench.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (sql,) = connection.execute("select sql from sqlite_master where name = ?", (table,)).fetchone()
        connection.execute("pragma writable_schema = on")
        loose = sql.replace("NOT NULL", "")
        connection.execute("update sqlite_master set sql = ? where name = ?", (loose, table))
        connection.commit()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"update {table} set {column} = ? where rowid = 1", (value,))  # noqa: S608  # ours
        connection.commit()


def read_all(home: wb.Workspace) -> None:
    """Read everything from the command line and from Python; nothing may end in a traceback."""
    for words in READERS:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            cli.run([*words.split(), "--workspace", str(home.path)])
        assert "Traceback" not in err.getvalue(), f"{words}: {err.getvalue()}"
    with wb.Workspace(home.path) as opened, contextlib.suppress(wb.WorkbenchError):
        for run in opened.runs():
            run.created_at, run.finished_at, run.directions, run.summary, run.outcome  # noqa: B018
            run.checkpoints(), run.artifacts(), run.metric_points("m")
        for job in opened.jobs():
            job.to_json()


@pytest.mark.parametrize(("table", "column", "value", "shown"), VALUES)
def test_a_wrong_value_is_shown_named_and_repaired(
    filled: wb.Workspace, table: str, column: str, value: Any, shown: Any
) -> None:
    put(filled, table, column, value)
    read_all(filled)
    if column == "seed":
        return  # any JSON is a seed
    assert [str(one).partition(": ")[0] for one in repair.find_rows(filled.store)] == [f"{table} 1, {column}"]
    changes = repair.repair_rows(filled.store)
    assert [(one.table.name, one.id, one.column) for one in changes] == [(table, 1, column)]
    if column != "experiment_id":
        assert changes[0].becomes == shown
    assert repair.find_rows(filled.store) == []
    read_all(filled)


def test_repair_copies_the_database_first_and_says_what_it_changed(
    filled: wb.Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    put(filled, "run", "tags", '["baseline"]')
    put(filled, "run", "experiment_id", 9)
    named = [problem.message for problem in examine(filled.path).problems if problem.check == "database"]
    assert any("run 1, tags:" in message for message in named)
    words = ["doctor", "--repair", "--workspace", str(filled.path)]
    cli.run(words)
    said = capsys.readouterr().out
    assert "repaired: run 1, tags: [\"baseline\"] → {'baseline': True}" in said
    (copy,) = filled.path.glob("workbench.db.before-repair-*")
    assert str(copy) in said.replace("\n", "")
    assert copy.stat().st_mode & 0o077 == 0
    with contextlib.closing(sqlite3.connect(copy)) as before:
        assert before.execute("select tags, experiment_id from run where id = 1").fetchone() == (
            '["baseline"]',
            9,
        )
    with wb.Workspace(filled.path) as home:
        assert home.run(1).tags == {"baseline": True}
        assert home.run(1).experiment == DAMAGED
        assert home.run(2).experiment == "e"
    cli.run([*words, "--json"])
    assert json.loads(capsys.readouterr().out)["repairs"] == {"changes": [], "backup": ""}
    assert len(list(filled.path.glob("workbench.db.before-repair-*"))) == 1


@pytest.mark.parametrize(
    ("change", "says", "restored"),
    [
        ("delete from alembic_version", "is missing", True),
        ("drop table alembic_version", "is missing", True),
        ("update alembic_version set version_num = ''", "is unknown", True),
        ("update alembic_version set version_num = 'banana'", "is unknown", True),
        ("update alembic_version set version_num = '9999'", "at most", False),
    ],
)
def test_a_schema_version_that_is_missing_is_said_and_restored(
    filled: wb.Workspace, capsys: pytest.CaptureFixture[str], change: str, says: str, restored: bool
) -> None:
    with contextlib.closing(sqlite3.connect(filled.path / "workbench.db")) as connection:
        connection.execute(change)
        connection.commit()
    with pytest.raises(StoreError, match=says):
        wb.Workspace(filled.path)
    assert any(says in problem.message for problem in examine(filled.path).problems)
    cli.run(["doctor", "--repair", "--workspace", str(filled.path)])
    assert "Traceback" not in capsys.readouterr().err
    if restored:
        with wb.Workspace(filled.path) as home:
            assert len(home.runs()) == 2
    else:
        with pytest.raises(StoreError):
            wb.Workspace(filled.path)


def test_damaged_pages_are_named(filled: wb.Workspace) -> None:
    assert repair.find_pages(filled.store) == []
    filled.store.close()
    path = filled.path / "workbench.db"
    data = bytearray(path.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute(
            "select rootpage from sqlite_master where name = 'metric_point'"
        ).fetchone()
    data[(page - 1) * 4096 : page * 4096] = bytes(4096)
    path.write_bytes(data)
    (problem,) = (one for one in examine(filled.path).problems if "damaged" in one.message)
    assert problem.level == "broken"
    assert "backup" in problem.hint
    read_all(filled)


def test_whatever_byte_is_wrong_there_is_no_traceback(filled: wb.Workspace) -> None:
    path = filled.path / "workbench.db"
    whole, dice = path.read_bytes(), random.Random(3)
    for case in range(8):
        data = bytearray(whole)
        for _ in range(4):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        if case % 4 == 0:
            at = dice.randrange(0, len(data), 4096)
            data[at : at + 4096] = bytes(4096)
        if case % 4 == 1:
            data = data[: dice.randrange(len(data))]
        for name in ("workbench.db-wal", "workbench.db-shm"):
            path.with_name(name).unlink(missing_ok=True)
        path.write_bytes(data)
        for words in ("runs", "jobs list --json"):
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.run([*words.split(), "--workspace", str(filled.path)])
            assert "Traceback" not in err.getvalue(), f"case {case}, {words}: {err.getvalue()}"


def test_a_folder_that_is_no_workspace_is_not_repaired(tmp_path: Path) -> None:
    assert cli.run(["doctor", "--repair", "--workspace", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


def test_sound_rows_are_left_as_they_are(filled: wb.Workspace) -> None:
    check = RowCheck(list(RUNS.columns))
    with filled.store._reading() as connection:
        rows = connection.exec_driver_sql("select * from run").all()
    assert [check.mended(row) for row in rows * 2] == [None] * 4
    assert repair.find_rows(filled.store) == []


_Change = Callable[[Path], object]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda home: (home / "runs").symlink_to(home / "gone"), "runs is a link to a missing place"),
        (lambda home: (home / "jobs").write_text(""), "jobs is not a folder"),
    ],
)
def test_a_folder_that_leads_nowhere_is_said(
    workspace: wb.Workspace, capsys: pytest.CaptureFixture[str], change: _Change, says: str
) -> None:
    for name in ("runs", "jobs"):
        with contextlib.suppress(FileNotFoundError):
            (workspace.path / name).rmdir()
    change(workspace.path)
    assert any(says in problem.message for problem in examine(workspace.path).problems)
    with pytest.raises(StoreError, match=says):
        _ = workspace.runs_dir, workspace.jobs_dir
    place = ["--workspace", str(workspace.path)]
    for words in (["runs"], ["jobs", "list"]):
        cli.run([*words, *place])
    assert "Traceback" not in capsys.readouterr().err
