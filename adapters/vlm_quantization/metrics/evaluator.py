"""Retrieval metrics that do not depend on how ties are broken.

A ranking by Hamming distance is full of ties: at 8 bits, a gallery of thousands has only nine distances, so
the value of a metric depends on how a sort happens to break ties. Here every metric lies between its value in
the worst order of the ties (``low``) and in the best (``high``), and is by default the **expectation over all
orders**, in closed form.

==============  ================================================================================
name            value of a query
==============  ================================================================================
``mAP``         average precision, cut and divided by the protocol's rules; ``mAP@k`` of the first k
``P@k``         share of the first k that are relevant
``R@k``         true recall: share of the relevant items that are among the first k
``hit@k``       hit rate: whether any of the first k is relevant
``NDCG@k``      discounted gain of the first k, divided by that of the ideal ranking
``MRR``         reciprocal rank of the first relevant item
``MedR``        rank of the first relevant item; the *median* over queries
``P@r2``        share of the items within Hamming distance 2 that are relevant (0 if there are no such items)
``R@r2``        share of the relevant items that are within Hamming distance 2
==============  ================================================================================

:mod:`adapters.vlm_quantization.metrics.tie_groups` reduces a ranking to tie groups,
:mod:`adapters.vlm_quantization.metrics.metrics` computes metrics of them, and
:mod:`adapters.vlm_quantization.metrics.protocols` defines the named rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS, packed_codes
from adapters.vlm_quantization.metrics.checks import (
    LONGEST,
    check_relevance,
    id_order,
    moved,
    rows_of_queries,
)
from adapters.vlm_quantization.metrics.code_rankings import code_groups, code_orders
from adapters.vlm_quantization.metrics.inputs import code_lengths, unit_rows, whole_numbers
from adapters.vlm_quantization.metrics.protocols import Protocol, protocol_of
from adapters.vlm_quantization.metrics.records import Measured, MetricRecord
from adapters.vlm_quantization.metrics.relevance import Relevance
from adapters.vlm_quantization.metrics.score_rankings import Scorer, cosine_scorer, score_groups


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
        Relevant items of each query.
    bits : sequence of int
        Code lengths, multiples of 8 up to the width of the codes.
    ks : sequence of int
        Cut-offs, at least 1; one beyond the gallery means the whole gallery.
    protocol : str or Protocol
        A key of :data:`adapters.vlm_quantization.metrics.protocols.PROTOCOLS`, or custom rules.
    radii : sequence of int
        Hamming distances, at least 0, within which precision and recall are measured.
    itself : array_like of int, shape (n_queries,), optional
        For queries that are items of the gallery: the row of each, which is left out of its ranking; -1 for
        none. See :func:`adapters.vlm_quantization.metrics.relevance.itself`.
    gallery_ids : array_like, shape (n_gallery,), optional
        Item ids, for protocols that order ties by id. Default: the row numbers.

    Returns
    -------
    list of MetricRecord
        By length in the given order; for each, mAP, then ``mAP@k``, ``P@k``, ``R@k``, ``hit@k`` and
        ``NDCG@k`` for every k, then MRR, MedR, and ``P@r`` and ``R@r`` for every radius.

    Raises
    ------
    workbench.BadInput
        Invalid codes, lengths, cut-offs, radii or protocol; or a query without a relevant item if the
        protocol treats that as an error.

    Notes
    -----
    Working memory does not grow with the numbers of queries and items, beyond one row of the gallery.
    """
    rules = protocol_of(protocol)
    cuts = whole_numbers(ks, "a cut-off k", 1)
    within = whole_numbers(radii, "a radius", 0)
    query_codes = packed_codes(query_codes, "query codes")
    gallery_codes = packed_codes(gallery_codes, "gallery codes")
    if query_codes.shape[1] != gallery_codes.shape[1]:
        raise wb.BadInput(
            "query and gallery codes must have the same width, "
            f"not {query_codes.shape[1]} and {gallery_codes.shape[1]} bytes"
        )
    given = code_lengths(bits, min(query_codes.shape[1] * 8, LONGEST))
    lengths = sorted(given)
    check_relevance(relevance, len(query_codes), len(gallery_codes))
    own = rows_of_queries(itself, len(query_codes), len(gallery_codes))
    order = id_order(rules, gallery_ids, len(gallery_codes))
    if order is not None:
        gallery_codes, relevance = gallery_codes[order], relevance.reordered(order)
        own = None if own is None else moved(own, order)

    measured = {length: Measured(relevance, cuts, rules, own, within) for length in lengths}
    for start, stop, length, groups, counts in code_groups(
        query_codes, gallery_codes, relevance, lengths, own
    ):
        measured[length].add(start, stop, groups, counts)
    if rules.ties.startswith("id"):
        for start, stop, length, groups in code_orders(query_codes, gallery_codes, relevance, lengths, own):
            measured[length].settle(start, stop, groups)
    return [record for length in given for record in measured[length].records("hamming", length)]


