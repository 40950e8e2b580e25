"""Near duplicates: found by the look of a picture, and as an obvious comparison of all pairs finds them."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from adapters.vlm_quantization.data.near_duplicates import MOST_DISTANCE, near_pairs, perceptual_codes


def _picture(seed: int, size: int = 128) -> Image.Image:
    random = np.random.default_rng(seed)
    picture = Image.new("RGB", (size, size), tuple(random.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        left, top = random.uniform(0, size * 0.8, 2).tolist()
        width, height = random.uniform(size * 0.1, size * 0.5, 2).tolist()
        draw.ellipse((left, top, left + width, top + height), fill=tuple(random.integers(0, 256, 3).tolist()))
    return picture


def _as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return Image.open(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: _as_jpeg(picture, 40),
        lambda picture: picture.resize((64, 64)),
        lambda picture: picture.resize((300, 300)),
        lambda picture: picture.point(lambda value: min(value + 10, 255)),
    ],
    ids=["saved again", "smaller", "larger", "brighter"],
)
def test_a_changed_picture_is_near_to_its_original_only(change):
    originals = [_picture(seed) for seed in range(30)]

    pairs = near_pairs(perceptual_codes(originals), perceptual_codes(map(change, originals)))

    assert sorted(pairs) == [(row, row) for row in range(30)]


def test_pictures_of_one_colour_have_one_code():
    codes = perceptual_codes(Image.new("RGB", (50, 70), colour) for colour in ("white", "black", "#123456"))

    assert codes.tolist() == [0, 0, 0]
    assert codes.dtype == np.uint64
    assert perceptual_codes([]).shape == (0,)


@pytest.mark.parametrize("distance", [0, 3, 4, 7, 9, MOST_DISTANCE])
def test_the_pairs_are_those_of_a_comparison_of_all(distance):
    random = np.random.default_rng(distance)
    bases = random.integers(0, 2**64, 20, dtype=np.uint64)
    codes = random.choice(bases, 150)
    for _ in range(8):
        codes ^= np.uint64(1) << random.integers(0, 64, 150, dtype=np.uint64)
    one, other = codes[:70], codes[70:]

    def far(a: np.uint64, b: np.uint64) -> int:
        return (int(a) ^ int(b)).bit_count()

    across = near_pairs(one, other, distance)
    assert sorted(across) == [
        (i, j) for i in range(70) for j in range(80) if far(one[i], other[j]) <= distance
    ]
    steps = [far(one[i], other[j]) for i, j in across]
    assert steps == sorted(steps)
    within = near_pairs(one, max_distance=distance)
    assert sorted(within) == [
        (i, j) for i in range(70) for j in range(i + 1, 70) if far(one[i], one[j]) <= distance
    ]


def test_equal_codes_do_not_multiply_beyond_the_limit():
    codes = np.zeros(20_000, dtype=np.uint64)  # as many blank pictures: 200 million pairs

    pairs = near_pairs(codes, most=5)

    assert len(pairs) == 5
    assert all(one < other for one, other in pairs)


@pytest.mark.parametrize(("distance", "most"), [(-1, 5), (MOST_DISTANCE + 1, 5), (3, 0)])
def test_a_limit_out_of_range_is_refused(distance, most):
    with pytest.raises(ValueError, match="must be"):
        near_pairs(np.zeros(2, dtype=np.uint64), max_distance=distance, most=most)
