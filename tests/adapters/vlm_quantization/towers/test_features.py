from pathlib import Path

import numpy as np
import pytest

from adapters.vlm_quantization.towers.dummy import DummyVisionModel
from adapters.vlm_quantization.towers.features import kept_features, picture_features
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
