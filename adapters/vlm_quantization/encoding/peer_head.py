"""The head of this adapter's predecessor, in numpy: Linear → LayerNorm → GELU → Linear, and thresholds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: torch's default, which the predecessor did not change.
EPSILON = 1e-5


#: Scale and shift of each bit, float32 (length,): the bit is the sign of ``output * scale + shift``.
Norm = tuple["NDArray[np.float32]", "NDArray[np.float32]"]


def head_outputs(
    tensors: Mapping[str, NDArray[np.float32]], features: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return Linear → LayerNorm → GELU → Linear of features, float32 (n, 128); dropout is inactive.

    Parameters
    ----------
    tensors : mapping
        ``in.weight`` (hidden, width), ``in.bias``, ``norm.weight`` and ``norm.bias`` (hidden,),
        ``out.weight`` (128, hidden), ``out.bias`` (128,).
    features : ndarray, float32, shape (n, width)
        Not normalised: the head was trained on the backbone's features as they are.
    """
    x = features @ tensors["in.weight"].T + tensors["in.bias"]
    x = x - x.mean(axis=1, keepdims=True)
    x = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + np.float32(EPSILON))
    x = gelu(x * tensors["norm.weight"] + tensors["norm.bias"])
    out: NDArray[np.float32] = x @ tensors["out.weight"].T + tensors["out.bias"]
    return out


def gelu(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``x * Φ(x)`` with the exact normal distribution, as torch does (Hendrycks & Gimpel, 2016)."""
    below = np.asarray(_ERF(x.astype(np.float64) / math.sqrt(2)), np.float64)
    out: NDArray[np.float32] = (x * (1 + below) / 2).astype(np.float32)
    return out


_ERF = np.frompyfunc(math.erf, 1, 1)


def signs(outputs: NDArray[np.float32], norm: Norm) -> NDArray[np.bool_]:
    """Return the bits of one length, bool (n, length), for outputs (n, 128) of a head."""
    scale, shift = norm
    return outputs[:, : len(scale)] * scale + shift >= 0
