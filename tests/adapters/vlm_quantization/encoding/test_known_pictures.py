"""Pictures whose features are known are not looked at again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from PIL import Image

from adapters.vlm_quantization.data.collection import picture_digest
from adapters.vlm_quantization.encoding.known_pictures import KnownPictures


class Encoder:
    """Its features of a picture are its mean colour; it counts the pictures it has seen."""

    name, dim, fingerprint = "mean colour", 3, "f"
    bits, languages = (8,), ("en",)

    def __init__(self) -> None:
        self.seen = 0
        self.tower = self

    def features(self, images):
        self.seen += len(images)
        return np.array([np.asarray(image).mean(axis=(0, 1)) for image in images], np.float32)

    def encode_texts(self, texts):
        return [text.upper() for text in texts]

    def encode_features(self, features):
        return features.copy()


def test_only_new_pictures_reach_the_network() -> None:
    pictures = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue", "white")]
    known = SimpleNamespace(items=[SimpleNamespace(digest=picture_digest(one)) for one in pictures[:3]])
    encoder = Encoder()
    features = np.arange(9, dtype=np.float32).reshape(3, 3)
    wrapped = KnownPictures(encoder, known, features)
    found = wrapped.encode_images([pictures[2], pictures[3], pictures[0]])
    assert found.tolist() == [[6, 7, 8], [255, 255, 255], [0, 1, 2]]
    assert encoder.seen == 1
    assert features.tolist() == np.arange(9).reshape(3, 3).tolist()  # what is known stays as it was
    assert wrapped.encode_texts(["a"]) == ["A"]
    assert (wrapped.name, wrapped.dim, wrapped.fingerprint) == ("mean colour", 3, "f")
