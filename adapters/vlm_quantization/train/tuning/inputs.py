"""What the towers read of a batch: decoded pictures, prepared by the encoder's processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.data.pictures import opened_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.towers.torch_tower import TorchTower

#: Bytes of prepared pictures that a training keeps, so that they are not decoded at every step. A picture of
#: 224 × 224 takes 600 KB: some 1,700 of them.
KEPT_BYTES = 2**30


#: Pictures prepared at a time.
_CHUNK = 16


class PictureInputs:
    """Inputs of a picture tower by row of a collection; some are kept in memory, the others decoded again.

    Parameters
    ----------
    open_one : callable
        ``open_one(row, version)`` returns a picture, RGB; see
        :class:`adapters.vlm_quantization.train.picture_views.Versions`.
    tower : TorchTower
    kept_bytes : int
        Memory for prepared pictures.
    """

    def __init__(
        self, open_one: Callable[[int, int], Image], tower: TorchTower[Image], kept_bytes: int = KEPT_BYTES
    ) -> None:
        self._open = open_one
        self._tower = tower
        self._left = kept_bytes
        self._known: dict[tuple[int, int], dict[str, NDArray[Any]]] = {}

    def __call__(self, rows: Sequence[int], versions: Sequence[int] = ()) -> Mapping[str, NDArray[Any]]:
        """Return the network's inputs by name, each with one row per picture.

        Parameters
        ----------
        rows : sequence of int
        versions : sequence of int
            Of each picture; empty: as they are.

        Raises
        ------
        BadInput
            A picture cannot be decoded any more.
        """
        keys = list(zip(rows, versions or [0] * len(rows), strict=True))
        made = {key: self._known[key] for key in keys if key in self._known}
        new = [key for key in dict.fromkeys(keys) if key not in made]
        opened = opened_ahead(lambda key: self._open(*key), new)
        for start in range(0, len(new), _CHUNK):
            part = new[start : start + _CHUNK]
            pictures = []
            for _, picture in zip(part, opened, strict=False):
                if isinstance(picture, Exception):  # it could be read when the collection was opened
                    raise picture
                pictures.append(picture)
            values = self._tower.inputs(pictures)
            for place, key in enumerate(part):
                made[key] = own = {name: value[place] for name, value in values.items()}
                size = sum(value.nbytes for value in own.values())
                if size <= self._left:
                    self._left -= size
                    self._known[key] = {name: value.copy() for name, value in own.items()}
        names = next(iter(made.values()))
        return {name: np.stack([made[key][name] for key in keys]) for name in names}
