"""Why two things are near: their codes side by side, the distance at each length, and the float cosine."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.shards import thumbnail_of
from adapters.vlm_quantization.search.queries import find_item
from adapters.vlm_quantization.search.wordless import searchable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from adapters.vlm_quantization.index.opened import Index
    from adapters.vlm_quantization.search.options import SearchOptions


@dataclass(frozen=True)
class _Encoded:
    """One thing with its code, uint8 (16,), its features, float32 (d,) if any, and its side of the index."""

    side: wb.Side
    like: str
    code: NDArray[np.uint8]
    feature: NDArray[np.float32] | None
    note: str = ""


def explain(index: Index, left: wb.Term, right: wb.Term, options: SearchOptions) -> wb.Explanation:
    """Compare two things: texts, decoded pictures, or items of the index.

    Raises
    ------
    workbench.BadInput
        A text has no letter, digit or emoji.
    workbench.NotFound
        The index has no such item.
    """
    one, other = _encoded(index, left), _encoded(index, right)
    differ = np.unpackbits(one.code ^ other.code)
    distances = {length: int(differ[:length].sum()) for length in CODE_LENGTHS}
    cosine = None
    if one.feature is not None and other.feature is not None:
        cosine = float(one.feature.astype(np.float64) @ other.feature)
    # Thresholds are measured for these pairs; captions with pictures count as pictures with captions.
    pair = sorted((one.like, other.like), key=("captions", "images").index)
    tails = index.manifest.thresholds.get(files.pair_key(*pair), {})
    notes = [f"{who}: {thing.note}." for who, thing in (("Left", one), ("Right", other)) if thing.note]
    bits = options.bits
    said = "the index has no float features" if cosine is None else f"the float cosine is {cosine:z.3f}"
    return wb.Explanation(
        summary=f"{distances[bits]} of {bits} bits differ; {said}",
        left=one.side,
        right=other.side,
        views=[_distances(distances, cosine, tails, notes), _codes(one, other, distances)],
    )


def _encoded(index: Index, term: wb.Term) -> _Encoded:
    if term.by == "item":
        like, row = find_item(index, term.value)
        items = index.sides[like]
        item = items.items[row]
        picture = base64.b64encode(index.thumbnail(row)).decode() if like == "images" else ""
        side = wb.Side(
            by="item", id=item["id"], caption=item["caption"], subtitle=item["subtitle"], thumbnail=picture
        )
        return _Encoded(side, like, items.codes[row], index.feature(like, row))
    if term.by == "text":
        text, _, note = searchable(index, term.value)
        encoded = index.encoder.encode_texts([text])
        side = wb.Side(by="text", caption=term.value)
        return _Encoded(side, "captions", encoded.codes[0], encoded.features[0], note)
    encoded = index.encoder.encode_images([term.value])
    picture = base64.b64encode(thumbnail_of(term.value)).decode()
    side = wb.Side(by="image", caption=term.name or "a picture", thumbnail=picture)
    return _Encoded(side, "images", encoded.codes[0], encoded.features[0])


def _distances(
    distances: dict[int, int], cosine: float | None, tails: dict[str, float | None], notes: Sequence[str]
) -> wb.View:
    """Return the table of the distances, each with what unrelated pairs have."""
    rows: list[dict[str, Any]] = []
    for length, distance in distances.items():
        limit = tails.get(str(length))
        rows.append(
            {
                "way": f"{length} bits",
                "value": f"{distance} differ ({distance / length:.0%})",
                "limit": None if limit is None else f"at most {limit:.0f}" if limit >= 0 else "none",
                "near": None if limit is None else "yes" if distance <= limit else "no",
            }
        )
    if cosine is not None:
        limit = tails.get("cosine")
        rows.append(
            {
                "way": "float cosine",
                "value": f"{cosine:z.3f}",
                "limit": None if limit is None else f"above {limit:z.3f}",
                "near": None if limit is None else "yes" if cosine > limit else "no",
            }
        )
    told = any(row["limit"] is not None for row in rows)
    columns = [{"key": "way", "label": "Compared by"}, {"key": "value", "label": "Result"}]
    if told:
        columns += [{"key": "limit", "label": "Counts as near"}, {"key": "near", "label": "Near"}]
        notes = [*notes, "Near: nearer than all but one in a thousand unrelated pairs of this index."]
    return wb.View(
        kind="retrieval_table",
        title="Distance at each length",
        data={"columns": columns, "rows": rows},
        notes=list(notes),
    )


def _codes(one: _Encoded, other: _Encoded, distances: dict[int, int]) -> wb.View:
    """Return the codes side by side, cut where the lengths end."""
    left, right = ("".join(map(str, np.unpackbits(thing.code))) for thing in (one, other))
    rows, start = [], 0
    for length, distance in distances.items():
        rows.append(
            {
                "name": f"Bits {start + 1} to {length}",
                "left": left[start:length],
                "right": right[start:length],
                "note": f"distance at {length} bits: {distance}",
            }
        )
        start = length
    return wb.View(
        kind="cells",
        title="The two codes",
        data={"labels": [one.side.caption, other.side.caption], "rows": rows},
        notes=["A shorter code is the beginning of the longer one: each length is the rows down to its own."],
    )
