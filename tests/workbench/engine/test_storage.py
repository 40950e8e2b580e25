"""Results on a disk and elsewhere: whole or not at all."""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

import workbench as wb
from workbench.engine import storage


@pytest.fixture(params=["path", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "path": str(tmp_path),
        "file": f"file://{tmp_path}",
        "memory": f"memory://{uuid.uuid4().hex}/parts",
    }[request.param]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PAUSES", (0.0, 0.0, 0.0))


def test_a_file_is_kept_and_read_back(folder: str, tmp_path: Path) -> None:
    place = f"{folder}/part-1"
    assert not storage.holds(place)
    storage.put(place, lambda path: path.write_bytes(b"one") and None)
    assert storage.holds(place)
    storage.put(place, lambda path: path.write_bytes(b"one") and None)  # twice is no harm
    storage.fetch_result(place, tmp_path / "copy" / "part-1")
    assert (tmp_path / "copy" / "part-1").read_bytes() == b"one"
    storage.delete_result(place)
    storage.delete_result(place)
    assert not storage.holds(place)
    with pytest.raises(FileNotFoundError):
        storage.fetch_result(place, tmp_path / "none")


def test_what_failed_half_way_is_not_there(folder: str, tmp_path: Path) -> None:
    def half(path: Path) -> None:
        path.write_bytes(b"ha")
        raise ValueError

    place = f"{folder}/part-1"
    with pytest.raises(ValueError):  # noqa: PT011  # the test's own
        storage.put(place, half)
    assert not storage.holds(place)
    assert list(tmp_path.glob(".*")) == []


def test_a_file_that_another_has_finished_meanwhile_may_stay(folder: str, tmp_path: Path) -> None:
    place = f"{folder}/part-1"

    def slowly(path: Path) -> None:
        storage.put(place, lambda quick: quick.write_bytes(b"first") and None)
        path.write_bytes(b"later")

    storage.put(place, slowly, again=False)
    storage.fetch_result(place, tmp_path / "copy" / "part-1")
    assert (tmp_path / "copy" / "part-1").read_bytes() == b"first"


def test_a_file_without_its_seal_does_not_count() -> None:
    place = f"memory://{uuid.uuid4().hex}/part"
    files, inner = fsspec.core.url_to_fs(place)
    files.pipe_file(inner, b"half of it")
    assert not storage.holds(place)


def test_an_altered_file_is_an_error_and_made_again(tmp_path: Path) -> None:
    place = f"memory://{uuid.uuid4().hex}/part"
    storage.put(place, lambda path: path.write_bytes(b"one") and None)
    files, inner = fsspec.core.url_to_fs(place)
    files.pipe_file(inner, b"two")
    with pytest.raises(wb.CorruptFile, match="is not what was written"):
        storage.fetch_result(place, tmp_path / "copy")
    assert not storage.holds(place)
    assert not (tmp_path / "copy").exists()


def test_a_shorter_file_does_not_count() -> None:
    place = f"memory://{uuid.uuid4().hex}/part"
    storage.put(place, lambda path: path.write_bytes(b"one") and None)
    files, inner = fsspec.core.url_to_fs(place)
    files.pipe_file(inner, b"on")
    assert not storage.holds(place)


def fails(monkeypatch: pytest.MonkeyPatch, number: int, times: int) -> list[str]:
    """Let writes of the file system in memory fail a few times."""
    from fsspec.implementations.memory import MemoryFileSystem

    tried: list[str] = []
    whole = MemoryFileSystem.put_file

    def put_file(self: MemoryFileSystem, lpath: str, rpath: str, **given: object) -> None:
        tried.append(rpath)
        if len(tried) <= times:
            raise OSError(number, "fails")
        whole(self, lpath, rpath, **given)

    monkeypatch.setattr(MemoryFileSystem, "put_file", put_file)
    return tried


def test_a_network_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = fails(monkeypatch, errno.ECONNRESET, 3)
    place = f"memory://{uuid.uuid4().hex}/part"
    storage.put(place, lambda path: path.write_bytes(b"one") and None)
    assert len(tried) == 4
    assert storage.holds(place)


def test_a_refusal_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = fails(monkeypatch, errno.EACCES, 9)
    with pytest.raises(PermissionError):
        storage.put(f"memory://{uuid.uuid4().hex}/part", lambda path: path.write_bytes(b"one") and None)
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("parts", "relative path"),
        ("nosuch://bucket/parts", "no file system 'nosuch://' can be used"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused(folder: str, words: str) -> None:
    with pytest.raises(wb.BadInput, match=words):
        storage.check_storage(folder)


def test_folders_that_can_be_used_pass(tmp_path: Path) -> None:
    storage.check_storage(str(tmp_path))
    storage.check_storage("memory://parts")


def test_without_fsspec_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec", None)
    with pytest.raises(wb.MissingExtra, match=r"notebook-workbench\[dask\]"):
        storage.check_storage("s3://bucket/parts")


@pytest.fixture(autouse=True, scope="module")
def empty_memory() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()
