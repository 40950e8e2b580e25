"""The protocols of a picture tower and of a text tower."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image


class ImageTower(Protocol):
    """A frozen map from pictures to feature vectors."""

    name: str
    dim: int
    fingerprint: str

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return one row per picture, float32, shape (n, dim)."""


class TextTower(Protocol):
    """A frozen map from texts to feature vectors.

    Attributes
    ----------
    languages : tuple of str
        Tags of the languages it was trained on; empty if that is not known.
    """

    name: str
    dim: int
    fingerprint: str
    languages: tuple[str, ...]

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text, float32, shape (n, dim)."""


def pixels_of(image: Image, size: int) -> NDArray[np.uint8]:
    """Return a picture's RGB pixels, resized, uint8, shape (size, size, 3)."""
    from PIL import Image as Pillow

    rgb = image.convert("RGB")
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Pillow.Resampling.BILINEAR)
    return np.asarray(rgb)
