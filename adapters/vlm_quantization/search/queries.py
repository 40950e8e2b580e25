"""Exact search of an index, by Hamming distance on prefixes of the stored code or by cosine of the features.

Rows of an index are sorted by item id, so hits with equal distance or score are in the order of their ids,
regardless of the library that ranked them.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import Encoded, margins_of
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.opened import NOT, Index
from adapters.vlm_quantization.neighbours.prefix_codes import check_k
from adapters.vlm_quantization.search.filters import Chosen, words_of_choice
from adapters.vlm_quantization.search.function_words import says_nothing
from adapters.vlm_quantization.search.funnel import (
    Query,
    Stage,
    funnel_search,
    rescored,
    stage_lengths,
    survivors_of,
)
from adapters.vlm_quantization.search.languages import unknown_note, unknown_words
from adapters.vlm_quantization.search.options import SearchOptions
from adapters.vlm_quantization.search.wordless import searchable
from adapters.vlm_quantization.towers.ngrams import words_of

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE_OF_TARGET = {"pictures": "images", "captions": "captions"}


_NONE = np.empty(0, np.int64)


_NOTHING: Mapping[str, Sequence[int]] = {}


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
    read = read_text(index, query)
    known = index.sides[SIDE_OF_TARGET[options.target]].names
    named = np.unique(np.concatenate([known.rows(name) for name in read.names]))
    return answer(
        index,
        one_query(index, read.encoded, "captions"),
        "captions",
        k,
        options,
        read.took_ms,
        named=named,
        note=read.note,
        any_near=read.says_something,
    )


class ReadText(NamedTuple):
    """A text as it was understood.

    Attributes
    ----------
    encoded : Encoded
        One row.
    names : sequence of str
        Names in it; see :func:`~adapters.vlm_quantization.search.wordless.searchable`.
    note : str
        What was left out or not understood; empty if nothing was.
    says_something : bool
        Whether it has a word that the model could know and that names something.
    took_ms : float
        Milliseconds of encoding.
    """

    encoded: Encoded
    names: Sequence[str]
    note: str
    says_something: bool
    took_ms: float


def read_text(index: Index, query: str) -> ReadText:
    """Encode a text, and say what of it was not understood.

    Raises
    ------
    workbench.BadInput
        The index knows no words, or the query has no letter, digit or emoji.
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
    foreign = unknown_words(text, index.languages) if getattr(index.encoder, "languages", ()) else {}
    if foreign:
        note = "; ".join(filter(None, (note, unknown_note(foreign, index.languages))))
    something = not says_nothing(text) and not (foreign and set(words_of(text)) <= foreign.keys())
    return ReadText(encoded, names, note, something, took)


#: What an encoder calls each side of an index.
ENCODER_SIDE = {"images": "image", "captions": "text"}


def one_query(index: Index, encoded: Encoded, side: str, row: int = 0) -> Query:
    """Return one row of what was encoded, like a side of the index, as a query."""
    one = Encoded(
        encoded.codes[row : row + 1],
        encoded.features[row : row + 1],
        None if encoded.margins is None else encoded.margins[row : row + 1],
    )
    margins = margins_of(index.encoder, one, ENCODER_SIDE[side])
    return Query(one.codes[0], one.features[0], None if margins is None else margins[0])


def item_query(index: Index, side: str, row: int) -> Query:
    """Return an item of the index as a query."""
    code = index.sides[side].codes[row]
    feature = index.feature(side, row)
    if feature is None:
        return Query(code, None)
    return one_query(index, Encoded(code[None], np.asarray(feature, np.float32)[None]), side)


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
    return answer(index, one_query(index, encoded, "images"), "images", k, options, took)


def search_item(index: Index, item_id: str, k: int, options: SearchOptions) -> wb.SearchResult:
    """Find items similar to an item of the index, picture or caption; the item itself is left out.

    Raises
    ------
    workbench.NotFound
        No item has that id.
    """
    name, row = find_item(index, item_id)
    return answer(index, item_query(index, name, row), name, k, options, 0.0, leave_out={name: [row]})


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


def answer(
    index: Index,
    query: Query,
    query_side: str,
    k: int,
    options: SearchOptions,
    encode_ms: float,
    *,
    leave_out: Mapping[str, Sequence[int]] = _NOTHING,
    named: NDArray[np.int64] = _NONE,
    note: str = "",
    any_near: bool = True,
) -> wb.SearchResult:
    """Rank, and convert rows to hits.

    Parameters
    ----------
    index : Index
    query : Query
    query_side : str
        The side of the index that the query is like, whose distances tell what is near; empty if it is like
        none, so that nothing is known of that.
    k : int
    options : SearchOptions
    encode_ms : float
        Milliseconds that encoding took.
    leave_out : mapping of str to sequence of int
        Rows of each side that are not to be found.
    named : ndarray, int64
        Rows that come first.
    note : str
        What to tell the reader.
    any_near : bool
        If not, only the named ones count as near.
    """
    name = SIDE_OF_TARGET[options.target]
    side = index.sides[name]
    without = np.array(sorted(set(leave_out.get(name, ()))), np.int64)
    start = time.perf_counter()
    chosen = index.filters.chosen(options.filter, name)
    if chosen is not None:
        without = without[chosen.holds(without)]
    rows, values, stages = _ranked(index, query, name, check_k(k) + len(without), options, chosen)
    if len(without):
        kept = ~np.isin(rows, without)
        rows, values = rows[kept], values[kept]
    if options.radius is not None:
        named = named[np.isin(named, rows)]
    elif chosen is not None:
        named = named[chosen.holds(named)]
    within = len(rows)
    rows, values = rows[:k], values[:k]
    cutoff = _cutoff(index, query_side, name, values, options) if any_near else 0
    notes = [note] if note else []
    if stages:
        notes.append(_stages_note(len(side) if chosen is None else chosen.count, stages, name))
    if len(named):
        ranked = rows
        rows, values = _named_first(index, query, named, (rows, values), name, options)
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
        **{stage.name: stage.took_ms for stage in stages},
    }
    notes += _counts(options, name, len(side), chosen, k, within, len(without))
    return wb.SearchResult(hits, took, note="; ".join(notes), cutoff=cutoff)


