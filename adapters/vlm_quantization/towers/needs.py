"""What encoding and indexing a collection takes with the packaged encoder, for ``workbench data check``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from adapters.vlm_quantization.codes import CODE_BITS
from adapters.vlm_quantization.encoding.fitted import COMPONENTS
from adapters.vlm_quantization.index.space import least_bytes
from adapters.vlm_quantization.towers.registry import PACKAGED, encoder_pair
from workbench import MissingExtra, View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image


#: Pictures that the encoder is timed on.
TIMED = 8


def needs_view(pictures: int, captions: int, samples: Sequence[Image], decoding: float) -> list[View]:
    """Return a table of the time, memory and disk that a collection takes; none without the packaged encoder.

    Parameters
    ----------
    pictures, captions : int
        Numbers of items.
    samples : sequence of PIL.Image.Image
        Some of the pictures, to time the encoder on; without any, there is no table.
    decoding : float
        Seconds that it takes to decode a picture.
    """
    samples = samples[:TIMED]
    try:
        tower = encoder_pair(PACKAGED).image
        tower.features(samples[:1])  # loads the network, which is not timed
    except (MissingExtra, IndexError, ValueError):
        return []
    start = time.perf_counter()
    tower.features(samples)
    encoding = (time.perf_counter() - start) / len(samples)
    features = 4 * tower.dim * pictures
    sides = {"images": range(pictures), "captions": range(captions)}
    index = least_bytes(sides, min(tower.dim, COMPONENTS), CODE_BITS, None)
    per_picture = f"{1e3 * decoding:.1f} ms to decode a picture, {1e3 * encoding:.1f} ms to encode it"
    rows = [
        {
            "name": "Minutes to encode",
            "value": round(pictures * (decoding + encoding) / 60, 2),
            "note": per_picture,
        },
        {
            "name": "Memory for features (MB)",
            "value": round(features / 1e6, 1),
            "note": "in a training or an evaluation",
        },
        {
            "name": "Cache for features (MB)",
            "value": round(features / 1e6, 1),
            "note": "for the first job; later ones encode nothing",
        },
        {
            "name": "Disk for an index (MB)",
            "value": round(index / 1e6, 1),
            "note": "at the least, while it is built",
        },
    ]
    notes = [
        f"With the packaged encoder, timed on {len(samples)} of these pictures on this machine as it is now. "
        "Another encoder takes another time: each job says its own once it has timed it."
    ]
    return [View(kind="metrics_table", title="What it takes", data={"rows": rows}, notes=notes)]