def mean_average_precision(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    *,
    bits: int,
    k: int | None = None,
) -> float:
    """Return the mean average precision of rankings by Hamming distance, by the default protocol.

    The value is the expectation over all orders of the ties; see :func:`evaluate_codes` for bounds, values
    per query and other protocols.

    Parameters
    ----------
    query_codes, gallery_codes : ndarray, uint8, shape (n, w)
        Packed codes, 16 bytes for 128 bits.
    relevance : SameItem, SharedLabel, Graded or Judged
        Relevant items of each query.
    bits : int
        Code length, a multiple of 8 up to the width of the codes.
    k : int, optional
        Use only the first ``k`` of each ranking. Default: the whole ranking.

    Returns
    -------
    float
        From 0 to 1; NaN if no query has a relevant item.

    Raises
    ------
    workbench.BadInput
        Invalid codes, length or cut-off.
    """
    name = "mAP" if k is None else f"mAP@{k}"
    return _one(query_codes, gallery_codes, relevance, name, bits, () if k is None else (k,))


def precision_at_k(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    *,
    k: int,
    bits: int,
) -> float:
    """Return the share of the first ``k`` that are relevant, by Hamming distance and the default protocol.

    Parameters, errors and ties are as in :func:`mean_average_precision`.
    """
    return _one(query_codes, gallery_codes, relevance, f"P@{k}", bits, (k,))


def _one(
    query_codes: NDArray[np.uint8],
    gallery_codes: NDArray[np.uint8],
    relevance: Relevance,
    name: str,
    bits: int,
    ks: Sequence[int],
) -> float:
    records = evaluate_codes(query_codes, gallery_codes, relevance, bits=(bits,), ks=ks, radii=())
    return next(record.value for record in records if record.name == name)


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
        Features; rows are scaled to unit L2 norm, rows of zeros stay zero.
    relevance, ks, protocol, itself, gallery_ids
        As for :func:`evaluate_codes`.
    bits : int, optional
        Code length for the records, if one side's features are the signs of a code.
    method : str
        Name of the ranking method for the records.

    Returns
    -------
    list of MetricRecord
        With the given ``bits`` and ``method``. Items with equal scores in float32 are ties; equal rows always
        have equal scores.

    Raises
    ------
    workbench.BadInput
        Features that are not finite or differ in width; invalid cut-offs or protocol.
    """
    queries = unit_rows(query_features, "query features")
    gallery = unit_rows(gallery_features, "gallery features")
    if queries.shape[1] != gallery.shape[1]:
        raise wb.BadInput(
            "query and gallery features must have the same width, "
            f"not {queries.shape[1]} and {gallery.shape[1]} columns"
        )
    check_relevance(relevance, len(queries), len(gallery))
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
    """Evaluate any ranking by scores, for a range of queries at a time.

    Parameters
    ----------
    scorer : callable
        ``scorer(start, stop)`` returns real numbers ``(stop - start, n_gallery)``, higher is nearer, no NaN.
        float64 and integers are ranked as they are, not rounded to float32.
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
        Invalid cut-offs or protocol, or a scorer that returns NaN or another shape.
    """
    rules = protocol_of(protocol)
    cuts = whole_numbers(ks, "a cut-off k", 1)
    check_relevance(relevance, relevance.n_queries, relevance.n_gallery)
    own = rows_of_queries(itself, relevance.n_queries, relevance.n_gallery)
    order = id_order(rules, gallery_ids, relevance.n_gallery)
    if order is not None:
        relevance = relevance.reordered(order)
        own = None if own is None else moved(own, order)
        plain = scorer

        def scorer(start: int, stop: int) -> NDArray[np.float32]:
            return np.asarray(plain(start, stop))[:, order]

    measured = Measured(relevance, cuts, rules, own)
    for start, stop, groups in score_groups(scorer, relevance, own):
        measured.add(start, stop, groups)
    if rules.ties.startswith("id"):
        for start, stop, groups in score_groups(scorer, relevance, own, by_row=True):
            measured.settle(start, stop, groups)
    return measured.records(method, bits)