def _counts(
    options: SearchOptions, side: str, items: int, chosen: Chosen | None, k: int, within: int, without: int
) -> list[str]:
    """Return what a visitor needs to know about how many items could be found and how many are shown."""
    notes = []
    one, many = _NOUN[side]
    available = items - without
    if chosen is not None:
        notes.append(words_of_choice(chosen, side, items, without))
    elif k > available and options.radius is None:
        other, verb = "other " if without else "", "is" if available == 1 else "are"
        noun = one if available == 1 else many
        notes.append(f"the index has {available:,} {other}{noun}, so only {available:,} {verb} shown")
    if options.radius is not None and (chosen is None or chosen.count > without):
        found = f"{within:,} {many} are" if within > 1 else f"{within or 'no'} {one} is"
        cut = f", and the nearest {k:,} are shown" if within > k else ""
        notes.append(f"{found} within {options.radius} of {options.bits} bits{cut}")
    return notes


def _ranked(
    index: Index, query: Query, side: str, k: int, options: SearchOptions, chosen: Chosen | None
) -> tuple[NDArray[Any], NDArray[Any], list[Stage]]:
    """Return rows and values, best first, and the stages of a funnel or of rescoring."""
    among = None if chosen is None else chosen.among
    if options.radius is not None and (options.method != "hamming" or options.rescoring is not None):
        what = options.method if options.method != "hamming" else "rescoring"
        problem = f"a radius counts differing bits, which {what} does not rank by"
        raise wb.BadOptions(problem, [("radius", problem)], hint="Leave it empty, or choose Hamming alone.")
    if options.rescoring is None:
        rows, values = index.search(
            query.code,
            query.feature,
            side=side,
            bits=options.bits,
            method=options.method,
            k=k,
            radius=options.radius,
            among=among,
        )
        return rows, values, []
    one = index.sides[side]
    if options.rescoring == "features":
        one.features.query(query.feature)  # refused in words if there are none
    lengths: tuple[int, ...] = (options.bits,)
    if options.method == "funnel":
        lengths = stage_lengths(one.prefixes.columns.lengths, options.bits)
    count = len(one) if chosen is None else chosen.count
    survivors = tuple(options.survivors) or survivors_of(k, options.oversampling, count, len(lengths))
    if len(survivors) != len(lengths):
        stages = ", ".join(map(str, lengths))
        raise wb.BadInput(
            f"survivors must be {len(lengths)} numbers, one for each of the stages of {stages} bits, "
            f"got {len(survivors)}"
        )
    found = funnel_search(
        one.prefixes,
        one.features,
        query,
        lengths=lengths,
        survivors=survivors,
        k=k,
        rescore=options.rescoring,
        threads=index.threads,
        among=among,
    )
    return found.rows, found.scores, found.stages


def _stages_note(count: int, stages: Sequence[Stage], side: str) -> str:
    """Return what the stages left, such as "3,828 pictures → 957 by 8 bits → … → 20 by float cosine"."""
    parts = [f"{count:,} {_NOUN[side][count != 1]}"]
    return " → ".join([*parts, *(f"{len(stage.rows):,} by {stage.name}" for stage in stages)])


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
    query: Query,
    named: NDArray[np.int64],
    ranked: tuple[NDArray[Any], NDArray[Any]],
    side: str,
    options: SearchOptions,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return as many rows as were ranked, with the named ones before the others, each in their own order."""
    rows, values = ranked
    by_distance = options.rescoring is None and options.method == "hamming"
    if options.rescoring is None:
        first = index.measure(
            query.code, query.feature, named, side=side, bits=options.bits, method=options.method
        )
    else:
        one = index.sides[side]
        first = rescored(
            one.prefixes, one.features, query, named, bits=options.bits, rescore=options.rescoring
        )
    order = np.lexsort((named, first if by_distance else -first))
    others = ~np.isin(rows, named)
    return (
        np.concatenate([named[order], rows[others]])[: len(rows)],
        np.concatenate([first[order], values[others]])[: len(rows)],
    )


def _hit(index: Index, side: str, row: int, value: float, options: SearchOptions) -> wb.Hit:
    item = index.sides[side].items[int(row)]
    if options.method == "hamming" and options.rescoring is None:
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
    if not query_side or options.rescoring == "bits":
        return None  # nobody has measured how near unrelated pairs are by it
    tails = index.manifest.thresholds.get(files.pair_key(query_side, side), {})
    if not options.by_cosine:
        limit = tails.get(str(options.bits))
        return None if limit is None else int((values <= limit).sum())
    limit = tails.get("cosine")
    return None if limit is None else int((values > limit).sum())
