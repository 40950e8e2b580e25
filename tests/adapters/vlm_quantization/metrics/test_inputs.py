"""What comes into an evaluation is what it seems, or is refused: a table of good and bad inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.codes import pack_codes, packed_codes
from adapters.vlm_quantization.evaluator import (
    SameItem,
    SharedLabel,
    evaluate_codes,
    evaluate_ranking,
    evaluate_scores,
    mean_average_precision,
)
from adapters.vlm_quantization.metrics import inputs
from adapters.vlm_quantization.metrics.relevance import Graded, Judged
from adapters.vlm_quantization.search import hamming_search

RANDOM = np.random.default_rng(0)
BITS = RANDOM.integers(0, 2, (6, 128)).astype(bool)
CODES = pack_codes(BITS)
IDS = list("aabbcc")


def _labels(value: float) -> Any:
    table = np.eye(4)
    table[1, 2] = value
    return table


@pytest.mark.parametrize(
    "codes",
    [
        CODES,
        CODES[:, :1],
        np.zeros((3, 16), np.uint8),  # a collapsed model
        np.full((3, 16), 255, np.uint8)[:, :4],
        np.array([[0], [1]], np.uint8),
        CODES[:0],
    ],
)
def test_packed_codes_are_taken(codes: Any) -> None:
    np.testing.assert_array_equal(packed_codes(codes, "codes"), codes)


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (BITS.astype(np.uint8), "never packed"),
        (BITS.astype(np.uint8) * 255, "never packed"),
        ((BITS.astype(np.int8) * 2 - 1).astype(np.uint8), "never packed.*1 and 255"),
        (BITS[:, :8].astype(np.uint8), "never packed"),
        (BITS, "bool"),
        (BITS.astype(np.int64), "int64"),
        (BITS.astype(np.float32) * 2 - 1, "float32"),
        (CODES.astype(np.int8), "int8"),
        (CODES[0], r"\(16,\)"),
        (CODES[None], r"\(1, 6, 16\)"),
        (CODES.tolist(), "int64"),
        ("codes", "str"),
        (None, "NoneType"),
    ],
)
def test_codes_that_are_not_packed_are_refused_wherever_they_come_in(codes: Any, says: str) -> None:
    relevance = SameItem(IDS, IDS)
    for call in (
        lambda: evaluate_codes(codes, CODES, relevance),
        lambda: evaluate_codes(CODES, codes, relevance),
        lambda: mean_average_precision(codes, codes, relevance, bits=8),
        lambda: hamming_search(codes, CODES[0], bits=8, k=1),
    ):
        with pytest.raises(wb.BadInput, match=says) as refused:
            call()
        assert "pack_codes" in refused.value.hint


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float32, np.float64, object])
def test_labels_of_zero_and_one_are_taken_in_any_type(kind: Any) -> None:
    expected = evaluate_codes(CODES, CODES, SharedLabel(np.eye(6), np.eye(6)))[0].value
    table = np.eye(6).astype(kind)
    assert evaluate_codes(CODES, CODES, SharedLabel(table, table))[0].value == expected
    assert inputs.multi_hot(table.tolist(), "labels").dtype == bool


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (_labels(-1), r"not .*-1.*row 1, column 2"),
        (_labels(np.nan), "nan"),
        (_labels(0.5), r"0\.5"),
        (_labels(2), r"2\.0"),
        (np.ma.masked_equal(np.eye(4), 1), "4 values are masked"),
        (np.sign(np.eye(4) - 0.5), "-1"),
        ([[1, None], [0, 1]], "None"),
        ([["1", "0"], ["0", "1"]], "multi-hot"),
        (np.eye(4)[0], r"\(4,\)"),
        (np.ones((2, 2), complex), "complex"),
        ("ab", "str"),
    ],
)
def test_labels_that_are_not_multi_hot_are_refused(labels: Any, says: str) -> None:
    for relevance in (SharedLabel, Graded):
        for pair in ((labels, np.eye(4)), (np.eye(4), labels)):
            with pytest.raises(wb.BadInput, match=says):
                relevance(*pair)


@pytest.mark.parametrize(
    ("queries", "gallery"),
    [
        (["a", "b"], np.array(["b", "a"], object)),
        (np.array([1, 2]), np.array([2, 1], np.uint8)),
        (np.array([1, 2], object), [2, 1]),
        (np.array([2**53 + 1, 2**53], np.int64), np.array([2**53, 2**53 + 1], np.uint64)),
        (np.array([2**64 - 1, 2**64 - 2], np.uint64), np.array([2**64 - 2, 2**64 - 1], np.uint64)),
        (np.array([2**70 + 1, 2**70], object), np.array([2**70, 2**70 + 1], object)),
        (np.array([b"a", b"b"]), np.array([b"b", b"a"])),
    ],
)
def test_ids_are_equal_where_they_are_equal(queries: Any, gallery: Any) -> None:
    assert SameItem(queries, gallery).block(0, 2).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        ([1.0, 2.0], "float64"),
        (np.array(["a", None], object), "none missing"),
        (np.array([1, np.nan], object), "none missing"),
        (np.array(["a", 1], object), "object"),
        ([True, False], "bool"),
        ([["a"], ["b"]], r"\(2, 1\)"),
        ("ab", "str"),
        (5, "int"),
        (["a", float("nan")], "a mix of float, str"),  # a column of pandas as a list
        (["1", 1], "a mix of int, str"),
        ((1, True), "a mix of bool, int"),
        ([b"a", "a"], "a mix of bytes, str"),
        (np.ma.array([1, 2], mask=[0, 1]), "1 values are masked"),
        ([], "at least one"),
        (np.empty(0, "<U1"), "at least one"),
    ],
)
def test_what_are_no_ids_is_refused(ids: Any, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        SameItem(ids, ["a", "b"])


@pytest.mark.parametrize("pair", [(["1"], [1]), ([1], ["1"]), ([b"a"], ["a"])])
def test_ids_of_two_kinds_are_refused(pair: Any) -> None:
    with pytest.raises(wb.BadInput, match="of one kind"):
        SameItem(*pair)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e30, 3e37])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_size_of_features_changes_nothing(scale: float, kind: Any) -> None:
    features = RANDOM.standard_normal((6, 5))
    relevance = SameItem(IDS, IDS)
    expected = [record.value for record in evaluate_scores(features, features, relevance)]
    scaled = (features * scale).astype(kind)
    with np.errstate(all="raise", under="ignore"):
        found = [record.value for record in evaluate_scores(scaled, features, relevance)]
    np.testing.assert_allclose(found, expected)


def test_features_of_zeros_and_of_whole_numbers_are_taken() -> None:
    rows = inputs.unit_rows([[0, 0], [3, 4]], "features")
    np.testing.assert_array_equal(rows, np.array([[0, 0], [0.6, 0.8]], np.float32))
    assert inputs.unit_rows(np.empty((0, 3)), "features").shape == (0, 3)


@pytest.mark.parametrize(
    ("features", "says"),
    [
        ([[1.0, np.nan], [1.0, 1.0], [np.inf, 0.0]], "2 of 3 rows are not finite; the first is row 0"),
        ([1.0, 2.0], r"\(2,\)"),
        (np.ones((2, 2, 2)), r"\(2, 2, 2\)"),
        (np.ones((2, 2), complex), "complex"),
        ([["1"]], "real numbers"),
        (np.array([[None]]), "object"),
        (3.0, "float"),
    ],
)
def test_what_are_no_features_is_refused(features: Any, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        inputs.unit_rows(features, "features")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint16])
@pytest.mark.parametrize("protocol", ["default", "trec", "clip"])
def test_a_scorer_may_return_any_real_numbers(kind: Any, protocol: str) -> None:
    scores = RANDOM.integers(0, 4, (5, 6))
    relevance = Judged(RANDOM.integers(0, 3, (5, 6)))
    own = np.array([0, -1, 2, 3, -1])
    how: dict[str, Any] = {"protocol": protocol, "itself": own, "gallery_ids": list("fedcba")}
    expected = evaluate_ranking(lambda a, b: scores[a:b].astype(np.float32), relevance, **how)
    assert evaluate_ranking(lambda a, b: scores[a:b].astype(kind), relevance, **how) == expected


@pytest.mark.parametrize(
    "scores",
    [
        np.array([[1.0, 1.0 + 1e-12, 1.0 - 1e-12]]),
        np.array([[2**60, 2**60 + 1, 2**60 - 1]]),  # equal as float64 too
    ],
)
def test_differences_beyond_float32_order_a_ranking(scores: Any) -> None:
    relevance = Judged([[0, 1, 0]])
    assert evaluate_ranking(lambda a, b: scores[a:b], relevance)[0].value == 1.0
    rounded = evaluate_ranking(lambda a, b: scores[a:b].astype(np.float32), relevance)[0]
    assert (rounded.low, rounded.high) == pytest.approx((1 / 3, 1.0))  # all three tie


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.array([[0.5, np.nan, 1.0]] * 2), "query 0, item 1"),
        (np.ones((2, 2)), r"\(2, 3\)"),
        (np.ones(3), r"\(3,\)"),
        (np.ones((2, 3), bool), "bool"),
        ([["a"] * 3] * 2, "real numbers"),
    ],
)
def test_scores_that_have_no_order_are_refused(scores: Any, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says):
        evaluate_ranking(lambda a, b: scores if len(scores) != 2 else scores[a:b], Judged([[0, 1, 0]] * 2))


def test_infinite_scores_are_in_order() -> None:
    scores = np.array([[-np.inf, np.inf, 0.0]], np.float32)
    assert evaluate_ranking(lambda a, b: scores, Judged([[0, 1, 0]]))[0].value == 1.0


def test_repeated_ids_are_refused_where_they_decide() -> None:
    relevance = SameItem(IDS, IDS)
    twice = ["a", "b", "b", "c", "d", "e"]
    with pytest.raises(wb.BadInput, match=r"unique.*trec.*1 are repeated"):
        evaluate_codes(CODES, CODES, relevance, protocol="trec", gallery_ids=twice)
    assert evaluate_codes(CODES, CODES, relevance, gallery_ids=twice)


@pytest.mark.parametrize("ks", [10, np.int64(10), [10], (10,), np.array([10])])
def test_one_cut_off_needs_no_list(ks: Any) -> None:
    names = {record.name for record in evaluate_codes(CODES, CODES, SameItem(IDS, IDS), ks=ks, bits=8)}  # type: ignore[arg-type]
    assert "R@10" in names


@pytest.mark.parametrize("ks", ["10", 0, [0], [1.5], [True], None, 1.5, [None]])
def test_what_is_no_cut_off_is_refused(ks: Any) -> None:
    with pytest.raises(wb.BadInput, match="cut-off k"):
        evaluate_codes(CODES, CODES, SameItem(IDS, IDS), ks=ks)


def test_products_that_are_equal_on_paper_tie_wherever_their_rows_stand() -> None:
    """-100·155 + 155·-100 and 155·-100 - 100·155 in float32 differ by the place of a row in a matrix."""
    different = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        n, d = int(random.integers(3, 40)), int(random.integers(2, 9))
        gallery = random.choice([-1.0, 1.0, 3.0, 155.0, -100.0], (n, d)).astype(np.float32)
        query = random.choice([-1.0, 1.0, 3.0, 155.0, -100.0], (4, d)).astype(np.float32)
        order = random.permutation(n)
        columns = random.permutation(d)
        grades = random.integers(0, 2, (4, n))
        grades[:, 0] = 1
        one = evaluate_scores(query, gallery, Judged(grades))
        other = evaluate_scores(query[:, columns], gallery[order][:, columns], Judged(grades[:, order]))
        values = [[(r.value, r.low, r.high) for r in records] for records in (one, other)]
        different += not np.allclose(*values, rtol=1e-12, atol=0)
    assert different == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda hidden: evaluate_scores(hidden, np.eye(6), SameItem(IDS, IDS)),
        lambda hidden: evaluate_ranking(lambda start, stop: hidden[start:stop], SameItem(IDS, IDS)),
        lambda hidden: Judged(hidden.astype(int)),
        lambda hidden: packed_codes(hidden.astype(np.uint8), "codes"),
    ],
)
def test_masked_values_are_not_taken_for_values(call: Any) -> None:
    hidden = np.ma.masked_equal(np.eye(6), 1)
    with pytest.raises(wb.BadInput, match="masked") as refused:
        call(hidden)
    assert refused.value.hint
