"""Pictures and texts whose features are known are neither decoded nor encoded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from adapters.vlm_quantization.data.collection import CaptionedImages, Item
from adapters.vlm_quantization.encoding.known_pictures import (
    KnownCollection,
    KnownPicture,
    KnownPictures,
    KnownTexts,
    with_known_texts,
)
from adapters.vlm_quantization.towers.feature_cache import FeatureCache, key_of
from adapters.vlm_quantization.towers.features import remembered_texts
from tests.adapters.vlm_quantization import shapes


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
    encoder = Encoder()
    features = np.arange(9, dtype=np.float32).reshape(3, 3)
    known = [KnownPicture(row, b"") for row in features]
    wrapped = KnownPictures(encoder)
    found = wrapped.encode_images([known[2], Image.new("RGB", (4, 4), "white"), known[0]])
    assert found.tolist() == [[6, 7, 8], [255, 255, 255], [0, 1, 2]]
    assert wrapped.encode_images(known).tolist() == features.tolist()
    assert encoder.seen == 1
    assert wrapped.encode_texts(["a"]) == ["A"]
    assert (wrapped.name, wrapped.dim, wrapped.fingerprint) == ("mean colour", 3, "f")


def test_a_picture_is_known_if_both_its_features_and_its_thumbnail_are(tmp_path: Path) -> None:
    collection = shapes.collection()
    cache = FeatureCache(tmp_path)
    features, thumbnails = cache.shelf("pictures", {}), cache.shelf("thumbnails", {})
    keys = [key_of(item.digest) for item in collection.items[:3]]
    row = np.array([1, 2, 3], np.float32).tobytes()
    features.put([(keys[0], row), (keys[1], row), (keys[2], row[:-4])])
    thumbnails.put([(keys[0], b"small"), (keys[2], b"small")])
    known = KnownCollection(collection, features, thumbnails, 3)
    first = known.open(0)
    assert isinstance(first, KnownPicture)
    assert first.features.tolist() == [1, 2, 3]
    assert first.encoded_thumbnail == b"small"
    assert isinstance(known.open(1), Image.Image)
    assert isinstance(known.open(2), Image.Image)  # its features have another width
    assert (known.items, known.name) == (collection.items, collection.name)


class Letters:
    """A text network: its feature of a text is the text's length; it remembers what it was asked."""

    name, dim, fingerprint, languages = "letters", 1, "letters", ("en",)

    def __init__(self) -> None:
        self.asked: list[str] = []

    def features(self, texts):
        self.asked += texts
        return np.array([[len(text)] for text in texts], np.float32)


class Reader(Encoder):
    """An encoder with a text network, which it opens when it is first needed."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    @property
    def text_tower(self):
        self.opened += 1
        return LETTERS

    def encode_texts(self, texts, tower=None):
        return (tower or self.text_tower).features(texts)[:, 0].tolist()


LETTERS = Letters()


def item(name: str, caption: str) -> Item:
    return Item(id=name, concept=name, captions={"en": (caption,)}, image=b"", digest=name)


def test_texts_that_a_training_has_asked_for_do_not_reach_the_network(tmp_path: Path) -> None:
    collection = CaptionedImages("two", [item("a", "a dog"), item("b", "Two Cats")])
    LETTERS.asked.clear()
    encode = with_known_texts(reader := Reader(), collection, tmp_path)
    assert reader.opened == 0
    assert encode(["a dog"]) == [5.0]
    assert LETTERS.asked == ["a dog"]  # nothing is cached

    remembered_texts(collection, LETTERS, tmp_path)
    LETTERS.asked.clear()
    encode = with_known_texts(reader, collection, tmp_path)
    assert encode(["a dog", "Two Cats", "two cats", "cats"]) == [5.0, 8.0, 8.0, 4.0]
    assert LETTERS.asked == []
    assert encode(["a cow", "a dog"]) == [5.0, 5.0]
    assert LETTERS.asked == ["a cow"]


def test_texts_of_an_index_are_encoded_once_however_many_there_are(tmp_path: Path) -> None:
    LETTERS.asked.clear()
    first = KnownTexts(reader := Reader(), tmp_path)
    first.keep()  # nothing yet
    assert reader.opened == 0
    assert first(["a dog", "cats"]) == [5.0, 4.0]
    assert first(["a cow", "cats"]) == [5.0, 4.0]
    first.keep()
    LETTERS.asked.clear()
    again = KnownTexts(reader, tmp_path)
    assert again(["a cow", "a dog", "cats", "new"]) == [5.0, 5.0, 4.0, 3.0]
    assert LETTERS.asked == ["new"]
