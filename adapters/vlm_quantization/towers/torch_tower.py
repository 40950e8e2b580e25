"""A frozen torch network as a tower: its inputs, its batches, and unit vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from workbench import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Item = TypeVar("Item")


class TorchTower(ABC, Generic[Item]):
    """A map from pictures, or from texts, to unit vectors, by a torch network in float32.

    Attributes
    ----------
    name : str
        Name of the encoder.
    dim : int
        Width of the vectors.
    fingerprint : str
        Changes with everything that changes the vectors.
    batch : int
        Items per forward pass.
    device : str
        Where the network computes: ``cpu``, ``cuda`` or ``mps``.
    lengths_vary : bool
        Whether inputs differ in length from batch to batch.
    languages : tuple of str
        Tags of the languages that a text tower was trained on; empty: not known.
    """

    name: str
    dim: int
    fingerprint: str
    batch: int
    device: str = "cpu"
    lengths_vary = False
    languages: tuple[str, ...] = ()

    @abstractmethod
    def inputs(self, items: Sequence[Item]) -> Mapping[str, NDArray[Any]]:
        """Return the network's inputs by name, each with one row per item; always in the same order."""

    @abstractmethod
    def network(self) -> Any:
        """Return the ``torch.nn.Module`` that maps :meth:`inputs`, by position, to unit vectors (n, dim)."""

    def features(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Return unit vectors, float32, shape (n, dim).

        Raises
        ------
        BadInput
            The network's vectors are not of the width that its configuration promises, or not finite.
        """
        import torch

        out = np.empty((len(items), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(items), self.batch):
                part = items[start : start + self.batch]
                values = [torch.from_numpy(value).to(self.device) for value in self.inputs(part).values()]
                vectors = self.network().to(self.device)(*values)
                out[start : start + len(part)] = self.checked(vectors.cpu().numpy())
        return out

    def checked(self, vectors: NDArray[Any]) -> NDArray[Any]:
        """Return vectors of the promised width that are finite; refuse others."""
        if vectors.shape[1:] != (self.dim,):
            raise BadInput(
                f"encoder {self.name!r} gives vectors of width {vectors.shape[-1]}, "
                f"but its configuration says {self.dim}",
                hint="Check that weights and configuration belong together.",
            )
        if not np.isfinite(vectors).all():
            raise BadInput(
                f"encoder {self.name!r} gives vectors that are not finite numbers",
                hint="Check its weights; some were published in a precision that overflows.",
            )
        return vectors


def half(model: Any, method: str, names: Sequence[str]) -> Any:
    """Return one half of a two-tower model as a module: its inputs by position, unit vectors out.

    Its attribute ``unit`` says whether the vectors are normalised; False gives them at their own length.

    Parameters
    ----------
    model : torch.nn.Module
    method : str
        The model's method: ``get_image_features``, ``encode_text``.
    names : sequence of str
        Names of the method's arguments; empty: they are given by position.
    """
    import torch

    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.unit = True

        def forward(self, *values: Any) -> Any:
            call = getattr(self.model, method)
            made = call(**dict(zip(names, values, strict=True))) if names else call(*values)
            # transformers 5 returns the states beside the vectors
            vectors = made if isinstance(made, torch.Tensor) else made.pooler_output
            return torch.nn.functional.normalize(vectors.float(), dim=-1) if self.unit else vectors.float()

    return Half().eval()
