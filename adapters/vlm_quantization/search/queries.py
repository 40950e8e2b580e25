"""Exact search of an index, by Hamming distance on prefixes of the stored code or by cosine of the features.

Rows of an index are sorted by item id, so hits with equal distance or score are in the order of their ids,
regardless of the library that ranked them.
"""

from __future__ import annotations

import time
import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.opened import NOT, Index
from adapters.vlm_quantization.neighbours.prefix_codes import check_k
from adapters.vlm_quantization.search.filters import Chosen, words_of_choice
from adapters.vlm_quantization.search.function_words import says_nothing
from adapters.vlm_quantization.search.languages import unknown_note, unknown_words
from adapters.vlm_quantization.search.options import SearchOptions
from adapters.vlm_quantization.search.wordless import searchable
from adapters.vlm_quantization.towers.ngrams import words_of

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE_OF_TARGET = {"pictures": "images", "captions": "captions"}


_NONE = np.empty(0, np.int64)


_NO_WORDS = (
    "Search with a picture. To search with words, index the pictures with an encoder of pictures and texts, "
    "or train one on their captions."
)


_NOUN = {"images": ("picture", "pictures"), "captions": ("caption", "captions")}


# --- queries ------------------------------------------------------------------------------------------------


def search_text(index: Index, query: str, k: int, options: SearchOptions) -> wb.SearchResult:
    """Find pictures or captions by text.

    Items that are named exactly so come first, in collections of up to
    :data:`~adapters.vlm_quantization.index.names.MOST_NAMED`. A query of emoji is looked up by their names.
    Nothing else is near a query of function words only, whatever its distance, or one in a script that the
    model does not know; a note names the languages it knows.

    Raises
    ------
    workbench.BadInput
        The query has no letter, digit or emoji, or ``k`` is below 1.
    """
    if index.words == NOT:
        raise wb.BadInput("this index knows no words: its encoder reads pictures only", hint=_NO_WORDS)
    text, names, note = searchable(index, query)
    start = time.perf_counter()
    encoded = index.encoder.encode_texts([text])
    took = (time.perf_counter() - start) * 1e3
    count = getattr(index.encoder, "count_cut_texts", None)  # an encoder need not have a limit
    cut, read = count([text]) if count else (0, 0)
    if cut:
        note = "; ".join(filter(None, [note, f"the query is long: only its first {read} tokens were read"]))
    known = index.sides[_SIDE_OF_TARGET[options.target]].names
    named = np.unique(np.concatenate([known.rows(name) for name in names]))
    foreign = unknown_words(text, index.languages) if getattr(index.encoder, "languages", ()) else {}
    if foreign:
        note = "; ".join(filter(None, (note, unknown_note(foreign, index.languages))))
    return _answer(
        index,
        encoded.codes[0],
        encoded.features[0],
        "captions",
        k,
        options,
        took,
        named=named,
        note=note,
        any_near=not says_nothing(text) and not (foreign and set(words_of(text)) <= foreign.keys()),
    )


def search_image(index: Index, data: bytes | Image, k: int, options: SearchOptions) -> wb.SearchResult:
    """Find pictures or captions by a picture: encoded (JPEG, PNG, ...), or decoded to RGB.

    Raises
    ------
    workbench.BadInput
        The bytes are not such a picture, or ``k`` is below 1.
    """
    from adapters.vlm_quantization.data.pictures import decode_picture

    start = time.perf_counter()
    encoded = index.encoder.encode_images([decode_picture(data) if isinstance(data, bytes) else data])
    took = (time.perf_counter() - start) * 1e3
    return _answer(index, encoded.codes[0], encoded.features[0], "images", k, options, took)


def search_item(index: Index, item_id: str, k: int, options: SearchOptions) -> wb.SearchResult:
    """Find items similar to an item of the index, picture or caption; the item itself is left out.

    Raises
    ------
    workbench.NotFound
        No item has that id.
    """
    name, row = find_item(index, item_id)
    side = index.sides[name]
    feature = index.feature(name, row)
    return _answer(index, side.codes[row], feature, name, k, options, 0.0, leave_out=row)


def find_item(index: Index, item_id: str) -> tuple[str, int]:
    """Return the side and the row of an item, picture or caption.

    Raises
    ------
    workbench.NotFound
        No item has that id.
    """
    # Ids are stored in one Unicode form, and listing a folder made on a Mac gives another.
    forms = dict.fromkeys([item_id, *(unicodedata.normalize(form, item_id) for form in ("NFC", "NFD"))])
    for name, side in index.sides.items():
        row = next((row for form in forms if (row := side.items.find(form)) is not None), None)
        if row is not None:
            return name, row
    raise wb.NotFound(f"no item {item_id!r} in index {index.manifest.name!r}")


