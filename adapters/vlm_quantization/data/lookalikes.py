"""Near duplicates in and between collections: pictures that look the same although their pixels differ.

Candidates are pairs whose perceptual codes are near (:mod:`adapters.vlm_quantization.data.near_duplicates`).
Codes of drawings on white are near too often, so a small copy in colour decides.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.data.near_duplicates import NEAR, near_pairs, perceptual_codes
from adapters.vlm_quantization.data.pictures import opened_ahead

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress


#: The most candidates that are compared in colour.
MOST_CANDIDATES = 200_000


#: Small copies of near duplicates differ by at most this, of 255: on average, and at any place. A picture
#: saved again as JPEG or resized differs by 2 and by 6, one with its edges cut off by 5 and by 26.
NEAR_MEAN, NEAR_MOST = 8, 40


#: Side of the small copies, in pixels.
SIDE = 16


@dataclass(frozen=True)
class Looks:
    """What the pictures of a collection look like.

    Attributes
    ----------
    codes : ndarray, uint64, shape (n,)
        Perceptual codes.
    copies : ndarray, uint8, shape (n, 16, 16, 3)
        Small copies in RGB.
    """

    codes: NDArray[np.uint64]
    copies: NDArray[np.uint8]


def looks_of(
    collection: CaptionedImages, cache: Path | None = None, progress: OnProgress | None = None
) -> Looks:
    """Return the looks of every picture of a collection, from the cache if they were computed before.

    Parameters
    ----------
    collection : CaptionedImages
    cache : Path, optional
        Cache folder; the file's name is a digest of the pictures' pixels.
    progress : callable, optional
        ``progress(done, total, message)``.

    Raises
    ------
    BadInput
        A picture was removed or damaged after the collection was opened.
    """
    n = len(collection)
    path = None if cache is None else _path(collection, cache)
    kept = None if path is None else _kept(path, n)
    if kept is not None:
        return kept
    codes, copies = np.empty(n, np.uint64), np.empty((n, SIDE, SIDE, 3), np.uint8)
    for row, picture in enumerate(opened_ahead(collection.open, range(n))):
        if isinstance(picture, Exception):
            raise picture
        codes[row] = perceptual_codes([picture])[0]
        copies[row] = _copy(picture)
        if progress and row % 64 == 0:
            progress(row, n, "comparing pictures")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, codes=codes, copies=copies)
        temporary.replace(path)
    return Looks(codes, copies)


def lookalikes(
    one: Looks, rows: NDArray[np.int64], other: Looks, other_rows: NDArray[np.int64]
) -> list[tuple[int, int]]:
    """Return the near duplicates between two collections, or between two parts of one.

    Parameters
    ----------
    one, other : Looks
        May be the same.
    rows, other_rows : ndarray of int64
        Items that are compared.

    Returns
    -------
    list of (int, int)
        Rows in the first and in the second collection, most alike first. Equal pictures are among them.
    """
    near = near_pairs(one.codes[rows], other.codes[other_rows], NEAR, most=MOST_CANDIDATES)
    return _confirmed(one, other, [(int(rows[a]), int(other_rows[b])) for a, b in near])


def lookalikes_within(looks: Looks, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the near duplicates among some rows of a collection, each pair once with the smaller first."""
    near = near_pairs(looks.codes[rows], None, NEAR, most=MOST_CANDIDATES)
    return _confirmed(looks, looks, [(int(rows[a]), int(rows[b])) for a, b in near])


def comparable_rows(collection: CaptionedImages) -> NDArray[np.int64]:
    """Return the rows of pictures that are not drawings in a style.

    Drawings of one thing in two styles are meant to be alike, and some things differ in little more than the
    hands of a clock; their concepts tell which of them belong together.
    """
    rows = [row for row, item in enumerate(collection.items) if not item.style]
    return np.array(rows, dtype=np.int64)


def _confirmed(one: Looks, other: Looks, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the pairs whose small copies are alike in colour too."""
    out = []
    for a, b in pairs:
        apart = np.abs(one.copies[a].astype(np.int16) - other.copies[b])
        if apart.mean() <= NEAR_MEAN and apart.max() <= NEAR_MOST:
            out.append((a, b))
    return out


def _copy(picture: Image) -> NDArray[np.uint8]:
    from PIL.Image import Resampling

    return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Resampling.BOX), np.uint8)


def _path(collection: CaptionedImages, cache: Path) -> Path | None:
    """Return the file of a collection's looks; None if a picture has no digest to recognise it by."""
    if not all(item.digest for item in collection.items):
        return None
    digest = hashlib.sha256("".join(item.digest for item in collection.items).encode())
    return cache / "looks" / f"{digest.hexdigest()[:32]}.npz"


def _kept(path: Path, n: int) -> Looks | None:
    """Return the cached looks, or None if they are missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            looks = Looks(file["codes"], file["copies"])
    except Exception:  # a damaged zip raises various types
        return None
    fits = looks.codes.shape == (n,) and looks.copies.shape == (n, SIDE, SIDE, 3)
    fits = fits and looks.codes.dtype == np.uint64 and looks.copies.dtype == np.uint8
    return looks if fits else None
