"""Pictures and texts whose features are known do not reach the networks again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from adapters.vlm_quantization.data.collection import CaptionedImages, Item, picture_digest
from adapters.vlm_quantization.encoding.known_pictures import KnownPictures, with_known_texts
from adapters.vlm_quantization.towers.features import remembered_texts


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
