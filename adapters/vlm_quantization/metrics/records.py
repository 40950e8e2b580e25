"""Per-query values of every metric of one ranking, and the records they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.metrics import metrics
from adapters.vlm_quantization.metrics.protocols import Protocol
from adapters.vlm_quantization.metrics.relevance import Relevance
from adapters.vlm_quantization.metrics.tie_groups import TieGroups


@dataclass(frozen=True)
class MetricRecord:
    """One metric of one ranking, with the protocol and the counts needed to compare it.

    Attributes
    ----------
    name : str
        ``"mAP"``, ``"P@5"`` (precision), ``"R@10"`` (true recall), ``"hit@10"`` (hit rate); see the module.
    bits : int or None
        Code length; None for float scores.
    value : float
        Mean (of ``MedR``, median) over the queries that count, by the protocol's rule for ties. NaN if no
        query counts.
    low, high : float
        The same with the ties of each query in the order that gives the lowest, and the highest, value.
    protocol : str
        Name of the protocol.
    method : str
        Ranking method: ``"hamming"``, ``"cosine"``, …
    relevance : str
        What counts as relevant.
    k : int or None
        Cut-off, if the metric has one.
    n_queries, n_without_relevant, n_gallery : int
        Number of queries, how many of them have no relevant item, and number of items in the gallery.
    rules : Protocol
        The protocol.
    per_query : ndarray, float64, shape (n_queries,)
        Value of each query, in the given order; NaN for queries that do not count.
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


class Measured:
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
        """Add the tie groups of a range of queries, and the counts by distance if there are any."""
        for level, column in enumerate(groups.grades.T):
            self.ideal[start:stop, level] = np.bincount(groups.query, column, minlength=stop - start)
        part = self.values[:, :, start:stop]
        part[: len(self.names) - 2 * len(self.radii)] = self._ranked(groups, start, stop)
        if counts is not None and self.radii:
            part[len(self.names) - 2 * len(self.radii) :] = self._by_radius(counts)[:, None]

    def settle(self, start: int, stop: int, groups: TieGroups) -> None:
        """Set the values to those of the protocol's tie order; the bounds do not change."""
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
        """Return average precision with the protocol's divisor."""
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
        relevant = counts[:, :, 1:].sum(axis=2)
        total = np.maximum(relevant.sum(axis=1), 1)
        out = []
        for radius in self.radii:
            inside = relevant[:, : radius + 1].sum(axis=1)
            shown = counts[:, : radius + 1].sum(axis=(1, 2))
            out += [inside / np.maximum(shown, 1), inside / total]
        return np.stack(out)

    def records(self, method: str, bits: int | None) -> list[MetricRecord]:
        """Return the records of the added queries."""
        empty = self.ideal.sum(axis=1) == 0
        if self.rules.empty == "error" and empty.any():
            raise wb.BadInput(
                f"{empty.sum():,} of {len(empty):,} queries have no relevant item in the gallery; "
                f"the first is query {int(np.flatnonzero(empty)[0])}",
                hint="Leave them out, or use a protocol that skips them or counts them as zero.",
            )
        out = []
        for (name, k), rows in zip(self.names, self.values, strict=True):
            counted, picked = rows, rows[self._row(name)]
            if name == "MedR":  # no relevant item: a rank beyond the last
                beyond = (self.n_items + 1).astype(np.float64)
                counted, picked = np.where(empty, beyond, counted), np.where(empty, beyond, picked)
            drop = empty if self.rules.empty == "skip" else np.zeros(len(empty), bool)
            if self.rules.misses == "skip" and name.startswith("mAP"):
                drop = drop | (picked == 0)
            per_query = np.where(drop, np.nan, picked)
            # The mean over no queries is NaN; setting it here avoids a warning.
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
                    # Summing in another order can put a bound a rounding error beyond the value.
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
        """Return which of expected, low and high the protocol's rule for ties selects."""
        worst, best = (2, 1) if name == "MedR" else (1, 2)
        return {"pessimistic": worst, "optimistic": best}.get(self.rules.ties, 0)
