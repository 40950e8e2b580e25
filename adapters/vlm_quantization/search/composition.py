"""Composed queries: weighted texts, pictures and items, added before the sign is taken, then binarised.

What is added
    The float features, each of unit norm, for cosine; and for codes the distances of their bits from the
    thresholds, each term by the code layer of its own side, whose signs are then the code. Pictures and texts
    have thresholds of their own, so a sum of features has no threshold that is right for both; the distances
    have none left, and both sides have the same scale. Tried on the demo's emoji (3,828 pictures, a model
    trained on them), share of queries whose picture is among the first ten, by Hamming distance at 128 bits
    (by cosine of the summed features):

    ======================================  ====  ========  ==============  ===========  ==========
    query, and how often tried              this  features  centred         signs of     cosine
                                                  (first    features        the terms'
                                                  side's
                                                  code)                     codes
    ======================================  ====  ========  ==============  ===========  ==========
    picture of "man X" − man + woman (177)   .84       .86             .88          .90         .98
    text "man X" − man + woman (177)         .82       .83             .79          .79         .94
    "A" + "B" → the picture "A B" (400)      .72       .72             .69          .60         .89
    English "A" + Korean "B" (96)            .71       .74             .75          .53         .93
    picture of A + word B (261)              .50       .50             .44          .39         .50
    ======================================  ====  ========  ==============  ===========  ==========

    "A B" as one text finds its picture for .81 of the 400 (.93), so one text is better where there is one.
    Two pictures of one kind find more of it than one: .37 of the first ten instead of .30 (cosine .39 and
    .31).

What is taken away
    counts half (:data:`MINUS`). A whole minus takes the query out of the neighbourhood of what it should
    find: of 261 pairs such as cat − black, the picture of "cat" stays among the first ten in .23 by cosine,
    and in .47 with half (.53 without a minus), while that of "black cat" is among them in .03 and .24 (.48).
    Pictures of "man X" − man + woman are found as often with either (.98, .97).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

import workbench as wb
from adapters.vlm_quantization.codes import pack_codes
from adapters.vlm_quantization.search.funnel import Query
from adapters.vlm_quantization.search.queries import (
    answer,
    find_item,
    item_query,
    one_query,
    read_text,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from adapters.vlm_quantization.index.opened import Index
    from adapters.vlm_quantization.search.options import SearchOptions

#: How much a minus of weight 1 takes away.
MINUS = 0.5


#: A sum of unit vectors that is shorter than this share of the largest weight has no direction of its own.
_CANCELLED = 1e-4


class _Part(NamedTuple):
    """One term, encoded."""

    weight: float
    query: Query
    side: str
    note: str = ""
    says_something: bool = True


def search_composed(
    index: Index, terms: Sequence[tuple[float, wb.Term]], k: int, options: SearchOptions
) -> wb.SearchResult:
    """Find pictures or captions by weighted texts, pictures and items; the items are left out of the hits.

    Parameters
    ----------
    index : Index
    terms : sequence of (float, Term)
        See :meth:`workbench.BaseAdapter.compose`; pictures are decoded.
    k : int
        Number of hits, at least 1.
    options : SearchOptions

    Raises
    ------
    workbench.BadInput
        The terms cancel each other out, a text has no letter, digit or emoji, or ``k`` is below 1.
    workbench.NotFound
        The index has no such item.
    """
    items: dict[str, list[int]] = {}
    start = time.perf_counter()
    parts = [_part(index, weight, term, items) for weight, term in terms]
    query = composed_query([(part.weight, part.query) for part in parts])
    took = (time.perf_counter() - start) * 1e3
    # A minus says nothing by itself, so what is searched for must be in a plus.
    something = any(part.says_something for part in parts if part.weight > 0)
    notes = dict.fromkeys(part.note for part in parts if part.note)
    return answer(
        index,
        query,
        # Sums are farther from everything than single things are, so the distances that are near for these
        # would call what "cat − black" finds no good match.
        parts[0].side if len(parts) == 1 else "",
        k,
        options,
        took,
        leave_out=items,
        note="; ".join(notes),
        any_near=something,
    )


def composed_query(parts: Sequence[tuple[float, Query]]) -> Query:
    """Return the weighted sum of queries as one query; a negative weight counts as :data:`MINUS` of it.

    A query whose margins are not known takes part with the bits of its code, as 1 and -1.

    Raises
    ------
    workbench.BadInput
        The terms cancel each other out.
    """
    weights = [weight if weight > 0 else MINUS * weight for weight, _ in parts]
    margins = np.zeros(8 * len(parts[0][1].code))
    for weight, (_, query) in zip(weights, parts, strict=True):
        margins += weight * _margins(query)
    known = [query.feature.astype(np.float64) for _, query in parts if query.feature is not None]
    # A term without features leaves codes alone to search by.
    features = np.array(weights) @ np.array(known) if len(known) == len(parts) else None
    norm = np.linalg.norm(margins if features is None else features)
    if not norm > _CANCELLED * max(map(abs, weights)):
        raise wb.BadInput(
            "the terms cancel each other out, so nothing is left to search for",
            hint="Take away less, or something else.",
        )
    return Query(
        pack_codes(margins[None] >= 0)[0],
        None if features is None else (features / norm).astype(np.float32),
        margins.astype(np.float32),
    )


def _margins(query: Query) -> NDArray[np.float64]:
    if query.margins is None:
        return np.unpackbits(query.code).astype(np.float64) * 2 - 1
    return query.margins.astype(np.float64)


def _part(index: Index, weight: float, term: wb.Term, items: dict[str, list[int]]) -> _Part:
    """Return a term encoded; the row of an item is added to those that are left out."""
    if term.by == "item":
        side, row = find_item(index, term.value)
        items.setdefault(side, []).append(row)
        return _Part(weight, item_query(index, side, row), side)
    if term.by == "text":
        read = read_text(index, term.value)
        query = one_query(index, read.encoded, "captions")
        return _Part(weight, query, "captions", read.note, read.says_something)
    encoded = index.encoder.encode_images([term.value])
    return _Part(weight, one_query(index, encoded, "images"), "images")
