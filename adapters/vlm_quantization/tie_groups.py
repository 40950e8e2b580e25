"""Rankings reduced to tie groups, and metrics of tie groups in closed form.

A ranking by Hamming distance is full of ties. All that a metric needs of it are its *tie groups*: how many
items lie at one distance and how many of those are relevant. For codes these are histograms of distances, and
one pass over the packed bytes yields them for all lengths, since a short code is the first bytes of the long
one; nothing is sorted. For float scores they come from one sort, and equal scores are ties too. Groups
without a relevant item add nothing to precision, recall or average precision and are dropped at once.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Query-gallery pairs looked at together. The working arrays take about 25 bytes a pair, whatever the
#: numbers of queries and items; this many fit a processor's cache and leave little to call overhead.
PAIRS_PER_CHUNK = 1 << 18

#: Queries whose histograms are turned into metrics together; they take at most 6 KiB a query.
QUERIES_PER_BLOCK = 1024


class Relevance(Protocol):
    """Who is relevant to whom, a block of queries at a time."""

    words: str
    n_queries: int
    n_gallery: int

    def block(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return who is relevant to the queries of a range, bool (stop - start, n_gallery)."""


@dataclass(frozen=True)
class TieGroups:
    """The tie groups that hold a relevant item, of a range of queries; all arrays have shape (g,).

    ``query`` counts from the start of the range; ``size`` items of which ``relevant`` are relevant share one
    distance; ``before`` items, ``found`` of them relevant, are nearer.
    """

    query: NDArray[np.int64]
    size: NDArray[np.float64]
    relevant: NDArray[np.float64]
    before: NDArray[np.float64]
    found: NDArray[np.float64]


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


def _counted_together(lengths: Sequence[int], n_gallery: int) -> list[list[int]]:
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
            bins = 2 * (length + 1)
        before = length
    return runs


