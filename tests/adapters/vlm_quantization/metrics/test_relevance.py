import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.vlm_quantization.metrics.relevance import Graded, Judged, SameItem, SharedLabel


@settings(deadline=None, max_examples=40)
@given(width=st.sampled_from([1, 7, 8, 9, 24, 63, 64, 65, 80, 130]), seed=st.integers(0, 5))
def test_packed_labels_agree_with_a_matrix_product(width, seed):
    random = np.random.default_rng(seed)
    queries, gallery = random.random((5, width)) < 0.3, random.random((11, width)) < 0.3
    shared = queries.astype(int) @ gallery.T.astype(int)
    assert np.array_equal(SharedLabel(queries, gallery).block(1, 4), shared[1:4] > 0)
    graded = Graded(queries, gallery, highest=5)
    assert np.array_equal(graded.block(0, 5), np.minimum(shared, graded.levels - 1))
    assert graded.levels - 1 <= 5
    order = random.permutation(11)
    for relevance in (
        SharedLabel(queries, gallery),
        graded,
        Judged(np.minimum(shared, 9)),
        SameItem(list("abcde"), [str(item) for item in range(11)]),
        SameItem([1, 2, 3, 4, 5], list(range(11))),
    ):
        moved = relevance.reordered(order)
        assert np.array_equal(moved.block(0, 5), relevance.block(0, 5)[:, order])
        assert (moved.levels, moved.n_gallery, moved.words) == (relevance.levels, 11, relevance.words)


@pytest.mark.parametrize("items", [1, 8, 63, 64, 65, 130])
def test_shared_labels_are_those_of_a_matrix_product_for_any_number_of_items(items):
    random = np.random.default_rng(items)
    queries, gallery = random.random((6, 30)) < 0.1, random.random((items, 30)) < 0.1
    queries[2], queries[3] = False, True  # no label at all, and every label
    expected = queries.astype(int) @ gallery.T.astype(int) > 0
    block = SharedLabel(queries, gallery).block(0, 6)
    assert block.dtype == bool
    assert np.array_equal(block, expected)


@pytest.mark.parametrize("highest", [1, 100])
def test_the_highest_grade_bounds_the_levels(highest):
    ones = np.ones((2, 4))
    assert Graded(ones, ones, highest=highest).levels == min(highest, 4) + 1
