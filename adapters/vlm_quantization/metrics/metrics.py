"""Retrieval metrics of tie groups in closed form: expected, worst and best over all orders within the ties.

Every function returns three rows, with one column per query: the expectation over all orders of tied items
(McSherry and Najork, ECIR 2008; He, Cakir, Bargal and Sclaroff, CVPR 2018), and the minimum and the maximum
over the orders. Queries without a relevant item have the value zero; the protocol decides how they count.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.vlm_quantization.metrics.tie_groups import TieGroups

#: Elements of the working arrays for sums over the positions within a group that have no closed form.
ELEMENTS_AT_ONCE = 1 << 21


#: A probability below exp(-this) is negligible in a float64 sum.
_NOTHING = 40.0


Three = NDArray[np.float64]


@functools.lru_cache(maxsize=4)
def _harmonic(n: int) -> NDArray[np.float64]:
    """Return the harmonic numbers H(0) … H(n)."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])


@functools.lru_cache(maxsize=4)
def _log_factorial(n: int) -> NDArray[np.float64]:
    """Return log 0! … log n!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


@functools.lru_cache(maxsize=4)
def _discounts(n: int) -> NDArray[np.float64]:
    """Return the sums of 1 / log2(rank + 1) over the first 0 … n ranks."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, n + 2)))])


def _log_choose(n: Any, k: Any, n_gallery: int) -> NDArray[np.float64]:
    """Return log C(n, k) of whole numbers up to the gallery; minus infinity where k is out of range."""
    table = _log_factorial(n_gallery + 1)
    n, k = np.asarray(n, np.int64), np.asarray(k, np.int64)
    inside = (k >= 0) & (k <= n) & (n >= 0)
    k, n = np.where(inside, k, 0), np.where(inside, n, 0)
    out: NDArray[np.float64] = np.where(inside, table[n] - table[k] - table[n - k], -np.inf)
    return out


def _summed(groups: TieGroups, parts: Sequence[NDArray[np.float64]], n_queries: int) -> Three:
    return np.stack([np.bincount(groups.query, part, minlength=n_queries) for part in parts])


