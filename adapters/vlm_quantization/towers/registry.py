"""The frozen picture towers under the hash heads, by name.

The default is EfficientNet-Lite0 trained on ImageNet (Tan & Le, 2019; Apache-2.0), installed by pip.
``random`` is a fixed random projection of the pixels, for tests and for trials without a download. Texts have
no frozen part: their character n-grams index a trained embedding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from adapters.vlm_quantization.towers.dummy import DummyVisionModel
from adapters.vlm_quantization.towers.efficientnet import EfficientNetLite
from adapters.vlm_quantization.towers.tower import ImageTower
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable


#: The available towers by name.
TOWERS: dict[str, Callable[[], ImageTower]] = {
    "efficientnet-lite0": EfficientNetLite,
    "random": DummyVisionModel,
}


@lru_cache(maxsize=4)
def image_tower(name: str) -> ImageTower:
    """Return the tower with a name; one instance per process, since it holds weights.

    Raises
    ------
    BadInput
        The name is unknown; the message lists the known ones.
    """
    if name not in TOWERS:
        raise BadInput(f"unknown image tower {name!r}; known: {', '.join(TOWERS)}")
    return TOWERS[name]()
