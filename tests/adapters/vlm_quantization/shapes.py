"""A small real collection for tests: coloured shapes in two styles, named in English and Korean."""

import io

import numpy as np
from PIL import Image, ImageDraw

from adapters.vlm_quantization.data.collection import CaptionedImages, Item, picture_digest
from adapters.vlm_quantization.options import TrainOptions

COLOURS = {
    "red": ("빨간", (220, 40, 40)),
    "green": ("초록", (40, 160, 60)),
    "blue": ("파란", (50, 80, 220)),
    "yellow": ("노란", (240, 200, 40)),
    "black": ("검은", (20, 20, 20)),
    "pink": ("분홍", (240, 130, 180)),
}
SHAPES = {"circle": "원", "square": "사각형", "triangle": "삼각형", "cross": "십자"}


def draw(shape: str, colour: tuple[int, int, int], outline: bool, rng: np.random.Generator) -> Image.Image:
    """Draw one shape on white: filled, or as an outline in the other style."""
    image = Image.new("RGB", (48, 48), "white")
    pen = ImageDraw.Draw(image)
    left, top = (int(value) for value in rng.integers(4, 12, 2))
    box = (left, top, left + 30, top + 30)
    style = {"outline": colour, "width": 5} if outline else {"fill": colour}
    if shape == "circle":
        pen.ellipse(box, **style)
    elif shape == "square":
        pen.rectangle(box, **style)
    elif shape == "triangle":
        pen.polygon([(left, top + 30), (left + 30, top + 30), (left + 15, top)], **style)
    else:
        pen.line((left, top, left + 30, top + 30), fill=colour, width=4 if outline else 9)
        pen.line((left, top + 30, left + 30, top), fill=colour, width=4 if outline else 9)
    return image


def collection(seed: int = 0) -> CaptionedImages:
    """Return 24 concepts in two styles: 48 pictures."""
    rng = np.random.default_rng(seed)
    items = []
    for shape, korean_shape in SHAPES.items():
        for colour, (korean, rgb) in COLOURS.items():
            for style in ("filled", "outline"):
                image = draw(shape, rgb, style == "outline", rng)
                file = io.BytesIO()
                image.save(file, "PNG")
                items.append(
                    Item(
                        id=f"{style}-{colour}-{shape}",
                        concept=f"{colour}-{shape}",
                        captions={"en": (f"{colour} {shape}",), "ko": (f"{korean} {korean_shape}",)},
                        image=file.getvalue(),
                        digest=picture_digest(image),
                        keywords={"en": (colour, shape), "ko": (korean, korean_shape)},
                        labels=(colour, shape),
                        style=style,
                    )
                )
    return CaptionedImages("shapes", items, credits=["Drawn for the tests"])


def options(**changes: object) -> TrainOptions:
    """Return options for a training of a second or two."""
    small = {
        "encoder": "random",
        "text_tower": "ngrams",
        "steps": 60,
        "batch": 16,
        "validate_every": 20,
        "refit_steps": 0,
        "hidden": 32,
        "dim": 32,
        "text_buckets": 512,
        "text_width": 32,
        "threads": 1,
        "text_noise": 0.0,
        "part_dropout": 0.0,
        "name_share": 0.4,
    }
    return TrainOptions.model_validate({**small, **changes})
