"""Changed versions of pictures and texts: views to train on, and retouching to measure how stable codes are.

A view depends on nothing but the picture, the seed, the item and the view's number, so every process draws
the same one. Pictures are not mirrored unless that is asked for: it makes captions of left and right, and
texts within pictures, wrong.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from adapters.vlm_quantization.data.collection import CaptionedImages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from PIL.Image import Image

Strength = Literal["weak", "strong"]

STRENGTHS: Final[tuple[Strength, ...]] = ("weak", "strong")

#: Changes with what :func:`view_of` does; views that were encoded before are then encoded again.
VERSION = 1


#: Share of the words of a text that token dropout leaves out.
WORD_SHARE = 0.3


def generator_of(*parts: object) -> np.random.Generator:
    """Return a random generator that depends on these parts alone."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))


# Single changes --------------------------------------------------------------------------------


def cropped(picture: Image, rng: np.random.Generator, least: float) -> Image:
    """Return a part of a picture: ``least`` (0 to 1) to all of its area, at a random place."""
    share = rng.uniform(least, 1.0)
    stretch = np.exp(rng.uniform(-1, 1) * 0.15)  # of its sides to each other
    width = min(picture.width, max(1, round(picture.width * np.sqrt(share) * stretch)))
    height = min(picture.height, max(1, round(picture.height * np.sqrt(share) / stretch)))
    left = int(rng.integers(picture.width - width + 1))
    top = int(rng.integers(picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def mirrored(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture with left and right exchanged."""
    from PIL import Image as Pillow

    return picture.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)


def colour_jittered(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture with brightness, contrast and saturation changed by up to 40 % each, in that order."""
    from PIL import ImageEnhance

    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = enhance(picture).enhance(float(rng.uniform(0.6, 1.4)))
    return picture


def blurred(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture after a Gaussian blur of 0.5 to 2 % of its longer side."""
    from PIL import ImageFilter

    radius = max(picture.size) * float(rng.uniform(0.005, 0.02))
    return picture.filter(ImageFilter.GaussianBlur(radius))


def without_colour(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture in grey, still RGB."""
    return picture.convert("L").convert("RGB")


def erased(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture with a grey rectangle over 5 to 20 % of its area (Zhong et al., AAAI 2020)."""
    share, stretch = rng.uniform(0.05, 0.2), np.exp(rng.uniform(-1, 1) * 0.6)
    width = min(picture.width, max(1, round(picture.width * np.sqrt(share) * stretch)))
    height = min(picture.height, max(1, round(picture.height * np.sqrt(share) / stretch)))
    left = int(rng.integers(picture.width - width + 1))
    top = int(rng.integers(picture.height - height + 1))
    out = picture.copy()
    out.paste((127, 127, 127), (left, top, left + width, top + height))
    return out


def saved_as_jpeg(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture after saving it as JPEG of quality 50."""
    from PIL import Image as Pillow

    data = io.BytesIO()
    picture.save(data, "JPEG", quality=50)
    with Pillow.open(data, formats=("JPEG",)) as opened:
        return opened.convert("RGB")


def halved(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture of half the width and height."""
    from PIL import Image as Pillow

    size = (max(1, picture.width // 2), max(1, picture.height // 2))
    return picture.resize(size, Pillow.Resampling.BILINEAR)


def trimmed(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture without 5 % of its width and height, half of it at each edge."""
    across, down = int(picture.width * 0.025), int(picture.height * 0.025)
    return picture.crop((across, down, picture.width - across, picture.height - down))


def brightened(picture: Image, rng: np.random.Generator) -> Image:
    """Return a picture that is 20 % brighter."""
    from PIL import ImageEnhance

    return ImageEnhance.Brightness(picture).enhance(1.2)


# Views -----------------------------------------------------------------------------------------


def weak_view(picture: Image, rng: np.random.Generator, *, flip: bool = False) -> Image:
    """Return a picture with up to a fifth cut off, and with ``flip`` mirrored half the time."""
    out = cropped(picture, rng, 0.8)
    return mirrored(out, rng) if flip and rng.random() < 0.5 else out


def strong_view(picture: Image, rng: np.random.Generator, *, flip: bool = False) -> Image:
    """Return a picture with up to half cut off and other colours, at times blurred, grey or partly erased."""
    out = colour_jittered(cropped(picture, rng, 0.5), rng)
    for change, chance in ((blurred, 0.3), (without_colour, 0.2), (erased, 0.5)):
        if rng.random() < chance:
            out = change(out, rng)
    return mirrored(out, rng) if flip and rng.random() < 0.5 else out


_VIEWS: Mapping[Strength, Callable[..., Image]] = {"weak": weak_view, "strong": strong_view}


def view_of(
    picture: Image, strength: Strength, *, seed: int, item: str, number: int, flip: bool = False
) -> Image:
    """Return a view of a picture, RGB; the same arguments give the same pixels.

    Parameters
    ----------
    picture : Image
        RGB.
    strength : {"weak", "strong"}
        See :func:`weak_view` and :func:`strong_view`.
    seed : int
    item : str
        What tells the picture from others, such as its digest.
    number : int
        Which of several views of that strength.
    flip : bool
        Whether views may be mirrored.
    """
    rng = generator_of("view", VERSION, seed, item, strength, number)
    return _VIEWS[strength](picture, rng, flip=flip)


class AugmentedImages(CaptionedImages):
    """A collection of which each picture is a view of one of another collection's.

    Its items have digests of their own, so that features of views are cached beside those of the pictures.
    """

    def __init__(
        self, collection: CaptionedImages, strength: Strength, *, seed: int, number: int, flip: bool = False
    ) -> None:
        self._whole, self._strength, self._seed = collection, strength, seed
        self._number, self._flip = number, flip
        key = f"view {VERSION} {strength} {seed} {number} {int(flip)} "
        self._digests = [collection.digest(row) for row in range(len(collection))]
        super().__init__(
            collection.name,
            [
                dataclasses.replace(item, digest=hashlib.sha256(f"{key}{digest}".encode()).hexdigest())
                for item, digest in zip(collection.items, self._digests, strict=True)
            ],
        )

    def open(self, index: int) -> Image:
        """Decode the picture of an item, and return its view, RGB."""
        return view_of(
            self._whole.open(index),
            self._strength,
            seed=self._seed,
            item=self._digests[index],
            number=self._number,
            flip=self._flip,
        )


# Texts -----------------------------------------------------------------------------------------


def with_words_dropped(text: str, rng: np.random.Generator, share: float = WORD_SHARE) -> str:
    """Return a text without some of its words, at least one of which stays, in their order.

    Parameters
    ----------
    text : str
        Words are what blanks separate; a text of one word stays as it is.
    rng : numpy.random.Generator
    share : float
        Chance of each word to be left out, 0 to 1.
    """
    words = text.split()
    if len(words) < 2:
        return text
    drawn = rng.random(len(words))
    kept = drawn >= share
    kept[drawn.argmax()] = True
    return text if kept.all() else " ".join(word for word, on in zip(words, kept, strict=True) if on)


# What stability is measured under --------------------------------------------------------------


class Change(NamedTuple):
    """A way to change a picture.

    Attributes
    ----------
    kind : {"view", "augmentation", "retouching"}
    words : str
        What it does, for a report.
    apply : callable
        ``apply(picture, rng)`` returns the changed picture, RGB.
    """

    kind: Literal["view", "augmentation", "retouching"]
    words: str
    apply: Callable[[Image, np.random.Generator], Image]


#: By name in metrics.
CHANGES: Final[Mapping[str, Change]] = {
    "weak": Change("view", "weak view: up to a fifth cut off", weak_view),
    "strong": Change("view", "strong view: up to half cut off, colours, blur, grey, erasing", strong_view),
    "crop": Change("augmentation", "up to half cut off", lambda picture, rng: cropped(picture, rng, 0.5)),
    "flip": Change("augmentation", "mirrored", mirrored),
    "colour": Change("augmentation", "colours up to ± 40 %", colour_jittered),
    "blur": Change("augmentation", "blurred by up to 2 %", blurred),
    "grey": Change("augmentation", "without colour", without_colour),
    "erasing": Change("augmentation", "5 to 20 % of the area covered", erased),
    "jpeg": Change("retouching", "saved as JPEG of quality 50", saved_as_jpeg),
    "half-size": Change("retouching", "half the width and height", halved),
    "trim": Change("retouching", "5 % of width and height cut off", trimmed),
    "brightness": Change("retouching", "20 % brighter", brightened),
}
