"""Towers without weights, for tests: fixed random projections of pixels and of n-grams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.towers.ngrams import ngram_rows
from adapters.vlm_quantization.towers.tower import pixels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image


class DummyVisionModel:
    """A fixed random projection of 16 × 16 pixels; the same on every machine for the same seed."""

    name = "random"
    dim = 64

    def __init__(self, seed: int = 0) -> None:
        self.fingerprint = f"{self.name}/{seed}"
        rng = np.random.Generator(np.random.PCG64(seed))
        # explicit float32, here and below: in numpy's stubs, float32 divided by a plain number is float64
        self._matrix = rng.standard_normal((16 * 16 * 3, self.dim)).astype(np.float32) / np.float32(16)

    def features(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Return projected pixels, float32, shape (n, 64)."""
        if not images:
            return np.empty((0, self.dim), np.float32)
        pixels = np.stack([pixels_of(image, 16) for image in images]).reshape(len(images), -1)
        return (pixels.astype(np.float32) / np.float32(127.5) - 1) @ self._matrix


class DummyTextModel:
    """A fixed random vector per n-gram, summed; the same on every machine for the same seed.

    Only texts that share words, or parts of words, are near each other.
    """

    name = "random"
    dim = 64
    languages: tuple[str, ...] = ()

    def __init__(self, seed: int = 0, buckets: int = 4096) -> None:
        self.fingerprint = f"{self.name}/{seed}/{buckets}"
        rng = np.random.Generator(np.random.PCG64(seed))
        self._rows = rng.standard_normal((buckets, self.dim)).astype(np.float32)

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, float32, shape (n, 64); zeros for a text without a letter or digit."""
        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            if rows := ngram_rows(text, len(self._rows)):
                out[row] = self._rows[rows].sum(axis=0)
        norms = np.linalg.norm(out, axis=1, keepdims=True)
        np.divide(out, norms, out=out, where=norms > 0)
        return out
