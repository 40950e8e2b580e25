"""Rankings reduced to tie groups: how many items lie at one distance, and how many of them are relevant.

A ranking by Hamming distance is full of ties. All that a metric needs of it are its *tie groups*. For codes
these are histograms of distances, and one pass over the packed bytes yields them for all lengths, since a
short code is the first bytes of the long one; nothing is sorted. For float scores they come from one sort,
and equal scores are ties too. Groups without a relevant item add nothing to any metric but precision within a
radius, and are dropped at once.

Where a protocol wants ties in the order of ids, a ranking is sorted after all, and each relevant item becomes
a group of its own; the same formulas (:mod:`adapters.vlm_quantization.metrics`) then have no choice left.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.relevance import Relevance

#: Query-gallery pairs looked at together. The working arrays take about 25 bytes a pair, whatever the
#: numbers of queries and items; this many fit a processor's cache and leave little to call overhead.
PAIRS_PER_CHUNK = 1 << 18

#: Bins of histograms (queries times distances times grades) that are turned into metrics together; this is
#: 1,024 queries of 128 bits and two grades.
BINS_PER_BLOCK = 1 << 18

#: Scores of the queries of a range, float32 (stop - start, n_gallery); higher is nearer.
Scorer = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class TieGroups:
    """The tie groups that hold a relevant item, of a range of queries, in the order of their rank.

    Attributes
    ----------
    query : ndarray, int64, shape (g,)
        Counts from the start of the range, ascending.
    size, relevant : ndarray, float64, shape (g,)
        So many items share one distance, so many of them are relevant.
    before, found : ndarray, float64, shape (g,)
        So many items are nearer, so many of those are relevant.
    grades : ndarray, float64, shape (g, levels - 1)
        How many of the relevant items have each grade from 1.
    single : bool
        Whether every group is one item, so that there is one order only.
    """

    query: NDArray[np.int64]
    size: NDArray[np.float64]
    relevant: NDArray[np.float64]
    before: NDArray[np.float64]
    found: NDArray[np.float64]
    grades: NDArray[np.float64]
    single: bool = False

    def up_to(self, before: int, found: int | None = None) -> TieGroups:
        """Return the groups with fewer than ``before`` items, and ``found`` relevant ones, nearer."""
        keep = self.before < before
        if found is not None:
            keep &= self.found < found
        return self if keep.all() else self.taken(np.flatnonzero(keep))

    def taken(self, rows: NDArray[np.int64]) -> TieGroups:
        """Return some of the groups."""
        return TieGroups(
            self.query[rows],
            self.size[rows],
            self.relevant[rows],
            self.before[rows],
            self.found[rows],
            self.grades[rows],
            single=self.single,
        )


def _ranges(stop: int, step: int, start: int = 0) -> Iterator[tuple[int, int]]:
    for at in range(start, stop, step):
        yield at, min(at + step, stop)


def _words(codes: NDArray[np.uint8], lengths: Sequence[int]) -> list[list[NDArray[Any]]]:
    """Return, for each length, the columns it adds to the one before, in the widest words that fit."""
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

    Counting costs most of the time, and does so by the pair, so lengths share a count while their joint
    histogram has fewer bins than the gallery has items (and a bin fits 16 bits).
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
        Who is relevant to whom.
    lengths : sequence of int
        Code lengths in bits, ascending multiples of 8.
    itself : ndarray, int64, shape (n_queries,), optional
        The row of the gallery that is the query itself and is left out; -1 where there is none.

    Yields
    ------
    counts : ndarray, int, shape (stop - start, length + 1, levels)
        Items at each distance by grade, 0 first.
    """
    n_gallery, levels = len(gallery_codes), relevance.levels
    runs = _counted_together(lengths, n_gallery, levels)
    query_words, gallery_words = _words(query_codes, lengths), _words(gallery_codes, lengths)
    rows = max(1, PAIRS_PER_CHUNK // n_gallery)
    block = max(1, BINS_PER_BLOCK // ((max(lengths) + 1) * levels))
    for first, last in _ranges(len(query_codes), block):
        counts = {length: np.empty((last - first, length + 1, levels), np.intp) for length in lengths}
        own = np.zeros(last - first, np.uint8)
        for start, stop in _ranges(last, rows, first):
            grades = relevance.block(start, stop)
            added = (
                _differing([word[start:stop] for word in of_queries], of_gallery)
                for of_queries, of_gallery in zip(query_words, gallery_words, strict=True)
            )
            for length, histogram in _histograms(added, grades, runs, levels):
                counts[length][start - first : stop - first] = histogram
            if itself is not None:
                own[start - first : stop - first] = grades[np.arange(stop - start), itself[start:stop]]
        for length in lengths:
            if itself is not None:
                there = np.flatnonzero(itself[first:last] >= 0)
                one = query_codes[first:last][there, : length // 8]
                other = gallery_codes[itself[first:last][there], : length // 8]
                distance = np.bitwise_count(one ^ other).sum(axis=1)
                counts[length][there, distance, own[there]] -= 1
            yield first, last, length, _from_histogram(counts[length]), counts[length]


def _differing(queries: Sequence[NDArray[Any]], gallery: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """Return how many bits differ in some words of two codes, (queries, gallery)."""
    differing: list[NDArray[np.uint8]] = [
        np.bitwise_count(one[:, None] ^ other) for one, other in zip(queries, gallery, strict=True)
    ]
    for more in differing[1:]:
        differing[0] += more
    return differing[0]


def _histograms(
    added: Iterator[NDArray[np.uint8]],
    grades: NDArray[np.bool_] | NDArray[np.uint8],
    runs: Sequence[Sequence[int]],
    levels: int,
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield each length with its counts (queries, distances, grades).

    ``added`` yields what each length adds to the distance of the one before.
    """
    rows = len(grades)
    distance = np.zeros(grades.shape, np.uint8)
    for run in runs:
        # A pair's bin, its last digit first: its grade, its distance at the first length of the run, and what
        # each further length adds. In this order all that follows reads memory in sequence.
        distance += next(added)
        bins = distance.astype(np.int16)
        if levels == 2:  # adding is quicker than multiplying
            bins += distance
        else:
            bins *= np.int16(levels)
        bins += grades
        size = levels * (run[0] + 1)
        shape = [size]
        for shorter, longer in itertools.pairwise(run):
            more = next(added)
            distance += more
            bins += np.multiply(more, np.int16(size), dtype=np.int16)
            shape.insert(0, longer - shorter + 1)
            size *= shape[0]
        keys = bins + np.arange(0, rows * size, size)[:, None]
        joint = np.bincount(keys.ravel(), minlength=rows * size).reshape(rows, *shape)
        for at, length in enumerate(run):
            if at:  # fold what this length adds into the distance
                folded = np.zeros((*joint.shape[:-2], levels * (length + 1)), np.intp)
                for step in range(joint.shape[-2]):
                    folded[..., levels * step : levels * step + joint.shape[-1]] += joint[..., step, :]
                joint = folded
            counts = joint.reshape(rows, -1, levels * (length + 1)).sum(axis=1)
            yield length, counts.reshape(rows, length + 1, levels)


def _from_histogram(counts: NDArray[np.intp]) -> TieGroups:
    """Return the groups of counts (queries, distances, grades)."""
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
    """Yield ``(start, stop, length, groups)`` with items of one distance in the order of their rows.

    As :func:`code_groups`, but each relevant item is a group of its own.
    """
    n_gallery, levels = len(gallery_codes), relevance.levels
    query_words, gallery_words = _words(query_codes, lengths), _words(gallery_codes, lengths)
    low = int(levels - 1).bit_length()
    high = low + int(n_gallery).bit_length()
    kind: type[np.unsignedinteger[Any]] = np.uint32 if high + 8 <= 32 else np.uint64
    rows = np.arange(n_gallery, dtype=kind) << kind(low)
    for start, stop in _ranges(len(query_codes), max(1, PAIRS_PER_CHUNK // n_gallery)):
        grades = relevance.block(start, stop)
        distance = np.zeros(grades.shape, np.uint8)
        for length, of_queries, of_gallery in zip(lengths, query_words, gallery_words, strict=True):
            distance += _differing([word[start:stop] for word in of_queries], of_gallery)
            ranked = distance
            if itself is not None:  # the query itself stands last, beyond every distance, and is irrelevant
                ranked, grades = _without(distance, grades, itself[start:stop], 255)
            # Distance, row and grade in one number: sorting that in place is many times faster than an
            # argsort.
            keys = ranked.astype(kind) << kind(high)
            keys |= rows
            keys |= grades
            keys.sort(axis=1)
            yield start, stop, length, _singles(keys & kind((1 << low) - 1), levels)


def _without(values: Any, grades: Any, itself: NDArray[np.int64], last: float) -> tuple[Any, Any]:
    """Return values and grades with the queries themselves at the end of the ranking, not relevant."""
    there = np.flatnonzero(itself >= 0)
    values, grades = values.copy(), grades.copy()
    values[there, itself[there]] = last
    grades[there, itself[there]] = 0
    return values, grades


def _singles(ranked: NDArray[Any], levels: int) -> TieGroups:
    """Return a group for each relevant item of ranked grades (queries, items)."""
    query, place = np.nonzero(ranked)
    starts = np.searchsorted(query, np.arange(len(ranked)))
    found = np.arange(len(query)) - starts[query]
    ones = np.ones(len(query))
    if levels == 2:
        grades = ones[:, None]
    else:
        grades = (ranked[query, place][:, None] == np.arange(1, levels)).astype(np.float64)
    return TieGroups(
        query, ones, ones, place.astype(np.float64), found.astype(np.float64), grades, single=True
    )


def cosine_scorer(queries: NDArray[np.float32], gallery: NDArray[np.float32]) -> Scorer:
    """Return the inner products of rows, so computed that equal rows of the gallery tie exactly.

    A matrix product may round equal rows differently by where they stand. Multiplying each distinct row once,
    in sorted order, makes duplicates tie and makes the gallery's order immaterial.

    Parameters
    ----------
    queries, gallery : ndarray, float32, shape (n, d)
    """
    whole_row = np.dtype((np.void, gallery.dtype.itemsize * gallery.shape[1]))
    as_bytes = np.ascontiguousarray(gallery).view(whole_row)
    _, first, inverse = np.unique(as_bytes[:, 0], return_index=True, return_inverse=True)
    distinct = np.ascontiguousarray(gallery[first].T)

    def scores(start: int, stop: int) -> NDArray[np.float32]:
        return np.take(queries[start:stop] @ distinct, inverse, axis=1)

    return scores


def score_groups(
    scorer: Scorer,
    relevance: Relevance,
    itself: NDArray[np.int64] | None = None,
    *,
    by_row: bool = False,
) -> Iterator[tuple[int, int, TieGroups]]:
    """Yield ``(start, stop, groups)`` for ranges of queries, by float scores, the highest first.

    Parameters
    ----------
    scorer : callable
        ``scorer(start, stop)`` returns float32 (stop - start, n_gallery); equal scores are ties.
    relevance : Relevance
        Who is relevant to whom.
    itself : ndarray, int64, shape (n_queries,), optional
        As for :func:`code_groups`.
    by_row : bool
        Order items of one score by their rows instead of keeping them tied.
    """
    rows = max(1, PAIRS_PER_CHUNK // relevance.n_gallery)
    # A product of few rows leaves most of the processor idle: multiply for several chunks at once.
    for first, last in _ranges(relevance.n_queries, 16 * rows):
        products = scorer(first, last)
        for start, stop in _ranges(last, rows, first):
            scores = products[start - first : stop - first] + np.float32(0)  # no negative zero
            grades = relevance.block(start, stop)
            if itself is not None:
                scores, grades = _without(scores, grades, itself[start:stop], -np.inf)
            ranked = _ordered(scores, grades, relevance.levels) if by_row else None
            yield start, stop, ranked or _from_scores(scores, grades, relevance.levels)


def _descending(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return whole numbers that ascend where the scores descend."""
    as_int = scores.view(np.int32)
    ascending = np.where(as_int >= 0, as_int, np.int32(-(2**31)) - as_int).astype(np.int64)
    return np.negative(ascending, out=ascending)


def _ordered(scores: NDArray[np.float32], grades: Any, levels: int) -> TieGroups:
    keys = _descending(scores) << 32
    keys |= np.arange(scores.shape[1])
    keys.sort(axis=1)
    order = keys & (2**32 - 1)
    return _singles(np.take_along_axis(grades, order, axis=1), levels)


def _from_scores(scores: NDArray[np.float32], grades: Any, levels: int) -> TieGroups:
    """Return the groups of equal scores, the highest first."""
    rows, n = scores.shape
    # The bits of a float32 as an integer that descends with the score; the lowest bits say the grade. Sorting
    # these integers in place is several times faster than an argsort.
    shift = int(levels - 1).bit_length()
    keys = (_descending(scores) << shift) | grades
    keys.sort(axis=1)
    grade = keys & ((1 << shift) - 1)
    keys >>= shift
    opens = np.ones((rows, n), bool)
    np.not_equal(keys[:, 1:], keys[:, :-1], out=opens[:, 1:])

    starts = np.flatnonzero(opens)
    size = np.diff(starts, append=rows * n)
    hits_before = np.concatenate([[0], np.cumsum(grade > 0)])
    group_hits = hits_before[starts + size] - hits_before[starts]
    kept = np.flatnonzero(group_hits)
    starts, query = starts[kept], starts[kept] // n
    by_grade = group_hits[kept].astype(np.float64)[:, None]
    if levels > 2:
        flat = grade.ravel()
        sums = [np.concatenate([[0], np.cumsum(flat == level)]) for level in range(1, levels)]
        by_grade = np.stack([one[starts + size[kept]] - one[starts] for one in sums], axis=1).astype(float)
    return TieGroups(
        query,
        size[kept].astype(np.float64),
        group_hits[kept].astype(np.float64),
        (starts - query * n).astype(np.float64),
        (hits_before[starts] - hits_before[query * n]).astype(np.float64),
        by_grade,
    )
