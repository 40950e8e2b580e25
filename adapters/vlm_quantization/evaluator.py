"""How well one side finds the other, said so that ties cannot flatter it.

A ranking by Hamming distance is full of ties: at 8 bits, a gallery of thousands falls on nine distances. What
a metric is then depends on how a sort happened to break them. Here every metric stands between the value of
the worst order of the ties (``low``) and of the best (``high``), and is by default the **expectation over all
orders**, in closed form.

==============  ================================================================================
name            value of a query
==============  ================================================================================
``mAP``         average precision, cut and divided as the protocol says; ``mAP@k`` of the first k
``P@k``         share of the first k that is relevant
``R@k``         true recall: share of the relevant items that is among the first k
``hit@k``       hit rate: whether any of the first k is relevant
``NDCG@k``      discounted gain of the first k over that of the best ranking
``MRR``         one over the rank of the first relevant item
``MedR``        rank of the first relevant item; the *median* over queries
``P@r2``        share of what lies within Hamming distance 2 that is relevant (0 where nothing does)
``R@r2``        share of the relevant items that lies within Hamming distance 2
==============  ================================================================================

How a ranking becomes tie groups is in :mod:`adapters.vlm_quantization.tie_groups`, how those become metrics
in :mod:`adapters.vlm_quantization.metrics`, the rules by name in :mod:`adapters.vlm_quantization.protocols`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization import metrics
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.protocols import PROTOCOLS, Protocol, protocol_of
from adapters.vlm_quantization.relevance import Graded, Judged, Relevance, SameItem, SharedLabel
from adapters.vlm_quantization.tie_groups import (
    Scorer,
    TieGroups,
    code_groups,
    code_orders,
    cosine_scorer,
    score_groups,
)

__all__ = [
    "PROTOCOLS",
    "Curve",
    "Graded",
    "Judged",
    "MetricRecord",
    "Protocol",
    "SameItem",
    "SharedLabel",
    "evaluate_codes",
    "evaluate_ranking",
    "evaluate_scores",
    "precision_recall_curve",
]

#: The longest code whose distances fit a byte, with one value to spare.
LONGEST = 248

#: Points of a precision-recall curve.
CURVE_POINTS = 48


@dataclass(frozen=True)
class MetricRecord:
    """One metric of one ranking, with what makes it comparable.

    Attributes
    ----------
    name : str
        ``"mAP"``, ``"P@5"`` (precision), ``"R@10"`` (true recall), ``"hit@10"`` (hit rate); see the module.
    bits : int or None
        Code length; None for float scores.
    value : float
        Mean (of ``MedR``, median) over the queries that count, by the protocol's rule for ties. NaN where no
        query counts.
    low, high : float
        The same with each query's ties in the order that gives the least, and the greatest, value.
    protocol : str
        Name of the rules.
    method : str
        What ranked the gallery: ``"hamming"``, ``"cosine"``, …
    relevance : str
        What counts as relevant.
    k : int or None
        Cut, where the metric has one.
    n_queries, n_without_relevant, n_gallery : int
        Queries given, how many of them have no relevant item, and items in the gallery.
    rules : Protocol
        The rules themselves.
    per_query : ndarray, float64, shape (n_queries,)
        Value of each query, in the order given; NaN for queries that do not count.
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
    rules: Protocol = field(repr=False)
    per_query: NDArray[np.float64] = field(repr=False, compare=False)


