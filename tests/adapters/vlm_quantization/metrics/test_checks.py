"""What an evaluation refuses, and how it puts rankings into words of tie groups."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from adapters.vlm_quantization.metrics import checks, inputs, metrics
from adapters.vlm_quantization.metrics.protocols import PROTOCOLS
from adapters.vlm_quantization.metrics.relevance import SameItem
from adapters.vlm_quantization.metrics.score_rankings import cosine_scorer, score_groups


def test_rows_that_move_are_followed_and_none_stays_none():
    order = np.array([2, 0, 1])
    assert checks.moved(np.array([0, 1, 2, -1]), order).tolist() == [1, 2, 0, -1]


def test_ids_order_ties_where_the_protocol_says_so():
    ids = ["b", "c", "a"]
    assert checks.id_order(PROTOCOLS["clip"], ids, 3).tolist() == [2, 0, 1]
    assert checks.id_order(PROTOCOLS["trec"], ids, 3).tolist() == [1, 0, 2]
    assert checks.id_order(PROTOCOLS["trec"], None, 3).tolist() == [2, 1, 0]
    assert checks.id_order(PROTOCOLS["default"], ids, 3) is None
    with pytest.raises(wb.BadInput, match="ids"):
        checks.id_order(PROTOCOLS["clip"], ["a"], 3)


@pytest.mark.parametrize("lengths", [[], [12], [0], [256], [True], [8.0]])
def test_what_is_no_code_length_is_refused(lengths):
    with pytest.raises(wb.BadInput, match="code length"):
        inputs.code_lengths(lengths, 128)


def test_lengths_and_cuts_are_different_whole_numbers():
    assert inputs.code_lengths([64, 8, 64], 128) == [64, 8]
    assert inputs.whole_numbers([5, 1, 5], "k", 1) == [5, 1]
    for wrong in (0, 1.5, True):
        with pytest.raises(wb.BadInput, match="k must be"):
            inputs.whole_numbers([wrong], "k", 1)


def test_equal_scores_are_one_group_and_the_metrics_are_its_expectation():
    gallery = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)  # the first two tie
    scorer = cosine_scorer(gallery[:1], gallery)
    ((start, stop, groups),) = score_groups(scorer, SameItem(["a"], ["a", "b", "c"]))
    assert (start, stop) == (0, 1)
    assert (groups.size.tolist(), groups.relevant.tolist(), groups.before.tolist()) == ([2], [1], [0])
    found = metrics.average_precision(groups, np.array([1.0]), 3, capped=False)
    assert found.ravel().tolist() == pytest.approx([0.75, 0.5, 1.0])  # expected, worst, best
    hits, _ = metrics.within(groups, 1, 1, 3)
    assert hits.ravel().tolist() == pytest.approx([0.5, 0.0, 1.0])
