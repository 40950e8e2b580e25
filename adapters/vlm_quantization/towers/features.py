"""Features of the frozen picture network, computed once and cached on disk."""

from __future__ import annotations

import hashlib
import itertools
import os
from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.pictures import opened_ahead

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import OnProgress
    from adapters.vlm_quantization.towers.tower import ImageTower


#: Pictures decoded and encoded between two progress reports; bounds the decoded pictures in memory.
CHUNK = 128


def picture_features(
    collection: CaptionedImages, tower: ImageTower, cache: Path, progress: OnProgress | None = None
) -> NDArray[np.float32]:
    """Return the features of every picture of a collection, from the cache if they were computed before.

    The file name is a digest of the pictures' pixels and the tower's fingerprint, so features of other
    pictures or towers are never used by mistake. The file is written atomically.

    Parameters
    ----------
    collection : CaptionedImages
    tower : ImageTower
    cache : Path
        Cache folder.
    progress : callable, optional
        ``progress(done, total, message)``.

    Returns
    -------
    ndarray, float32, shape (n, tower.dim)
    """
    kept = kept_features(collection, tower, cache)
    if kept is not None:
        return kept
    path = _path(collection, tower, cache)
    shape = (len(collection), tower.dim)
    out = np.empty(shape, np.float32)
    opened = opened_ahead(collection.open, range(len(out)))
    for start in range(0, len(out), CHUNK):
        rows = range(start, min(start + CHUNK, len(out)))
        pictures = []
        for picture in itertools.islice(opened, len(rows)):
            if isinstance(picture, Exception):  # it could be read when the collection was opened
                raise picture
            pictures.append(picture)
        out[rows.start : rows.stop] = tower.features(pictures)
        if progress:
            progress(rows.stop, len(out), "picture features")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.save(file, out)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return out


def kept_features(collection: CaptionedImages, tower: ImageTower, cache: Path) -> NDArray[np.float32] | None:
    """Return the cached features, or None if they are missing or damaged."""
    try:
        kept: NDArray[np.float32] = np.load(_path(collection, tower, cache), allow_pickle=False)
    except (EOFError, OSError, ValueError):
        return None
    fits = kept.shape == (len(collection), tower.dim) and kept.dtype == np.float32
    return kept if fits and bool(np.isfinite(kept).all()) else None


def _path(collection: CaptionedImages, tower: ImageTower, cache: Path) -> Path:
    digest = hashlib.sha256(tower.fingerprint.encode())
    for item in collection.items:
        digest.update(item.digest.encode())
    return cache / "features" / f"{digest.hexdigest()[:32]}.npy"
