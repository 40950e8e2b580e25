"""A frozen tower whose vectors keep their length, for heads that were trained on them as they are."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.vlm_quantization.towers.torch_tower import TorchTower
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Tower = TypeVar("Tower")


class Unscaled(TorchTower[Any]):
    """A torch tower without the normalisation of its vectors; its network is shared with the tower's."""

    def __init__(self, tower: TorchTower[Any]) -> None:
        self._tower = tower
        self.name, self.dim, self.batch = tower.name, tower.dim, tower.batch
        self.device = tower.device
        self.languages = getattr(tower, "languages", ())
        self.fingerprint = f"{tower.fingerprint}, not normalised"
        for name in ("cut_texts", "most_tokens", "padded"):
            if hasattr(tower, name):
                setattr(self, name, getattr(tower, name))
        self._network: Any = None

    def inputs(self, items: Sequence[Any]) -> Mapping[str, NDArray[Any]]:
        """Return the network's inputs, as the tower does."""
        return self._tower.inputs(items)

    def network(self) -> Any:
        """Return the network up to its vectors."""
        if self._network is None:
            self._network = copy.copy(self._tower.network())  # shares the weights
            self._network.unit = False
        return self._network


def unscaled(tower: Tower) -> Tower:
    """Return a tower that gives the same vectors at their own length.

    Raises
    ------
    BadInput
        Only vectors of unit length can be had from this tower.
    """
    if type(tower).__name__ == "Unscaled":
        return tower
    if not isinstance(tower, TorchTower):
        raise BadInput(
            f"the vectors of encoder {getattr(tower, 'name', tower)!r} can only be had at unit length",
            hint="Give the transformers model that the checkpoint was trained on, by folder or hub name.",
        )
    return Unscaled(tower)  # type: ignore[return-value]  # it has all that a tower of that side has
