"""How well one side finds the other, said so that ties cannot flatter it.

A ranking by Hamming distance is full of ties: at 8 bits, a gallery of thousands falls on nine distances. What
a metric is then depends on how a sort happened to break them. Here every metric is the **expectation over
all orders within the ties**, in closed form (McSherry and Najork, ECIR 2008; He, Cakir, Bargal and Sclaroff,
CVPR 2018), and stands between the value of the worst order (``low``) and of the best (``high``).

A ranking is reduced to its *tie groups*: how many items lie at one distance and how many of those are
relevant. For codes these are histograms of distances, and one pass over the packed bytes yields them for all
lengths, since a short code is the first bytes of the long one. Nothing is sorted. For float scores they come
from one sort, and equal scores are ties too. Groups without a relevant item add nothing to any metric here
and are dropped at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.hash_layer import CODE_LENGTHS

#: Query-gallery pairs looked at together. The working arrays take about 25 bytes a pair, whatever the
#: numbers of queries and items; this many fit a processor's cache and leave little to call overhead.
PAIRS_PER_CHUNK = 1 << 18


@dataclass(frozen=True)
class Protocol:
    """The rules behind a number.

    Attributes
    ----------
    name : str
        What a caller types.
    divisor : str
        What the average precision of a query is divided by.
    ties : str
        What is done with items at one distance.
    empty : str
        What is done with queries that have no relevant item in the gallery.
    source : str
        Where the rules come from.
    """

    name: str
    divisor: str
    ties: str
    empty: str
    source: str

    @property
    def words(self) -> str:
        """The rules as one sentence for a reader."""
        return f"Protocol “{self.name}”: {self.divisor}; {self.ties}; {self.empty}."


#: The protocols by name. Ours averages over the whole ranking and all orders within ties because any cut or
#: tie order is a free parameter that changes the winner.
PROTOCOLS: dict[str, Protocol] = {
    "default": Protocol(
        name="default",
        divisor="AP over the whole ranking, divided by the number of relevant items in the gallery",
        ties="ties by closed-form expectation over all their orders, with the worst and the best order as bounds",
        empty="queries without a relevant item are left out and counted",
        source="McSherry and Najork, ECIR 2008; He et al., CVPR 2018",
    )
}


@dataclass(frozen=True)
class MetricRecord:
    """One metric of one ranking, with what makes it comparable.

    Attributes
    ----------
    name : str
        ``"mAP"``, ``"P@5"`` (precision), ``"R@10"`` (true recall), ``"hit@10"`` (hit rate).
    bits : int or None
        Code length; None for float scores.
    value, low, high : float
        Mean over the queries that count, 0 to 1: expected, worst and best order within ties. NaN where no
        query counts.
    protocol : str
        Name of the rules, a key of :data:`PROTOCOLS`.
    method : {"hamming", "cosine"}
        What ranked the gallery.
    relevance : str
        What counts as relevant.
    k : int or None
        Cut, where the metric has one.
    n_queries, n_without_relevant, n_gallery : int
        Queries given, how many of them have no relevant item, and items in the gallery.
    per_query : ndarray, float64, shape (n_queries,)
        Expected value of each query, in the order given; NaN for queries that do not count.
    """

    name: str
    bits: int | None
    value: float
    low: float
    high: float
    protocol: str
    method: str
    relevance: str
    k: int | None
    n_queries: int
    n_without_relevant: int
    n_gallery: int
    per_query: NDArray[np.float64] = field(repr=False, compare=False)


class SameItem:
    """A gallery item is relevant when its id is the query's; several may be (five captions a picture).

    Parameters
    ----------
    query_ids, gallery_ids : sequence of str or of int
        One id a row.
    """

    words = "same item"

    def __init__(self, query_ids: ArrayLike, gallery_ids: ArrayLike) -> None:
        queries, gallery = np.asarray(query_ids), np.asarray(gallery_ids)
        for ids in (queries, gallery):
            if ids.ndim != 1 or ids.dtype.kind not in "UiuS":
                raise wb.BadInput(
                    f"ids must be one text or whole number a row, not {ids.dtype} of shape {ids.shape}"
                )
        if (queries.dtype.kind in "iu") != (gallery.dtype.kind in "iu"):
            raise wb.BadInput(
                f"query ids are {queries.dtype} and gallery ids {gallery.dtype}: they would never be equal"
            )
        # Comparing small integers is many times faster than comparing texts.
        numbers = np.unique(np.concatenate([queries, gallery]), return_inverse=True)[1].astype(np.int32)
        self._queries, self._gallery = numbers[: len(queries)], numbers[len(queries) :]
        self.n_queries, self.n_gallery = len(queries), len(gallery)

    def block(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return who is relevant to the queries of a range, bool (stop - start, n_gallery)."""
        return self._queries[start:stop, None] == self._gallery


