"""Digests of decoded pictures are kept in a file as they are found; a file that fails is as good as none."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from adapters.vlm_quantization.data import digest_cache
from adapters.vlm_quantization.data.digest_cache import DigestCache


def names(path: Path) -> set[str]:
    with sqlite3.connect(path) as database:
        found = {name for (name,) in database.execute("select name from pictures")}
    database.close()
    return found


def test_what_was_found_is_known_the_next_time_if_the_file_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "new" / "pictures.sqlite"
    with DigestCache(path) as cache:
        assert cache.get("a.png", 10, 20) == ""
        cache.put("a.png", 10, 20, "first")
        cache.put("가/b.png", 11, 21, "second")
        assert cache.get("a.png", 10, 20) == "first"
    with DigestCache(path) as cache:
        assert cache.get("가/b.png", 11, 21) == "second"
        assert cache.get("a.png", 10, 22) == ""  # saved again
        cache.put("a.png", 10, 22, "third")
    with DigestCache(path) as cache:
        assert cache.get("a.png", 10, 22) == "third"
        assert cache.get("가/b.png", 11, 21) == "second"


def test_pictures_that_are_gone_are_forgotten_unless_the_opening_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "pictures.sqlite"
    with DigestCache(path) as cache:
        for number in range(600):
            cache.put(f"{number}.png", 1, 2, str(number))

    def opened_in_part() -> None:
        with DigestCache(path) as cache:
            cache.get("7.png", 1, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened_in_part()
    assert len(names(path)) == 600
    with DigestCache(path) as cache:
        assert cache.get("7.png", 1, 2) == "7"
        cache.put("new.png", 1, 2, "new")
    assert names(path) == {"7.png", "new.png"}


def test_a_killed_opening_has_kept_what_it_found(tmp_path: Path) -> None:
    path = tmp_path / "pictures.sqlite"
    cache = DigestCache(path).__enter__()
    for number in range(digest_cache.WRITTEN_AT_ONCE + 3):  # and never closed
        cache.put(f"{number}.png", 1, 2, str(number))
    assert len(names(path)) == digest_cache.WRITTEN_AT_ONCE
    cache.__exit__(None, None, None)


@pytest.mark.parametrize("content", [b"not a database, but long enough to look at" * 30, b""])
def test_a_damaged_file_is_made_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pictures.sqlite"
    path.write_bytes(content)
    with DigestCache(path) as cache:
        assert cache.get("a.png", 1, 2) == ""
        cache.put("a.png", 1, 2, "digest")
    assert names(path) == {"a.png"}


def test_a_table_of_another_version_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "pictures.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("pragma user_version = 99")
    database.close()
    with DigestCache(path) as cache:
        cache.put("a.png", 1, 2, "digest")
    assert names(path) == {"a.png"}


def test_without_a_file_or_where_none_can_be_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for path in (None, tmp_path / "file" / "pictures.sqlite"):
        with DigestCache(path) as cache:
            cache.put("a.png", 1, 2, "digest")
            assert cache.get("missing.png", 1, 2) == ""
