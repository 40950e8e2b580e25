"""An index decodes and encodes each picture once, while the collection is opened."""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import workbench as wb
from adapters.vlm_quantization.data import decoding
from adapters.vlm_quantization.data.sources import open_collection
from adapters.vlm_quantization.dummy import write_dummy_collection
from adapters.vlm_quantization.encoding.known_pictures import KnownPicture
from adapters.vlm_quantization.index import space
from adapters.vlm_quantization.index.one_pass import OnePass
from adapters.vlm_quantization.towers import feature_cache
from adapters.vlm_quantization.towers.dummy import DummyVisionModel
from adapters.vlm_quantization.towers.features import Encoding
from tests.adapters.vlm_quantization import shapes


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 24 pictures that were written a while ago, one of them broken."""
    write_dummy_collection(tmp_path / "out")
    folder = tmp_path / "out" / "pictures"
    sorted(folder.glob("*.png"))[5].write_bytes(b"\x89PNG\r\n\x1a\n broken")
    for path in folder.iterdir():
        os.utime(path, (1e9, 1e9))
    return folder


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Count the pictures that are decoded, and those that are encoded."""
    count = {"decoded": 0, "encoded": 0}
    ask, features = decoding._Process.ask, DummyVisionModel.features

    def asked(self: Any, *args: Any) -> Any:
        count["decoded"] += 1
        return ask(self, *args)

    def encoded(self: Any, images: Any) -> Any:
        count["encoded"] += len(images)
        return features(self, images)

    monkeypatch.setattr(decoding._Process, "ask", asked)
    monkeypatch.setattr(DummyVisionModel, "features", encoded)
    return count


def build(home: wb.Workspace, source: Path, name: str, **options: Any) -> wb.Result:
    options |= {"collection": str(source), "name": name, "encoder": "random", "codes": "itq"}
    with wb.job_scope("index_build", "vlm_quantization", options, workspace=home) as job:
        return job.finish(job.adapter.build_index(job.options, job))


def test_each_picture_is_decoded_and_encoded_once_and_the_next_index_needs_none(
    photos: Path, workspace: wb.Workspace, seen: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    result = build(workspace, photos, "first")
    assert seen == {"decoded": 24, "encoded": 23}
    assert result.metrics["pictures"] == 23
    assert result.metrics["skipped"] == 0  # the broken one was left out when the collection was opened
    assert "23 pictures encoded by random, 128 at a time" in capsys.readouterr().out
    assert "23 pictures encoded by random, 128 at a time" in result.views[0].notes[-1]
    again = build(workspace, photos, "second")
    assert seen == {"decoded": 25, "encoded": 23}  # only the broken one is tried again
    assert again.metrics == result.metrics
    assert "nothing to encode" in capsys.readouterr().out
    one, other = (workspace.open_search(name).index.manifest for name in ("first", "second"))
    same = [name for name in one.files if name.startswith("images.codes.") or name.startswith("thumbnails.0")]
    assert len(same) > 5
    assert [one.files[name] for name in same] == [other.files[name] for name in same]


def test_a_changed_and_a_new_picture_are_encoded_and_a_renamed_one_is_not(
    photos: Path, workspace: wb.Workspace, seen: dict[str, int]
) -> None:
    build(workspace, photos, "photos")
    files = sorted(path for path in photos.glob("*.png") if path.stat().st_size > 100)
    files[0].rename(photos / "renamed.png")
    Image.new("RGB", (32, 32), "orchid").save(files[1])
    Image.new("RGB", (32, 32), "salmon").save(photos / "new.png")
    seen |= {"decoded": 0, "encoded": 0}
    assert build(workspace, photos, "photos").metrics["pictures"] == 24
    assert seen == {"decoded": 4, "encoded": 2}  # the broken one, and the three


def test_an_opening_that_is_stopped_goes_on_where_it_was(
    photos: Path, tmp_path: Path, seen: dict[str, int]
) -> None:
    class Stopped(Exception):
        pass

    def stop(done: float, total: float | None, message: str) -> None:
        if done:
            raise Stopped

    cache, tower = tmp_path / "cache", DummyVisionModel()
    for place in range(30 - len(list(photos.iterdir()))):
        Image.new("RGB", (9, 9), (place * 30, 0, 90)).save(photos / f"zz-{place}.png")
        os.utime(photos / f"zz-{place}.png", (1e9, 1e9))

    def stopped() -> None:
        with OnePass(tower, cache, Encoding(batch_size=4)) as one:
            open_collection(photos, cache_dir=cache, progress=stop, onlooker=one)

    with pytest.raises(Stopped):
        stopped()  # after 25 pictures
    before = dict(seen)
    assert 4 <= before["encoded"] < 29
    with OnePass(tower, cache, Encoding(batch_size=4)) as one:
        collection = open_collection(photos, cache_dir=cache, onlooker=one)
    assert seen["encoded"] == 29
    known = one.known(collection)
    assert all(isinstance(known.open(row), KnownPicture) for row in range(29))


def test_pictures_whose_digests_come_with_the_collection_are_filled_in(tmp_path: Path) -> None:
    collection = shapes.collection()
    said: list[str] = []
    with OnePass(DummyVisionModel(), tmp_path, Encoding(say=said.append)) as one:
        one.fill(collection)
    known = one.known(collection)
    assert all(isinstance(known.open(row), KnownPicture) for row in range(len(collection)))
    assert "48 pictures encoded" in said[-1]
    before = len(said)
    with OnePass(DummyVisionModel(), tmp_path, Encoding(say=said.append)) as one:
        one.fill(collection)
    assert len(said) == before


def test_without_room_in_the_cache_an_index_is_the_same(
    photos: Path, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(workspace, photos, "kept")
    for path in (workspace.cache / "features").glob("*/*"):
        path.unlink()
    monkeypatch.setenv(feature_cache.LIMIT, "0")
    build(workspace, photos, "not-kept")
    one, other = (workspace.open_search(name).index.manifest for name in ("kept", "not-kept"))
    same = [name for name in one.files if name.startswith("images.codes.") or name.startswith("thumbnails.0")]
    assert len(same) > 5
    assert [one.files[name] for name in same] == [other.files[name] for name in same]


def test_a_disk_that_cannot_hold_the_index_is_refused_before_anything_is_decoded(
    photos: Path, workspace: wb.Workspace, seen: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(space.shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10_000, 10_000))
    with pytest.raises(wb.WrongState, match="the index needs at least"):
        build(workspace, photos, "photos")
    assert seen == {"decoded": 0, "encoded": 0}
