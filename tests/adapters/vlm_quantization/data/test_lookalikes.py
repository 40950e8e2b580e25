"""Near duplicates: pictures saved again are recognised, other drawings on white are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapters.vlm_quantization.data.collection import CaptionedImages, Item, picture_digest
from adapters.vlm_quantization.data.leakage import check_leakage
from adapters.vlm_quantization.data.lookalikes import comparable_rows, lookalikes, lookalikes_within, looks_of
from adapters.vlm_quantization.data.splits import PARTS, make_splits
from tests.adapters.vlm_quantization import shapes


def photo(seed: int) -> Image.Image:
    """Return a smooth picture that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((180, 140), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, form, quality=60)
    return file.getvalue()


def collection(files: list[bytes], splits: list[str] | None = None) -> CaptionedImages:
    items = [
        Item(
            f"p{row}",
            f"p{row}",
            {"en": (f"picture {row}",)},
            data,
            digest=picture_digest(Image.open(io.BytesIO(data))),
            split=splits[row] if splits else "",
        )
        for row, data in enumerate(files)
    ]
    return CaptionedImages("photos", items)


@pytest.fixture(scope="module")
def photos() -> CaptionedImages:
    """Twelve photographs, of which two are also there as JPEG or shrunk, and one mirrored."""
    plain = [photo(seed) for seed in range(12)]
    again = [
        encoded(plain[0], "JPEG"),
        encoded(plain[1].resize((90, 70))),
        encoded(plain[2].transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    ]
    return collection([*map(encoded, plain), *again])


def test_a_picture_saved_again_or_shrunk_is_a_near_duplicate(photos: CaptionedImages) -> None:
    assert sorted(lookalikes_within(looks_of(photos), comparable_rows(photos))) == [(0, 12), (1, 13)]


def test_two_collections_are_compared_by_their_rows(photos: CaptionedImages) -> None:
    looks = looks_of(photos)
    assert lookalikes(looks, np.arange(5, 12), looks, np.arange(12, 15)) == []
    assert lookalikes(looks, np.arange(1, 5), looks, np.arange(12, 15)) == [(1, 13)]


def test_drawings_on_white_are_not_taken_for_each_other() -> None:
    """Their codes are near, but not their colours."""
    drawings = shapes.collection()
    assert lookalikes_within(looks_of(drawings), np.arange(len(drawings))) == []


def test_drawings_in_styles_are_not_compared() -> None:
    assert len(comparable_rows(shapes.collection())) == 0
    assert comparable_rows(collection([encoded(photo(1))])).tolist() == [0]


def test_looks_are_computed_once(
    photos: CaptionedImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = looks_of(photos, tmp_path)
    monkeypatch.setattr(CaptionedImages, "open", None)
    again = looks_of(photos, tmp_path)
    assert np.array_equal(first.codes, again.codes)
    assert np.array_equal(first.copies, again.copies)
    monkeypatch.undo()
    (file,) = (tmp_path / "looks").iterdir()
    file.write_bytes(b"PK damaged")
    assert np.array_equal(looks_of(photos, tmp_path).codes, first.codes)


def test_drawn_splits_keep_near_duplicates_on_one_side(photos: CaptionedImages) -> None:
    """A JPEG of a training picture must not be in the test."""
    pairs = lookalikes_within(looks_of(photos), comparable_rows(photos))
    parted = 0
    for seed in range(8):
        splits = make_splits(photos, seed, alike=pairs)
        side = {row: part for part in PARTS for row in getattr(splits, part).tolist()}
        assert [side[one] for one, _ in pairs] == [side[other] for _, other in pairs]
        check_leakage(photos, splits)
        alone = make_splits(photos, seed)
        side = {row: part for part in PARTS for row in getattr(alone, part).tolist()}
        parted += any(side[one] != side[other] for one, other in pairs)
    assert parted  # without it, some seed parts them


def test_pairs_that_share_a_picture_stay_together_with_its_equal_ones() -> None:
    files = [encoded(photo(seed)) for seed in range(10)]
    whole = collection(files)
    splits = [make_splits(whole, seed, alike=[(0, 3), (3, 7), (2, 7)]) for seed in range(6)]
    for drawn in splits:
        side = {row: part for part in PARTS for row in getattr(drawn, part).tolist()}
        assert len({side[row] for row in (0, 2, 3, 7)}) == 1
