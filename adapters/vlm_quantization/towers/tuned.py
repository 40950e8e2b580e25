"""A tower whose weights were trained further: the tower of an encoder, with other weights laid over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapters.vlm_quantization.towers.pair import EncoderPair
from adapters.vlm_quantization.towers.torch_tower import TorchTower
from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

#: Endings of the two factors of a change of low rank: ``b @ a`` is added to the weight of the name before.
LORA_A, LORA_B = ".lora_a", ".lora_b"


class TunedTower(TorchTower[Any]):
    """A torch tower with other weights than its encoder's files have.

    Parameters
    ----------
    tower : TorchTower
        With a network of its own, which nothing else uses.
    weights : str
        SHA-256 (hex) of the weights; part of the fingerprint, so that no cache mixes them with others.
    lay : callable
        Called before the network's first use, to put the weights into it; shared by both towers of a pair.
    """

    def __init__(self, tower: TorchTower[Any], weights: str, lay: Callable[[], None]) -> None:
        self._tower = tower
        self.name, self.dim, self.batch = tower.name, tower.dim, tower.batch
        self.languages, self.lengths_vary = tower.languages, tower.lengths_vary
        self.fingerprint = tuned_fingerprint(tower.fingerprint, weights)
        self._lay = lay
        for name in ("cut_texts", "most_tokens", "padded"):
            if hasattr(tower, name):
                setattr(self, name, getattr(tower, name))

    def inputs(self, items: Sequence[Any]) -> Mapping[str, NDArray[Any]]:
        """Return the network's inputs, as the tower does."""
        return self._tower.inputs(items)

    def network(self) -> Any:
        """Return the network with the tuned weights."""
        self._lay()
        return self._tower.network()


def tuned_fingerprint(tower: str, weights: str) -> str:
    """Return the fingerprint of a tower with tuned weights, from the tower's own and their SHA-256."""
    return f"{tower}, tuned {weights[:16]}"


def tuned_pair(
    pair: EncoderPair, weights: str, read: Callable[[], Iterable[tuple[str, NDArray[Any]]]]
) -> EncoderPair:
    """Return the towers of an encoder with tuned weights, which are read at the first use of either.

    Parameters
    ----------
    pair : EncoderPair
        An encoder with a network of its own, as it is returned by
        :func:`adapters.vlm_quantization.towers.registry.fresh_pair`.
    weights : str
        SHA-256 (hex) of the weights.
    read : callable
        Returns the weights by name, float32; see :func:`lay_over`.

    Raises
    ------
    BadInput
        The encoder's towers are not torch networks.
    """
    towers = [pair.image, pair.text]
    if not all(isinstance(tower, TorchTower) for tower in towers):
        raise BadInput(f"encoder {pair.name!r} has no network that tuned weights could be put into")
    tried: list[Exception | None] = []

    def lay() -> None:
        if not tried:
            try:
                lay_over(pair.image.network().model, read(), pair.name)  # type: ignore[attr-defined]
                tried.append(None)
            except Exception as error:
                tried.append(error)  # part of the weights may be in place: the network is of no use any more
        if tried[0] is not None:
            raise tried[0]

    image, text = (TunedTower(tower, weights, lay) for tower in towers)  # type: ignore[arg-type]
    return EncoderPair(pair.name, image, text, pair.aligned, pair.about)


def lay_over(model: Any, weights: Iterable[tuple[str, NDArray[Any]]], name: str) -> None:
    """Put tuned weights into a two-tower model.

    Parameters
    ----------
    model : torch.nn.Module
    weights : iterable of (str, ndarray)
        Names of parameters and buffers with their new values, float32; or with :data:`LORA_A` and
        :data:`LORA_B` behind the name, the factors (r, in) and (out, r) of what is added to it.
    name : str
        The encoder's name, for errors.

    Raises
    ------
    BadInput
        The model has no such weight, or one of another shape.
    """
    import torch

    known = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    factors: dict[str, NDArray[Any]] = {}

    def target(of: str, shape: tuple[int, ...]) -> Any:
        if of not in known or tuple(known[of].shape) != shape:
            has = f"shape {tuple(known[of].shape)}" if of in known else "no such weight"
            raise BadInput(f"tuned weight {of} has shape {shape}, but encoder {name!r} has {has}")
        return known[of]

    with torch.no_grad():
        for key, value in weights:
            if key.endswith(LORA_A):
                factors[key.removesuffix(LORA_A)] = value
            elif key.endswith(LORA_B):  # sorted names: its partner came before
                of = key.removesuffix(LORA_B)
                change = torch.from_numpy(value) @ torch.from_numpy(factors.pop(of))
                weight = target(of, tuple(change.shape))
                weight.add_(change.to(weight.device))
            else:
                target(key, value.shape).copy_(torch.from_numpy(value))