def evaluate_codes(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    *,
    bits: Sequence[int] = CODE_LENGTHS,
    ks: Sequence[int] = (1, 5, 10),
    protocol: str | Protocol = "default",
    radii: Sequence[int] = (2,),
    itself: ArrayLike | None = None,
    gallery_ids: ArrayLike | None = None,
) -> list[MetricRecord]:
    """Evaluate rankings by Hamming distance at every code length.

    Parameters
    ----------
    query_codes, gallery_codes : ndarray, uint8, shape (n, w)
        Packed codes, 16 bytes for 128 bits; the code of length B is the first ``B // 8`` bytes of a row.
    relevance : SameItem, SharedLabel, Graded or Judged
        Who is relevant to whom.
    bits : sequence of int
        Code lengths, multiples of 8 up to the width of the codes.
    ks : sequence of int
        Cuts, from 1; one beyond the gallery is the whole gallery.
    protocol : str or Protocol
        A key of :data:`PROTOCOLS`, or rules of one's own.
    radii : sequence of int
        Hamming distances, from 0, within which precision and recall are measured.
    itself : array_like of int, shape (n_queries,), optional
        For queries that are items of the gallery: the row of each, which is left out of its ranking; -1 for
        none. See :func:`adapters.vlm_quantization.relevance.itself`.
    gallery_ids : array_like, shape (n_gallery,), optional
        Item ids, by which protocols that order ties by id order them; the row number if not given.

    Returns
    -------
    list of MetricRecord
        By length in the order given; for each, mAP, then ``mAP@k``, ``P@k``, ``R@k``, ``hit@k`` and
        ``NDCG@k`` for every k, then MRR, MedR, and ``P@r`` and ``R@r`` for every radius.

    Raises
    ------
    workbench.BadInput
        Codes, lengths, cuts, radii or protocol that cannot be used; a query without a relevant item where
        the protocol calls that an error.

    Notes
    -----
    Working memory does not grow with the numbers of queries and items beyond a row of the gallery.
    """
    rules = protocol_of(protocol)
    cuts = _whole_numbers(ks, "a cut k", 1)
    within = _whole_numbers(radii, "a radius", 0)
    _check_codes(query_codes, "query codes")
    _check_codes(gallery_codes, "gallery codes")
    if query_codes.shape[1] != gallery_codes.shape[1]:
        raise wb.BadInput(
            f"query codes have {query_codes.shape[1]} bytes a row and gallery codes {gallery_codes.shape[1]}"
        )
    lengths = _lengths(bits, min(query_codes.shape[1] * 8, LONGEST))
    _check_relevance(relevance, len(query_codes), len(gallery_codes))
    own = _itself(itself, len(query_codes), len(gallery_codes))
    order = _order(rules, gallery_ids, len(gallery_codes))
    if order is not None:
        gallery_codes, relevance = gallery_codes[order], relevance.reordered(order)
        own = None if own is None else _moved(own, order)

    measured = {length: _Measured(relevance, cuts, rules, own, within) for length in lengths}
    for start, stop, length, groups, counts in code_groups(
        query_codes, gallery_codes, relevance, lengths, own
    ):
        measured[length].add(start, stop, groups, counts)
    if rules.ties.startswith("id"):
        for start, stop, length, groups in code_orders(query_codes, gallery_codes, relevance, lengths, own):
            measured[length].settle(start, stop, groups)
    return [record for length in bits for record in measured[int(length)].records("hamming", int(length))]


