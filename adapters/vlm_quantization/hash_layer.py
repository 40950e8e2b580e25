"""Nested binary codes: a short code is a bit prefix of the long one.

A code is 128 signs. Each bit has one threshold, the same at every length, so the code of length B is the
first B signs and is never stored or computed separately.
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
    """Forward: sign. Backward: gradient of a clamp to [-1, 1] (Bengio, Léonard & Courville, 2013)."""

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
    """Return -1 or +1 for each margin; a margin of exactly zero gives +1."""
    return torch.where(margins >= 0, 1.0, -1.0).to(margins.dtype)


def sign_straight_through(margins: Tensor) -> Tensor:
    """Return signs with the gradient of a clamp, so that training can backpropagate through them."""
    through: Tensor = _SignThrough.apply(margins)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return through


class NestedHashLayer(nn.Module):
    """A linear map to margins, with one threshold per bit; the signs of the margins are the code.

    The threshold of a bit is its running mean over training batches (a batch norm without learned scale or
    shift), which keeps every bit balanced. It belongs to the bit, not to a length: with a separate
    normalisation per length, short codes would not be prefixes of the long one.

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
        """Return margins, shape (n, bits): distance of each bit from its threshold, in deviations."""
        margins: Tensor = self.norm(self.linear(x))
        return margins

    def settled(self, x: Tensor) -> Tensor:
        """Return margins by the running thresholds, as outside training, without moving them."""
        mean, var = self.norm.get_buffer("running_mean"), self.norm.get_buffer("running_var")
        margins: Tensor = (self.linear(x) - mean) / (var + self.norm.eps).sqrt()
        return margins

    @torch.no_grad()
    def codes(self, x: Tensor) -> NDArray[np.uint8]:
        """Return packed codes, uint8, shape (n, bits // 8)."""
        return pack_codes((self(x) >= 0).cpu().numpy())
