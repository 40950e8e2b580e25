"""A database file that is deleted, moved, replaced, or can only be read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from workbench.errors import ReadOnly, StoreError
from workbench.store import sqlite_file
from workbench.store.store import Store


def delete(home: Path) -> None:
    shutil.rmtree(home)


def move(home: Path) -> None:
    home.rename(home.with_name("elsewhere"))


def replace(home: Path) -> None:
    shutil.rmtree(home)
    wb.Workspace(home).close()


def replace_with_an_old_copy(home: Path) -> None:
    old = home.with_name("old")
    shutil.copytree(home, old)
    shutil.rmtree(home)
    old.rename(home)


#: What a process that has the workspace open may do with it.
CALLS: dict[str, Callable[[wb.Workspace, Any], object]] = {
    "start a run": lambda home, run: home.start_run("e"),
    "log": lambda home, run: (run.log({"m": 2.0}), run.flush()),
    "end": lambda home, run: run.finish(),
    "annotate": lambda home, run: run.annotate(notes="new"),
    "submit": lambda home, run: home.submit("eval", "toy"),
    "list": lambda home, run: home.runs(),
    "keep a file": lambda home, run: run.log_checkpoint("a.bin", __file__),
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (delete, "was deleted"),
        (move, "was moved away"),
        (replace, "was deleted and another one put in its place"),
        (replace_with_an_old_copy, "was deleted and another one put in its place"),
    ],
)
def test_nothing_is_acknowledged_once_the_folder_is_gone(
    workspace: wb.Workspace, toy: wb.BaseAdapter, change: Callable[[Path], None], says: str
) -> None:
    run = workspace.start_run("e")
    run.log({"m": 1.0})
    run.flush()
    change(workspace.path)
    before = sorted(workspace.path.rglob("*")) if workspace.path.exists() else []
    for name, call in CALLS.items():
        with pytest.raises(StoreError, match="restart") as caught:
            call(workspace, run)
        assert says in caught.value.message or "is gone" in caught.value.message, name
    assert (sorted(workspace.path.rglob("*")) if workspace.path.exists() else []) == before
    workspace._writer.forget()  # or closing says it again
    if workspace.path.exists():
        with wb.Workspace(workspace.path) as other:
            assert [one.id for one in other.runs()] == (
                [run.id] if change is replace_with_an_old_copy else []
            )


def test_a_folder_that_comes_back_is_used_again(workspace: wb.Workspace) -> None:
    run = workspace.start_run("e")
    run.log({"m": 1.0})
    run.flush()
    move(workspace.path)
    run.log({"m": 2.0})
    with pytest.raises(StoreError):
        run.flush()
    workspace.path.with_name("elsewhere").rename(workspace.path)
    run.finish()
    assert [value for _, _, value in run.metric_points("m")] == [1.0, 2.0]


def test_a_file_that_is_deleted_during_a_transaction_is_noticed_before_it_is_committed(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "w" / "workbench.db")

    def write() -> None:
        with store._writing() as connection:
            connection.exec_driver_sql("insert into experiment (name, created_at) values ('e', 0)")
            shutil.rmtree(tmp_path / "w")

    with pytest.raises(StoreError, match="was deleted"):
        write()


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """The file cannot be written, and SQLite can make nothing beside it, as on a read-only disk."""

    def lock(path: Path) -> None:
        monkeypatch.setattr(
            sqlite_file.SqliteFile, "_why_unwritable", lambda self: f"{path.parent} is on a read-only disk"
        )
        read = sqlite_file.SqliteFile._read

        def no_memory(self: Any, file: Path, how: str, settings: Any) -> Any:
            if how == "mode=ro" and file == path and not (path.with_name(path.name + "-shm")).exists():
                raise self._module.OperationalError("unable to open database file")
            return read(self, file, how, settings)

        monkeypatch.setattr(sqlite_file.SqliteFile, "_read", no_memory)

    return lock


@pytest.mark.parametrize("state", ["closed", "open", "killed"])
def test_what_cannot_be_written_is_read(
    tmp_path: Path, unwritable: Callable[[Path], None], state: str
) -> None:
    """Closed: the file is whole. Open: a writer lives. Killed: a log is left, and no shared memory."""
    path = tmp_path / "w" / "workbench.db"
    writer = wb.Workspace(path.parent)
    writer.start_run("e", "one").finish()
    if state == "closed":
        writer.close()
    if state == "killed":
        copy = shutil.copytree(path.parent, tmp_path / "copy")
        writer.close()
        shutil.rmtree(path.parent)
        copy.rename(path.parent)
        path.with_name("workbench.db-shm").unlink()
        assert path.with_name("workbench.db-wal").stat().st_size
    content = {file.name: file.read_bytes() for file in path.parent.iterdir() if file.suffix == ".db"}
    unwritable(path)
    with wb.Workspace(path.parent) as home:
        assert [run.name for run in home.runs()] == ["one"]
        assert "read-only disk" in home.store.read_only
        for change in (lambda: home.start_run("e"), lambda: home.run(1).annotate(notes="x")):
            with pytest.raises(ReadOnly, match="read-only disk"):
                change()
        assert [run.name for run in home.runs()] == ["one"]
    assert {name: (path.parent / name).read_bytes() for name in content} == content
    writer.close()


def test_a_reader_of_a_whole_file_sees_what_a_writer_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unwritable: Callable[[Path], None]
) -> None:
    path = tmp_path / "w" / "workbench.db"
    wb.Workspace(path.parent).close()
    unwritable(path)
    reader = Store(path)
    assert reader.runs() == []
    monkeypatch.undo()  # for the writer: the reader's connection stays
    with wb.Workspace(path.parent) as writer:
        writer.start_run("e").finish()
        assert len(reader.runs()) == 1
    reader.close()


def test_an_older_schema_that_cannot_be_upgraded_says_so(
    workspace: wb.Workspace, unwritable: Callable[[Path], None]
) -> None:
    with workspace.store._writing() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '0003'")
    workspace.close()
    unwritable(workspace.path / "workbench.db")
    with pytest.raises(ReadOnly, match="schema version 0003"):
        Store(workspace.path / "workbench.db")


def test_a_disk_that_has_space_again_is_written(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    real = sqlite_file.SqliteFile._writable

    def writable(self: Any, name: str, settings: Any) -> Any:
        if full:
            raise self._module.OperationalError("database or disk is full")
        return real(self, name, settings)

    workspace.close()
    monkeypatch.setattr(sqlite_file.SqliteFile, "_writable", writable)
    assert workspace.runs() == []
    with pytest.raises(ReadOnly, match="full"):
        workspace.start_run("e")
    full = False
    workspace.start_run("e").finish()
    assert workspace.store.read_only == ""
    assert len(workspace.runs()) == 1


def test_the_copy_that_is_read_is_private_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unwritable: Callable[[Path], None]
) -> None:
    path = tmp_path / "w" / "workbench.db"
    writer = wb.Workspace(path.parent)
    writer.start_run("e").finish()
    copy = shutil.copytree(path.parent, tmp_path / "v")
    writer.close()
    (copy / "workbench.db-shm").unlink()
    unwritable(copy / "workbench.db")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    store = Store(copy / "workbench.db")
    assert len(store.runs()) == 1
    (made,) = (tmp_path / "tmp").iterdir()
    assert made.stat().st_mode & 0o077 == 0
    store.close()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_database_is_not_made_where_nothing_can_be_written(
    tmp_path: Path, unwritable: Callable[[Path], None]
) -> None:
    unwritable(tmp_path / "workbench.db")
    with pytest.raises(StoreError, match="there is no workspace"):
        Store(tmp_path / "workbench.db")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
