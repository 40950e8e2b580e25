"""The feature cache: found by content, bounded, safe with several jobs and with damaged files."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest

import workbench as wb
from adapters.vlm_quantization.towers import feature_cache
from adapters.vlm_quantization.towers.feature_cache import FeatureCache, key_of


def records(*names: str, size: int = 100) -> list[tuple[bytes, bytes]]:
    return [(key_of(name), name.encode().ljust(size, b".")) for name in names]


def keys(*names: str) -> list[bytes]:
    return [key_of(name) for name in names]


def test_records_are_found_by_their_key_in_this_object_and_in_the_next(tmp_path: Path) -> None:
    shelf = FeatureCache(tmp_path).shelf("pictures", {"tower": "a"})
    assert shelf.put(records("one", "two"))
    assert shelf.put(records("three"))
    again = FeatureCache(tmp_path).shelf("pictures", {"tower": "a"})
    for one in (shelf, again):
        found = one.get(keys("three", "one", "four"))
        assert found == dict(records("one", "three"))
        assert key_of("two") in one
        assert key_of("four") not in one


@pytest.mark.parametrize("about", [{"tower": "b"}, {"tower": "a", "dim": 3}, {}])
def test_another_tower_or_form_has_a_shelf_of_its_own(tmp_path: Path, about: dict[str, object]) -> None:
    cache = FeatureCache(tmp_path)
    cache.shelf("pictures", {"tower": "a"}).put(records("one"))
    assert key_of("one") not in cache.shelf("pictures", about)
    assert key_of("one") not in cache.shelf("texts", {"tower": "a"})


def test_what_another_job_has_added_is_found_after_a_refresh(tmp_path: Path) -> None:
    one, other = (FeatureCache(tmp_path).shelf("pictures", {}) for _ in range(2))
    one.put(records("one"))
    other.refresh()
    assert other.get(keys("one")) == dict(records("one"))


def _fill(folder: Path, number: int) -> None:
    shelf = FeatureCache(folder, 20_000).shelf("pictures", {})
    for part in range(20):
        shelf.put(records(*(f"{number}-{part}-{place}" for place in range(5))))
        shelf.refresh()
        for name in (f"{other}-{part}-0" for other in range(2)):
            assert shelf.get(keys(name)) in ({}, dict(records(name)))


def test_two_jobs_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_fill, args=(tmp_path, number)) for number in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0, 0]
    cache = FeatureCache(tmp_path)
    shelf = cache.shelf("pictures", {})
    names = [f"{number}-{part}-{place}" for number in range(2) for part in range(20) for place in range(5)]
    found = shelf.get(keys(*names))
    assert found
    assert all(dict(records(*names))[key] == value for key, value in found.items())
    assert cache.damaged == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:40],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:90] + bytes([data[90] ^ 1]) + data[91:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:8] + b"\xff\xff\xff\xff" + data[12:],
    ],
)
def test_a_damaged_file_is_noticed_and_deleted(tmp_path: Path, damage) -> None:  # type: ignore[no-untyped-def]
    FeatureCache(tmp_path).shelf("pictures", {}).put(records("one", "two"))
    (file,) = (tmp_path / "features").glob("*/*.shard")
    file.write_bytes(damage(file.read_bytes()))
    cache = FeatureCache(tmp_path)
    shelf = cache.shelf("pictures", {})
    assert shelf.get(keys("one", "two")) == {}
    assert cache.damaged == 1
    assert not file.exists()
    assert shelf.put(records("one"))
    assert shelf.get(keys("one")) == dict(records("one"))


def test_the_least_recently_used_files_make_room(tmp_path: Path) -> None:
    for age, name in enumerate(("young", "used", "old")):
        before = set((tmp_path / "features").glob("*/*.shard"))
        FeatureCache(tmp_path).shelf("pictures", {}).put(records(name, size=1000))
        (file,) = set((tmp_path / "features").glob("*/*.shard")) - before
        os.utime(file, (1e9 - age, 1e9 - age))
    assert FeatureCache(tmp_path).shelf("pictures", {}).get(keys("used"))  # now it is the youngest
    for name in ("new", "newer"):
        assert FeatureCache(tmp_path, 4_000).shelf("pictures", {}).put(records(name, size=1000))
    left = FeatureCache(tmp_path).shelf("pictures", {})
    names = ("young", "used", "old", "new", "newer")
    assert [name for name in names if key_of(name) in left] == ["used", "new", "newer"]
    assert sum(size for _, size, _ in FeatureCache(tmp_path).files()) <= 4_000


def test_what_a_job_has_made_itself_stays_and_what_no_longer_fits_is_not_kept(tmp_path: Path) -> None:
    shelf = FeatureCache(tmp_path, 3_000).shelf("pictures", {})
    assert shelf.put(records("one", size=1000))
    assert shelf.put(records("two", size=1000))
    assert not shelf.put(records("three", size=1000))
    assert shelf.full
    assert list(shelf.get(keys("one", "two", "three"))) == keys("one", "two")


def test_a_full_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = FeatureCache(tmp_path).shelf("pictures", {})
    monkeypatch.setattr(feature_cache, "KEPT_FREE", 2**60)
    assert not shelf.put(records("one"))
    monkeypatch.setattr(feature_cache, "KEPT_FREE", 0)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wb, "write_whole", refuse)
    assert not shelf.put(records("one"))
    assert shelf.full


def test_a_file_that_is_deleted_meanwhile_is_a_miss(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    shelf = cache.shelf("pictures", {})
    shelf.put(records("one"))
    next((tmp_path / "features").glob("*/*.shard")).unlink()
    assert shelf.get(keys("one")) == {}
    assert key_of("one") not in shelf
    assert cache.damaged == 0


def test_the_limit_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FeatureCache(tmp_path).limit == feature_cache.LIMIT_BYTES
    monkeypatch.setenv(feature_cache.LIMIT, "0.5")
    assert FeatureCache(tmp_path).limit == 500_000_000
    monkeypatch.setenv(feature_cache.LIMIT, "0")
    assert not FeatureCache(tmp_path).shelf("pictures", {}).put(records("one"))
    for wrong in ("many", "-1", "nan", "inf"):
        monkeypatch.setenv(feature_cache.LIMIT, wrong)
        with pytest.raises(wb.BadInput, match="in GB, such as 20"):
            FeatureCache(tmp_path)


def test_records_are_found_among_many_shards_in_little_memory(tmp_path: Path) -> None:
    shelf = FeatureCache(tmp_path, limit=10**9).shelf("pictures", {"tower": "one"})
    keys = [key_of(str(number)) for number in range(2_000)]
    for start in range(0, 2_000, 50):
        shelf.put([(key, key[:4]) for key in keys[start : start + 50]])
    shelf.put([(keys[7], b"newer")])
    again = FeatureCache(tmp_path, limit=10**9).shelf("pictures", {"tower": "one"})
    assert all(key in again for key in keys)
    assert key_of("another") not in again
    found = shelf.get([*keys, key_of("another")])
    assert found == {key: key[:4] for key in keys} | {keys[7]: b"newer"}
    assert sum(block.nbytes for block in shelf._places._blocks) == 32 * 2_001
    assert len(shelf._places._blocks) < 12
