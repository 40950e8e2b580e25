"""The frozen picture towers and text towers under the hash heads, by name.

Pictures: the default is EfficientNet-Lite0 trained on ImageNet (Tan & Le, 2019; Apache-2.0), installed by
pip. Texts: ``multilingual`` is the multilingual Universal Sentence Encoder (Yang et al., 2020; Apache-2.0),
installed by pip; a model may also have no frozen text tower, and only character n-grams that index a trained
embedding. ``random`` is a fixed random projection, for tests and for trials without a download.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from adapters.vlm_quantization.towers.dummy import DummyTextModel, DummyVisionModel
from adapters.vlm_quantization.towers.efficientnet import EfficientNetLite
from adapters.vlm_quantization.towers.multilingual import Multilingual
from adapters.vlm_quantization.towers.tower import ImageTower, TextTower
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable


#: The available picture towers by name.
TOWERS: dict[str, Callable[[], ImageTower]] = {
    "efficientnet-lite0": EfficientNetLite,
    "random": DummyVisionModel,
}


#: The available frozen text towers by name.
TEXT_TOWERS: dict[str, Callable[[], TextTower]] = {
    "multilingual": Multilingual,
    "random": DummyTextModel,
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


@lru_cache(maxsize=4)
def text_tower(name: str) -> TextTower:
    """Return the text tower with a name; one instance per process, since it holds weights.

    Raises
    ------
    BadInput
        The name is unknown; the message lists the known ones.
    """
    if name not in TEXT_TOWERS:
        raise BadInput(f"unknown text tower {name!r}; known: {', '.join(TEXT_TOWERS)}")
    return TEXT_TOWERS[name]()
