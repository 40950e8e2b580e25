from types import SimpleNamespace

import numpy as np

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
