import importlib.metadata
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.towers import encoding_pass
from adapters.vlm_quantization.towers.dummy import DummyTextModel, DummyVisionModel
from adapters.vlm_quantization.towers.features import (
    Encoding,
    collection_texts,
    picture_features,
    remembered_texts,
    text_features,
)
from tests.adapters.vlm_quantization import shapes


class Counting(DummyVisionModel):
    encoded = 0

    def features(self, images):  # type: ignore[no-untyped-def]
        self.encoded += len(images)
        return super().features(images)


@pytest.fixture
def tower() -> Counting:
    return Counting()


def test_features_are_computed_once(tmp_path: Path, tower: Counting) -> None:
    collection = shapes.collection()
    reports = []
    first = picture_features(collection, tower, tmp_path, lambda *a: reports.append(a))
    again = picture_features(collection, tower, tmp_path)
    assert tower.encoded == len(collection) == 48
    assert np.array_equal(first, again)
    assert reports[-1][:2] == (48, 48)


def test_features_of_other_pictures_or_another_tower_are_not_reused(tmp_path: Path, tower: Counting) -> None:
    both = shapes.collection(), shapes.collection(seed=1)
    for collection in both:
        picture_features(collection, tower, tmp_path)
    different = {item.digest for collection in both for item in collection.items}
    assert tower.encoded == len(different) > 90
    other = Counting(seed=1)
    picture_features(shapes.collection(), other, tmp_path)
    assert other.encoded == 48


def test_a_grown_collection_encodes_only_what_is_new_and_equal_pictures_once(
    tmp_path: Path, tower: Counting
) -> None:
    collection = shapes.collection()
    part = CaptionedImages("part", collection.items[::2])
    picture_features(part, tower, tmp_path)
    assert tower.encoded == 24
    twice = CaptionedImages("twice", [*collection.items, *collection.items[:5]])
    features = picture_features(twice, tower, tmp_path)
    assert tower.encoded == 48
    assert np.array_equal(features[48:], features[:5])
    assert np.allclose(features[:48], DummyVisionModel().features([collection.open(i) for i in range(48)]))


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:-4] + b"\0\0\xc0\x7f"]
)
def test_a_damaged_cache_is_computed_again_and_that_is_said(tmp_path: Path, tower: Counting, damage) -> None:  # type: ignore[no-untyped-def]
    collection = shapes.collection()
    good = picture_features(collection, tower, tmp_path)
    (path,) = (tmp_path / "features").glob("*/*.shard")
    path.write_bytes(damage(path.read_bytes()))
    said: list[str] = []
    again = picture_features(collection, tower, tmp_path, how=Encoding(say=said.append))
    assert np.array_equal(again, good)
    assert tower.encoded == 96
    assert "1 damaged file of the cache was deleted, and what it held encoded again." in said[-1]
    assert [file.name for file in (tmp_path / "features").glob("*/*.shard")] == [path.name]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 5])
def test_a_pass_that_is_stopped_goes_on_where_it_was_with_equal_bits(
    tmp_path: Path, tower: Counting, after: int
) -> None:
    collection = shapes.collection()
    whole = picture_features(collection, DummyVisionModel(), tmp_path / "whole", how=Encoding(batch_size=8))

    def stop(done: float, total: float | None, message: str) -> None:
        if done >= 8 * after:
            raise Stopped

    with pytest.raises(Stopped):
        picture_features(collection, tower, tmp_path / "cut", how=Encoding(batch_size=8, progress=stop))
    known = 8 * after
    assert tower.encoded >= known
    tower.encoded = 0
    assert np.array_equal(
        picture_features(collection, tower, tmp_path / "cut", how=Encoding(batch_size=8)), whole
    )
    assert tower.encoded == 48 - known


def test_another_version_of_what_scales_pictures_gets_no_features_of_this_one(
    tmp_path: Path, tower: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture_features(shapes.collection(), tower, tmp_path)
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "99.0" if name == "Pillow" else version(name)
    )
    picture_features(shapes.collection(), tower, tmp_path)
    assert tower.encoded == 96


class CountingTexts(DummyTextModel):
    asked: int = 0

    def features(self, texts):  # type: ignore[no-untyped-def]
        self.asked += len(texts)
        return super().features(texts)


def test_text_features_are_computed_once_and_kept_by_text_and_tower(tmp_path: Path) -> None:
    tower, reports = CountingTexts(), []
    texts = ["red circle", "파란 원", "비"]
    first = text_features(texts, tower, tmp_path, lambda *a: reports.append(a))
    assert np.array_equal(first, text_features(texts, tower, tmp_path))
    assert tower.asked == 3
    assert reports[-1][:2] == (3, 3)
    assert np.array_equal(text_features(texts[::-1], tower, tmp_path), first[::-1])
    other = text_features(texts, DummyTextModel(seed=1), tmp_path)
    assert not np.allclose(other, first)


def test_a_remembered_text_is_not_encoded_again(tmp_path: Path) -> None:
    tower, collection = CountingTexts(), shapes.collection()
    remembered = remembered_texts(collection, tower, tmp_path)
    known = tower.asked
    assert remembered.fingerprint == tower.fingerprint
    assert np.array_equal(
        remembered.features(["Red Circle".casefold(), "red", "빨간"]),
        DummyTextModel().features(["red circle", "red", "빨간"]),
    )
    assert tower.asked == known
    mixed = remembered.features(["red", "zebra"])
    assert np.array_equal(mixed, DummyTextModel().features(["red", "zebra"]))
    assert np.array_equal(remembered.features(["zebra"]), mixed[1:])
    assert tower.asked == known + 2


def test_the_texts_of_a_collection_are_its_captions_keywords_and_words() -> None:
    texts = collection_texts(shapes.collection())
    assert {"red circle", "red", "circle", "빨간 원", "원"} <= set(texts)
    assert texts == sorted(set(texts))


def _killed_after(done_before: int, folder: Path) -> None:
    def kill(done: float, total: float | None, message: str) -> None:
        if done >= done_before:
            os.kill(os.getpid(), signal.SIGKILL)

    picture_features(
        shapes.collection(), DummyVisionModel(), folder, how=Encoding(batch_size=8, progress=kill)
    )


def test_a_killed_pass_keeps_its_finished_shards(
    tmp_path: Path, tower: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding_pass, "SHARD_RECORDS", 16)
    shapes.collection()  # made before the fork
    job = multiprocessing.get_context("fork").Process(target=_killed_after, args=(40, tmp_path))
    job.start()
    job.join()
    assert job.exitcode == -signal.SIGKILL
    how = Encoding(batch_size=8)
    whole = picture_features(shapes.collection(), DummyVisionModel(), tmp_path / "whole", how=how)
    assert np.array_equal(picture_features(shapes.collection(), tower, tmp_path, how=how), whole)
    assert tower.encoded == 48 - 32  # two shards of 16 were whole
