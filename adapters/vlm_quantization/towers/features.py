"""Features of the frozen networks, computed once and cached on disk."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.data.collection import CaptionedImages
from adapters.vlm_quantization.data.pictures import opened_ahead

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import OnProgress
    from adapters.vlm_quantization.towers.tower import ImageTower, TextTower


#: Pictures decoded and encoded between two progress reports; bounds the decoded pictures in memory.
CHUNK = 128


#: Texts encoded between two progress reports.
TEXTS_CHUNK = 2048


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
    _keep(path, out)
    return out


def kept_features(collection: CaptionedImages, tower: ImageTower, cache: Path) -> NDArray[np.float32] | None:
    """Return the cached features, or None if they are missing or damaged."""
    return _kept(_path(collection, tower, cache), (len(collection), tower.dim))


def text_features(
    texts: Sequence[str], tower: TextTower, cache: Path, progress: OnProgress | None = None
) -> NDArray[np.float32]:
    """Return the features of texts, from the cache if they were computed before.

    The file name is a digest of the texts and the tower's fingerprint, as for pictures.

    Parameters
    ----------
    texts : sequence of str
    tower : TextTower
    cache : Path
        Cache folder.
    progress : callable, optional
        ``progress(done, total, message)``.

    Returns
    -------
    ndarray, float32, shape (n, tower.dim)
    """
    path = _texts_path(texts, tower, cache)
    kept = _kept(path, (len(texts), tower.dim))
    if kept is not None:
        return kept
    out = np.empty((len(texts), tower.dim), np.float32)
    for start in range(0, len(texts), TEXTS_CHUNK):
        part = texts[start : start + TEXTS_CHUNK]
        out[start : start + len(part)] = tower.features(part)
        if progress:
            progress(start + len(part), len(texts), "text features")
    _keep(path, out)
    return out


class RememberedTexts:
    """A text tower that knows the features of some texts already, and computes those of others.

    Parameters
    ----------
    tower : TextTower
    texts : sequence of str
    features : ndarray, float32, shape (len(texts), tower.dim)
    """

    def __init__(self, tower: TextTower, texts: Sequence[str], features: NDArray[np.float32]) -> None:
        self.name, self.dim, self.fingerprint = tower.name, tower.dim, tower.fingerprint
        self.languages = tower.languages
        self._tower = tower
        self._features = features
        self._rows = {text: row for row, text in enumerate(texts)}

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text, float32, shape (n, dim)."""
        rows = [self._rows.get(text) for text in texts]
        new = [place for place, row in enumerate(rows) if row is None]
        if len(new) == len(rows):
            return self._tower.features(texts)
        out: NDArray[np.float32] = self._features[[row or 0 for row in rows]]
        if new:
            out[new] = self._tower.features([texts[place] for place in new])
        return out


def remembered_texts(
    collection: CaptionedImages, tower: TextTower, cache: Path, progress: OnProgress | None = None
) -> RememberedTexts:
    """Return a tower that remembers every text of a collection that a training or an evaluation asks for."""
    texts = collection_texts(collection)
    return RememberedTexts(tower, texts, text_features(texts, tower, cache, progress))


def known_texts(collection: CaptionedImages, tower: TextTower, cache: Path) -> RememberedTexts | None:
    """Return a tower that remembers every text of a collection, or None if no training has cached them."""
    texts = collection_texts(collection)
    kept = _kept(_texts_path(texts, tower, cache), (len(texts), tower.dim))
    return None if kept is None else RememberedTexts(tower, texts, kept)


def collection_texts(collection: CaptionedImages) -> list[str]:
    """Return the distinct captions, keywords and words of a collection, sorted.

    Captions are there as they are, as an evaluation asks for them, and case-folded, as a training does.
    """
    whole: set[str] = set()
    for item in collection.items:
        for texts in (*item.captions.values(), *item.keywords.values()):
            whole.update(texts)
    folded = {text.casefold() for text in whole}
    return sorted(whole | folded | {word for text in folded for word in words_in(text)})


def words_in(text: str) -> list[str]:
    """Return the words of a text, case-folded, with repeats: as a training takes them apart."""
    return _WORD.findall(text.casefold())


_WORD = re.compile(r"[^\W_]+", re.UNICODE)


def _keep(path: Path, features: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.save(file, features)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _kept(path: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    try:
        kept: NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (EOFError, OSError, ValueError):
        return None
    fits = kept.shape == shape and kept.dtype == np.float32
    return kept if fits and bool(np.isfinite(kept).all()) else None


def _texts_path(texts: Sequence[str], tower: TextTower, cache: Path) -> Path:
    digest = hashlib.sha256(f"texts {tower.fingerprint}".encode())
    for text in texts:
        digest.update(b"\0" + text.encode("utf-8", "surrogatepass"))
    return cache / "features" / f"{digest.hexdigest()[:32]}.npy"


def _path(collection: CaptionedImages, tower: ImageTower, cache: Path) -> Path:
    digest = hashlib.sha256(tower.fingerprint.encode())
    for item in collection.items:
        digest.update(item.digest.encode())
    return cache / "features" / f"{digest.hexdigest()[:32]}.npy"