def evaluate_scores(
    query_features: NDArray[np.floating[Any]],
    gallery_features: NDArray[np.floating[Any]],
    relevance: Relevance,
    *,
    ks: Sequence[int] = (1, 5, 10),
    protocol: str | Protocol = "default",
    itself: ArrayLike | None = None,
    gallery_ids: ArrayLike | None = None,
    bits: int | None = None,
    method: str = "cosine",
) -> list[MetricRecord]:
    """Evaluate the ranking by cosine similarity of float features.

    Parameters
    ----------
    query_features, gallery_features : ndarray, float, shape (n, d)
        Features; rows are brought to unit L2 norm, rows of zeros stay zero.
    relevance, ks, protocol, itself, gallery_ids
        As for :func:`evaluate_codes`.
    bits : int, optional
        Code length for the records, where one side's features are a code's signs.
    method : str
        What the records say ranked the gallery.

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
    queries = unit_rows(query_features, "query features")
    gallery = unit_rows(gallery_features, "gallery features")
    if queries.shape[1] != gallery.shape[1]:
        raise wb.BadInput(
            f"query features have {queries.shape[1]} columns and gallery features {gallery.shape[1]}"
        )
    _check_relevance(relevance, len(queries), len(gallery))
    return evaluate_ranking(
        cosine_scorer(queries, gallery),
        relevance,
        ks=ks,
        protocol=protocol,
        itself=itself,
        gallery_ids=gallery_ids,
        bits=bits,
        method=method,
    )


def evaluate_ranking(
    scorer: Scorer,
    relevance: Relevance,
    *,
    ks: Sequence[int] = (1, 5, 10),
    protocol: str | Protocol = "default",
    itself: ArrayLike | None = None,
    gallery_ids: ArrayLike | None = None,
    bits: int | None = None,
    method: str = "scores",
) -> list[MetricRecord]:
    """Evaluate any ranking given as scores, a range of queries at a time.

    Parameters
    ----------
    scorer : callable
        ``scorer(start, stop)`` returns float32 ``(stop - start, n_gallery)``, higher is nearer, no NaN.
    relevance, ks, protocol, itself, gallery_ids
        As for :func:`evaluate_codes`.
    bits, method
        As for :func:`evaluate_scores`.

    Returns
    -------
    list of MetricRecord

    Raises
    ------
    workbench.BadInput
        Cuts or protocol that cannot be used.
    """
    rules = protocol_of(protocol)
    cuts = _whole_numbers(ks, "a cut k", 1)
    own = _itself(itself, relevance.n_queries, relevance.n_gallery)
    order = _order(rules, gallery_ids, relevance.n_gallery)
    if order is not None:
        relevance = relevance.reordered(order)
        own = None if own is None else _moved(own, order)
        plain = scorer

        def scorer(start: int, stop: int) -> NDArray[np.float32]:
            return plain(start, stop)[:, order]

    measured = _Measured(relevance, cuts, rules, own)
    for start, stop, groups in score_groups(scorer, relevance, own):
        measured.add(start, stop, groups)
    if rules.ties.startswith("id"):
        for start, stop, groups in score_groups(scorer, relevance, own, by_row=True):
            measured.settle(start, stop, groups)
    return measured.records(method, bits)


class _Measured:
    """Per-query values of every metric, filled range by range."""

    def __init__(
        self,
        relevance: Relevance,
        cuts: Sequence[int],
        rules: Protocol,
        itself: NDArray[np.int64] | None,
        radii: Sequence[int] = (),
    ) -> None:
        self.relevance, self.cuts, self.rules, self.radii = relevance, cuts, rules, radii
        self.names: list[tuple[str, int | None]] = [("mAP", rules.k)]
        self.names += [(f"{what}@{k}", k) for k in cuts for what in ("mAP", "P", "R", "hit", "NDCG")]
        self.names += [("MRR", None), ("MedR", None)]
        self.names += [(f"{what}@r{radius}", radius) for radius in radii for what in ("P", "R")]
        # expected, low, high
        self.values = np.zeros((len(self.names), 3, relevance.n_queries))
        self.ideal = np.zeros((relevance.n_queries, relevance.levels - 1))
        own = np.zeros(relevance.n_queries) if itself is None else (itself >= 0)
        self.n_items = relevance.n_gallery - own.astype(np.int64)
        grades = np.arange(1, relevance.levels, dtype=np.float64)
        self.gains = grades if rules.gain == "linear" else np.exp2(grades) - 1

    def add(self, start: int, stop: int, groups: TieGroups, counts: NDArray[np.intp] | None = None) -> None:
        """Take the tie groups of a range of queries, and the counts by distance where there are any."""
        for level, column in enumerate(groups.grades.T):
            self.ideal[start:stop, level] = np.bincount(groups.query, column, minlength=stop - start)
        part = self.values[:, :, start:stop]
        part[: len(self.names) - 2 * len(self.radii)] = self._ranked(groups, start, stop)
        if counts is not None and self.radii:
            part[len(self.names) - 2 * len(self.radii) :] = self._by_radius(counts)[:, None]

    def settle(self, start: int, stop: int, groups: TieGroups) -> None:
        """Take the values of the one order that the protocol asks for; the bounds stay as they are."""
        ranked = self._ranked(groups, start, stop)
        self.values[: len(ranked), 0, start:stop] = ranked[:, 0]

    def _ranked(self, groups: TieGroups, start: int, stop: int) -> NDArray[np.float64]:
        ideal, n_items, n_gallery = self.ideal[start:stop], self.n_items[start:stop], self.relevance.n_gallery
        n_queries, relevant = stop - start, ideal.sum(axis=1)
        out = [self._precision(groups, relevant, self.rules.k)]
        for k in self.cuts:
            hits, found_any = metrics.within(groups, k, n_queries, n_gallery)
            shown = np.minimum(k, n_items) if self.rules.precision == "reachable" else k
            recall = found_any if self.rules.recall == "hit" else hits / np.maximum(relevant, 1)
            gain = metrics.discounted_gain(groups, ideal, self.gains, k, n_gallery)
            out += [
                self._precision(groups, relevant, k),
                hits / np.maximum(shown, 1),
                recall,
                found_any,
                gain,
            ]
        out += metrics.first_relevant(groups, n_queries, n_gallery)
        return np.stack(out)

    def _precision(
        self, groups: TieGroups, relevant: NDArray[np.float64], k: int | None
    ) -> NDArray[np.float64]:
        """Return average precision as the protocol divides it."""
        n_gallery, divisor = self.relevance.n_gallery, self.rules.divisor
        expected = self.rules.ties == "expected"
        if k is None or k >= n_gallery:  # nothing is cut: all divisors are the relevant items
            return metrics.average_precision(groups, relevant, n_gallery, capped=False)
        if divisor == "first":
            return metrics.average_precision_of_first(groups, relevant, n_gallery, k, expected=expected)
        if divisor == "hits":
            return metrics.average_precision_of_hits(groups, len(relevant), n_gallery, k, expected=expected)
        return metrics.average_precision(groups, relevant, n_gallery, k, capped=divisor == "reachable")

    def _by_radius(self, counts: NDArray[np.intp]) -> NDArray[np.float64]:
        found = counts[:, :, 1:].sum(axis=2)
        total = np.maximum(found.sum(axis=1), 1)
        out = []
        for radius in self.radii:
            inside = found[:, : radius + 1].sum(axis=1)
            shown = counts[:, : radius + 1].sum(axis=(1, 2))
            out += [inside / np.maximum(shown, 1), inside / total]
        return np.stack(out)

    def records(self, method: str, bits: int | None) -> list[MetricRecord]:
        """Return the records of what was added."""
        empty = self.ideal.sum(axis=1) == 0
        if self.rules.empty == "error" and empty.any():
            raise wb.BadInput(
                f"{empty.sum():,} of {len(empty):,} queries have no relevant item in the gallery; "
                f"the first is query {int(np.flatnonzero(empty)[0])}",
                hint="Leave them out, or take a protocol that skips them or counts them as zero.",
            )
        out = []
        for (name, k), rows in zip(self.names, self.values, strict=True):
            counted, picked = rows, rows[self._row(name)]
            if name == "MedR":  # nothing relevant is ever found: a rank beyond the last
                beyond = (self.n_items + 1).astype(np.float64)
                counted, picked = np.where(empty, beyond, counted), np.where(empty, beyond, picked)
            drop = empty if self.rules.empty == "skip" else np.zeros(len(empty), bool)
            if self.rules.misses == "skip" and name.startswith("mAP"):
                drop = drop | (picked == 0)
            per_query = np.where(drop, np.nan, picked)
            # A mean over no query is no number; NaN says so without a warning.
            mean = np.median if name == "MedR" else np.mean
            value, low, high = (
                (np.nan,) * 3
                if drop.all()
                else (mean(one[~drop]) for one in (picked, counted[1], counted[2]))
            )
            out.append(
                MetricRecord(
                    name=name,
                    bits=bits,
                    value=float(value),
                    # Summing in another order may put a bound a rounding step beyond the value.
                    low=float(np.fmin(low, value)),
                    high=float(np.fmax(high, value)),
                    protocol=self.rules.name,
                    method=method,
                    relevance=self.relevance.words,
                    k=k,
                    n_queries=self.relevance.n_queries,
                    n_without_relevant=int(empty.sum()),
                    n_gallery=self.relevance.n_gallery,
                    rules=self.rules,
                    per_query=per_query,
                )
            )
        return out

    def _row(self, name: str) -> int:
        """Return which of expected, low and high the protocol's rule for ties picks."""
        worst, best = (2, 1) if name == "MedR" else (1, 2)
        return {"pessimistic": worst, "optimistic": best}.get(self.rules.ties, 0)


