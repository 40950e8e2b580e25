"""What the compare panel sends: numbers in one piece, and a table of where each line lies in it."""

from __future__ import annotations

import numpy as np

from workbench.compare.curves import Line
from workbench.panels.compare.state import packed


def test_lines_are_read_back_from_the_piece() -> None:
    x = 1e9 + np.arange(4.0)  # seconds since 1970 do not fit into 32 bits by themselves
    plain = Line((1,), x, np.array([1.0, np.nan, 2.0, 3.0]))
    band = Line(
        (2, 3), np.array([0.0, 1.0]), np.array([5.0, 6.0]), np.array([4.0, 5.0]), np.array([6.0, 7.0])
    )
    sent = packed([("loss", plain), ("mAP", band)])
    data = np.frombuffer(sent["data"], "<f4").astype(np.float64)
    first, second = sent["lines"]
    assert (first["metric"], first["runs"], first["band"], first["x0"]) == ("loss", [1], False, 1e9)
    assert (data[: first["count"]] + first["x0"]).tolist() == x.tolist()
    assert np.array_equal(data[4:8], [1, np.nan, 2, 3], equal_nan=True)
    assert (second["runs"], second["at"], second["count"], second["band"]) == ([2, 3], 8, 2, True)
    assert data[8:].tolist() == [0, 1, 5, 6, 4, 5, 6, 7]


def test_no_lines_are_an_empty_piece() -> None:
    assert packed([]) == {"lines": [], "data": b""}
