"""Frozen features of changed versions of pictures: encoded before a training, and cached like any others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from adapters.vlm_quantization.data.augmentation import STRENGTHS, AugmentedImages, view_of
from adapters.vlm_quantization.towers.features import Encoding, picture_features

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.towers.tower import ImageTower

#: Seed of the views. Every training has the same ones, so that they are encoded once; which of them it uses,
#: and when, is drawn by its own seed.
VIEW_SEED = 0


class Versions:
    """Opens pictures of a collection as they are (version 0), or as one of their views.

    Parameters
    ----------
    collection : CaptionedImages
    count : int
        Views of each strength: versions 1 to ``count`` are weak, the next ``count`` strong.
    flip : bool
        Whether views may be mirrored.
    """

    def __init__(self, collection: CaptionedImages, count: int, *, flip: bool) -> None:
        self._collection, self._count, self._flip = collection, count, flip

    def __call__(self, row: int, version: int) -> Image:
        """Decode the picture of a row in a version, RGB."""
        picture = self._collection.open(row)
        if not version:
            return picture
        place, number = divmod(version - 1, self._count)
        return view_of(
            picture,
            STRENGTHS[place],
            seed=VIEW_SEED,
            item=self._collection.digest(row),
            number=number,
            flip=self._flip,
        )


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
