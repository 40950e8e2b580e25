"""An encoder with precomputed features of a collection's pictures and texts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from adapters.vlm_quantization.data.collection import CaptionedImages, picture_digest
from adapters.vlm_quantization.towers.features import known_texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.Image import Image

    from adapters.vlm_quantization.codes import Encoded
    from adapters.vlm_quantization.encoding.encoder import HashEncoder
    from adapters.vlm_quantization.encoding.fitted import FittedEncoder
    from adapters.vlm_quantization.towers.tower import TextTower


class KnownPictures:
    """An encoder that reuses the known features of a collection's pictures.

    Parameters
    ----------
    encoder : HashEncoder or FittedEncoder
    collection : CaptionedImages
    features : ndarray, float32, shape (n, d)
        Features of the collection's pictures, in its order.
    encode_texts : callable, optional
        Encodes texts in place of the encoder, see :func:`with_known_texts`.
    """

    def __init__(
        self,
        encoder: HashEncoder | FittedEncoder,
        collection: CaptionedImages,
        features: NDArray[np.float32],
        encode_texts: Callable[[Sequence[str]], Encoded] | None = None,
    ) -> None:
        self.name, self.dim, self.fingerprint = encoder.name, encoder.dim, encoder.fingerprint
        self.bits = encoder.bits
        self.languages = encoder.languages
        self.encode_texts: Callable[[Sequence[str]], Encoded] = encode_texts or encoder.encode_texts
        self._encoder = encoder
        self._features = features
        self._rows = {item.digest: row for row, item in enumerate(collection.items)}

    def encode_images(self, images: Sequence[Image]) -> Encoded:
        """Encode RGB pictures; those of the collection are recognised by their pixels."""
        rows = [self._rows.get(picture_digest(image)) for image in images]
        new = [place for place, row in enumerate(rows) if row is None]
        features = self._features[[row or 0 for row in rows]]
        if new:
            features[new] = self._encoder.tower.features([images[place] for place in new])
        return self._encoder.encode_features(features)


def with_known_texts(
    encoder: HashEncoder, collection: CaptionedImages, folder: Path
) -> Callable[[Sequence[str]], Encoded]:
    """Return what encodes texts: those of a collection with the features that a training has cached.

    Without them, and for other texts, it asks the encoder's own text network, which is not loaded before.

    Parameters
    ----------
    encoder : HashEncoder
    collection : CaptionedImages
    folder : Path
        The workspace's cache.
    """

    @cache
    def tower() -> TextTower | None:
        own = encoder.text_tower
        return own and known_texts(collection, own, folder)

    return lambda texts: encoder.encode_texts(texts, tower())
