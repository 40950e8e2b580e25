"""Views of pictures and texts: what they change, that they repeat, and what they never do."""

import numpy as np
import pytest
from PIL import Image

from adapters.vlm_quantization.data import augmentation
from adapters.vlm_quantization.data.augmentation import (
    CHANGES,
    STRENGTHS,
    AugmentedImages,
    generator_of,
    view_of,
    with_words_dropped,
)
from tests.adapters.vlm_quantization import shapes


def noise(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def halves() -> Image.Image:
    """A picture whose left half is black."""
    picture = Image.new("RGB", (40, 40), "white")
    picture.paste("black", (0, 0, 20, 40))
    return picture


def is_dark_on_the_left(picture: Image.Image) -> bool:
    grey = np.asarray(picture.convert("L"), np.float64)
    return bool(grey[:, : grey.shape[1] // 3].mean() < grey[:, -grey.shape[1] // 3 :].mean())


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_view_depends_on_seed_item_and_number_alone(strength: augmentation.Strength) -> None:
    def view(seed: int = 0, item: str = "a", number: int = 0) -> tuple[tuple[int, int], bytes]:
        picture = view_of(noise(), strength, seed=seed, item=item, number=number)
        assert picture.mode == "RGB"
        return picture.size, picture.tobytes()

    assert view() == view()
    others = {view(), view(seed=1), view(item="b"), view(number=1)}
    assert len(others) == 4


@pytest.mark.parametrize("strength", STRENGTHS)
def test_views_are_mirrored_only_if_asked_for(strength: augmentation.Strength) -> None:
    def lefts(*, flip: bool) -> set[bool]:
        views = [view_of(halves(), strength, seed=0, item=str(n), number=0, flip=flip) for n in range(40)]
        return {is_dark_on_the_left(view) for view in views}

    assert lefts(flip=False) == {True}
    assert lefts(flip=True) == {True, False}


def test_a_weak_view_keeps_more_of_a_picture_than_a_strong_one() -> None:
    def areas(strength: augmentation.Strength) -> list[float]:
        views = [view_of(noise(), strength, seed=0, item=str(n), number=0) for n in range(40)]
        return [view.width * view.height / (40 * 30) for view in views]

    weak, strong = areas("weak"), areas("strong")
    assert 0.7 < min(weak) <= max(weak) <= 1
    assert 0.4 < min(strong) < min(weak)
    assert np.mean(strong) < np.mean(weak)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (64, 48)])
@pytest.mark.parametrize("name", CHANGES)
def test_every_change_takes_pictures_of_any_size(name: str, size: tuple[int, int]) -> None:
    before = noise(*size)
    kept = before.tobytes()
    after = CHANGES[name].apply(before, generator_of(name))
    assert after.mode == "RGB"
    assert min(after.size) >= 1
    assert before.tobytes() == kept, "the picture itself must not change"
    if size == (64, 48):
        assert (after.size, after.tobytes()) != (before.size, kept)
        again = CHANGES[name].apply(before, generator_of(name))
        assert again.tobytes() == after.tobytes()


@pytest.mark.parametrize(
    ("name", "size"), [("half-size", (20, 15)), ("trim", (38, 30)), ("jpeg", (40, 30)), ("flip", (40, 30))]
)
def test_retouching_has_the_size_that_it_says(name: str, size: tuple[int, int]) -> None:
    assert CHANGES[name].apply(noise(), generator_of(0)).size == size


def test_grey_has_no_colour_and_brighter_is_brighter() -> None:
    grey = np.asarray(CHANGES["grey"].apply(noise(), generator_of(0)))
    assert (grey[..., 0] == grey[..., 2]).all()
    assert (
        np.asarray(CHANGES["brightness"].apply(noise(), generator_of(0))).mean() > np.asarray(noise()).mean()
    )


def test_a_collection_of_views_has_digests_of_its_own() -> None:
    whole = shapes.collection()
    views = [AugmentedImages(whole, strength, seed=0, number=n) for strength in STRENGTHS for n in (0, 1)]
    mirrored = AugmentedImages(whole, "weak", seed=0, number=0, flip=True)
    digests = {one.items[0].digest for one in (whole, *views, mirrored)}
    assert len(digests) == 6
    assert views[0].items[0].captions == whole.items[0].captions
    again = AugmentedImages(whole, "weak", seed=0, number=0)
    assert again.open(3).tobytes() == views[0].open(3).tobytes()
    assert views[2].open(3).tobytes() != views[3].open(3).tobytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_dropped_words_leave_some_words_in_their_order(share: float) -> None:
    text = "a small red bird on a tree"
    for seed in range(50):
        words = with_words_dropped(text, generator_of(seed), share).split()
        assert words
        rest = iter(text.split())
        assert all(word in rest for word in words), "in their order"
        if share == 0:
            assert words == text.split()
        if share == 1:
            assert len(words) == 1


@pytest.mark.parametrize("text", ["", "bird", " 강아지 "])
def test_a_single_word_is_never_dropped(text: str) -> None:
    assert with_words_dropped(text, generator_of(0), 1.0) == text