class SharedLabel:
    """A gallery item is relevant when it shares at least one label with the query.

    Parameters
    ----------
    query_labels, gallery_labels : array_like of bool or 0/1, shape (n, c)
        Multi-hot labels.
    """

    words = "any shared label"

    def __init__(self, query_labels: ArrayLike, gallery_labels: ArrayLike) -> None:
        queries, gallery = np.asarray(query_labels), np.asarray(gallery_labels)
        if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
            raise wb.BadInput(
                f"labels must be multi-hot (n, c) with one c, not {queries.shape} and {gallery.shape}"
            )
        # float32, because a matrix product of floats is the fastest way to count shared labels.
        self._queries = (queries != 0).astype(np.float32)
        self._gallery = np.ascontiguousarray((gallery != 0).astype(np.float32).T)
        self.n_queries, self.n_gallery = len(queries), len(gallery)

    def block(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return who is relevant to the queries of a range, bool (stop - start, n_gallery)."""
        return (self._queries[start:stop] @ self._gallery) > 0.5


Relevance = SameItem | SharedLabel


def evaluate_codes(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    *,
    bits: Sequence[int] = CODE_LENGTHS,
    ks: Sequence[int] = (1, 5, 10),
    protocol: str = "default",
) -> list[MetricRecord]:
    """Evaluate rankings by Hamming distance at every code length.

    Parameters
    ----------
    query_codes, gallery_codes : ndarray, uint8, shape (n, w)
        Packed codes, 16 bytes for 128 bits; the code of length B is the first ``B // 8`` bytes of a row.
    relevance : SameItem or SharedLabel
        Who is relevant to whom.
    bits : sequence of int
        Code lengths, multiples of 8 up to the width of the codes.
    ks : sequence of int
        Cuts, from 1; one beyond the gallery is the whole gallery.
    protocol : str
        A key of :data:`PROTOCOLS`.

    Returns
    -------
    list of MetricRecord
        By length in the order given; for each, mAP and then P@k, R@k, hit@k for every k.

    Raises
    ------
    workbench.BadInput
        Codes, lengths, cuts or protocol that cannot be used.

    Notes
    -----
    ``P@k`` divides by ``min(k, n_gallery)``, ``R@k`` by the number of relevant items, ``hit@k`` says whether
    any of the first k is relevant. Working memory does not grow with the numbers of queries and items
    beyond a row of the gallery.
    """
    rules = _protocol(protocol)
    cuts = _cuts(ks)
    _check_codes(query_codes, "query codes")
    _check_codes(gallery_codes, "gallery codes")
    if query_codes.shape[1] != gallery_codes.shape[1]:
        raise wb.BadInput(
            f"query codes have {query_codes.shape[1]} bytes a row and gallery codes {gallery_codes.shape[1]}"
        )
    lengths = _lengths(bits, query_codes.shape[1] * 8)
    _check_relevance(relevance, len(query_codes), len(gallery_codes))

    measured = {length: _Measured(relevance, cuts) for length in lengths}
    for start, stop, length, groups in _code_groups(query_codes, gallery_codes, relevance, lengths):
        measured[length].add(start, stop, groups)
    return [
        record for length in bits for record in measured[int(length)].records("hamming", int(length), rules)
    ]


def evaluate_scores(
    query_features: NDArray[np.floating[Any]],
    gallery_features: NDArray[np.floating[Any]],
    relevance: Relevance,
    *,
    ks: Sequence[int] = (1, 5, 10),
    protocol: str = "default",
) -> list[MetricRecord]:
    """Evaluate the ranking by cosine similarity of float features.

    Parameters
    ----------
    query_features, gallery_features : ndarray, float, shape (n, d)
        Features; rows are brought to unit L2 norm, rows of zeros stay zero.
    relevance, ks, protocol
        As for :func:`evaluate_codes`.

    Returns
    -------
    list of MetricRecord
        With ``bits=None`` and ``method="cosine"``. Items of equal score (in float32; equal rows always are)
        are ties.

    Raises
    ------
    workbench.BadInput
        Features that are not finite or do not fit, cuts or protocol that cannot be used.
    """
    rules = _protocol(protocol)
    cuts = _cuts(ks)
    queries = _unit_rows(query_features, "query features")
    gallery = _unit_rows(gallery_features, "gallery features")
    if queries.shape[1] != gallery.shape[1]:
        raise wb.BadInput(
            f"query features have {queries.shape[1]} columns and gallery features {gallery.shape[1]}"
        )
    _check_relevance(relevance, len(queries), len(gallery))

    measured = _Measured(relevance, cuts)
    for start, stop, groups in _score_groups(queries, gallery, relevance):
        measured.add(start, stop, groups)
    return measured.records("cosine", None, rules)


# --- tie groups ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _TieGroups:
    """The tie groups that hold a relevant item, of a range of queries; all arrays have shape (g,).

    ``query`` counts from the start of the range; ``size`` items of which ``relevant`` are relevant share one
    distance; ``before`` items, ``found`` of them relevant, are nearer.
    """

    query: NDArray[np.int64]
    size: NDArray[np.float64]
    relevant: NDArray[np.float64]
    before: NDArray[np.float64]
    found: NDArray[np.float64]


def _chunks(n_queries: int, n_gallery: int) -> Iterator[tuple[int, int]]:
    rows = max(1, PAIRS_PER_CHUNK // n_gallery)
    for start in range(0, n_queries, rows):
        yield start, min(start + rows, n_queries)


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


def _code_groups(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    lengths: Sequence[int],
) -> Iterator[tuple[int, int, int, _TieGroups]]:
    n_gallery = len(gallery_codes)
    query_words, gallery_words = _words(query_codes, lengths), _words(gallery_codes, lengths)
    for start, stop in _chunks(len(query_codes), n_gallery):
        rows = stop - start
        # Each pair counts in the bin (query, distance, relevant). Twice the distance plus the relevance fits
        # 16 bits; distances add up from one length to the next, so each byte is looked at once.
        bins = relevance.block(start, stop).astype(np.int16)
        keys = np.empty((rows, n_gallery), np.intp)
        for length, of_queries, of_gallery in zip(lengths, query_words, gallery_words, strict=True):
            for query_word, gallery_word in zip(of_queries, of_gallery, strict=True):
                distance = np.bitwise_count(query_word[start:stop, None] ^ gallery_word)
                bins += distance
                bins += distance
            width = 2 * (length + 1)
            np.add(bins, np.arange(0, rows * width, width)[:, None], out=keys)
            counts = np.bincount(keys.ravel(), minlength=rows * width).reshape(rows, length + 1, 2)
            yield start, stop, length, _from_histogram(counts)


def _from_histogram(counts: NDArray[np.intp]) -> _TieGroups:
    """Return the groups of counts (queries, distances, 2): not relevant, relevant."""
    relevant = counts[:, :, 1]
    size = counts.sum(axis=2)
    query, distance = np.nonzero(relevant)
    return _TieGroups(
        query,
        size[query, distance].astype(np.float64),
        relevant[query, distance].astype(np.float64),
        (size.cumsum(axis=1) - size)[query, distance].astype(np.float64),
        (relevant.cumsum(axis=1) - relevant)[query, distance].astype(np.float64),
    )


def _score_groups(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], relevance: Relevance
) -> Iterator[tuple[int, int, _TieGroups]]:
    # A matrix product may round equal rows differently by where they stand. Multiplying each distinct row
    # once, in sorted order, makes duplicates tie exactly and makes the gallery's order immaterial.
    as_bytes = np.ascontiguousarray(gallery).view(
        np.dtype((np.void, gallery.dtype.itemsize * gallery.shape[1]))
    )
    _, first, inverse = np.unique(as_bytes[:, 0], return_index=True, return_inverse=True)
    distinct = np.ascontiguousarray(gallery[first].T)
    for start, stop in _chunks(len(queries), len(gallery)):
        scores = (queries[start:stop] @ distinct)[:, inverse] + np.float32(0)  # no negative zero
        yield start, stop, _from_scores(scores, relevance.block(start, stop))


def _from_scores(scores: NDArray[np.float32], relevant: NDArray[np.bool_]) -> _TieGroups:
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
    return _TieGroups(
        query,
        size[kept].astype(np.float64),
        group_hits[kept].astype(np.float64),
        (starts - query * n).astype(np.float64),
        (hits_before[starts] - hits_before[query * n]).astype(np.float64),
    )


# --- metrics of tie groups ----------------------------------------------------------------------------------


class _Measured:
    """Per-query values of every metric, filled range by range."""

    def __init__(self, relevance: Relevance, cuts: Sequence[int]) -> None:
        self.relevance = relevance
        self.cuts = cuts
        self.names: list[tuple[str, int | None]] = [("mAP", None)]
        self.names += [(f"{what}@{k}", k) for k in cuts for what in ("P", "R", "hit")]
        # expected, low, high
        self.values = np.full((len(self.names), 3, relevance.n_queries), np.nan)

    def add(self, start: int, stop: int, groups: _TieGroups) -> None:
        n_gallery = self.relevance.n_gallery
        relevant = np.bincount(groups.query, groups.relevant, minlength=stop - start)
        relevant[relevant == 0] = np.nan  # and so is every metric of that query
        part = self.values[:, :, start:stop]
        part[0] = _average_precision(groups, relevant, n_gallery)
        for at, k in enumerate(self.cuts):
            hits, found_any = _within(groups, min(k, n_gallery), stop - start, n_gallery)
            part[1 + 3 * at] = np.where(np.isnan(relevant), np.nan, hits / min(k, n_gallery))
            part[2 + 3 * at] = hits / relevant
            part[3 + 3 * at] = np.where(np.isnan(relevant), np.nan, found_any)

    def records(self, method: str, bits: int | None, rules: Protocol) -> list[MetricRecord]:
        counts = ~np.isnan(self.values[0, 0])
        out = []
        for (name, k), rows in zip(self.names, self.values, strict=True):
            # A mean over no query is no number; NaN says so without a warning.
            expected, low, high = rows[:, counts].mean(axis=1) if counts.any() else (np.nan,) * 3
            out.append(
                MetricRecord(
                    name=name,
                    bits=bits,
                    value=float(expected),
                    # Summing in another order may put a bound a rounding step beyond the expectation.
                    low=float(np.fmin(low, expected)),
                    high=float(np.fmax(high, expected)),
                    protocol=rules.name,
                    method=method,
                    relevance=self.relevance.words,
                    k=k,
                    n_queries=self.relevance.n_queries,
                    n_without_relevant=int((~counts).sum()),
                    n_gallery=self.relevance.n_gallery,
                    per_query=rows[0],
                )
            )
        return out


@functools.lru_cache(maxsize=4)
def _harmonic(n: int) -> NDArray[np.float64]:
    """Return the harmonic numbers H(0) … H(n)."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, n + 1))])


@functools.lru_cache(maxsize=4)
def _log_factorial(n: int) -> NDArray[np.float64]:
    """Return log 0! … log n!."""
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])


