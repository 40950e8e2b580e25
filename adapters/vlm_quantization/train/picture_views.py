"""Frozen features of changed versions of pictures: encoded before a training, and cached like any others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from adapters.vlm_quantization.data.augmentation import STRENGTHS, AugmentedImages
from adapters.vlm_quantization.towers.features import Encoding, picture_features

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.towers.tower import ImageTower

#: Seed of the views. Every training has the same ones, so that they are encoded once; which of them it uses,
#: and when, is drawn by its own seed.
VIEW_SEED = 0


class ViewFeatures(NamedTuple):
    """Frozen features of views: V arrays of weak ones and V of strong ones, each float32 (n, d)."""

    weak: list[NDArray[np.float32]]
    strong: list[NDArray[np.float32]]


def view_features(
    collection: CaptionedImages,
    tower: ImageTower,
    count: int,
    cache: Path,
    *,
    how: Encoding | None = None,
    flip: bool = False,
) -> ViewFeatures | None:
    """Return the features of weak and strong views of every picture, from the cache where they are there.

    Parameters
    ----------
    collection : CaptionedImages
    tower : ImageTower
    count : int
        Views of each strength; 0: none, and None is returned.
    cache : Path
        Cache folder.
    how : Encoding, optional
    flip : bool
        Whether views may be mirrored.
    """
    if not count:
        return None
    how = how or Encoding()
    out = ViewFeatures([], [])
    for place, strength in enumerate(STRENGTHS):
        for number in range(count):

            def report(
                done: float, total: float | None = None, _: str = "", before: int = place * count + number
            ) -> None:
                if how.progress:
                    how.progress(before + done / (total or 1), 2 * count, "features of views")

            changed = AugmentedImages(collection, strength, seed=VIEW_SEED, number=number, flip=flip)
            out[place].append(picture_features(changed, tower, cache, how=replace(how, progress=report)))
    return out
