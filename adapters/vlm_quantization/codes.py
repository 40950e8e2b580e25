"""Packed binary codes: what is stored, compared and handed around; no training library is needed here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

#: Width of the one stored code, in bits.
CODE_BITS: Final = 128

#: Lengths a code may be read at, in bits; each is a whole number of bytes of the stored code.
CODE_LENGTHS = (8, 16, 32, 64, 128)


class Encoded(NamedTuple):
    """What an encoder makes of n items.

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
    """Two towers that give pictures and texts codes in one space."""

    name: str
    dim: int
    fingerprint: str

    def encode_images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures."""

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts in any of the languages."""


def pack_codes(bits: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Pack bits row by row, first bit highest, so that prefixes of bits are prefixes of bytes.

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
