"""Binary codes whose short forms are bit prefixes of the long one.

A code is 128 signs. Each bit has one threshold of its own, the same at every length, so the code of length B
is the first B signs and nothing has to be stored or computed twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapters.vlm_quantization.codes import CODE_BITS, pack_codes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _SignThrough(torch.autograd.Function):
    """Sign forwards; backwards the gradient of a clamp to [-1, 1] (Bengio, Léonard & Courville, 2013)."""

    @staticmethod
    def forward(ctx: Any, margins: Tensor) -> Tensor:
        ctx.save_for_backward(margins)
        return signs(margins)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        margins: Tensor
        (margins,) = ctx.saved_tensors
        return gradient * (margins.abs() <= 1)


def signs(margins: Tensor) -> Tensor:
    """Return -1 or +1 a margin; a margin of exactly zero counts as +1."""
    return torch.where(margins >= 0, 1.0, -1.0).to(margins.dtype)


def sign_straight_through(margins: Tensor) -> Tensor:
    """Return signs whose gradient is that of a clamp, so that training can pass through them."""
    through: Tensor = _SignThrough.apply(margins)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return through


class NestedHashLayer(nn.Module):
    """A linear map to margins, one threshold a bit; the signs of the margins are the code.

    The threshold of a bit is its running mean over training batches (a batch norm without scale or shift
    of its own), which keeps every bit balanced. It belongs to the bit, not to a length: a layer that
    normalised each length apart would have short codes that are not prefixes of the long one.

    Parameters
    ----------
    dim : int
        Width of the input.
    bits : int
        Width of the code.
    """

    def __init__(self, dim: int, bits: int = CODE_BITS) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, bits, bias=False)
        self.norm = nn.BatchNorm1d(bits, affine=False, momentum=0.05)

    def forward(self, x: Tensor) -> Tensor:
        """Return margins, shape (n, bits): how far each bit is from its threshold, in deviations."""
        margins: Tensor = self.norm(self.linear(x))
        return margins

    @torch.no_grad()
    def codes(self, x: Tensor) -> NDArray[np.uint8]:
        """Return packed codes, uint8, shape (n, bits // 8)."""
        return pack_codes((self(x) >= 0).cpu().numpy())
