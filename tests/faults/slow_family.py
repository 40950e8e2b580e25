"""A model family whose encoder takes its time and notes what it encodes; workers of a cluster import it.

It is an adapter by the entry point that the test writes beside it. Its models are empty files: the planes are
drawn from a seed, so they are the same in every process.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS, Encoded, pack_codes

#: A file that holds the seconds that a batch takes; in the environment of every worker.
PAUSE = "SLOW_FAMILY_PAUSE"


class SlowEncoder:
    """Random projections of 8 × 8 pixels."""

    bits = CODE_LENGTHS
    dim = 24
    name = "slow"
    fingerprint = "510e" * 16
    languages = ()

    def __init__(self) -> None:
        random = np.random.default_rng(7)
        self._tower = random.standard_normal((192, self.dim))
        self._planes = random.standard_normal((self.dim, CODE_BITS))

    def encode_images(self, images: Any) -> Encoded:
        if pause := os.environ.get(PAUSE):
            time.sleep(float(Path(pause).read_text() or 0))
        small = [np.asarray(image.convert("RGB").resize((8, 8)), np.float64).ravel() for image in images]
        features = (np.array(small) / 255 - 0.5) @ self._tower
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return Encoded(pack_codes(features @ self._planes >= 0), features.astype(np.float32))

    def encode_texts(self, texts: Any) -> Encoded:
        raise NotImplementedError


class SlowFamily(wb.BaseAdapter):
    name = "slow_family"
    title = "Slow"

    def load_model(self, path: Path) -> SlowEncoder:
        return SlowEncoder()


adapter = SlowFamily()
