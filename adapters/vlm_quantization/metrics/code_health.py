"""How well a code uses its bits: balance, entropy, correlation, rounding, ties, agreement of the two sides.

Metrics tell how good a code is; these measures help explain why. They are computed from the codes alone, at
every length, and need no relevance except the text that belongs to each picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.metrics.code_rankings import code_groups
from adapters.vlm_quantization.metrics.relevance import SameItem


@dataclass(frozen=True)
class SideHealth:
    """The codes of one side at one length.

    Attributes
    ----------
    bits : int
        Code length.
    n : int
        Number of codes.
    balance : float
        Mean share of the rarer value of a bit, 0 to 0.5; 0.5 is best.
    entropy : float
        Mean entropy of a bit, 0 to 1.
    distinct : float
        Distinct codes divided by codes: roughly, the share of items whose code is unique.
    correlation, highest_correlation : float
        Mean and maximum absolute correlation of two bits, 0 to 1. Bits that never change count as 0.
    rounding : float
        Mean of 1 - cosine between the margins of an item and their signs; 0 means no loss. NaN without
        margins.
    """

    bits: int
    n: int
    balance: float
    entropy: float
    distinct: float
    correlation: float
    highest_correlation: float
    rounding: float


def side_health(
    codes: NDArray[np.uint8],
    margins: NDArray[np.float32] | None = None,
) -> list[SideHealth]:
    """Measure the codes of one side at each code length.

    Parameters
    ----------
    codes : ndarray, uint8, shape (n, w)
        Packed codes.
    margins : ndarray, float32, shape (n, 8 w), optional
        Signed distance of each bit from its threshold.

    Raises
    ------
    workbench.BadInput
        There are no codes.
    """
    if not len(codes):
        raise wb.BadInput("no codes to measure")
    signs = np.unpackbits(codes, axis=1).astype(np.float64)
    shares = signs.mean(axis=0)
    correlation = np.abs(_correlation(signs))
    out = []
    for length in CODE_LENGTHS:
        part = shares[:length]
        others = correlation[:length, :length][~np.eye(length, dtype=bool)]
        rounding = np.nan if margins is None else _rounding(margins[:, :length])
        out.append(
            SideHealth(
                bits=length,
                n=len(codes),
                balance=float(np.minimum(part, 1 - part).mean()),
                entropy=float(_entropy(part).mean()),
                distinct=len(np.unique(codes[:, : length // 8], axis=0)) / len(codes),
                correlation=float(others.mean()),
                highest_correlation=float(others.max()),
                rounding=float(rounding),
            )
        )
    return out


def shares_of_ones(codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the share of ones of each bit, float64 (bits,)."""
    shares: NDArray[np.float64] = np.unpackbits(codes, axis=1).mean(axis=0)
    return shares


def _entropy(share: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(share, 1e-12, 1 - 1e-12)
    out: NDArray[np.float64] = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))
    return out


def _correlation(signs: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = signs - signs.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    centred = np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)
    out: NDArray[np.float64] = centred.T @ centred
    return out


def _rounding(margins: NDArray[np.float32]) -> float:
    norms = np.linalg.norm(margins, axis=1)
    cosine = np.abs(margins).sum(axis=1) / np.maximum(norms, 1e-12) / margins.shape[1] ** 0.5
    return float(1 - cosine.mean())


@dataclass(frozen=True)
class PairHealth:
    """Ties between queries and gallery at one length.

    Attributes
    ----------
    bits : int
        Code length.
    tied_first, tied_tenth : float
        Mean number of items at the distance of the first, and of the tenth, place of a ranking.
    """

    bits: int
    tied_first: float
    tied_tenth: float


def tie_health(query_codes: NDArray[np.uint8], gallery_codes: NDArray[np.uint8]) -> list[PairHealth]:
    """Measure how many items are tied at the first and tenth places, at each code length.

    Parameters
    ----------
    query_codes, gallery_codes : ndarray, uint8, shape (n, w)
    """
    everything = SameItem(np.zeros(len(query_codes), np.int64), np.zeros(len(gallery_codes), np.int64))
    tied = {length: np.zeros(2) for length in CODE_LENGTHS}
    places = np.array([1, min(10, len(gallery_codes))])
    for _, _, length, _, counts in code_groups(query_codes, gallery_codes, everything, CODE_LENGTHS):
        sizes = counts.sum(axis=2)
        ends = sizes.cumsum(axis=1)
        holds = (ends[:, None, :] >= places[:, None]).argmax(axis=2)  # the distance of each place
        tied[length] += np.take_along_axis(sizes, holds, axis=1).sum(axis=0)
    out = []
    for length in CODE_LENGTHS:
        first, tenth = (tied[length] / len(query_codes)).tolist()
        out.append(PairHealth(length, first, tenth))
    return out


def agreement(
    image_codes: NDArray[np.uint8],
    text_codes: NDArray[np.uint8],
    pairs: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how often each bit of a picture equals that of its own text, and that of other texts.

    Parameters
    ----------
    image_codes, text_codes : ndarray, uint8, shape (n, w) and (m, w)
    pairs : ndarray, int64, shape (n,)
        The row of each picture's own text; -1 for a picture without one, which is left out.

    Returns
    -------
    own, others : ndarray, float64, shape (bits,)
        0 to 1. ``others`` is over all texts but the picture's own, in closed form; for a discriminative code
        it is near one half. NaN if no picture has a text.
    """
    paired = pairs >= 0
    images = np.unpackbits(image_codes[paired], axis=1).astype(np.float64)
    texts = np.unpackbits(text_codes, axis=1).astype(np.float64)
    if not len(images) or len(texts) < 2:
        undefined = np.full(8 * image_codes.shape[1], np.nan)
        return undefined, undefined
    own = (images == texts[pairs[paired]]).mean(axis=0)
    ones = texts.mean(axis=0)
    all_texts = (images * ones + (1 - images) * (1 - ones)).mean(axis=0)
    return own, (all_texts * len(texts) - own) / (len(texts) - 1)
