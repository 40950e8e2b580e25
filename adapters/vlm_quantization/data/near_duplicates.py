"""Pictures that look the same although their pixels differ: saved again, resized or slightly retouched.

Each picture gets a code of 64 bits (pHash: signs of the lowest frequencies of a small grey copy), and two
pictures are near where their codes differ in few bits. Equal pixels are found by digests, not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image


#: Codes of near duplicates differ in at most this many of their 64 bits, unless the caller says else.
NEAR = 4


#: Largest distance that can be asked for: beyond it, codes say little, and the search is slow.
MOST_DISTANCE = 15


#: Maximum number of pairs that are returned, unless the caller says else.
MOST_PAIRS = 10_000


#: Side of the grey copy, in pixels.
_SIDE = 32


#: Number of keys that a code is cut into, and bits of each.
_KEYS, _KEY_BITS = 4, 16


#: Number of candidate pairs that are compared at a time; bounds the memory.
_AT_A_TIME = 2_000_000


def perceptual_codes(pictures: Iterable[Image]) -> NDArray[np.uint64]:
    """Return a code of each picture's look.

    The sign of each of the 64 lowest frequencies (DCT, without the mean) relative to their median, of the
    grey picture shrunk to 32 × 32. A picture of one colour has code 0.

    Parameters
    ----------
    pictures : iterable of PIL.Image.Image
        Decoded one after another: only a small copy of each is kept.

    Returns
    -------
    ndarray of uint64, shape (n,)
        Compare them by :func:`near_pairs`.
    """
    codes = [_code(picture) for picture in pictures]
    return np.array(codes, dtype=np.uint64)


def near_pairs(
    codes: NDArray[np.uint64],
    others: NDArray[np.uint64] | None = None,
    max_distance: int = NEAR,
    *,
    most: int = MOST_PAIRS,
) -> list[tuple[int, int]]:
    """Return the pairs of near codes, nearest first.

    Each code is cut into four keys. Two codes within ``max_distance`` have a key in which they differ in at
    most a quarter of it, so only codes with such keys are compared: time grows with the number of codes and
    of their near pairs, not with its square.

    Parameters
    ----------
    codes : ndarray of uint64, shape (n,)
        Rows of the first place of a pair.
    others : ndarray of uint64, shape (m,), optional
        Rows of the second place. Default: ``codes`` itself, each pair once with the smaller row first.
    max_distance : int
        Number of differing bits, 0 to :data:`MOST_DISTANCE`.
    most : int
        Maximum number of pairs, at least 1; the nearest are kept.

    Returns
    -------
    list of (int, int)
        Sorted by distance.

    Raises
    ------
    ValueError
        ``max_distance`` or ``most`` is out of range.
    """
    if not 0 <= max_distance <= MOST_DISTANCE:
        raise ValueError(f"max_distance must be from 0 to {MOST_DISTANCE}, got {max_distance}")
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    within = others is None
    # Equal codes are compared once: ten thousand blank pictures would be fifty million pairs.
    first, rows_of = _by_code(codes)
    second, other_rows_of = (first, rows_of) if others is None else _by_code(others)
    out: list[tuple[int, int]] = []
    for one, other in _near_codes(first, second, max_distance, within=within):
        for row in rows_of[one].tolist():
            partners = other_rows_of[other]
            if within and one == other:
                partners = partners[partners > row]
            out.extend(
                (min(row, partner), max(row, partner)) if within else (row, partner)
                for partner in partners[: most - len(out)].tolist()
            )
            if len(out) >= most:
                return out
    return out


def _code(picture: Image) -> int:
    from PIL import Image as Pictures

    grey = picture.convert("L").resize((_SIDE, _SIDE), Pictures.Resampling.BOX)
    frequencies = _DCT @ np.asarray(grey, dtype=np.float64) @ _DCT.T
    lowest = np.round(frequencies[_LOWEST], 6)  # the frequencies of one colour are zero but for rounding
    return int.from_bytes(np.packbits(lowest > np.median(lowest)).tobytes())


def _cosines() -> NDArray[np.float64]:
    """Return the matrix of the DCT-II, shape (16, 32): the frequencies that are needed."""
    frequency, place = np.arange(16)[:, None], np.arange(_SIDE)[None, :]
    matrix: NDArray[np.float64] = np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIDE))
    return matrix


_DCT = _cosines()


def _order() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the 64 lowest frequencies after the mean, diagonal by diagonal."""
    places = sorted(((u, v) for u in range(16) for v in range(16)), key=lambda place: (sum(place), place))
    lowest = np.array(places[1:65], dtype=np.int64)
    return lowest[:, 0], lowest[:, 1]


_LOWEST = _order()


def _by_code(codes: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], list[NDArray[np.int64]]]:
    """Return the distinct codes, sorted, and the rows of each."""
    codes = np.asarray(codes, dtype=np.uint64)
    order = np.argsort(codes, kind="stable")
    distinct, starts = np.unique(codes[order], return_index=True)
    return distinct, np.split(order, starts[1:]) if len(distinct) else []


def _near_codes(
    first: NDArray[np.uint64], second: NDArray[np.uint64], max_distance: int, *, within: bool
) -> list[tuple[int, int]]:
    """Return pairs of places in two arrays of distinct codes, nearest first."""
    found: list[NDArray[np.int64]] = []
    flips = [
        sum(1 << bit for bit in bits)
        for count in range(max_distance // _KEYS + 1)
        for bits in combinations(range(_KEY_BITS), count)
    ]
    for key in range(_KEYS):
        keys, other_keys = _key(first, key), _key(second, key)
        order = np.argsort(other_keys, kind="stable")
        starts = np.searchsorted(other_keys[order], np.arange((1 << _KEY_BITS) + 1))
        for flip in flips:
            low, high = starts[keys ^ flip], starts[(keys ^ flip) + 1]
            found.extend(_compared(first, second, order, low, high - low, max_distance, within=within))
    if not found:
        return []
    pairs = np.unique(np.concatenate(found), axis=0)
    distance = np.bitwise_count(first[pairs[:, 0]] ^ second[pairs[:, 1]])
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0], distance))]
    return [(one, other) for one, other in pairs.tolist()]


def _key(codes: NDArray[np.uint64], key: int) -> NDArray[np.int64]:
    return ((codes >> np.uint64(_KEY_BITS * key)) & np.uint64((1 << _KEY_BITS) - 1)).astype(np.int64)


def _compared(
    first: NDArray[np.uint64],
    second: NDArray[np.uint64],
    order: NDArray[np.int64],
    low: NDArray[np.int64],
    counts: NDArray[np.int64],
    max_distance: int,
    *,
    within: bool,
) -> list[NDArray[np.int64]]:
    """Compare each code of ``first`` with ``counts`` codes of ``second``, from ``low`` in their order."""
    out = []
    ends = np.cumsum(counts)
    start = 0
    while start < len(first):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + _AT_A_TIME, "right")), start + 1)
        part = counts[start:stop]
        rows = np.repeat(np.arange(start, stop), part)
        offsets = np.arange(len(rows)) - np.repeat(np.cumsum(part) - part, part)
        others = order[np.repeat(low[start:stop], part) + offsets]
        near = np.bitwise_count(first[rows] ^ second[others]) <= max_distance
        if within:
            near &= rows <= others  # each pair once
        if near.any():
            out.append(np.stack([rows[near], others[near]], axis=1))
        start = stop
    return out