def code_groups(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    lengths: Sequence[int],
) -> Iterator[tuple[int, int, int, TieGroups]]:
    """Yield ``(start, stop, length, groups)`` for ranges of queries and every length, by Hamming distance.

    Parameters
    ----------
    query_codes, gallery_codes : ndarray, uint8, shape (n, w)
        Packed codes.
    relevance : Relevance
        Who is relevant to whom.
    lengths : sequence of int
        Code lengths in bits, ascending multiples of 8.
    """
    n_gallery = len(gallery_codes)
    runs = _counted_together(lengths, n_gallery)
    query_words, gallery_words = _words(query_codes, lengths), _words(gallery_codes, lengths)
    rows = max(1, PAIRS_PER_CHUNK // n_gallery)
    for first, last in _ranges(len(query_codes), QUERIES_PER_BLOCK):
        counts = {length: np.empty((last - first, length + 1, 2), np.intp) for length in lengths}
        for start, stop in _ranges(last, rows, first):
            relevant = relevance.block(start, stop)
            added = (
                _differing([word[start:stop] for word in of_queries], of_gallery)
                for of_queries, of_gallery in zip(query_words, gallery_words, strict=True)
            )
            for length, histogram in _histograms(added, relevant, runs):
                counts[length][start - first : stop - first] = histogram
        for length in lengths:
            yield first, last, length, _from_histogram(counts[length])


def _differing(queries: Sequence[NDArray[Any]], gallery: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """Return how many bits differ in some words of two codes, (queries, gallery)."""
    differing = [np.bitwise_count(one[:, None] ^ other) for one, other in zip(queries, gallery, strict=True)]
    for more in differing[1:]:
        differing[0] += more
    return differing[0]


def _histograms(
    added: Iterator[NDArray[np.uint8]], relevant: NDArray[np.bool_], runs: Sequence[Sequence[int]]
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Yield each length with its counts (queries, distances, 2): not relevant, relevant.

    ``added`` yields what each length adds to the distance of the one before.
    """
    rows = len(relevant)
    distance = np.zeros(relevant.shape, np.uint8)
    for run in runs:
        # A pair's bin, its last digit first: whether it is relevant, its distance at the first length of the
        # run, and what each further length adds. In this order all that follows reads memory in sequence.
        distance += next(added)
        bins = distance.astype(np.int16)
        bins += distance
        bins += relevant
        size = 2 * (run[0] + 1)
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
                folded = np.zeros((*joint.shape[:-2], 2 * (length + 1)), np.intp)
                for more in range(joint.shape[-2]):
                    folded[..., 2 * more : 2 * more + joint.shape[-1]] += joint[..., more, :]
                joint = folded
            counts = joint.reshape(rows, -1, 2 * (length + 1)).sum(axis=1)
            yield length, counts.reshape(rows, length + 1, 2)


def _from_histogram(counts: NDArray[np.intp]) -> TieGroups:
    """Return the groups of counts (queries, distances, 2): not relevant, relevant."""
    relevant = counts[:, :, 1]
    size = counts.sum(axis=2)
    query, distance = np.nonzero(relevant)
    return TieGroups(
        query,
        size[query, distance].astype(np.float64),
        relevant[query, distance].astype(np.float64),
        (size.cumsum(axis=1) - size)[query, distance].astype(np.float64),
        (relevant.cumsum(axis=1) - relevant)[query, distance].astype(np.float64),
    )


def score_groups(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], relevance: Relevance
) -> Iterator[tuple[int, int, TieGroups]]:
    """Yield ``(start, stop, groups)`` for ranges of queries, by inner product of float32 rows."""
    # A matrix product may round equal rows differently by where they stand. Multiplying each distinct row
    # once, in sorted order, makes duplicates tie exactly and makes the gallery's order immaterial.
    whole_row = np.dtype((np.void, gallery.dtype.itemsize * gallery.shape[1]))
    as_bytes = np.ascontiguousarray(gallery).view(whole_row)
    _, first, inverse = np.unique(as_bytes[:, 0], return_index=True, return_inverse=True)
    distinct = np.ascontiguousarray(gallery[first].T)
    rows = max(1, PAIRS_PER_CHUNK // len(gallery))
    # A product of few rows leaves most of the processor idle: multiply for several chunks at once.
    for first, last in _ranges(len(queries), 16 * rows):
        products = queries[first:last] @ distinct
        for start, stop in _ranges(last, rows, first):
            scores = np.take(products[start - first : stop - first], inverse, axis=1)
            scores += np.float32(0)  # no negative zero
            yield start, stop, _from_scores(scores, relevance.block(start, stop))


def _from_scores(scores: NDArray[np.float32], relevant: NDArray[np.bool_]) -> TieGroups:
    """Return the groups of equal scores, the highest first."""
    rows, n = scores.shape
    # The bits of a float32 as an integer, made to descend with the score; the lowest bit says relevant.
    # Sorting these integers in place is several times faster than an argsort.
    as_int = scores.view(np.int32)
    ascending = np.where(as_int >= 0, as_int, np.int32(-(2**31)) - as_int).astype(np.int64)
    keys = (-ascending << 1) | relevant
    keys.sort(axis=1)
    hit = (keys & 1).astype(bool)
    keys >>= 1
    opens = np.ones((rows, n), bool)
    np.not_equal(keys[:, 1:], keys[:, :-1], out=opens[:, 1:])

    starts = np.flatnonzero(opens)
    size = np.diff(starts, append=rows * n)
    hits_before = np.concatenate([[0], np.cumsum(hit)])
    group_hits = hits_before[starts + size] - hits_before[starts]
    kept = np.flatnonzero(group_hits)
    starts, query = starts[kept], starts[kept] // n
    return TieGroups(
        query,
        size[kept].astype(np.float64),
        group_hits[kept].astype(np.float64),
        (starts - query * n).astype(np.float64),
        (hits_before[starts] - hits_before[query * n]).astype(np.float64),
    )


@functools.lru_cache(maxsize=4)
def _harmonic(n: int) -> NDArray[np.float64]:
    """Return the harmonic numbers H(0) … H(n)."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])


@functools.lru_cache(maxsize=4)
def _log_factorial(n: int) -> NDArray[np.float64]:
    """Return log 0! … log n!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def average_precision(
    groups: TieGroups, relevant: NDArray[np.float64], n_gallery: int
) -> NDArray[np.float64]:
    """Return expected, lowest and highest AP of each query, (3, queries).

    A group of n items, r of them relevant, after N items with R relevant: its i-th place holds a relevant
    item with probability r/n, and then (i-1)(r-1)/(n-1) relevant ones are expected before it in the group.
    Summed over i, the precisions are harmonic sums:
    ``r/n · [(R+1)·h + (r-1)/(n-1) · (n - (N+1)·h)]`` with ``h = H(N+n) - H(N)``.
    """
    harmonic = _harmonic(n_gallery)
    n, r, before, found = groups.size, groups.relevant, groups.before, groups.found
    start, end = before.astype(np.intp), (before + n).astype(np.intp)
    h = harmonic[end] - harmonic[start]
    slope = (r - 1) / np.maximum(n - 1, 1)
    expected = r / n * ((found + 1) * h + slope * (n - (before + 1) * h))
    # All relevant ones first, or last: the j-th adds (R+j) / (N+j), or (R+j) / (N+n-r+j).
    after_first = (before + r).astype(np.intp)
    high = r + (found - before) * (harmonic[after_first] - harmonic[start])
    before_last = before + n - r
    low = r + (found - before_last) * (harmonic[end] - harmonic[before_last.astype(np.intp)])
    sums = [np.bincount(groups.query, part, minlength=len(relevant)) for part in (expected, low, high)]
    return np.stack(sums) / relevant


def within(
    groups: TieGroups, k: int, n_queries: int, n_gallery: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, each as (3, queries): relevant items among the first k, and whether there is any.

    Of a group of n items, m lie within the first k; how many of its r relevant ones do is hypergeometric,
    with mean m·r/n, and none does with probability C(n-r, m) / C(n, m).
    """
    at = np.flatnonzero(groups.before < k)
    query, n, r = groups.query[at], groups.size[at], groups.relevant[at]
    m = np.minimum(k - groups.before[at], n)
    surely, at_most = np.maximum(m - (n - r), 0), np.minimum(m, r)
    sums = [np.bincount(query, part, minlength=n_queries) for part in (m * r / n, surely, at_most)]

    log_factorial = _log_factorial(n_gallery)
    # No order within the ties misses when more items are taken than there are irrelevant ones.
    rest, taken, size = (x.astype(np.intp) for x in (np.maximum(n - r - m, 0), m, n))
    log_missed = (
        log_factorial[(n - r).astype(np.intp)]
        - log_factorial[rest]
        - log_factorial[size]
        + log_factorial[size - taken]
    )
    chance = np.where(surely > 0, 1.0, -np.expm1(log_missed))
    found_any = np.zeros((3, n_queries))
    # Only the group at the cut is left to chance, so the best group of a query is the answer.
    for row, part in zip(found_any, (chance, surely > 0, at_most > 0), strict=True):
        np.maximum.at(row, query, part.astype(np.float64))
    return np.stack(sums), np.clip(found_any, 0.0, 1.0)