def _answer(
    index: Index,
    code: NDArray[np.uint8],
    feature: NDArray[np.float32] | None,
    query_side: str,
    k: int,
    options: SearchOptions,
    encode_ms: float,
    *,
    leave_out: int | None = None,
    named: NDArray[np.int64] = _NONE,
    note: str = "",
    any_near: bool = True,
) -> wb.SearchResult:
    """Rank, and convert rows to hits; without ``any_near`` only the named ones count as near."""
    name = _SIDE_OF_TARGET[options.target]
    side = index.sides[name]
    if options.radius is not None and options.method != "hamming":
        problem = f"a radius counts differing bits, which {options.method} does not compare"
        raise wb.BadOptions(problem, [("radius", problem)], hint="Leave it empty, or choose Hamming.")
    start = time.perf_counter()
    chosen = index.filters.chosen(options.filter, name)
    itself = leave_out is not None and name == query_side
    if itself and chosen is not None:
        itself = bool(chosen.holds(np.array([leave_out]))[0])
    rows, values = index.search(
        code,
        feature,
        side=name,
        bits=options.bits,
        method=options.method,
        k=check_k(k) + itself,
        radius=options.radius,
        among=None if chosen is None else chosen.among,
    )
    if itself:
        kept = rows != leave_out
        rows, values = rows[kept], values[kept]
    if options.radius is not None:
        named = named[np.isin(named, rows)]
    elif chosen is not None:
        named = named[chosen.holds(named)]
    within = len(rows)
    rows, values = rows[:k], values[:k]
    cutoff = _cutoff(index, query_side, name, values, options) if any_near else 0
    notes = [note] if note else []
    if len(named):
        ranked = rows
        rows, values = _named_first(index, code, feature, named, (rows, values), name, options)
        if not np.array_equal(rows, ranked):
            notes.append("items that are named exactly so come first")
        if cutoff is not None:
            others = ~np.isin(rows, named)
            near = _cutoff(index, query_side, name, values[others], options) if any_near else 0
            cutoff = int((~others).sum()) + (near or 0)
    searched = time.perf_counter()
    hits = [_hit(index, name, row, value, options) for row, value in zip(rows, values, strict=True)]
    took = {
        "encode": encode_ms,
        "search": (searched - start) * 1e3,
        "fetch": (time.perf_counter() - searched) * 1e3,
    }
    notes += _counts(options, name, len(side), chosen, k, within, itself)
    return wb.SearchResult(hits, took, note="; ".join(notes), cutoff=cutoff)


def _counts(
    options: SearchOptions, side: str, items: int, chosen: Chosen | None, k: int, within: int, itself: bool
) -> list[str]:
    """Return what a visitor needs to know about how many items could be found and how many are shown."""
    notes = []
    one, many = _NOUN[side]
    available = items - itself
    if chosen is not None:
        notes.append(words_of_choice(chosen, side, items, itself))
    elif k > available and options.radius is None:
        other, verb = "other " if itself else "", "is" if available == 1 else "are"
        noun = one if available == 1 else many
        notes.append(f"the index has {available:,} {other}{noun}, so only {available:,} {verb} shown")
    if options.radius is not None and (chosen is None or chosen.count > itself):
        found = f"{within:,} {many} are" if within > 1 else f"{within or 'no'} {one} is"
        cut = f", and the nearest {k:,} are shown" if within > k else ""
        notes.append(f"{found} within {options.radius} of {options.bits} bits{cut}")
    return notes


def sample_pictures(index: Index, count: int) -> list[wb.Hit]:
    """Return at most ``count`` pictures of an index at equal distances, to start a search with."""
    n = len(index)
    rows = dict.fromkeys(place * n // count for place in range(min(count, n))) if n >= count else range(n)
    items = index.sides["images"].items
    return [
        wb.Hit(
            id=(item := items[row])["id"],
            score=1.0,
            caption=item["caption"],
            subtitle=item["subtitle"],
            thumbnail=index.thumbnail(row),
            path=index.picture_path(row),
        )
        for row in rows
    ]


def _named_first(
    index: Index,
    code: NDArray[np.uint8],
    feature: NDArray[np.float32] | None,
    named: NDArray[np.int64],
    ranked: tuple[NDArray[Any], NDArray[Any]],
    side: str,
    options: SearchOptions,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return as many rows as were ranked, with the named ones before the others, each in their own order."""
    rows, values = ranked
    first = index.measure(code, feature, named, side=side, bits=options.bits, method=options.method)
    order = np.lexsort((named, first if options.method == "hamming" else -first))
    others = ~np.isin(rows, named)
    return (
        np.concatenate([named[order], rows[others]])[: len(rows)],
        np.concatenate([first[order], values[others]])[: len(rows)],
    )


def _hit(index: Index, side: str, row: int, value: float, options: SearchOptions) -> wb.Hit:
    item = index.sides[side].items[int(row)]
    if options.method == "hamming":
        score, distance = 1 - float(value) / options.bits, float(value)
        label = f"{int(value)}/{options.bits}"
    else:
        score, distance = float(value), None
        label = f"{score:z.2f}"
    return wb.Hit(
        id=item["id"],
        score=score,
        distance=distance,
        caption=item["caption"],
        subtitle=item["subtitle"],
        thumbnail=index.thumbnail(int(row)) if side == "images" else None,
        label=label,
        meter=min(max(score, 0.0), 1.0),
        path=index.picture_path(int(row)) if side == "images" else "",
    )


def _cutoff(
    index: Index, query_side: str, side: str, values: NDArray[Any], options: SearchOptions
) -> int | None:
    """Count the leading hits that are nearer than all but one in a thousand unrelated pairs."""
    tails = index.manifest.thresholds.get(files.pair_key(query_side, side), {})
    if options.method == "hamming":
        limit = tails.get(str(options.bits))
        return None if limit is None else int((values <= limit).sum())
    limit = tails.get("cosine")
    return None if limit is None else int((values > limit).sum())