def _precisions(
    groups: TieGroups, places: NDArray[np.float64], n_gallery: int, hits: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the sums of precisions at relevant items on the first ``places`` positions of each group.

    Take a group of n items, r of them relevant, after N items with R relevant. Its i-th position holds a
    relevant item with probability r/n, and then (i-1)(r-1)/(n-1) relevant ones are expected before it in the
    group. Summed over the first m positions, the precisions are harmonic sums:
    ``r/n · [(R+1)·h + (r-1)/(n-1) · (m - (N+1)·h)]`` with ``h = H(N+m) - H(N)``.

    ``hits``, if passed, is the number of relevant items on the first ``places`` positions; the group is then
    treated as one of ``places`` items, ``hits`` of them relevant.
    """
    harmonic = _harmonic(n_gallery)
    n, r, before, found = groups.size, groups.relevant, groups.before, groups.found
    if hits is not None:
        n, r = places, hits
    start, end = before.astype(np.intp), (before + places).astype(np.intp)
    h = harmonic[end] - harmonic[start]
    slope = (r - 1) / np.maximum(n - 1, 1)
    mean = r / np.maximum(n, 1) * ((found + 1) * h + slope * (places - (before + 1) * h))
    # All relevant items first, or last: the j-th adds (R+j) / (N+j), or (R+j) / (N+n-r+j).
    most = np.minimum(r, places)
    high = most + (found - before) * (harmonic[(before + most).astype(np.intp)] - harmonic[start])
    least = np.maximum(places - (n - r), 0)
    late = before + n - r
    low = least + (found - late) * (harmonic[(late + least).astype(np.intp)] - harmonic[late.astype(np.intp)])
    return mean, low, high


def average_precision(
    groups: TieGroups, relevant: NDArray[np.float64], n_gallery: int, k: int | None = None, *, capped: bool
) -> Three:
    """Return AP over the first k ranks, divided by the number of relevant items.

    Parameters
    ----------
    groups : TieGroups
    relevant : ndarray, float64, shape (n_queries,)
        Number of relevant items of each query.
    n_gallery : int
    k : int, optional
        Cut-off of the ranking. Default: no cut-off.
    capped : bool
        Divide by k if more than k items are relevant, so that a perfect ranking has AP 1.
    """
    if k is not None:
        groups = groups.up_to(k)
    if groups.single:
        precisions = (groups.found + 1) / (groups.before + 1)
        sums = _summed(groups, [precisions], len(relevant)).repeat(3, axis=0)
    else:
        places = groups.size if k is None else np.minimum(groups.size, k - groups.before)
        sums = _summed(groups, _precisions(groups, places, n_gallery), len(relevant))
    divisor = relevant if k is None or not capped else np.minimum(relevant, k)
    return sums / np.maximum(divisor, 1)


def average_precision_of_hits(
    groups: TieGroups, n_queries: int, n_gallery: int, k: int | None, *, expected: bool = True
) -> Three:
    """Return AP over the first k ranks, divided by the number of relevant items among them.

    The number of relevant items of the group at the cut-off that rank before it is hypergeometric; given that
    number, the part before the cut-off is like a whole group. More hits before the cut-off do not always give
    a higher AP, so the bounds try every number. Without ``expected``, the first row is not computed where it
    depends on the order.
    """
    k = n_gallery if k is None else min(k, n_gallery)
    groups = groups.up_to(k)
    inside = groups.before + groups.size <= k
    whole = groups.taken(np.flatnonzero(inside))
    sums = _summed(whole, _precisions(whole, whole.size, n_gallery), n_queries)
    hits = np.bincount(whole.query, whole.relevant, minlength=n_queries)
    out = sums / np.maximum(hits, 1)
    cut = groups.taken(np.flatnonzero(~inside))
    places = k - cut.before
    lowest = np.maximum(places - (cut.size - cut.relevant), 0)
    highest = np.minimum(places, cut.relevant)
    for rows, number in _ragged(lowest, highest):
        part = cut.taken(rows)
        room, query = places[rows], part.query
        total = np.maximum(hits[query] + number, 1)
        of_number = _precisions(part, room, n_gallery, number)
        of_group = [(sums[row, query] + one) / total for row, one in enumerate(of_number)]
        starts = np.flatnonzero(np.diff(query, prepend=-1))
        if expected:
            log_chance = (
                _log_choose(part.relevant, number, n_gallery)
                + _log_choose(part.size - part.relevant, room - number, n_gallery)
                - _log_choose(part.size, room, n_gallery)
            )
            out[0, query[starts]] = np.add.reduceat(np.exp(log_chance) * of_group[0], starts)
        out[1, query[starts]] = np.minimum.reduceat(of_group[1], starts)
        out[2, query[starts]] = np.maximum.reduceat(of_group[2], starts)
    return out


def average_precision_of_first(
    groups: TieGroups,
    relevant: NDArray[np.float64],
    n_gallery: int,
    k: int | None,
    *,
    expected: bool = True,
) -> Three:
    """Return the mean of the precisions at the first k relevant items, at any rank.

    Without ``expected``, the first row is not computed where it depends on the order.
    """
    if k is None:
        return average_precision(groups, relevant, n_gallery, capped=False)
    groups = groups.up_to(n_gallery, found=k)
    harmonic = _harmonic(n_gallery)
    n, r, before, found = groups.size, groups.relevant, groups.before, groups.found
    taken = np.minimum(r, k - found)
    mean, low, high = _precisions(groups, n, n_gallery)
    start = before.astype(np.intp)
    high = taken + (found - before) * (harmonic[(before + taken).astype(np.intp)] - harmonic[start])
    late = before + n - r
    low = taken + (found - late) * (harmonic[(late + taken).astype(np.intp)] - harmonic[late.astype(np.intp)])
    cut = np.flatnonzero((taken < r) & (n > 1) & expected)
    mean = np.where(n == 1, high, mean)
    mean[cut] = 0
    for rows, place in _ragged(np.ones(len(cut)), n[cut]):
        part, limit = groups.taken(cut[rows]), taken[cut[rows]]
        # The i-th position holds relevant item number j+1 with probability
        # r/n · Hypergeometric(j; n-1, r-1, i-1).
        gained = np.zeros(len(rows))
        total = _log_choose(part.size - 1, place - 1, n_gallery)
        for j in range(int(limit.max())):
            log_chance = (
                _log_choose(part.relevant - 1, np.full(len(rows), j), n_gallery)
                + _log_choose(part.size - part.relevant, place - 1 - j, n_gallery)
                - total
            )
            gained += np.where(j < limit, (part.found + j + 1) * np.exp(log_chance), 0)
        gained *= part.relevant / part.size / (part.before + place)
        mean[cut] += np.bincount(rows, gained, minlength=len(cut))
    return _summed(groups, (mean, low, high), len(relevant)) / np.maximum(np.minimum(relevant, k), 1)


def within(groups: TieGroups, k: int, n_queries: int, n_gallery: int) -> tuple[Three, Three]:
    """Return the number of relevant items among the first k, and whether there is any.

    Let m of the n items of a group rank within the first k. The number of its r relevant items among them is
    hypergeometric, with mean m·r/n; it is zero with probability C(n-r, m) / C(n, m).
    """
    groups = groups.up_to(k)
    query, n, r = groups.query, groups.size, groups.relevant
    m = np.minimum(k - groups.before, n)
    surely, at_most = np.maximum(m - (n - r), 0), np.minimum(m, r)
    hits = _summed(groups, (m * r / n, surely, at_most), n_queries)

    log_factorial = _log_factorial(n_gallery + 1)
    # No order of the ties can miss if more items are taken than are irrelevant.
    rest, taken, size = (x.astype(np.intp) for x in (np.maximum(n - r - m, 0), m, n))
    log_missed = (
        log_factorial[(n - r).astype(np.intp)]
        - log_factorial[rest]
        - log_factorial[size]
        + log_factorial[size - taken]
    )
    chance = np.where(surely > 0, 1.0, -np.expm1(log_missed))
    found_any = np.zeros((3, n_queries))
    # Only the group at the cut-off depends on chance, so the maximum over a query's groups is exact.
    for row, part in zip(found_any, (chance, surely > 0, at_most > 0), strict=True):
        np.maximum.at(row, query, part.astype(np.float64))
    return hits, np.clip(found_any, 0.0, 1.0)


def discounted_gain(
    groups: TieGroups, ideal: NDArray[np.float64], gains: NDArray[np.float64], k: int, n_gallery: int
) -> Three:
    """Return NDCG over the first k ranks (Järvelin and Kekäläinen, TOIS 2002).

    The discount of a rank is ``1 / log2(rank + 1)``.

    Parameters
    ----------
    groups : TieGroups
    ideal : ndarray, float64, shape (n_queries, levels - 1)
        Number of gallery items with each grade from 1.
    gains : ndarray, float64, shape (levels - 1,)
        Gain of each grade from 1, ascending.
    k : int
    n_gallery : int
    """
    k = min(k, n_gallery)
    discounts = _discounts(n_gallery)
    groups = groups.up_to(k)
    start = groups.before.astype(np.intp)
    end = np.minimum(start + groups.size.astype(np.intp), k)
    expected = groups.grades @ gains / groups.size * (discounts[end] - discounts[start])
    high = _laid_out(groups.grades[:, ::-1], gains[::-1], start, k, discounts)
    irrelevant = (groups.size - groups.relevant).astype(np.intp)
    low = _laid_out(groups.grades, gains, start + irrelevant, k, discounts)
    best = _laid_out(ideal[:, ::-1], gains[::-1], np.zeros(len(ideal), np.intp), k, discounts)
    return _summed(groups, (expected, low, high), len(ideal)) / np.where(best > 0, best, 1)


def _laid_out(
    grades: NDArray[np.float64],
    gains: NDArray[np.float64],
    start: NDArray[np.intp],
    k: int,
    discounts: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the gain of items placed grade after grade from a start rank, within the first k ranks."""
    total = np.zeros(len(grades))
    at = np.minimum(start, k)
    for count, gain in zip(grades.T, gains, strict=True):
        until = np.minimum(at + count.astype(np.intp), k)
        total += gain * (discounts[until] - discounts[at])
        at = until
    return total


def first_relevant(groups: TieGroups, n_queries: int, n_gallery: int) -> tuple[Three, Three]:
    """Return the reciprocal rank and the rank of the first relevant item; 0 if no item is relevant.

    In a group of n items, r of them relevant, after N others, the expected rank of the first relevant item is
    ``N + (n+1)/(r+1)``. Its expected reciprocal rank is the sum over positions i of
    ``C(n-i, r-1) / C(n, r) / (N+i)``.
    """
    first = groups.taken(np.flatnonzero(np.diff(groups.query, prepend=-1)))
    query, n, r, before = first.query, first.size, first.relevant, first.before
    best, worst = before + 1, before + n - r + 1
    rank, reciprocal = np.zeros((3, n_queries)), np.zeros((3, n_queries))
    for row, place in enumerate((before + (n + 1) / (r + 1), best, worst)):
        rank[row, query] = place
    reciprocal[1, query], reciprocal[2, query] = 1 / worst, 1 / best
    harmonic = _harmonic(n_gallery)
    span = harmonic[(before + n).astype(np.intp)] - harmonic[before.astype(np.intp)]
    reciprocal[0, query] = np.where(r == 1, span / n, 1 / best)
    many = np.flatnonzero((r > 1) & (r < n))
    # No relevant item among the first i has a probability of at most exp(-i r / n).
    last = np.minimum(n - r + 1, np.ceil(_NOTHING * n / r))[many]
    sums = np.zeros(len(many))
    table = _log_factorial(n_gallery + 1)
    size, others = n[many].astype(np.int64), r[many].astype(np.int64) - 1
    log_ways = _log_choose(size, others + 1, n_gallery)
    for rows, value in _ragged(np.ones(len(many)), last):
        place = value.astype(np.int64)
        left, taken = size[rows] - place, others[rows]  # never fewer left than taken
        log_chance = table[left] - table[taken] - table[left - taken] - log_ways[rows]
        sums += np.bincount(rows, np.exp(log_chance) / (before[many[rows]] + place), minlength=len(many))
    reciprocal[0, query[many]] = sums
    return reciprocal, rank


def _ragged(
    lowest: NDArray[np.float64], highest: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Yield ``(row, value)`` for every whole value from lowest to highest of each row, in batches of rows."""
    counts = (highest - lowest + 1).astype(np.int64)
    ends = np.cumsum(counts)
    first = 0
    while first < len(counts):
        done = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + ELEMENTS_AT_ONCE, side="right")))
        part = counts[first:last]
        rows = np.repeat(np.arange(first, last), part)
        within_row = np.arange(part.sum()) - np.repeat(np.cumsum(part) - part, part)
        yield rows, lowest[rows] + within_row
        first = last
