import copy
import pickle

import pytest

from adapters.vlm_quantization.data.collection import CaptionedImages, Item, picture_digest


def test_languages_come_in_order_of_how_many_items_have_them():
    items = [
        Item("a", "a", {"ko": ("개",)}, b""),
        Item("b", "b", {"ko": ("새",), "en": ("bird",)}, b""),
        Item("c", "c", {"ko": ("꽃",), "de": ("Blume",), "en": ("flower",)}, b""),
    ]
    assert CaptionedImages("three", items).languages == ("ko", "en", "de")


def test_the_caption_falls_back_to_a_language_there_is():
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
def test_the_fingerprint_changes_with_anything(change):
    given = {"id": "a", "concept": "a", "captions": {"en": ("dog",)}, "image": b"", "digest": "1" * 64}
    before = CaptionedImages("one", [Item(**given)])
    after = CaptionedImages("one", [Item(**(given | change))])
    assert before.fingerprint != after.fingerprint
    assert CaptionedImages("renamed", [Item(**given)]).fingerprint == before.fingerprint


def test_the_fingerprint_does_not_depend_on_the_order_of_languages():
    texts = [("en", ("dog",)), ("ko", ("개",))]
    prints = {CaptionedImages("x", [Item("a", "a", dict(t), b"")]).fingerprint for t in (texts, texts[::-1])}
    assert len(prints) == 1


def test_a_picture_digest_tells_size_and_pixels_apart():
    from PIL import Image

    pictures = [Image.new("RGB", size, colour) for size in ((2, 8), (4, 4)) for colour in ("red", "blue")]
    assert len({picture_digest(picture) for picture in pictures}) == 4
    assert picture_digest(pictures[0]) == picture_digest(pictures[0].convert("RGBA"))


def test_a_collection_travels_to_other_processes(emoji):
    small = CaptionedImages("some", emoji.items[:3], credits=emoji.credits)
    travelled = pickle.loads(pickle.dumps(small))  # noqa: S301 - our own bytes
    assert travelled.fingerprint == copy.copy(small).fingerprint == small.fingerprint
    assert travelled.open(2).tobytes() == small.open(2).tobytes()


def test_a_collection_says_what_it_is(emoji):
    assert repr(emoji) == "<CaptionedImages 'emoji': 3828 pictures, en/ko>"
    assert len(repr(emoji.items[0])) < 600
