import numpy as np
import pytest

from adapters.vlm_quantization.codes import CODE_LENGTHS
from adapters.vlm_quantization.neighbours.columns import Columns, cuts_of


@pytest.mark.parametrize(
    ("lengths", "names"),
    [
        (CODE_LENGTHS, ["1-8", "9-16", "17-32", "33-64", "65-128"]),
        ((16, 40), ["1-16", "17-32", "33-40"]),
        ((64, 256), ["1-64", "65-128", "129-192", "193-256"]),
        ((8,), ["1-8"]),
        ((), []),
    ],
)
def test_codes_are_cut_where_the_lengths_are(lengths, names):
    cuts = cuts_of(lengths)
    assert [cut.name for cut in cuts] == names
    assert [first for first, _ in cuts[1:]] == [last for _, last in cuts[:-1]]
    assert {cut.width for cut in cuts} <= {1, 2, 4, 8}


def test_columns_are_indexed_as_the_table_is():
    codes = np.random.default_rng(0).integers(0, 256, (20, 16), dtype=np.uint8)
    of_table = Columns.of_table(codes, CODE_LENGTHS)
    parts = [np.ascontiguousarray(codes[:, cut.first : cut.last]) for cut in of_table.cuts]
    for columns in (of_table, Columns(CODE_LENGTHS, parts)):
        assert columns.shape == codes.shape
        assert len(columns) == 20
        assert np.array_equal(columns, codes)
        for rows in (3, slice(2, 9), [4, 4, 0], np.arange(20) % 2 == 0):
            assert np.array_equal(columns[rows], codes[rows])
        assert [columns.count(bits) for bits in CODE_LENGTHS] == [1, 2, 3, 4, 5]
        words = columns.query_words(codes[:3], 5)
        for at in range(5):
            assert np.array_equal(words[:, at], columns.words(at)[:3])
