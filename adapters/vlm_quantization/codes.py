"""Packed binary codes and the encoder protocol; imports no training library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

#: Width of the stored code, in bits.
CODE_BITS: Final = 128

#: Supported code lengths, in bits; each is a prefix of the stored code and a whole number of bytes.
CODE_LENGTHS = (8, 16, 32, 64, 128)


class Encoded(NamedTuple):
    """Codes and features of n encoded items.

    Attributes
    ----------
    codes : ndarray, uint8, shape (n, 16)
        Packed codes; the code of length B is the first ``B // 8`` bytes of a row.
    features : ndarray, float32, shape (n, d)
        Rows of unit L2 norm, for cosine similarity.
    """

    codes: NDArray[np.uint8]
    features: NDArray[np.float32]


class Encoder(Protocol):
    """Two towers that encode pictures and texts into one space."""

    name: str
    dim: int
    fingerprint: str

    def encode_images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures."""

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts in any supported language."""


def pack_codes(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack bits row by row, first bit highest, so that bit prefixes are byte prefixes.

    Parameters
    ----------
    bits : ndarray, bool, shape (n, b)
        ``b`` must be a multiple of 8.

    Returns
    -------
    ndarray, uint8, shape (n, b // 8)

    Raises
    ------
    ValueError
        The width is not a multiple of 8, or the array is not two-dimensional.
    """
    bits = np.asarray(bits)
    if bits.ndim != 2 or bits.shape[1] % 8:
        raise ValueError(f"codes must have shape (n, multiple of 8), not {bits.shape}")
    return np.packbits(bits.astype(bool), axis=1, bitorder="big")
