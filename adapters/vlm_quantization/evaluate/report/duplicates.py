"""Test pictures that the model was trained on, shown beside the training picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.evaluate.report.worst import encoded_picture

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.evaluate.overlap import Overlap


#: Pairs that are shown with their pictures, and ids that a warning names.
SHOWN_PAIRS, SHOWN_IDS = 12, 5


#: Ids that the note of a view names; the rest is counted.
LISTED_IDS = 200


def duplicate_warnings(training: CaptionedImages, test: CaptionedImages, overlap: Overlap) -> list[str]:
    """Return a warning about equal pictures that were accepted, and one about near duplicates."""
    out = []
    if overlap.equal:
        out.append(
            f"Leakage, accepted: the model was trained on {_pictures(len(overlap.equal))} of the test. "
            f"Scores are too high. Test (training): {_named(training, test, overlap.equal, SHOWN_IDS)}."
        )
    if overlap.near:
        looks = "looks" if len(overlap.near) == 1 else "look"
        out.append(
            f"{_pictures(len(overlap.near))} of the test {looks} like training pictures (near duplicates, "
            f"shown in the report). Test (training): {_named(training, test, overlap.near, SHOWN_IDS)}."
        )
    return out


def duplicate_views(training: CaptionedImages, test: CaptionedImages, overlap: Overlap) -> list[wb.View]:
    """Return the pairs with their pictures, in a view for each kind that there is."""
    kinds = (
        ("Training pictures in the test, accepted", overlap.equal, "Equal pixels."),
        (
            "Near duplicates of training pictures in the test",
            overlap.near,
            "Recognised by a perceptual code and a small copy in colour. They may raise the scores; whether "
            "a pair is one picture is yours to judge.",
        ),
    )
    return [
        wb.View(
            kind="image_grid",
            title=f"{title}: {len(pairs):,}",
            data={"items": [one for pair in pairs[:SHOWN_PAIRS] for one in _pair(training, test, *pair)]},
            notes=[
                f"{note} Each test picture is followed by the training picture that it resembles most.",
                f"Test (training): {_named(training, test, pairs, LISTED_IDS)}.",
            ],
        )
        for title, pairs, note in kinds
        if pairs
    ]


def _pair(training: CaptionedImages, test: CaptionedImages, own: int, row: int) -> list[dict[str, Any]]:
    return [
        {
            "caption": collection.items[at].id,
            "subtitle": side,
            "note": collection.items[at].caption(),
            "image": encoded_picture(collection, at),
        }
        for side, collection, at in (("test", test, row), ("training", training, own))
    ]


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _named(
    training: CaptionedImages, test: CaptionedImages, pairs: Sequence[tuple[int, int]], most: int
) -> str:
    names = [f"{test.items[row].id} ({training.items[own].id})" for own, row in pairs[:most]]
    more = [f"and {len(pairs) - most:,} more"] if len(pairs) > most else []
    return "; ".join([*names, *more])
