import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.metrics import code_rankings, tie_groups
from adapters.vlm_quantization.metrics.evaluator import evaluate_codes, evaluate_ranking, evaluate_scores
from adapters.vlm_quantization.metrics.precision_recall import precision_recall_curve
from adapters.vlm_quantization.metrics.protocols import PROTOCOLS, Protocol
from adapters.vlm_quantization.metrics.relevance import Graded, Judged, SameItem, SharedLabel, itself
from tests.adapters.vlm_quantization import oracle

KS = (1, 2, 5, 50)

# A case takes the oracle up to a tenth of a second: a few in each run of the tests, and many with --long.
EXAMPLES = settings.default.max_examples
THOROUGH = settings(deadline=None, max_examples=EXAMPLES // 5)
QUICK = settings(deadline=None, max_examples=EXAMPLES // 7)

# Bytes that differ in few bits, so that ties abound at every length.
few_bytes = st.sampled_from([0, 2, 3, 254])


def codes(n):
    return hnp.arrays(np.uint8, (n, 16), elements=few_bytes)


def labels(n):
    return hnp.arrays(np.bool_, (n, 3))


ids = {n: st.lists(st.sampled_from("abcd"), min_size=n, max_size=n) for n in (3, 6)}


def triples(records, bits):
    return {r.name: (r.value, r.low, r.high) for r in records if r.bits == bits and "@r" not in r.name}


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        assert actual[name] == pytest.approx(expected[name], abs=1e-12), name


def random_codes(n, seed=0, distinct=None):
    random = np.random.default_rng(seed)
    if distinct is None:
        return random.integers(0, 256, (n, 16), dtype=np.uint8)
    return random.integers(0, 256, (distinct, 16), dtype=np.uint8)[random.integers(0, distinct, n)]


def random_labels(n, seed=0, share=0.2):
    return np.random.default_rng(seed).random((n, 6)) < share


# --- against the oracle -------------------------------------------------------------------------------------


@THOROUGH
@given(queries=codes(3), gallery=codes(6), query_ids=ids[3], gallery_ids=ids[6])
def test_codes_agree_with_the_oracle_on_same_items(queries, gallery, query_ids, gallery_ids):
    records = evaluate_codes(queries, gallery, SameItem(query_ids, gallery_ids), ks=KS)
    relevant = [[q == g for g in gallery_ids] for q in query_ids]
    empty = sum(not any(row) for row in relevant)
    assert {(r.n_queries, r.n_without_relevant, r.n_gallery) for r in records} == {(3, empty, 6)}
    for bits in CODE_LENGTHS:
        distances = [[oracle.hamming(q[: bits // 8], g[: bits // 8]) for g in gallery] for q in queries]
        expected = oracle.over_queries(distances, relevant, KS)
        if expected:
            assert_same(triples(records, bits), expected)
        else:
            assert all(np.isnan(value) for triple in triples(records, bits).values() for value in triple)


@THOROUGH
@given(queries=codes(3), gallery=codes(6), query_labels=labels(3), gallery_labels=labels(6))
def test_codes_agree_with_the_oracle_on_shared_labels(queries, gallery, query_labels, gallery_labels):
    records = evaluate_codes(queries, gallery, SharedLabel(query_labels, gallery_labels), bits=(16,), ks=KS)
    relevant = [[bool((q & g).any()) for g in gallery_labels] for q in query_labels]
    distances = [[oracle.hamming(q[:2], g[:2]) for g in gallery] for q in queries]
    expected = oracle.over_queries(distances, relevant, KS)
    if expected:
        assert_same(triples(records, 16), expected)


grades = hnp.arrays(np.uint8, (3, 6), elements=st.sampled_from([0, 0, 1, 2, 3]))


@THOROUGH
@given(
    queries=codes(3),
    gallery=codes(6),
    grades=grades,
    k=st.sampled_from([None, 1, 2, 4]),
    divisor=st.sampled_from(["relevant", "reachable", "hits", "first"]),
    gain=st.sampled_from(["linear", "exponential"]),
)
def test_graded_codes_and_every_divisor_agree_with_the_oracle(queries, gallery, grades, k, divisor, gain):
    rules = Protocol(name="custom", source="a test", k=k, divisor=divisor, gain=gain)
    records = evaluate_codes(queries, gallery, Judged(grades), ks=KS, protocol=rules, radii=(0, 3))
    for bits in (8, 16, 128):
        distances = [[oracle.hamming(q[: bits // 8], g[: bits // 8]) for g in gallery] for q in queries]
        expected = oracle.over_queries(distances, grades.tolist(), KS, k=k, divisor=divisor, gain=gain)
        if expected:
            assert_same(triples(records, bits), expected)
            for radius in (0, 3):
                actual = [r.value for r in records if r.bits == bits and r.name.endswith(f"@r{radius}")]
                assert actual == pytest.approx(oracle.within_radius(distances, grades.tolist(), radius))


@QUICK
@given(features=hnp.arrays(np.float32, (9, 4), elements=st.sampled_from([-1.0, 1.0])), grades=grades)
def test_graded_scores_agree_with_the_oracle(features, grades):
    queries, gallery = features[:3], features[3:]
    records = evaluate_scores(queries, gallery, Judged(grades), ks=KS)
    expected = oracle.over_queries((-queries @ gallery.T).tolist(), grades.tolist(), KS)
    if expected:
        assert_same(triples(records, None), expected)


def test_grades_are_counts_of_shared_labels():
    query, gallery = np.array([[1, 1, 1, 0]]), np.array([[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]])
    assert Graded(query, gallery).block(0, 1).tolist() == [[1, 3, 0]]
    assert Graded(query, gallery, highest=2).block(0, 1).tolist() == [[1, 2, 0]]
    assert SharedLabel(query, gallery).block(0, 1).tolist() == [[True, True, False]]


# All rows have norm 2, so cosines are exact in float32 and equal where they should be.
signs = hnp.arrays(np.float32, (9, 4), elements=st.sampled_from([-1.0, 1.0]))


@THOROUGH
@given(features=signs, query_ids=ids[3], gallery_ids=ids[6])
def test_scores_agree_with_the_oracle(features, query_ids, gallery_ids):
    queries, gallery = features[:3], features[3:]
    records = evaluate_scores(queries, gallery, SameItem(query_ids, gallery_ids), ks=KS)
    relevant = [[q == g for g in gallery_ids] for q in query_ids]
    expected = oracle.over_queries((-queries @ gallery.T).tolist(), relevant, KS)
    if expected:
        assert_same(triples(records, None), expected)
    assert {(r.method, r.bits) for r in records} == {("cosine", None)}


def test_a_long_ranking_without_ties_agrees_with_the_oracle():
    random = np.random.default_rng(0)
    queries, gallery = random.standard_normal((5, 8)), random.standard_normal((200, 8))
    query_labels, gallery_labels = random_labels(5, 1, 0.4), random_labels(200, 2)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (queries, gallery)]
    relevant = (query_labels.astype(int) @ gallery_labels.T.astype(int)) > 0
    expected = oracle.over_queries((-unit[0] @ unit[1].T).tolist(), relevant.tolist(), (1, 7, 100))
    records = evaluate_scores(queries, gallery, SharedLabel(query_labels, gallery_labels), ks=(1, 7, 100))
    assert_same(triples(records, None), expected)


def test_one_large_group_keeps_its_precision():
    """A gallery at one distance: E[AP] is a plain sum over ranks, computed directly."""
    n, r = 30_000, 7
    relevance = SameItem([1], [1] * r + [0] * (n - r))
    zeros = np.zeros((1, 16), np.uint8)
    record = evaluate_codes(zeros, np.zeros((n, 16), np.uint8), relevance, bits=(8,), ks=(10,))
    ranks = np.arange(1, n + 1)
    expected = float(np.sum((1 + (ranks - 1) * (r - 1) / (n - 1)) / ranks) / n)
    none_before = np.cumprod(np.concatenate([[1], 1 - r / (n - np.arange(n - 1))]).clip(0))
    first_here = none_before * r / (n - ranks + 1).clip(r)
    assert triples(record, 8)["MRR"][0] == pytest.approx(float(np.sum(first_here / ranks)), rel=1e-9)
    assert triples(record, 8)["MedR"] == pytest.approx(((n + 1) / (r + 1), 1, n - r + 1))
    assert record[0].value == pytest.approx(expected, abs=1e-13)
    assert (record[0].low, record[0].high) == (
        pytest.approx(sum(j / (n - r + j) for j in range(1, r + 1)) / r),
        pytest.approx(1.0),
    )
    chance_of_none = np.prod([(n - r - i) / (n - i) for i in range(10)])
    assert triples(record, 8)["hit@10"] == pytest.approx((1 - chance_of_none, 0, 1), abs=1e-9)


def test_ties_late_in_a_large_gallery_keep_their_precision():
    """Two tied items after 100,000 others: differences of harmonic numbers lose only a few digits."""
    n = 100_000
    gallery = np.full((n + 2, 16), 255, np.uint8)
    gallery[:n] = 0
    relevance = SameItem([1], [0] * n + [0, 1])
    record = evaluate_codes(np.zeros((1, 16), np.uint8), gallery, relevance, bits=(8,), ks=())[0]
    assert record.value == pytest.approx((1 / (n + 1) + 1 / (n + 2)) / 2, rel=1e-7)


# --- invariances --------------------------------------------------------------------------------------------


@pytest.fixture
def task():
    queries, gallery = random_codes(20, 1), random_codes(300, 2, distinct=80)
    return queries, gallery, random_labels(20, 3), random_labels(300, 4)


def same_records(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a.name, a.bits) == (b.name, b.bits)
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high), abs=1e-12, nan_ok=True)


@given(order=st.permutations(range(40)))
@QUICK
def test_permuting_the_gallery_changes_nothing(order):
    queries, gallery = random_codes(9, 1), random_codes(40, 2, distinct=15)
    query_labels, gallery_labels = random_labels(9, 3), random_labels(40, 4)
    plain = evaluate_codes(queries, gallery, SharedLabel(query_labels, gallery_labels))
    permuted = evaluate_codes(queries, gallery[order], SharedLabel(query_labels, gallery_labels[order]))
    same_records(plain, permuted)


def test_permuting_the_gallery_changes_no_cosine_ranking():
    random = np.random.default_rng(5)
    # Random floats: equal rows tie only if they are rounded alike at any position.
    queries, gallery = random.standard_normal((7, 33)), random.standard_normal((20, 33))[np.arange(403) % 20]
    query_labels, gallery_labels = random_labels(7, 6, 0.5), random_labels(403, 7)
    plain = evaluate_scores(queries, gallery, SharedLabel(query_labels, gallery_labels))
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(403)
        permuted = evaluate_scores(queries, gallery[order], SharedLabel(query_labels, gallery_labels[order]))
        same_records(plain, permuted)
    assert plain[0].low < plain[0].value < plain[0].high


@given(mask=hnp.arrays(np.uint8, (16,)))
@QUICK
def test_flipping_the_same_bits_of_all_codes_changes_nothing(mask):
    queries, gallery = random_codes(9, 1), random_codes(40, 2)
    relevance = SharedLabel(random_labels(9, 3), random_labels(40, 4))
    plain = evaluate_codes(queries, gallery, relevance)
    assert evaluate_codes(queries ^ mask, gallery ^ mask, relevance) == plain


@QUICK
@given(queries=codes(3), gallery=codes(8), noise=codes(8), bits=st.sampled_from(CODE_LENGTHS))
def test_only_the_prefix_of_a_code_matters(queries, gallery, noise, bits):
    """The code of length B is its first B bits, regardless of the others; for every protocol."""
    relevance = SharedLabel(random_labels(3, 3, 0.5), random_labels(8, 4, 0.5))
    altered = np.concatenate([gallery[:, : bits // 8], noise[:, bits // 8 :]], axis=1)
    for protocol in ("default", "dcmh", "trec", "clip"):
        whole = evaluate_codes(queries, gallery, relevance, bits=(bits,), protocol=protocol)
        assert evaluate_codes(queries, altered, relevance, bits=(bits,), protocol=protocol) == whole
        short = queries[:, : bits // 8], gallery[:, : bits // 8]
        assert evaluate_codes(*short, relevance, bits=(bits,), protocol=protocol) == whole


@QUICK
@given(gallery=codes(8), order=st.permutations(range(8)), mask=hnp.arrays(np.uint8, (16,)))
def test_ties_by_id_do_not_depend_on_the_order_of_rows(gallery, order, mask):
    queries, query_labels, gallery_labels = gallery[:2], random_labels(2, 3, 0.5), random_labels(8, 4, 0.5)
    names = np.array(list("hgfedcba"))
    for protocol in ("dcmh", "djsrh", "trec"):
        plain, moved = (
            evaluate_codes(
                queries ^ mask,
                gallery[rows] ^ mask,
                SharedLabel(query_labels, gallery_labels[rows]),
                protocol=protocol,
                gallery_ids=names[rows],
            )
            for rows in (list(range(8)), list(order))
        )
        same_records(plain, moved)


@pytest.mark.parametrize("bits", CODE_LENGTHS)
def test_a_prefix_evaluates_as_the_short_code_does(task, bits):
    queries, gallery, query_labels, gallery_labels = task
    relevance = SharedLabel(query_labels, gallery_labels)
    together = [r for r in evaluate_codes(queries, gallery, relevance) if r.bits == bits]
    short = evaluate_codes(queries[:, : bits // 8], gallery[:, : bits // 8], relevance, bits=(bits,))
    assert together == short
    # bytes after the prefix are ignored
    gallery = np.concatenate([gallery[:, : bits // 8], ~gallery[:, bits // 8 :]], axis=1)
    assert evaluate_codes(queries, gallery, relevance, bits=(bits,)) == short


def test_lengths_counted_together_are_as_each_alone():
    """A gallery large enough that lengths share joint histograms: 8 with 16 and 32, and 64 with 128."""
    queries, gallery = random_codes(6, 1), random_codes(9_000, 2)
    assert code_rankings._counted_together(CODE_LENGTHS, 9_000) == [[8, 16, 32], [64, 128]]
    relevance = SharedLabel(random_labels(6, 3), random_labels(9_000, 4))
    together = evaluate_codes(queries, gallery, relevance)
    alone = [evaluate_codes(queries, gallery, relevance, bits=(bits,)) for bits in CODE_LENGTHS]
    assert together == [record for records in alone for record in records]


@pytest.mark.parametrize("pairs", [1, 700, 10**7])
def test_the_size_of_chunks_changes_nothing(task, pairs, monkeypatch):
    queries, gallery, query_labels, gallery_labels = task
    relevance = SharedLabel(query_labels, gallery_labels)
    features = np.random.default_rng(0).standard_normal((320, 5))
    plain = evaluate_codes(queries, gallery, relevance)
    scored = evaluate_scores(features[:20], features[20:], relevance)
    monkeypatch.setattr(tie_groups, "PAIRS_PER_CHUNK", pairs)
    same_records(evaluate_codes(queries, gallery, relevance), plain)
    same_records(evaluate_scores(features[:20], features[20:], relevance), scored)


def test_lengths_keep_the_requested_order_and_can_be_any_multiple_of_8(task):
    queries, gallery, query_labels, gallery_labels = task
    relevance = SharedLabel(query_labels, gallery_labels)
    records = evaluate_codes(queries, gallery, relevance, bits=(56, 24), ks=(1,))
    names = ["mAP", "mAP@1", "P@1", "R@1", "hit@1", "NDCG@1", "MRR", "MedR", "P@r2", "R@r2"]
    assert [r.name for r in records] == names * 2
    assert [r.bits for r in records] == [56] * 10 + [24] * 10
    alone = evaluate_codes(queries, gallery, relevance, bits=(24,), ks=(1,))
    assert records[10:] == alone


@QUICK
@given(gallery=codes(7), grades=hnp.arrays(np.uint8, (3, 7), elements=st.sampled_from([0, 1, 2])))
def test_a_query_from_the_gallery_is_left_out_of_its_ranking(gallery, grades):
    """Image → image: each ranking is that of the gallery without the query."""
    own = np.array([2, -1, 5])
    queries = gallery[[2, 0, 5]]
    features = gallery[:, :3].astype(np.float32) - 100
    for protocol in ("default", "dcmh", "trec"):
        together = evaluate_codes(queries, gallery, Judged(grades), ks=KS, protocol=protocol, itself=own)
        scored = evaluate_scores(
            features[[2, 0, 5]], features, Judged(grades), ks=KS, protocol=protocol, itself=own
        )
        for query, row in enumerate(own):
            rest = np.delete(np.arange(7), row) if row >= 0 else np.arange(7)
            relevance = Judged(grades[query : query + 1, rest])
            alone = evaluate_codes(
                queries[query : query + 1], gallery[rest], relevance, ks=KS, protocol=protocol
            )
            for a, b in zip(together, alone, strict=True):
                assert a.per_query[query] == pytest.approx(b.per_query[0], abs=1e-12, nan_ok=True), a.name
            alone = evaluate_scores(
                features[[2, 0, 5]][query : query + 1], features[rest], relevance, ks=KS, protocol=protocol
            )
            for a, b in zip(scored, alone, strict=True):
                assert a.per_query[query] == pytest.approx(b.per_query[0], abs=1e-12, nan_ok=True), a.name


def test_rows_of_queries_are_found_by_their_ids():
    assert itself(["b", "z"], ["a", "b"]).tolist() == [1, -1]


def test_any_scores_can_be_ranked_in_ranges(task):
    queries, gallery, query_labels, gallery_labels = task
    relevance = SharedLabel(query_labels, gallery_labels)
    distance = np.bitwise_count(queries[:, None] ^ gallery[None]).sum(axis=2)
    records = evaluate_ranking(
        lambda start, stop: -distance[start:stop].astype(np.float32), relevance, bits=128, method="custom"
    )
    hamming = [r for r in evaluate_codes(queries, gallery, relevance, bits=(128,)) if "@r" not in r.name]
    same_records(records, hamming)
    assert {r.method for r in records} == {"custom"}


def test_a_precision_recall_curve_passes_through_the_metrics(task):
    queries, gallery, query_labels, gallery_labels = task
    relevance = SharedLabel(query_labels, gallery_labels)
    features = np.random.default_rng(0).standard_normal((320, 5))
    curves = precision_recall_curve(queries, gallery, relevance, features=(features[:20], features[20:]))
    assert [curve.bits for curve in curves] == [*CODE_LENGTHS, None]
    for curve in curves:
        records = (
            evaluate_scores(features[:20], features[20:], relevance, ks=curve.ks.tolist())
            if curve.bits is None
            else evaluate_codes(queries, gallery, relevance, bits=(curve.bits,), ks=curve.ks.tolist())
        )
        by_name = {record.name: record.value for record in records}
        assert curve.precision == pytest.approx([by_name[f"P@{k}"] for k in curve.ks])
        assert curve.recall == pytest.approx([by_name[f"R@{k}"] for k in curve.ks])
        assert curve.recall[-1] == 1
        assert curve.at([1.0])[0] == pytest.approx(curve.precision[-1])


def test_without_a_relevant_item_there_is_no_curve():
    codes = random_codes(3)
    assert precision_recall_curve(codes, codes, SameItem([7, 8, 9], [1, 2, 3])) == []


# --- contents of a record -----------------------------------------------------------------------------------


def test_queries_without_relevant_items_are_left_out_and_counted():
    codes = random_codes(4)
    record = evaluate_codes(codes[:3], codes, SameItem(["a", "x", "c"], list("abcd")), bits=(128,), ks=())[0]
    assert (record.n_queries, record.n_without_relevant, record.value) == (3, 1, 1.0)
    assert np.array_equal(record.per_query, [1.0, np.nan, 1.0], equal_nan=True)


def test_the_value_is_the_mean_of_the_per_query_values(task):
    queries, gallery, query_labels, gallery_labels = task
    for record in evaluate_codes(queries, gallery, SharedLabel(query_labels, gallery_labels)):
        assert record.per_query.shape == (20,)
        mean = np.nanmedian if record.name == "MedR" else np.nanmean
        assert record.value == pytest.approx(mean(record.per_query), abs=1e-12)
        assert 0 <= record.low <= record.value <= record.high
        assert record.high <= (300 if record.name == "MedR" else 1)


def test_ties_leave_wide_bounds_at_eight_bits_and_narrow_ones_at_128(task):
    queries, _, query_labels, gallery_labels = task
    records = evaluate_codes(queries, random_codes(300, 9), SharedLabel(query_labels, gallery_labels), ks=())
    width = {r.bits: r.high - r.low for r in records if r.name == "mAP"}
    assert width[8] > 0.1 > 0.03 > width[128] > 0


def test_a_cut_beyond_the_gallery_is_the_whole_gallery():
    codes = random_codes(4)
    relevance = SameItem([1], [1, 1, 0, 0])
    records = evaluate_codes(codes[:1], codes, relevance, bits=(128,), ks=(4, 1000))
    values = triples(records, 128)
    assert values["P@1000"] == values["P@4"] == (0.5, 0.5, 0.5)
    assert values["R@1000"] == values["hit@1000"] == (1, 1, 1)


def test_records_are_frozen_and_name_their_protocol(task):
    queries, gallery, query_labels, gallery_labels = task
    record = evaluate_codes(queries, gallery, SharedLabel(query_labels, gallery_labels))[0]
    assert (record.protocol, record.method, record.relevance) == ("default", "hamming", "any shared label")
    assert PROTOCOLS[record.protocol].source
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.value = 1.0


# --- invalid input ------------------------------------------------------------------------------------------

Q, G = random_codes(2), random_codes(3)
SAME = SameItem([1, 2], [1, 2, 3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: evaluate_codes(Q, G, SAME, protocol="dcmk"),
            "protocol 'dcmk'.*clip, dcmh, deephash",
        ),
        (lambda: evaluate_codes(Q, G, SAME, bits=(12,)), "multiple of 8 from 8 to 128, not 12"),
        (lambda: evaluate_codes(Q, G, SAME, bits=(256,)), "not 256"),
        (lambda: evaluate_codes(Q, G, SAME, bits=()), "code length"),
        (lambda: evaluate_codes(Q, G, SAME, ks=(0,)), "at least 1, not 0"),
        (lambda: evaluate_codes(Q, G, SAME, ks=(2.5,)), "not 2.5"),
        (
            lambda: evaluate_codes(Q, G, SAME, radii=(-1,)),
            "radius.*at least 0.*-1",
        ),
        (lambda: evaluate_codes(Q, G, SAME, itself=[0]), r"itself.*shape \(2,\)"),
        (lambda: evaluate_codes(Q, G, SAME, itself=[0, 3]), "itself.*0 to 2.*-1"),
        (
            lambda: evaluate_codes(Q, G, SAME, protocol="dcmh", gallery_ids=["a"]),
            r"gallery ids.*shape \(3,\)",
        ),
        (lambda: Graded(np.ones((2, 3)), np.ones((3, 3)), highest=0), "highest grade.*1 to 100.*0"),
        (lambda: Judged(np.array([[0.5]])), "whole numbers"),
        (lambda: Judged([[101]]), "grades.*0 to 100.*101"),
        (lambda: itself(["a"], ["a", "a"]), "gallery ids must be unique"),
        (lambda: evaluate_codes(Q.astype(int), G, SAME), r"query codes must be packed.*int64 \(2, 16\)"),
        (lambda: evaluate_codes(Q, G.tolist(), SAME), "gallery codes must be packed.*int64"),
        (lambda: evaluate_codes(Q, G[:, :8], SAME), "query and gallery codes.*16 and 8 bytes"),
        (lambda: evaluate_codes(Q[:1], G, SAME), "relevance.*2 queries and 3 items.*1 queries and 3 items"),
        (lambda: evaluate_codes(Q[:0], G, SameItem(np.empty(0, int), [1, 2, 3])), "query ids.*are none"),
        (lambda: SameItem([1, 2], ["1", "2"]), "query and gallery ids.*int64 and <U1"),
        (lambda: SameItem([[1], [2]], [1]), r"ids must be.*int64 \(2, 1\)"),
        (lambda: SharedLabel(np.ones((2, 3)), np.ones((3, 4))), r"labels.*\(2, 3\) and \(3, 4\)"),
        (
            lambda: evaluate_scores(np.ones((2, 3)), np.ones((3, 4)), SAME),
            "query and gallery features.*3 and 4 columns",
        ),
        (
            lambda: evaluate_scores(np.ones((2, 2)), np.array([[1, 1], [np.nan, 1], [1, 1]]), SAME),
            "gallery features: 1 of 3 rows.*not finite.*row 1",
        ),
    ],
)
def test_an_error_names_the_value_and_what_is_allowed(call, message):
    with pytest.raises(wb.BadInput, match=message):
        call()
