"""An index's pictures and texts whose features are in the feature cache: they are not encoded again."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.vlm_quantization.towers.feature_cache import key_of
from adapters.vlm_quantization.towers.features import ShelvedTexts, features_of_record, known_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.codes import Encoded
    from adapters.vlm_quantization.data.collection import CaptionedImages, Item
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.encoding.fitted import FittedEncoder
    from adapters.vlm_quantization.towers.feature_cache import Shelf
    from adapters.vlm_quantization.towers.tower import TextTower


@dataclass(frozen=True)
class KnownPicture:
    """What an index needs of a picture, without its pixels.

    Attributes
    ----------
    features : ndarray, float32, shape (d,)
        Its features by the model's picture tower.
    encoded_thumbnail : bytes
        Its thumbnail as the index stores it.
    """

    features: NDArray[np.float32]
    encoded_thumbnail: bytes


class KnownCollection:
    """A collection that opens a picture as a :class:`KnownPicture` if it is one, else decodes it.

    Parameters
    ----------
    collection : CaptionedImages
    features, thumbnails : Shelf
        Of the model's picture tower, and of thumbnails as an index stores them.
    dim : int
        Width of the features.
    """

    def __init__(self, collection: CaptionedImages, features: Shelf, thumbnails: Shelf, dim: int) -> None:
        self.name, self.credits, self.fingerprint = (
            collection.name,
            collection.credits,
            collection.fingerprint,
        )
        self.items: Sequence[Item] = collection.items
        self.languages = collection.languages
        self._collection = collection
        self._features, self._thumbnails, self._dim = features, thumbnails, dim

    def open(self, index: int) -> Any:
        """Return a picture of the collection: a KnownPicture, or its pixels in mode RGB."""
        return self._known(index) or self._collection.open(index)

    def stored(self, index: int) -> Any:
        """Return a picture for another process: a KnownPicture, or where the picture is kept."""
        return self._known(index) or self._collection.stored(index)

    def _known(self, index: int) -> KnownPicture | None:
        key = key_of(self.items[index].digest)
        thumbnail = self._thumbnails.get([key]).get(key)
        if thumbnail is not None:
            features = features_of_record(self._features.get([key]).get(key, b""), self._dim)
            if features is not None:
                return KnownPicture(features, thumbnail)
        return None


class KnownPictures:
    """An encoder that takes known pictures as well as others.

    Parameters
    ----------
    encoder : HashEncoder or FittedEncoder
    encode_texts : callable, optional
        Encodes texts in place of the encoder, see :class:`KnownTexts`.
    """

    def __init__(
        self,
        encoder: HashEncoder | FittedEncoder,
        encode_texts: Callable[[Sequence[str]], Encoded] | None = None,
    ) -> None:
        self.name, self.dim, self.fingerprint = encoder.name, encoder.dim, encoder.fingerprint
        self.bits = encoder.bits
        self.languages = encoder.languages
        self.encode_texts: Callable[[Sequence[str]], Encoded] = encode_texts or encoder.encode_texts
        self._encoder = encoder

    def encode_images(self, images: Sequence[KnownPicture | Image]) -> Encoded:
        """Encode pictures; only those that are not known reach the network."""
        new = [picture for picture in images if not isinstance(picture, KnownPicture)]
        made = iter(self._encoder.tower.features(new) if new else ())
        rows = [picture.features if isinstance(picture, KnownPicture) else next(made) for picture in images]
        return self._encoder.encode_features(np.stack(rows))


class KnownTexts:
    """Encodes texts with features from the feature cache, of any number of texts; new ones are kept there.

    Parameters
    ----------
    encoder : HashEncoder
    cache : Path
        The workspace's cache.
    """

    def __init__(self, encoder: HashEncoder, cache: Path) -> None:
        self._encoder = encoder
        self._cache = cache

    @functools.cached_property
    def _tower(self) -> ShelvedTexts | None:
        own = self._encoder.text_tower
        return None if own is None else ShelvedTexts(own, self._cache)

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Encode texts."""
        return self._encoder.encode_texts(texts, self._tower)

    def keep(self) -> None:
        """Write the features that are new and not written yet."""
        if (tower := self.__dict__.get("_tower")) is not None:
            tower.keep()


def with_known_texts(
    encoder: HashEncoder, collection: CaptionedImages, cache: Path
) -> Callable[[Sequence[str]], Encoded]:
    """Return what encodes texts: those of a collection with the features that a training has cached.

    Without them, and for other texts, it asks the encoder's own text network, which is not loaded before.

    Parameters
    ----------
    encoder : HashEncoder
    collection : CaptionedImages
    cache : Path
        The workspace's cache.
    """

    @functools.cache
    def tower() -> TextTower | None:
        own = encoder.text_tower
        return own and known_texts(collection, own, cache)

    return lambda texts: encoder.encode_texts(texts, tower())
