import copy
import pickle

import pytest

from adapters.vlm_quantization.data.collection import CaptionedImages, Item, picture_digest


def test_languages_are_ordered_by_the_number_of_items():
    items = [
        Item("a", "a", {"ko": ("개",)}, b""),
        Item("b", "b", {"ko": ("새",), "en": ("bird",)}, b""),
        Item("c", "c", {"ko": ("꽃",), "de": ("Blume",), "en": ("flower",)}, b""),
    ]
    assert CaptionedImages("three", items).languages == ("ko", "en", "de")


def test_the_caption_falls_back_to_an_available_language():
    item = Item("a", "a", {"ko": ("개", "멍멍이")}, b"")
    assert (item.caption("ko"), item.caption("en"), item.caption()) == ("개", "개", "개")


@pytest.mark.parametrize(
    "change",
    [
        {"id": "other"},
        {"concept": "other"},
        {"captions": {"en": ("cat",)}},
        {"captions": {"en": ("dog", "dog")}},
        {"keywords": {"en": ("pet",)}},
        {"labels": ("animal",)},
        {"style": "line"},
        {"group": "animals"},
        {"base": "hound"},
        {"flag": True},
        {"digest": "0" * 64},
    ],
)
def test_the_fingerprint_changes_with_every_field(change):
    fields = {"id": "a", "concept": "a", "captions": {"en": ("dog",)}, "image": b"", "digest": "1" * 64}
    before = CaptionedImages("one", [Item(**fields)])
    after = CaptionedImages("one", [Item(**(fields | change))])
    assert before.fingerprint != after.fingerprint
    assert CaptionedImages("renamed", [Item(**fields)]).fingerprint == before.fingerprint


def test_the_fingerprint_does_not_depend_on_the_order_of_languages():
    texts = [("en", ("dog",)), ("ko", ("개",))]
    prints = {CaptionedImages("x", [Item("a", "a", dict(t), b"")]).fingerprint for t in (texts, texts[::-1])}
    assert len(prints) == 1


def test_a_picture_digest_depends_on_size_and_pixels():
    from PIL import Image

    pictures = [Image.new("RGB", size, colour) for size in ((2, 8), (4, 4)) for colour in ("red", "blue")]
    assert len({picture_digest(picture) for picture in pictures}) == 4
    assert picture_digest(pictures[0]) == picture_digest(pictures[0].convert("RGBA"))


def test_a_collection_can_be_pickled(emoji):
    small = CaptionedImages("some", emoji.items[:3], credits=emoji.credits)
    unpickled = pickle.loads(pickle.dumps(small))  # noqa: S301 - our own bytes
    assert unpickled.fingerprint == copy.copy(small).fingerprint == small.fingerprint
    assert unpickled.open(2).tobytes() == small.open(2).tobytes()


def test_the_repr_of_a_collection_describes_it(emoji):
    assert repr(emoji) == "<CaptionedImages 'emoji': 3828 pictures, en/ko>"
    assert len(repr(emoji.items[0])) < 600
