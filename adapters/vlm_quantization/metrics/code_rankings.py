"""Rankings of codes by Hamming distance, as tie groups."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.metrics.relevance import Relevance
from adapters.vlm_quantization.metrics.tie_groups import (
    PAIRS_PER_CHUNK,
    TieGroups,
    index_ranges,
    single_items,
    without_rows,
)
from adapters.vlm_quantization.neighbours.by_numba import NumbaCounts, is_ready, prepare
from adapters.vlm_quantization.neighbours.columns import Columns

#: Histogram bins (queries times distances times grades) that are turned into metrics at once; about 1,024
#: queries at 128 bits and two grades.
BINS_PER_BLOCK = 1 << 18

#: Query-gallery pairs per call of the compiled count: their grades, a byte per pair, are what it takes.
PAIRS_PER_CALL = 1 << 20

#: From this number of query-gallery pairs on (a quarter of a second), the compiled count is loaded.
COMPILED_PAIRS = 1 << 25


def _words(codes: NDArray[np.uint8], lengths: Sequence[int]) -> list[list[NDArray[Any]]]:
    """Return, for each length, the columns it adds to the previous length, in the widest words that fit."""
    columns: list[list[NDArray[Any]]] = []
    done = 0
    for length in lengths:
        added = []
        while done < length // 8:
            width = next(width for width in (8, 4, 2, 1) if done + width <= length // 8)
            part = np.ascontiguousarray(codes[:, done : done + width])
            added.append(part.view(f"u{width}")[:, 0].copy())
            done += width
        columns.append(added)
    return columns


def _counted_together(lengths: Sequence[int], n_gallery: int, levels: int = 2) -> list[list[int]]:
    """Split lengths into runs whose distances are counted in one joint histogram.

    Counting takes most of the time, in proportion to the pairs, so lengths share one count while their joint
    histogram has no more bins than the gallery has items (and a bin index fits in 16 bits).
    """
    runs: list[list[int]] = []
    bins = 0
    before = 0
    for length in lengths:
        joint = bins * (length - before + 1)
        if runs and joint <= min(n_gallery, 2**15):
            runs[-1].append(length)
            bins = joint
        else:
            runs.append([length])
            bins = levels * (length + 1)
        before = length
    return runs


def code_groups(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    lengths: Sequence[int],
    itself: NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, int, int, TieGroups, NDArray[np.intp]]]:
    """Yield ``(start, stop, length, groups, counts)`` for ranges of queries and every length.

    Parameters
    ----------
    query_codes, gallery_codes : ndarray, uint8, shape (n, w)
        Packed codes, ranked by Hamming distance.
    relevance : Relevance
        Relevant items of each query.
    lengths : sequence of int
        Code lengths in bits, ascending multiples of 8.
    itself : ndarray, int64, shape (n_queries,), optional
        The row of each query in the gallery, left out of its ranking; -1 for a query not in the gallery.

    Yields
    ------
    counts : ndarray, int, shape (stop - start, length + 1, levels)
        Items at each distance by grade, 0 first.
    """
    n_gallery, levels = len(gallery_codes), relevance.levels
    runs = _counted_together(lengths, n_gallery, levels)
    query_words, gallery_words = _words(query_codes, lengths), _words(gallery_codes, lengths)
    counter: NumbaCounts | None = None
    if len(query_codes) * n_gallery >= COMPILED_PAIRS and NumbaCounts.can_count(runs, levels):
        prepare()
    block = max(1, BINS_PER_BLOCK // ((max(lengths) + 1) * levels))
    for first, last in index_ranges(len(query_codes), block):
        counts = {length: np.empty((last - first, length + 1, levels), np.intp) for length in lengths}
        own = np.zeros(last - first, np.uint8)
        start = first
        while start < last:
            if counter is None and is_ready() and NumbaCounts.can_count(runs, levels):
                counter = NumbaCounts(Columns.of_table(gallery_codes, lengths), runs, levels)
            pairs = PAIRS_PER_CALL if counter else PAIRS_PER_CHUNK
            stop = min(last, start + max(1, pairs // n_gallery))
            grades = relevance.block(start, stop)
            if counter is None:  # numpy counts, too, until the compiled code is loaded
                added = (
                    _differing([word[start:stop] for word in of_queries], of_gallery)
                    for of_queries, of_gallery in zip(query_words, gallery_words, strict=True)
                )
                parts = _by_length(_joint_histograms(added, grades, runs, levels), runs, levels)
            else:
                parts = iter(counter.count(query_codes[start:stop], grades))
            for length, part in zip(lengths, parts, strict=True):
                counts[length][start - first : stop - first] = part
            if itself is not None:
                own[start - first : stop - first] = grades[np.arange(stop - start), itself[start:stop]]
            start = stop
        for length in lengths:
            if itself is not None:
                inside = np.flatnonzero(itself[first:last] >= 0)
                one = query_codes[first:last][inside, : length // 8]
                other = gallery_codes[itself[first:last][inside], : length // 8]
                distance = np.bitwise_count(one ^ other).sum(axis=1)
                counts[length][inside, distance, own[inside]] -= 1
            yield first, last, length, _from_histogram(counts[length]), counts[length]


def _differing(queries: Sequence[NDArray[Any]], gallery: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """Return the number of differing bits in some words of two codes, (queries, gallery)."""
    differing: list[NDArray[np.uint8]] = [
        np.bitwise_count(one[:, None] ^ other) for one, other in zip(queries, gallery, strict=True)
    ]
    for more in differing[1:]:
        differing[0] += more
    return differing[0]


def _joint_histograms(
    added: Iterator[NDArray[np.uint8]],
    grades: NDArray[np.bool_] | NDArray[np.uint8],
    runs: Sequence[Sequence[int]],
    levels: int,
) -> Iterator[NDArray[np.intp]]:
    """Yield the joint histogram of each run of lengths, (queries, bins).

    The bin of a pair is, last digit first: its grade, its distance at the first length of the run, and what
    each further length adds. ``added`` yields what each length adds to the distance at the previous length.
    """
    rows = len(grades)
    distance = np.zeros(grades.shape, np.uint8)
    for run in runs:
        # In this order of digits, all later steps read memory sequentially.
        distance += next(added)
        bins = distance.astype(np.int16)
        if levels == 2:  # adding is faster than multiplying
            bins += distance
        else:
            bins *= np.int16(levels)
        bins += grades
        size = levels * (run[0] + 1)
        for shorter, longer in itertools.pairwise(run):
            more = next(added)
            distance += more
            bins += np.multiply(more, np.int16(size), dtype=np.int16)
            size *= longer - shorter + 1
        keys = bins + np.arange(0, rows * size, size)[:, None]
        yield np.bincount(keys.ravel(), minlength=rows * size).reshape(rows, size)


def _by_length(
    joints: Iterator[NDArray[np.intp]], runs: Sequence[Sequence[int]], levels: int
) -> Iterator[NDArray[np.intp]]:
    """Yield the counts of each length, (queries, distances, grades), of the joint histograms of the runs."""
    for run, joint in zip(runs, joints, strict=True):
        rows = len(joint)
        digits = [longer - shorter + 1 for shorter, longer in itertools.pairwise(run)]
        joint = joint.reshape(rows, *digits[::-1], levels * (run[0] + 1))
        for at, length in enumerate(run):
            if at:  # fold this length's part into the distance
                folded = np.zeros((*joint.shape[:-2], levels * (length + 1)), np.intp)
                for step in range(joint.shape[-2]):
                    folded[..., levels * step : levels * step + joint.shape[-1]] += joint[..., step, :]
                joint = folded
            counts = joint.reshape(rows, -1, levels * (length + 1)).sum(axis=1)
            yield counts.reshape(rows, length + 1, levels)


def _from_histogram(counts: NDArray[np.intp]) -> TieGroups:
    """Return the tie groups of counts (queries, distances, grades)."""
    relevant = counts[:, :, 1:].sum(axis=2) if counts.shape[2] > 2 else counts[:, :, 1]
    size = counts[:, :, 0] + relevant
    query, distance = np.nonzero(relevant)
    return TieGroups(
        query,
        size[query, distance].astype(np.float64),
        relevant[query, distance].astype(np.float64),
        (size.cumsum(axis=1) - size)[query, distance].astype(np.float64),
        (relevant.cumsum(axis=1) - relevant)[query, distance].astype(np.float64),
        counts[query, distance, 1:].astype(np.float64),
    )


def code_orders(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    lengths: Sequence[int],
    itself: NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, int, int, TieGroups]]:
    """Yield ``(start, stop, length, groups)`` with items at equal distance in the order of their rows.

    As :func:`code_groups`, but each relevant item is a separate group.
    """
    n_gallery, levels = len(gallery_codes), relevance.levels
    query_words, gallery_words = _words(query_codes, lengths), _words(gallery_codes, lengths)
    low = int(levels - 1).bit_length()
    high = low + int(n_gallery).bit_length()
    kind: type[np.unsignedinteger[Any]] = np.uint32 if high + 8 <= 32 else np.uint64
    rows = np.arange(n_gallery, dtype=kind) << kind(low)
    for start, stop in index_ranges(len(query_codes), max(1, PAIRS_PER_CHUNK // n_gallery)):
        grades = relevance.block(start, stop)
        distance = np.zeros(grades.shape, np.uint8)
        for length, of_queries, of_gallery in zip(lengths, query_words, gallery_words, strict=True):
            distance += _differing([word[start:stop] for word in of_queries], of_gallery)
            ranked = distance
            if itself is not None:  # the query itself ranks last, beyond every distance, and is irrelevant
                ranked, grades = without_rows(distance, grades, itself[start:stop], 255)
            # Distance, row and grade packed into one number: sorting it in place is many times faster than
            # an argsort.
            keys = ranked.astype(kind) << kind(high)
            keys |= rows
            keys |= grades
            keys.sort(axis=1)
            yield start, stop, length, single_items(keys & kind((1 << low) - 1), levels)
