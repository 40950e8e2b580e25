"""What the job notebooks show between their steps: the data, the parts, and the answers to some queries."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization import views
from adapters.vlm_quantization.evaluate.report.card import leakage_view
from adapters.vlm_quantization.evaluate.report.worst import encoded_picture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.codes import Encoded, Encoder
    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.data.splits import Splits
    from adapters.vlm_quantization.evaluate.subject import Subject
    from adapters.vlm_quantization.evaluate.tested import MeasuredOn
    from adapters.vlm_quantization.family import PictureTextFamily
    from adapters.vlm_quantization.model import CrossModalHashModel

#: Pictures of a look at the data, queries that are tried, and pictures that are shown for each.
SAMPLES, QUERIES, FOUND = 12, 5, 6


def look_at_data(collection: CaptionedImages, splits: Splits | None = None) -> list[wb.View]:
    """Return twelve pictures with their captions, spread over the collection, and counts.

    Parameters
    ----------
    collection : CaptionedImages
    splits : Splits, optional
        Then each picture says which part it is in.
    """
    rows = _spread(np.arange(len(collection)), SAMPLES)
    part_of = {} if splits is None else {row: part for part, each in splits.parts.items() for row in each}
    items = [_shown(collection, row, part_of.get(row, "").replace("_", " ")) for row in rows]
    captions = {
        language: sum(len(item.captions.get(language, ())) for item in collection.items)
        for language in collection.languages
    }
    counts: list[tuple[str, Any]] = [("Pictures", len(collection))]
    counts += [("Concepts", collection.concepts)]
    counts += [(f"Captions, {language}", count) for language, count in captions.items()]
    counts += [("Lines left out", len(collection.problems))] if collection.problems else []
    grid = wb.View(kind="image_grid", title=f"{len(items)} of {collection.name}", data={"items": items})
    return [grid, views.card(counts, "What it holds", ("", "Count"), collection.notes)]


def look_at_splits(splits: Splits, checked: Mapping[str, int]) -> list[wb.View]:
    """Return the number of pictures in each part, and what the leakage check counted."""
    rows = [(part.replace("_", " "), count) for part, count in splits.counts.items()]
    return [
        views.card(rows, "Parts", ("Part", "Pictures")),
        leakage_view(checked, splits, accepted=checked.get("duplicates", 0)),
    ]


def look_at_test(tested: MeasuredOn) -> list[wb.View]:
    """Return what an evaluation asks: the pictures of each part, and some of them."""
    columns = [
        {"key": "part", "label": "Measured on"},
        {"key": "queries", "label": "Pictures asked about"},
        {"key": "gallery", "label": "Pictures ranked"},
    ]
    data = [
        {"part": part.words, "queries": len(part.queries), "gallery": len(part.gallery)}
        for part in tested.parts
    ]
    rows = np.concatenate([part.queries for part in tested.parts])
    items = [_shown(tested.collection, row) for row in _spread(rows, SAMPLES)]
    title = f"Measured on {tested.collection.name}"
    return [
        wb.View(kind="retrieval_table", title=title, data={"columns": columns, "rows": data}),
        wb.View(kind="image_grid", title=f"{len(items)} of these pictures", data={"items": items}),
    ]


def look_at_model(model: CrossModalHashModel) -> wb.View:
    """Return the parts of a model with their shapes, and the number of trained values in each."""
    columns = [{"key": "part", "label": "Tensor"}, {"key": "shape", "label": "Shape"}]
    columns += [{"key": "values", "label": "Values", "format": ",d"}]
    rows = [
        {"part": name, "shape": " × ".join(map(str, tensor.shape)) or "1", "values": tensor.numel()}
        for name, tensor in model.named_parameters()
    ]
    total = sum(tensor.numel() for tensor in model.parameters())
    return wb.View(
        kind="retrieval_table",
        title=f"Model: {total:,} trained values",
        data={"columns": columns, "rows": rows},
        notes=["The networks below it are frozen; their features of pictures and texts are its input."],
    )


def look_at_neighbours(
    subject: Subject, collection: CaptionedImages, rows: NDArray[np.int64], texts: Sequence[str] = ()
) -> list[wb.View]:
    """Return the nearest pictures of some texts, by the whole code.

    Parameters
    ----------
    subject : Subject
        The model with the pictures of the collection.
    collection : CaptionedImages
    rows : ndarray of int64
        The pictures to find, such as those held out for validation.
    texts : sequence of str
        What to ask; default: five captions of these pictures, in all languages.
    """
    if not len(rows):
        return []
    asked = list(texts) or _captions(collection, rows)
    if not asked:
        return []
    pictures, queries = subject.pictures(rows), subject.texts(asked)
    out = []
    for place, text in enumerate(asked):
        found = _nearest(queries, place, pictures)
        items = [
            _shown(collection, int(rows[row]), f"distance {distance}") for row, distance in found[:FOUND]
        ]
        out.append(wb.View(kind="image_grid", title=f"“{text}”", data={"items": items}))
    return out


def try_queries(family: PictureTextFamily, folder: Path, encoder: Encoder) -> list[wb.View]:
    """Return what an index answers to five queries: words, or its own pictures if it knows no words.

    Parameters
    ----------
    family : PictureTextFamily
        The index's family.
    folder : Path
        The index.
    encoder : Encoder
        Its model, which is open already.
    """
    from adapters.vlm_quantization.index.opened import NOT, load_index
    from adapters.vlm_quantization.search.options import SearchOptions

    index = load_index(folder, lambda _: encoder, adapter=family.name)
    options = SearchOptions()
    out = []
    if index.manifest.provenance.get("words") != NOT:
        for query in family.sample_queries(index)[:QUERIES]:
            found = family.search_by_text(index, query.text, FOUND, options)
            out.append(_answer(f"“{query.text}”", found))
        return out
    items = index.sides["images"].items
    for row in _spread(np.arange(len(items)), QUERIES):
        item = items[row]
        found = family.search_by_item(index, item["id"], FOUND, options)
        out.append(_answer(f"Like {item['caption'] or item['id']}", found))
    return out


def _answer(title: str, found: wb.SearchResult) -> wb.View:
    items = [
        {
            "caption": hit.caption,
            "subtitle": "" if hit.distance is None else f"distance {hit.distance:g}",
            "image": base64.b64encode(hit.thumbnail or b"").decode(),
        }
        for hit in found.hits
        if hit.thumbnail
    ]
    return wb.View(
        kind="image_grid", title=title, data={"items": items}, notes=[found.note] if found.note else []
    )


def _captions(collection: CaptionedImages, rows: NDArray[np.int64]) -> list[str]:
    """Return a caption each of five pictures, in the collection's languages by turns."""
    out = []
    for place, row in enumerate(_spread(rows, QUERIES)):
        item, languages = collection.items[row], collection.languages
        if languages and item.captions:
            out.append(item.caption(languages[place % len(languages)]))
    return list(dict.fromkeys(out))


def _nearest(queries: Encoded, place: int, pictures: Encoded) -> list[tuple[int, int]]:
    """Return (row, distance) of the pictures, nearest first; equal ones in their order."""
    distances = np.bitwise_count(queries.codes[place] ^ pictures.codes).sum(axis=1).astype(np.int64)
    order = np.argsort(distances, kind="stable")[:FOUND]
    return [(int(row), int(distances[row])) for row in order]


def _spread(rows: NDArray[np.int64], count: int) -> list[int]:
    """Return at most ``count`` rows, evenly spread."""
    count = min(count, len(rows))
    return [int(rows[place * len(rows) // count]) for place in range(count)]


def _shown(collection: CaptionedImages, row: int, subtitle: str = "") -> dict[str, Any]:
    item = collection.items[row]
    others = [texts[0] for texts in list(item.captions.values())[1:3] if texts]
    return {
        "caption": item.caption(),
        "subtitle": subtitle,
        "note": ", ".join(others),
        "image": encoded_picture(collection, row),
    }
