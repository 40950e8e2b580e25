"""Records are sorted in bounded memory, whatever their number."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from adapters.vlm_quantization.data import external_sort
from adapters.vlm_quantization.data.external_sort import ExternalSort


@pytest.mark.parametrize("count", [0, 1, 5, 500, 3_000])
def test_records_come_in_order_of_keys_and_then_as_they_were_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(external_sort, "RUN_BYTES", 2_000)  # a dozen records
    monkeypatch.setattr(external_sort, "FAN_IN", 3)
    monkeypatch.setattr(external_sort, "_READ_BYTES", 100)
    draw = random.Random(0)
    records = [
        (draw.choice("가나aé🐕").encode() * draw.randrange(3), str(n).encode() * draw.randrange(40))
        for n in range(count)
    ]
    with ExternalSort(tmp_path) as sort:
        for record in records:
            sort.add(*record)
        assert len(sort) == count
        in_memory = sorted(records, key=lambda record: record[0])
        assert list(sort) == in_memory
        assert list(sort) == in_memory  # and once more
        both = zip(sort, sort, strict=True)  # two readers at once
        assert all(one == other for one, other in both)
    assert list(tmp_path.iterdir()) == []


def test_memory_and_open_files_do_not_grow_with_the_number_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(external_sort, "RUN_BYTES", 2**16)
    monkeypatch.setattr(external_sort, "FAN_IN", 4)
    monkeypatch.setattr(external_sort, "_READ_BYTES", 2**10)

    def peak(count: int) -> tuple[int, int]:
        tracemalloc.start()
        try:
            with ExternalSort(tmp_path) as sort:
                for n in range(count):
                    sort.add(f"{n * 7_919 % count:09d}".encode(), b"x" * 20)
                runs = sum(map(len, sort._levels))
                assert sum(1 for _ in sort) == count
            return tracemalloc.get_traced_memory()[1], runs
        finally:
            tracemalloc.stop()

    peak(1_000)
    (small, _), (large, runs) = peak(3_000), peak(30_000)
    assert large < 1.5 * small
    assert runs <= 4 * 3  # of some eighty that were written
