"""Pixels as a picture network is given them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from adapters.vlm_quantization.towers.tower import pixels_of


def test_any_picture_becomes_rgb_of_the_size() -> None:
    for mode in ("RGB", "L", "RGBA", "P"):
        pixels = pixels_of(Image.new(mode, (9, 5)), 4)
        assert (pixels.shape, pixels.dtype) == ((4, 4, 3), np.uint8)


def test_a_picture_of_that_size_is_not_touched() -> None:
    given = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    assert np.array_equal(pixels_of(Image.fromarray(given), 6), given)