def _average_precision(
    groups: _TieGroups, relevant: NDArray[np.float64], n_gallery: int
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


def _within(
    groups: _TieGroups, k: int, n_queries: int, n_gallery: int
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


# --- checks -------------------------------------------------------------------------------------------------


def _protocol(name: str) -> Protocol:
    try:
        return PROTOCOLS[name]
    except (KeyError, TypeError):
        raise wb.BadInput(f"no protocol {name!r}. Known: {', '.join(sorted(PROTOCOLS))}") from None


def _cuts(ks: Sequence[int]) -> list[int]:
    for k in ks:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise wb.BadInput(f"a cut k must be a whole number of at least 1, not {k!r}")
    return [int(k) for k in ks]


def _lengths(bits: Sequence[int], width: int) -> list[int]:
    for length in bits:
        if not isinstance(length, int | np.integer) or length % 8 or not 8 <= length <= width:
            raise wb.BadInput(f"a code length must be a multiple of 8 from 8 to {width}, not {length!r}")
    if not len(bits):
        raise wb.BadInput("no code length was given")
    return sorted({int(length) for length in bits})


def _check_codes(codes: NDArray[np.uint8], what: str) -> None:
    if not isinstance(codes, np.ndarray) or codes.dtype != np.uint8 or codes.ndim != 2:
        given = f"{codes.dtype} {codes.shape}" if isinstance(codes, np.ndarray) else type(codes).__name__
        raise wb.BadInput(
            f"{what} must be packed, uint8 (n, bytes), not {given}",
            hint="Pack bits with adapters.vlm_quantization.hash_layer.pack_codes.",
        )


def _check_relevance(relevance: Relevance, n_queries: int, n_gallery: int) -> None:
    if (relevance.n_queries, relevance.n_gallery) != (n_queries, n_gallery):
        raise wb.BadInput(
            f"relevance is for {relevance.n_queries} queries and {relevance.n_gallery} items, "
            f"but {n_queries} queries and {n_gallery} items were given"
        )
    if not n_queries or not n_gallery:
        raise wb.BadInput(f"{n_queries} queries and {n_gallery} items: there is nothing to evaluate")


def _unit_rows(features: NDArray[np.floating[Any]], what: str) -> NDArray[np.float32]:
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2:
        raise wb.BadInput(f"{what} must have shape (n, d), not {rows.shape}")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise wb.BadInput(f"{what}: {bad.size} of {len(rows)} rows are not finite, the first is row {bad[0]}")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)


# --- report -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluated:
    """Records of one ranking task, with what the report says of it.

    Attributes
    ----------
    split, direction, language : str
        Such as ``"held-out drawings"``, ``"text → image"``, ``"en"``.
    records : sequence of MetricRecord
        Of :func:`evaluate_codes` and, for the float row beside, of :func:`evaluate_scores`.
    split_fingerprint : str
        Fingerprint of the split, shown in the notes.
    """

    split: str
    direction: str
    language: str
    records: Sequence[MetricRecord]
    split_fingerprint: str = ""


def report_views(results: Sequence[Evaluated], *, curves: Sequence[str] = ("mAP",)) -> list[wb.View]:
    """Return a table of all results and, for each split and named metric, its curve over code length.

    Parameters
    ----------
    results : sequence of Evaluated
        In the order of the report.
    curves : sequence of str
        Names of the metrics to draw.

    Raises
    ------
    workbench.BadInput
        Nothing to report, or a curve of a metric that was not measured.
    """
    names = list(dict.fromkeys(record.name for result in results for record in result.records))
    if not names:
        raise wb.BadInput("there are no results to report")
    for name in curves:
        if name not in names:
            raise wb.BadInput(f"no metric {name!r} to draw. Known: {', '.join(names)}")
    notes = _notes(results)
    table = wb.View(kind="retrieval_table", title="Retrieval", data=_table(results, names), notes=notes)
    drawn = [
        wb.View(kind="curve", title=f"{name} by code length: {split}", data=data, notes=notes[:1])
        for split in dict.fromkeys(result.split for result in results)
        for name in curves
        if (data := _curve([result for result in results if result.split == split], name))
    ]
    return [table, *drawn]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _cell(record: MetricRecord) -> dict[str, float | None] | None:
    if np.isnan(record.value):
        return None
    return {"value": record.value, "low": record.low, "high": record.high}


def _table(results: Sequence[Evaluated], names: Sequence[str]) -> dict[str, Any]:
    columns: list[dict[str, Any]] = [
        {"key": "split", "label": "Split"},
        {"key": "direction", "label": "Direction"},
        {"key": "language", "label": "Language"},
        {"key": "length", "label": "Length"},
    ]
    groups = {"mAP": "Whole ranking", "P": "Precision", "R": "Recall", "hit": "Hit rate"}
    for name in sorted(names, key=lambda name: list(groups).index(name.split("@")[0])):
        group = groups[name.split("@")[0]]
        columns.append({"key": name, "label": name, "format": ".3f", "better": "higher", "group": group})
    rows: list[dict[str, Any]] = []
    for result in results:
        for bits in dict.fromkeys(record.bits for record in result.records):
            row: dict[str, Any] = {
                "split": result.split,
                "direction": result.direction,
                "language": result.language,
                "length": "float cosine" if bits is None else f"{bits} bits",
            }
            row.update({record.name: _cell(record) for record in result.records if record.bits == bits})
            rows.append(row)
    return {"columns": columns, "rows": rows}


def _curve(results: Sequence[Evaluated], name: str) -> dict[str, Any]:
    """Return the curve's data, or nothing when no code was measured."""
    lengths = sorted({r.bits for result in results for r in result.records if r.bits is not None})
    series: list[dict[str, Any]] = []
    for result in results:
        of_metric = {record.bits: record for record in result.records if record.name == name}
        label = ", ".join(filter(None, (result.direction, result.language)))
        codes = [of_metric.get(length) for length in lengths]
        if any(codes):
            part = {"name": label}
            for key, attribute in (("y", "value"), ("low", "low"), ("high", "high")):
                part[key] = [record and _number(getattr(record, attribute)) for record in codes]
            series.append(part)
        if None in of_metric:
            level = _number(of_metric[None].value)
            series.append({"name": f"{label}, float", "y": [level] * len(lengths), "dashed": True})
    if not lengths or not series:
        return {}
    return {
        "x_label": "Code length (bits)",
        "y_label": name,
        "x": lengths,
        "x_scale": "log2",
        "series": series,
    }


def _notes(results: Sequence[Evaluated]) -> list[str]:
    records = [record for result in results for record in result.records]
    protocols = dict.fromkeys(record.protocol for record in records)
    relevances = ", ".join(dict.fromkeys(record.relevance for record in records))
    notes = [f"{PROTOCOLS[name].words} Relevant: {relevances}." for name in protocols]
    notes.append(
        "P@k is precision, R@k true recall (the share of all relevant items), hit@k the share of queries "
        "with any relevant item among the first k. Small figures are the worst and the best order of ties."
    )
    for result in results:
        first = result.records[0]
        where = ", ".join(filter(None, (result.split, result.direction, result.language)))
        split = f"; split {result.split_fingerprint[:12]}" if result.split_fingerprint else ""
        notes.append(
            f"{where}: {first.n_queries:,} queries, {first.n_without_relevant:,} of them without a relevant "
            f"item; gallery of {first.n_gallery:,}{split}."
        )
    return notes
