"""Features of the frozen networks: computed once, and kept in the workspace by what is in each item.

Training, evaluation and indexing share them. A record is found by the tower (its weights, its preprocessing
and the software that runs it) and by the content of the item (a picture's pixels, or a text), so another
picture, model or processor never gets it, and a grown collection encodes only what is new.
"""

from __future__ import annotations

import importlib.metadata
import re
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.data.pictures import AT_ONCE, opened_ahead
from adapters.vlm_quantization.towers.batch_size import BatchSize
from adapters.vlm_quantization.towers.encoding_pass import GROUP, EncodingPass
from adapters.vlm_quantization.towers.estimates import Estimate
from adapters.vlm_quantization.towers.feature_cache import SHARD_RECORDS, FeatureCache, Shelf, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages, OnProgress
    from adapters.vlm_quantization.towers.tower import ImageTower, TextTower


#: Items per batch of a tower that has no batches of its own: pictures, and texts.
CHUNK, TEXTS_CHUNK = 128, 2048


#: Threads that prepare batches of pictures; tokenizers are not made for several.
PREPARERS = max(1, AT_ONCE // 2)


#: Software whose version belongs to a tower's identity, by how its fingerprint begins. Pillow scales pictures
#: for all of them.
_SOFTWARE = {
    "transformers": ("transformers",),
    "openclip": ("open_clip_torch",),
    "openvino": ("openvino", "transformers", "open_clip_torch"),
}


@dataclass(frozen=True)
class Encoding:
    """How features are computed.

    Attributes
    ----------
    batch_size : int
        Items per forward pass; 0: found while encoding. The vectors are the same to 1e-6 whatever it is, and
        the same to the last bit only for the same number.
    progress : callable or None
        ``progress(done, total, message)``.
    say : callable or None
        Takes each sentence on what is needed and what was found: a job prints them.
    """

    batch_size: int = 0
    progress: OnProgress | None = None
    say: Callable[[str], None] | None = None

    def size_for(self, tower: Any, chunk: int) -> BatchSize:
        """Return the batch size of a tower."""
        start = getattr(tower, "batch", 0)
        device = str(getattr(tower, "device", "cpu"))
        if not self.batch_size and (
            not start or (device == "cpu" and getattr(tower, "batch_is_best", False))
        ):
            return BatchSize(start or chunk)
        return BatchSize(self.batch_size, start=start, device=device)


def picture_features(
    collection: CaptionedImages,
    tower: ImageTower,
    cache: Path,
    progress: OnProgress | None = None,
    how: Encoding | None = None,
) -> NDArray[np.float32]:
    """Return the features of every picture of a collection; those computed before come from the cache.

    A pass that is killed goes on where it was.

    Parameters
    ----------
    collection : CaptionedImages
    tower : ImageTower
    cache : Path
        Cache folder.
    progress : callable, optional
        ``progress(done, total, message)``, if ``how`` has none.
    how : Encoding, optional

    Returns
    -------
    ndarray, float32, shape (n, tower.dim)

    Raises
    ------
    BadInput
        A picture was removed or damaged after the collection was opened, or the tower gives vectors that are
        not finite.
    """
    how = how or Encoding(progress=progress)
    shelf = picture_shelf(FeatureCache(cache), tower)
    keys = [key_of(collection.digest(row)) for row in range(len(collection))]

    def opened(rows: Sequence[int]) -> Iterable[Any]:
        with closing(opened_ahead(collection.open, rows)) as pictures:
            for picture in pictures:
                if isinstance(picture, Exception):  # it could be read when the collection was opened
                    raise picture
                yield picture

    return _features(keys, opened, tower, shelf, how, "picture", CHUNK)


def text_features(
    texts: Sequence[str],
    tower: TextTower,
    cache: Path,
    progress: OnProgress | None = None,
    how: Encoding | None = None,
) -> NDArray[np.float32]:
    """Return the features of texts; those computed before come from the cache.

    Parameters
    ----------
    texts : sequence of str
    tower : TextTower
    cache : Path
        Cache folder.
    progress : callable, optional
        ``progress(done, total, message)``, if ``how`` has none.
    how : Encoding, optional

    Returns
    -------
    ndarray, float32, shape (n, tower.dim)
    """
    how = how or Encoding(progress=progress)
    shelf = _shelf(FeatureCache(cache), "texts", tower)
    keys = [key_of(text) for text in texts]
    return _features(keys, lambda rows: (texts[row] for row in rows), tower, shelf, how, "text", TEXTS_CHUNK)


def picture_shelf(cache: FeatureCache, tower: ImageTower) -> Shelf:
    """Return the shelf of a tower's picture features: float32, ``tower.dim`` numbers per picture."""
    return _shelf(cache, "pictures", tower)


def _shelf(cache: FeatureCache, what: str, tower: ImageTower | TextTower) -> Shelf:
    names = ("Pillow", *_SOFTWARE.get(tower.fingerprint.partition("/")[0], ()))
    software = {}
    for name in names:
        try:
            software[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    about = {"tower": tower.fingerprint, "name": tower.name, "dim": tower.dim, "software": software}
    return cache.shelf(what, about)


def features_of_record(record: bytes, dim: int) -> NDArray[np.float32] | None:
    """Return the features of a cached record, float32, shape (dim,); None if it is none."""
    features = np.frombuffer(record, np.float32) if len(record) == 4 * dim else np.empty(0, np.float32)
    return features if len(features) and bool(np.isfinite(features).all()) else None


def _read(shelf: Shelf, keys: Sequence[bytes], out: NDArray[np.float32]) -> list[int]:
    """Fill the rows whose features are known, and return the others; equal items count as one."""
    missing: list[int] = []
    for start in range(0, len(keys), _READ):
        part = keys[start : start + _READ]
        records = shelf.get(part)
        for row, key in enumerate(part, start):
            features = features_of_record(records.get(key, b""), out.shape[1])
            if features is None:
                missing.append(row)
            else:
                out[row] = features
    return missing


#: Records read at a time.
_READ = 4096


def _features(
    keys: Sequence[bytes],
    items: Callable[[Sequence[int]], Iterable[Any]],
    tower: Any,
    shelf: Shelf,
    how: Encoding,
    what: str,
    chunk: int,
) -> NDArray[np.float32]:
    """Return the features of items by key: known ones are read, and each other one is computed once."""
    out = np.empty((len(keys), tower.dim), np.float32)
    rows: dict[bytes, list[int]] = {}
    for row in _read(shelf, keys, out):
        rows.setdefault(keys[row], []).append(row)
    known = len(keys) - sum(map(len, rows.values()))
    first = [same[0] for same in rows.values()]
    size = how.size_for(tower, chunk)
    estimate = Estimate(what, len(keys), known, tower, shelf, how.say)
    if not first:
        return out
    done = known

    def encoded(part: Sequence[bytes], features: NDArray[np.float32]) -> None:
        nonlocal done
        for key, vector in zip(part, features, strict=True):
            out[rows[key]] = vector
            done += len(rows[key])
        estimate.measured(done - known)
        if how.progress:
            how.progress(done, len(keys), f"{what} features, {size.now} at a time")

    threads, group = (PREPARERS, GROUP) if what == "picture" else (1, 0)
    with EncodingPass(tower, shelf, size, encoded, threads=threads, group=group) as encoding:
        for row, item in zip(first, items(first), strict=True):
            encoding.add(keys[row], item)
    estimate.finished(encoding)
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


class ShelvedTexts:
    """A text tower that finds features in the feature cache, and keeps those that it has to compute.

    Nothing is read before it is asked for, so that the texts need not fit in memory.

    Parameters
    ----------
    tower : TextTower
    cache : Path
        Cache folder.
    """

    def __init__(self, tower: TextTower, cache: Path) -> None:
        self.name, self.dim, self.fingerprint = tower.name, tower.dim, tower.fingerprint
        self.languages = tower.languages
        self._tower = tower
        self._shelf = _shelf(FeatureCache(cache), "texts", tower)
        self._new: list[tuple[bytes, bytes]] = []

    def features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row per text, float32, shape (n, dim)."""
        out = np.empty((len(texts), self.dim), np.float32)
        keys = [key_of(text) for text in texts]
        if missing := _read(self._shelf, keys, out):
            out[missing] = self._tower.features([texts[row] for row in missing])
            self._new += [(keys[row], out[row].tobytes()) for row in missing]
            if len(self._new) >= SHARD_RECORDS:
                self.keep()
        return out

    def keep(self) -> None:
        """Write the features that were computed since the last time."""
        new, self._new = self._new, []
        self._shelf.put(new)


def remembered_texts(
    collection: CaptionedImages,
    tower: TextTower,
    cache: Path,
    progress: OnProgress | None = None,
    how: Encoding | None = None,
) -> RememberedTexts:
    """Return a tower that remembers every text of a collection that a training or an evaluation asks for."""
    texts = collection_texts(collection)
    return RememberedTexts(tower, texts, text_features(texts, tower, cache, progress, how))


def known_texts(collection: CaptionedImages, tower: TextTower, cache: Path) -> RememberedTexts | None:
    """Return a tower that remembers every text of a collection, or None if no training has cached them."""
    texts = collection_texts(collection)
    out = np.empty((len(texts), tower.dim), np.float32)
    missing = _read(_shelf(FeatureCache(cache), "texts", tower), [key_of(text) for text in texts], out)
    return None if missing else RememberedTexts(tower, texts, out)


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
