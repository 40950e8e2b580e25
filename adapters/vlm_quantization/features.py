"""Features of the frozen picture network, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from adapters.vlm_quantization.backbones import ImageTower
    from adapters.vlm_quantization.data import CaptionedImages, Progress

#: Pictures decoded and encoded between two words about progress; bounds what is decoded at once.
CHUNK = 128


def picture_features(
    collection: CaptionedImages, tower: ImageTower, cache: Path, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Return the features of every picture of a collection, from disk where they have been computed before.

    The file's name is a digest of the pictures' pixels and the tower's fingerprint, so it can never be taken
    for another's; it is written beside and renamed, so it is whole or not there.

    Parameters
    ----------
    collection : CaptionedImages
    tower : ImageTower
    cache : Path
        Folder for files that can be made again.
    progress : callable, optional
        ``progress(done, total, message)``.

    Returns
    -------
    ndarray, float32, shape (n, tower.dim)
    """
    digest = hashlib.sha256(tower.fingerprint.encode())
    for item in collection.items:
        digest.update(item.digest.encode())
    path = cache / "features" / f"{digest.hexdigest()[:32]}.npy"
    shape = (len(collection), tower.dim)
    try:
        kept = np.load(path, allow_pickle=False)
        if kept.shape == shape and kept.dtype == np.float32 and np.isfinite(kept).all():
            return kept
    except (OSError, ValueError):
        pass  # not there, or not whole: compute it again
    out = np.empty(shape, np.float32)
    for start in range(0, len(out), CHUNK):
        rows = range(start, min(start + CHUNK, len(out)))
        out[rows.start : rows.stop] = tower.features([collection.open(row) for row in rows])
        if progress:
            progress(rows.stop, len(out), "picture features")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        np.save(file, out)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    return out
