"""Packed binary codes and the encoder protocol; imports no training library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

import workbench as wb

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from PIL.Image import Image

#: Width of the stored code, in bits.
CODE_BITS: Final = 128

#: Supported code lengths, in bits; each is a prefix of the stored code and a whole number of bytes.
CODE_LENGTHS = (8, 16, 32, 64, 128)

#: Longest code that an index may store, in bits.
MAX_BITS = 4_096

#: From this width on, codes that hold no byte but 0 and 1 are bits that were never packed: it takes 64 bits.
_LEAST_UNPACKED = 8


class Encoded(NamedTuple):
    """Codes and features of n encoded items.

    Attributes
    ----------
    codes : ndarray, uint8, shape (n, 16)
        Packed codes; the code of length B is the first ``B // 8`` bytes of a row.
    features : ndarray, float32, shape (n, d)
        Rows of unit L2 norm, for cosine similarity.
    margins : ndarray, float32, shape (n, 128), or None
        Distance of each bit from its threshold, where it cannot be computed from the features.
    """

    codes: NDArray[np.uint8]
    features: NDArray[np.float32]
    margins: NDArray[np.float32] | None = None


class Encoder(Protocol):
    """Two towers that encode pictures and texts into one space.

    Attributes
    ----------
    name : str
        Display name.
    dim : int
        Width of the features.
    fingerprint : str
        Equal only for encoders that give the same codes.
    """

    name: str
    dim: int
    fingerprint: str

    @property
    def bits(self) -> Sequence[int]:
        """The code lengths: ascending multiples of 8. The last is stored, the others are its prefixes."""

    def encode_images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures."""

    def encode_texts(self, texts: Sequence[str]) -> Encoded:
        """Encode texts in any supported language."""


def margins_of(encoder: Encoder, encoded: Encoded, side: str) -> NDArray[np.float32] | None:
    """Return the distance of each bit from its threshold, float32 (n, bits); the code is their signs.

    None if that is not known: it is part of what was encoded, or the encoder computes it from the features by
    a method ``margins_of(features, side)``, which it need not have.

    Parameters
    ----------
    encoder : Encoder
    encoded : Encoded
        What it encoded.
    side : {"image", "text"}
    """
    if encoded.margins is not None:
        return encoded.margins
    computed = getattr(encoder, "margins_of", None)
    margins: NDArray[np.float32] | None = computed(encoded.features, side) if computed else None
    return margins


def check_lengths(lengths: Sequence[int], what: str) -> tuple[int, ...]:
    """Return the code lengths of an encoder or an index.

    Raises
    ------
    workbench.BadInput
        They are not ascending multiples of 8, or a code would have more than :data:`MAX_BITS`.
    """
    whole = all(isinstance(one, int) and not isinstance(one, bool) and one % 8 == 0 for one in lengths)
    if (
        not lengths
        or not whole
        or [*lengths] != sorted({*lengths})
        or not 8 <= lengths[0] <= lengths[-1] <= MAX_BITS
    ):
        raise wb.BadInput(
            f"{what} must be ascending multiples of 8 up to {MAX_BITS:,}, such as {list(CODE_LENGTHS)}, "
            f"not {list(lengths)}"
        )
    return tuple(lengths)


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


def packed_codes(codes: ArrayLike, what: str) -> NDArray[np.uint8]:
    """Return packed codes, uint8 (n, bytes).

    Raises
    ------
    workbench.BadInput
        They are not uint8 of two dimensions, or they are bits that were never packed: at least 8 columns that
        hold nothing but two of 0, 1 and 255, both in most rows. Constant rows may be the codes of a collapsed
        model.
    """
    hint = "Pack bits with adapters.vlm_quantization.hash_layer.pack_codes(bits > 0)."
    array = complete(codes, what)
    if array.dtype != np.uint8 or array.ndim != 2 or not array.shape[1]:
        raise wb.BadInput(f"{what} must be packed, uint8 (n, bytes), not {described(codes)}", hint=hint)
    if array.size and array.shape[1] >= _LEAST_UNPACKED:
        for zero, one in ((0, 1), (0, 255), (1, 255)):  # 255 is -1 as uint8
            # The first row decides nearly always, without a look at the others.
            if np.isin(array[0], (zero, one)).all() and np.isin(array, (zero, one)).all():
                shares = (array == one).mean(axis=1)
                if np.mean((shares > 0) & (shares < 1)) > 0.5 and 0.05 < shares.mean() < 0.95:
                    columns = f"{array.shape[1]} columns of nothing but {zero} and {one}"
                    raise wb.BadInput(f"{what} are bits that were never packed: {columns}", hint=hint)
    return array


def complete(values: ArrayLike, what: str) -> NDArray[Any]:
    """Return an array; one with masked values is refused, which numpy would take for values.

    Raises
    ------
    workbench.BadInput
        Some values are masked.
    """
    if np.ma.is_masked(values):
        hidden = int(np.ma.count_masked(values))  # type: ignore[no-untyped-call]
        raise wb.BadInput(f"{what}: {hidden:,} values are masked", hint="Fill them, or leave out their rows.")
    return np.asarray(values)


def described(value: Any) -> str:
    """Return what something is, for an error: the type and shape of an array, or the type."""
    if isinstance(value, str | bytes) or not isinstance(value, np.ndarray | Sequence):
        return type(value).__name__
    array = np.asarray(value)
    return f"{array.dtype} {array.shape}"
