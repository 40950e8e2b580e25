"""The worst queries of a model, with their pictures and the hits found instead."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.evaluate.tasks import LEARNED, Task

if TYPE_CHECKING:
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import CaptionedImages


#: Code length whose worst queries are shown: the whole code.
BITS = 128


#: Hits shown next to the relevant item.
FOUND = 5


#: Longest side of a picture in the report, in pixels.
PIXELS = 116


def worst_views(collection: CaptionedImages, tasks: Sequence[Task], count: int) -> list[wb.View]:
    """Return the worst queries by text, with a row of pictures each, and the worst ones by picture.

    Parameters
    ----------
    collection : CaptionedImages
    tasks : sequence of Task
        Queries by text are those of the first part.
    count : int
        Number of queries by text, over all languages, and number of queries by picture.
    """
    if not count:
        return []
    out = []
    texts = [task for task in tasks if task.direction == "t2i" and task.part == tasks[0].part]
    for place, task in enumerate(texts):
        share = count // len(texts) + (place < count % len(texts))
        out += [_by_text(collection, task, query) for query in _worst(task, share)]
    pictures = next((task for task in tasks if task.direction == "i2t"), None)
    if pictures is not None:
        items = [_by_picture(collection, pictures, query) for query in _worst(pictures, count)]
        out.append(
            wb.View(
                kind="image_grid",
                title=f"Worst queries by picture, {pictures.language}: {pictures.split}",
                data={"items": items},
                notes=["Each picture has its own name, the rank of that name, and the names found first."],
            )
        )
    return out


def _worst(task: Task, count: int) -> list[int]:
    """Return the queries of lowest average precision, worst first; equal ones in query order."""
    record = task.record(LEARNED, "mAP", BITS)
    if record is None:
        return []
    order = np.argsort(np.where(np.isnan(record.per_query), 2, record.per_query), kind="stable")
    counted = int((~np.isnan(record.per_query)).sum())
    rows: list[int] = order[: min(count, counted)].tolist()
    return rows


def _ranked(task: Task, query: int) -> tuple[list[int], np.ndarray[Any, Any]]:
    """Return the gallery's rows ordered by (distance, id), and the distance of each row."""
    distance = np.bitwise_count(task.queries.codes[query] ^ task.gallery.codes).sum(axis=1).astype(np.int64)
    by_id = np.argsort(np.array(task.gallery.ids), kind="stable")
    order = by_id[np.argsort(distance[by_id], kind="stable")]
    return order.tolist(), distance


def _by_text(collection: CaptionedImages, task: Task, query: int) -> wb.View:
    order, distance = _ranked(task, query)
    grades = task.relevance.block(query, query + 1)[0] > 0
    rank = {row: place for place, row in enumerate(order, 1)}
    right = sorted(np.flatnonzero(grades).tolist(), key=lambda row: rank[row])[:1]
    items = [
        _picture(collection, task, row, f"relevant, rank {rank[row]:,}", f"distance {distance[row]}")
        for row in right
    ]
    items += [
        _picture(collection, task, row, f"found, rank {place}", f"distance {distance[row]}")
        for place, row in enumerate(order[:FOUND], 1)
    ]
    name = task.queries.shown[query]
    return wb.View(
        kind="image_grid",
        title=f"Worst queries by text, {task.language}: “{name}”",
        data={"items": items},
    )


def _by_picture(collection: CaptionedImages, task: Task, query: int) -> dict[str, Any]:
    order, _ = _ranked(task, query)
    grades = task.relevance.block(query, query + 1)[0] > 0
    rank = next((place for place, row in enumerate(order, 1) if grades[row]), len(order))
    first = ", ".join(task.gallery.shown[row] for row in order[:3])
    return {
        "caption": _named(collection, int(task.queries.rows[query]), task.language),
        "subtitle": f"own name at rank {rank:,} of {len(order):,}",
        "note": f"found: {first}",
        "image": encoded_picture(collection, int(task.queries.rows[query])),
    }


def _picture(collection: CaptionedImages, task: Task, row: int, subtitle: str, note: str) -> dict[str, Any]:
    item = int(task.gallery.rows[row])
    return {
        "caption": _named(collection, item, task.language),
        "subtitle": subtitle,
        "note": note,
        "image": encoded_picture(collection, item),
    }


def _named(collection: CaptionedImages, row: int, language: str) -> str:
    return collection.items[row].caption(language)


def encoded_picture(collection: CaptionedImages, row: int) -> str:
    """Return a picture of a collection as base64 of a small WebP, as reports show it."""
    return encoded_image(collection.open(row))


def encoded_image(image: Image) -> str:
    """Return a picture as base64 of a small WebP."""
    picture = image.convert("RGB")
    picture.thumbnail((2 * PIXELS, 2 * PIXELS))
    out = io.BytesIO()
    picture.save(out, "WEBP", quality=80, method=0)
    return base64.b64encode(out.getvalue()).decode("ascii")