# --- curves -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """Mean precision and mean recall of the first k, for k from 1 to the whole gallery.

    Attributes
    ----------
    bits : int or None
        Code length; None for float scores.
    ks : ndarray, int64, shape (p,)
        Cuts, ascending, spaced evenly in their logarithm.
    precision, recall : ndarray, float64, shape (p,)
        Means over the queries with a relevant item, ties by expectation.
    """

    bits: int | None
    ks: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def at(self, recall: ArrayLike) -> NDArray[np.float64]:
        """Return the precision at given recalls: straight lines between points, NaN before the first."""
        wanted = np.asarray(recall, np.float64)
        # where recall stands still, the greatest precision at it
        order = np.lexsort((-self.precision, self.recall))
        x, first = np.unique(self.recall[order], return_index=True)
        return np.interp(wanted, x, self.precision[order][first], left=np.nan)


def precision_recall_curve(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    *,
    bits: Sequence[int] = CODE_LENGTHS,
    features: tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]] | None = None,
) -> list[Curve]:
    """Return the precision-recall curve of each length, and of float features where they are given.

    Parameters
    ----------
    query_codes, gallery_codes, relevance, bits
        As for :func:`evaluate_codes`.
    features : pair of ndarray, float, shape (n, d), optional
        Query and gallery features, ranked by cosine.

    Returns
    -------
    list of Curve
        Empty where no query has a relevant item.
    """
    lengths = _lengths(bits, min(query_codes.shape[1] * 8, LONGEST))
    n = len(gallery_codes)
    ks = np.unique(np.round(np.geomspace(1, n, min(n, CURVE_POINTS))).astype(np.int64))
    sums = {length: np.zeros((3, len(ks))) for length in (*lengths, None)}

    def add(length: int | None, groups: TieGroups, n_queries: int) -> None:
        relevant = np.bincount(groups.query, groups.relevant, minlength=n_queries)
        for place, k in enumerate(ks):
            hits = metrics.within(groups, int(k), n_queries, n)[0][0]
            share = hits / np.maximum(relevant, 1)
            sums[length][:, place] += (relevant > 0).sum(), hits.sum() / k, share.sum()

    for start, stop, length, groups, _ in code_groups(query_codes, gallery_codes, relevance, lengths):
        add(length, groups, stop - start)
    if features is not None:
        scorer = cosine_scorer(unit_rows(features[0], "features"), unit_rows(features[1], "features"))
        for start, stop, groups in score_groups(scorer, relevance):
            add(None, groups, stop - start)
    return [
        Curve(length, ks, total[1] / total[0], total[2] / total[0])
        for length, total in sums.items()
        if total[0, 0]
    ]


# --- checks -------------------------------------------------------------------------------------------------


def _whole_numbers(given: Sequence[int], what: str, least: int) -> list[int]:
    for number in given:
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < least:
            raise wb.BadInput(f"{what} must be a whole number of at least {least}, not {number!r}")
    return list(dict.fromkeys(int(number) for number in given))


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


def _itself(given: ArrayLike | None, n_queries: int, n_gallery: int) -> NDArray[np.int64] | None:
    if given is None:
        return None
    rows = np.asarray(given)
    if rows.shape != (n_queries,) or rows.dtype.kind not in "iu":
        raise wb.BadInput(
            f"itself must be one row number a query, shape ({n_queries},), not {rows.dtype} {rows.shape}"
        )
    if rows.size and not (rows.min() >= -1 and rows.max() < n_gallery):
        raise wb.BadInput(f"itself must hold rows of the gallery, from 0 to {n_gallery - 1}, or -1 for none")
    return rows.astype(np.int64)


def _order(rules: Protocol, gallery_ids: ArrayLike | None, n_gallery: int) -> NDArray[np.int64] | None:
    """Return the order in which rows stand for ids; None where it is theirs or does not matter."""
    order = None
    if gallery_ids is not None:
        ids = np.asarray(gallery_ids)
        if ids.shape != (n_gallery,):
            raise wb.BadInput(f"gallery ids must be one a row, shape ({n_gallery},), not {ids.shape}")
        order = np.argsort(ids, kind="stable")
    if not rules.ties.startswith("id"):
        return None
    if rules.ties == "id descending":
        order = np.arange(n_gallery)[::-1] if order is None else order[::-1]
    return order


def _moved(itself: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.int64]:
    place = np.empty(len(order) + 1, np.int64)
    place[order] = np.arange(len(order))
    place[-1] = -1  # none stays none
    return place[itself]


def unit_rows(features: NDArray[np.floating[Any]], what: str) -> NDArray[np.float32]:
    """Return float32 rows of unit norm; rows of zeros stay zero.

    Raises
    ------
    workbench.BadInput
        Not a table of finite numbers.
    """
    rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2:
        raise wb.BadInput(f"{what} must have shape (n, d), not {rows.shape}")
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if bad.size:
        raise wb.BadInput(f"{what}: {bad.size} of {len(rows)} rows are not finite, the first is row {bad[0]}")
    norms: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    return np.divide(rows, np.where(norms > 0, norms, 1), dtype=np.float32)
