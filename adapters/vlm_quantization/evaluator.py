"""How well one side finds the other, said so that ties cannot flatter it.

A ranking by Hamming distance is full of ties: at 8 bits, a gallery of thousands falls on nine distances. What
a metric is then depends on how a sort happened to break them. Here every metric is the **expectation over
all orders within the ties**, in closed form (McSherry and Najork, ECIR 2008; He, Cakir, Bargal and Sclaroff,
CVPR 2018), and stands between the value of the worst order (``low``) and of the best (``high``).

How a ranking becomes tie groups, and those become metrics, is in :mod:`adapters.vlm_quantization.tie_groups`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.tie_groups import (
    Relevance,
    TieGroups,
    average_precision,
    code_groups,
    score_groups,
    within,
)


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
        ties="ties by closed-form expectation over all their orders, the worst and the best order as bounds",
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
        same: NDArray[np.bool_] = self._queries[start:stop, None] == self._gallery
        return same


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
        shared: NDArray[np.float32] = self._queries[start:stop] @ self._gallery
        return shared > 0.5


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
    for start, stop, length, groups in code_groups(query_codes, gallery_codes, relevance, lengths):
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
    for start, stop, groups in score_groups(queries, gallery, relevance):
        measured.add(start, stop, groups)
    return measured.records("cosine", None, rules)


class _Measured:
    """Per-query values of every metric, filled range by range."""

    def __init__(self, relevance: Relevance, cuts: Sequence[int]) -> None:
        self.relevance = relevance
        self.cuts = cuts
        self.names: list[tuple[str, int | None]] = [("mAP", None)]
        self.names += [(f"{what}@{k}", k) for k in cuts for what in ("P", "R", "hit")]
        # expected, low, high
        self.values = np.full((len(self.names), 3, relevance.n_queries), np.nan)

    def add(self, start: int, stop: int, groups: TieGroups) -> None:
        n_gallery = self.relevance.n_gallery
        relevant = np.bincount(groups.query, groups.relevant, minlength=stop - start).astype(np.float64)
        relevant[relevant == 0] = np.nan  # and so is every metric of that query
        part = self.values[:, :, start:stop]
        part[0] = average_precision(groups, relevant, n_gallery)
        for at, k in enumerate(self.cuts):
            hits, found_any = within(groups, min(k, n_gallery), stop - start, n_gallery)
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
    norms: NDArray[np.float32] = np.linalg.norm(rows, axis=1, keepdims=True).astype(np.float32)
    return np.divide(rows, np.where(norms > 0, norms, 1), dtype=np.float32)


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
            part: dict[str, Any] = {"name": label}
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
