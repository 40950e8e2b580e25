from pathlib import Path

import numpy as np
import pytest

from adapters.vlm_quantization.towers.dummy import DummyTextModel, DummyVisionModel
from adapters.vlm_quantization.towers.features import (
    collection_texts,
    kept_features,
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
    picture_features(shapes.collection(), tower, tmp_path)
    assert kept_features(shapes.collection(seed=1), tower, tmp_path) is None
    assert kept_features(shapes.collection(), DummyVisionModel(seed=1), tmp_path) is None


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", None])
def test_a_damaged_cache_is_computed_again(tmp_path: Path, tower: Counting, damage: bytes | None) -> None:
    collection = shapes.collection()
    good = picture_features(collection, tower, tmp_path)
    (path,) = (tmp_path / "features").iterdir()
    if damage is None:
        np.save(path, np.full_like(good, np.nan))
    else:
        path.write_bytes(damage)
    assert np.array_equal(picture_features(collection, tower, tmp_path), good)
    assert [file.name for file in (tmp_path / "features").iterdir()] == [path.name]


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
