"""Each protocol against a slow, independent implementation of the published metric."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import workbench as wb
from adapters.vlm_quantization.metrics import protocols
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_scores
from adapters.vlm_quantization.metrics.protocols import PROTOCOLS, Protocol
from adapters.vlm_quantization.metrics.relevance import Judged, SameItem
from tests.adapters.vlm_quantization import oracle, published

NAMES = {"default", "dcmh", "mith", "ucch", "djsrh", "deephash", "clip", "trec"}
KS = (1, 3, 7)

tasks = st.tuples(
    hnp.arrays(np.uint8, (3, 16), elements=st.sampled_from([0, 2, 3, 254])),
    hnp.arrays(np.uint8, (9, 16), elements=st.sampled_from([0, 2, 3, 254])),
    hnp.arrays(np.uint8, (3, 9), elements=st.sampled_from([0, 0, 0, 1, 2])),
)


def ranked(queries, gallery, grades, bits, *, descending=False):
    """Rankings by (distance, row), or by (distance, descending row)."""
    out = []
    for query, grade in zip(queries, grades, strict=True):
        distance = [oracle.hamming(query[: bits // 8], item[: bits // 8]) for item in gallery]
        rows = sorted(range(len(gallery)), key=lambda row: (distance[row], -row if descending else row))
        out.append([int(grade[row]) for row in rows])
    return out


def values(task, protocol, bits, **options):
    queries, gallery, grades = task
    records = evaluate_codes(
        queries, gallery, Judged(grades), bits=(bits,), ks=KS, protocol=protocol, **options
    )
    return {record.name: record.value for record in records}


@settings(deadline=None, max_examples=settings.default.max_examples // 5)  # many with --long
@given(task=tasks, bits=st.sampled_from([8, 16, 128]))
def test_every_protocol_computes_the_published_metric(task, bits):
    rows = ranked(*task, bits)
    same = {"abs": 1e-9, "nan_ok": True}
    for name in ("dcmh", "mith"):
        assert values(task, name, bits)["mAP"] == pytest.approx(published.dcmh(rows), **same)
    assert values(task, "ucch", bits)["mAP"] == pytest.approx(published.ucch(rows, 9), **same)
    assert values(task, "djsrh", bits)["mAP"] == pytest.approx(published.top_hits(rows, 50), **same)
    assert values(task, "deephash", bits)["mAP"] == pytest.approx(published.top_hits(rows, 5000), **same)
    for k in KS:
        for name, slow in (
            ("mith", published.mith),
            ("ucch", published.ucch),
            ("dcmh", published.top_hits),
            ("djsrh", published.top_hits),
            ("deephash", published.top_hits),
        ):
            assert values(task, name, bits)[f"mAP@{k}"] == pytest.approx(slow(rows, k), **same), (name, k)
        actual = values(task, "clip", bits)
        assert actual[f"R@{k}"] == actual[f"hit@{k}"] == pytest.approx(published.clip(rows, k), **same)
        last_first = ranked(*task, bits, descending=True)
        expected = published.trec(last_first, k)
        actual = values(task, "trec", bits)
        assert {name: actual[name] for name in expected} == pytest.approx(expected, **same)


@settings(deadline=None, max_examples=40)
@given(task=tasks)
def test_the_cut_of_a_protocol_is_where_its_ranking_ends(task):
    rows = ranked(*task, 16)
    for k in KS:
        for name, slow in (("djsrh", published.top_hits), ("ucch", published.ucch), ("mith", published.mith)):
            rules = Protocol(**{**vars(PROTOCOLS[name]), "k": k})
            assert values(task, rules, 16)["mAP"] == pytest.approx(slow(rows, k), abs=1e-9, nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(task=tasks, protocol=st.sampled_from(sorted(NAMES)))
def test_no_order_of_ties_exceeds_the_bounds(task, protocol):
    """The ascending and the descending order of rows are two of the orders between the bounds."""
    queries, gallery, grades = task
    records = evaluate_codes(queries, gallery, Judged(grades), bits=(8,), ks=KS, protocol=protocol)
    for order in ("id", "id descending"):
        rules = Protocol(**{**vars(PROTOCOLS[protocol]), "ties": order, "misses": "zero"})
        other = values(task, rules, 8)
        for record in records:
            if not math.isnan(record.value):
                assert record.low <= record.value <= record.high
                if PROTOCOLS[protocol].misses == "zero":
                    assert record.low - 1e-9 <= other[record.name] <= record.high + 1e-9


def test_the_names_and_their_sources():
    assert PROTOCOLS.keys() == NAMES
    for name, rules in PROTOCOLS.items():
        assert rules.name == name
        assert rules.words.startswith(f"Protocol “{name}”: AP")
        docstring = getattr(protocols, name).__doc__
        assert rules.source.split("/")[-1].split(",")[0] in docstring or name == "default"
    assert PROTOCOLS["djsrh"].k == 50
    assert PROTOCOLS["deephash"].k == 5000
    assert PROTOCOLS["dcmh"].splits["MIRFLICKR-25K"] == {"query": 2000, "gallery": 18015, "train": 10000}
    assert PROTOCOLS["clip"].recall == "hit"


def test_protocols_differ_on_the_same_ranking():
    """A number means little without its protocol: one ranking without ties, seven results."""
    gallery = np.zeros((8, 16), np.uint8)
    for row in range(8):
        gallery[row, 0] = (1 << row) - 1  # distance = row
    grades = np.array([[0, 1, 0, 0, 1, 0, 0, 1], [0] * 8], np.uint8)
    task = (np.zeros((2, 16), np.uint8), gallery, grades)
    precisions = [1 / 2, 2 / 5, 3 / 8]
    results = {name: values(task, name, 8) for name in NAMES}
    assert results["default"]["mAP"] == pytest.approx(sum(precisions) / 3)
    assert results["dcmh"]["mAP"] == pytest.approx(sum(precisions) / 3 / 2)
    assert results["ucch"]["mAP"] == pytest.approx(sum(precisions) / 3)
    assert results["default"]["mAP@3"] == results["trec"]["mAP@3"] == pytest.approx(1 / 2 / 3)
    assert results["djsrh"]["mAP@3"] == pytest.approx(1 / 2 / 2)
    assert results["ucch"]["mAP@3"] == pytest.approx(1 / 2)
    assert results["mith"]["mAP@3"] == pytest.approx(sum(precisions) / 3 / 2)
    assert results["clip"]["R@3"] == 0.5
    assert results["default"]["R@3"] == pytest.approx(1 / 3)


def test_ties_by_id_follow_the_ids_and_not_the_rows():
    codes = np.zeros((3, 16), np.uint8)
    relevance = SameItem(["x"], ["a", "x", "b"])
    call = {"bits": (8,), "ks": (1,), "protocol": "dcmh"}

    def first(**options):
        return evaluate_codes(codes[:1], codes, relevance, **call, **options)[0]

    assert first().value == pytest.approx(1 / 2)
    assert first(gallery_ids=["c", "a", "b"]).value == 1
    assert first(gallery_ids=["a", "c", "b"]).value == pytest.approx(1 / 3)
    assert (first().low, first().high) == (pytest.approx(1 / 3), 1)
    features = np.ones((3, 2))
    scored = evaluate_scores(
        features[:1], features, relevance, protocol="dcmh", gallery_ids=["c", "a", "b"], ks=(1,)
    )
    assert scored[0].value == 1


@pytest.mark.parametrize(("empty", "value"), [("skip", 1.0), ("zero", 0.5)])
def test_queries_without_relevant_items_are_skipped_or_zero(empty, value):
    codes = np.zeros((2, 16), np.uint8)
    records = evaluate_codes(
        codes,
        codes,
        SameItem([1, 2], [1, 1]),
        bits=(8,),
        ks=(1,),
        protocol=Protocol(name="custom", source="a test", empty=empty),
    )
    assert {r.n_without_relevant for r in records} == {1}
    by_name = {r.name: r for r in records}
    assert {by_name[name].value for name in ("mAP", "P@1", "hit@1", "NDCG@1", "MRR")} == {value}
    # a rank beyond the last, if no item is relevant
    assert by_name["MedR"].value == (1 if empty == "skip" else 2)
    assert np.isnan(by_name["mAP"].per_query[1]) == (empty == "skip")


def test_queries_without_relevant_items_can_be_an_error():
    codes = np.zeros((2, 16), np.uint8)
    rules = Protocol(name="custom", source="a test", empty="error")
    with pytest.raises(wb.BadInput, match=r"1 of 2 queries.*no relevant item.*query 1"):
        evaluate_codes(codes, codes, SameItem([1, 2], [1, 1]), protocol=rules)


@pytest.mark.parametrize(
    ("ties", "value"), [("pessimistic", 1 / 3), ("optimistic", 1.0), ("expected", 11 / 18)]
)
def test_ties_in_the_worst_and_the_best_order(ties, value):
    codes = np.zeros((3, 16), np.uint8)
    records = evaluate_codes(
        codes[:1],
        codes,
        SameItem([1], [1, 2, 3]),
        bits=(8,),
        ks=(),
        protocol=Protocol(name="custom", source="a test", ties=ties),
    )
    by_name = {record.name: record for record in records}
    assert by_name["mAP"].value == pytest.approx(value)
    assert by_name["MRR"].value == pytest.approx(value)
    assert by_name["mAP"].per_query[0] == pytest.approx(value)
    rank = {"pessimistic": 3, "optimistic": 1, "expected": 2}[ties]
    assert by_name["MedR"].value == by_name["MedR"].per_query[0] == rank
    assert (by_name["MedR"].low, by_name["MedR"].high) == (1, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"divisor": "k"}, "divisor 'k'.*relevant, reachable, hits, first"),
        ({"ties": "random"}, "ties 'random'"),
        ({"empty": "drop"}, "empty 'drop'"),
        ({"k": 0}, "k must be at least 1 or None.* 0"),
    ],
)
def test_invalid_rules_are_refused(change, message):
    with pytest.raises(wb.BadInput, match=message):
        Protocol(name="custom", source="a test", **change)
