import importlib.util
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from adapters.vlm_quantization.neighbours import compiled


def test_code_is_compiled_where_no_folder_can_be_written(monkeypatch):
    njit = compiled.numba.njit

    def no_cache(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'f': no locator available")
        return njit(**options)

    monkeypatch.setattr(compiled, "numba", SimpleNamespace(njit=no_cache))
    assert compiled._compiled(lambda x: x + 1)(2) == 3


def test_a_cut_keeps_the_first_of_equals_in_order_of_rows():
    rows = np.arange(10, 18)
    distances = np.array([5, 3, 9, 3, 3, 1, 3, 0], np.uint8)
    assert compiled._cut(rows, distances, 8, 4, np.empty(256, np.int64)) == 3
    assert rows[:4].tolist() == [11, 13, 15, 17]
    assert distances[:4].tolist() == [3, 3, 1, 0]


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_sixty_four_distances_at_once_are_those_of_numpy(width):
    random = np.random.default_rng(width)
    column = random.integers(0, 256, (3 * compiled.LANES + 5, width), dtype=np.uint8).copy()
    words = column.view(f"u{width}")[:, 0]
    word = np.uint64(words[-1])
    place = np.array([[words.ctypes.data], [width]])
    expected = np.bitwise_count(words ^ words[-1])
    for start, size in ((0, len(words)), (1, compiled.LANES), (2, 7), (3, 0)):  # whole, unaligned, too few
        for ahead in (False, True):
            far = np.full(size, 3, np.uint8)
            compiled._measure(place[0], place[1], np.array([word]), 0, 1, start, far, ahead)
            assert far.tolist() == (expected[start : start + size] + 3).tolist()
        far, keys = np.full(size, 3, np.uint8), np.full(size, 500, np.uint16)
        compiled._next_digits(place[0], place[1], np.array([word]), 0, 1, start, far, keys, np.uint16(900))
        added = expected[start : start + size].astype(np.int64)
        assert far.tolist() == (added + 3).tolist()
        assert keys.tolist() == (added * 900 + 500).tolist()


def test_a_processor_with_the_highest_byte_first_is_left_to_numpy(monkeypatch):
    """Which lane of a vector is the lowest bit of a word depends on it."""
    monkeypatch.setattr(sys, "byteorder", "big")
    spec = importlib.util.spec_from_file_location("big_endian", compiled.__file__)
    with pytest.raises(ImportError, match="lowest byte first"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
