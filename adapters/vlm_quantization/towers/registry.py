"""What stays frozen under the hash heads: picture features, and the n-grams a text is made of.

The packaged default is EfficientNet-Lite0 trained on ImageNet (Tan & Le, 2019; Apache-2.0), as pip installs
it. ``random`` is a fixed random projection of the pixels, for tests and for a look at the machinery without
any download. Texts have no frozen part here: their character n-grams index a trained embedding.
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


#: The towers a configuration may name.
TOWERS: dict[str, Callable[[], ImageTower]] = {
    "efficientnet-lite0": EfficientNetLite,
    "random": DummyVisionModel,
}


@lru_cache(maxsize=4)
def image_tower(name: str) -> ImageTower:
    """Return the tower of a name; one instance a process, since it holds weights.

    Raises
    ------
    BadInput
        An unknown name; the message lists the known ones.
    """
    if name not in TOWERS:
        raise BadInput(f"no image tower {name!r}; known: {', '.join(TOWERS)}")
    return TOWERS[name]()
