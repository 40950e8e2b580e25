"""Points in rows and in chunks form the same curve."""

import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from tests.workbench.points import Point, add_points
from workbench.store import points as series
from workbench.store import records
from workbench.store.points import SEAL, Batch
from workbench.store.store import Store


def new_run(store: Store) -> int:
    return store.add_run(records.RunRecord(experiment_id=0), "e").id or 0


def numbers(count: int, start: int = 0) -> Batch:
    """Steps that sometimes go back, with NaN and infinity among the values."""
    steps = [at - 7 * (at % 5 == 0) for at in range(start, start + count)]
    odd = {3: math.nan, 11: math.inf, 12: -math.inf}
    values = [odd.get(at % 50, math.sin(at)) for at in range(start, start + count)]
    return Batch(steps, [1e9 + at / 3 for at in range(start, start + count)], values)


def in_tables(store: Store) -> tuple[int, int]:
    with store._reading() as connection:
        rows, chunks = (
            connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (series._points, series._chunks)
        )
    return rows, chunks


@pytest.mark.parametrize(
    "sizes",
    [
        [1, 1, 1],
        [SEAL - 1],
        [SEAL],
        [SEAL - 1, 1],
        [SEAL - 1, 1, 5],
        [10, 3000, 10, SEAL],
        [1000, 1000, 1000, 1],
        [series.CHUNK * 2 + 5, 1],
    ],
)
def test_however_points_come_they_are_read_in_their_order(store: Store, sizes: list[int]) -> None:
    run_id, key = (found := new_run(store)), (found, "m")
    whole = numbers(sum(sizes))
    start = 0
    for size in sizes:
        batch = Batch(*(column[start : start + size] for column in whole))
        store.add_batches({key: batch}, {key: "higher"})
        start += size
    rows, _ = in_tables(store)
    assert rows < SEAL
    for after in (-1, 0, SEAL - 2, SEAL - 1, SEAL, start - 2, start - 1, start + 10):
        curve = store.curves([key], {key: after})[key]
        first = min(after + 1, start)
        assert (len(curve), curve.first if len(curve) else first) == (start - first, first)
        assert curve.step.tolist() == whole.steps[first:]
        assert curve.time.tolist() == whole.times[first:]
        np.testing.assert_array_equal(curve.value, whole.values[first:])
    finite = [value for value in whole.values if math.isfinite(value)]
    summary = store.summary_table([run_id])[run_id]["m"]
    assert (summary["count"], summary["nonfinite"]) == (start, start - len(finite))
    if finite:
        assert (summary["min"], summary["max"], summary["best"]) == (min(finite), max(finite), max(finite))
        assert summary["best_step"] == whole.steps[whole.values.index(max(finite))]


def test_many_curves_come_at_once_each_from_where_its_reader_is(store: Store) -> None:
    runs = [new_run(store) for _ in range(3)]
    for number, run_id in enumerate(runs):
        store.add_batches({(run_id, "a"): numbers(5 + number), (run_id, "b"): numbers(2000)}, {})
    keys = [(run_id, name) for run_id in runs for name in ("a", "b", "none")] + [(999, "a")]
    curves = store.curves(keys, {(runs[0], "a"): 2, (runs[1], "a"): 5, (runs[2], "b"): 1500})
    assert list(curves) == keys
    lengths = {key: len(curve) for key, curve in curves.items()}
    assert lengths == {
        (runs[0], "a"): 2,
        (runs[0], "b"): 2000,
        (runs[0], "none"): 0,
        (runs[1], "a"): 0,
        (runs[1], "b"): 2000,
        (runs[1], "none"): 0,
        (runs[2], "a"): 7,
        (runs[2], "b"): 499,
        (runs[2], "none"): 0,
        (999, "a"): 0,
    }
    for curve in curves.values():
        kinds = [column.dtype.str for column in (curve.step, curve.time, curve.value)]
        assert kinds == ["<i8", "<f8", "<f8"]
    assert curves[runs[2], "b"].first == 1501
    assert store.curves([]) == {}


@pytest.mark.parametrize("most", [1, 700, SEAL, 2 * SEAL + 3, 10**6])
def test_at_most_so_many_points_come_and_the_rest_after_them(store: Store, most: int) -> None:
    run_id = new_run(store)
    sizes = {(run_id, "a"): 7, (run_id, "b"): 2 * SEAL, (run_id, "c"): 3, (run_id, "d"): SEAL + 5}
    if most == 1:
        sizes = {key: min(size, 4) for key, size in sizes.items()}
    for key, size in sizes.items():
        store.add_batches({key: numbers(size - 2)}, {})
        store.add_batches({key: numbers(2, size - 2)}, {})  # the last two are in rows
    seqs: dict[Any, list[int]] = {key: [] for key in sizes}
    after = dict.fromkeys(sizes, -1)
    while True:
        found = store.curves(list(sizes), after, most)
        if not (count := sum(len(curve) for curve in found.values())):
            break
        assert count <= most
        for key, curve in found.items():
            seqs[key] += range(curve.first, curve.first + len(curve))
            after[key] += len(curve)
    assert seqs == {key: list(range(size)) for key, size in sizes.items()}


def test_what_is_known_nearly_whole_is_not_read_again_for_what_is_new(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = new_run(store)
    long, new = (run_id, "long"), (run_id, "new")
    store.add_batches({long: numbers(series.CHUNK * 2 + SEAL), new: numbers(SEAL)}, {})
    read: list[int] = []
    chunked = series._chunked

    def counted(*args: Any) -> Iterator[Any]:
        for metric_id, curve in chunked(*args):
            read.append(len(curve))
            yield metric_id, curve

    monkeypatch.setattr(series, "_chunked", counted)
    curves = store.curves([new, long], {long: series.CHUNK * 2 + 10})
    assert {key: len(curve) for key, curve in curves.items()} == {new: SEAL, long: SEAL - 11}
    assert sum(read) == 2 * SEAL  # and none of the first points of the long one


def test_what_an_older_version_kept_in_rows_is_packed_when_it_grows(store: Store) -> None:
    run_id, key = (found := new_run(store)), (found, "m")
    add_points(store, [Point(run_id, "m", 0, 0.5, 0.25)])
    with store._writing() as connection:  # as if the metric had grown without chunks
        for seq in range(1, 3 * SEAL):
            row = {"seq": seq, "step": seq, "time": 0.5 + seq, "value": None if seq == 9 else 0.25 + seq}
            connection.execute(
                text(
                    "insert into metric_point (metric_id, seq, step, time, value)"
                    " values (1, :seq, :step, :time, :value)"
                ),
                row,
            )
        connection.execute(text("update metric_summary set count = :count"), {"count": 3 * SEAL})
    before = store.points(run_id, "m")
    add_points(store, [Point(run_id, "m", 7, 1.0, 2.0)])
    assert in_tables(store) == (0, 1)
    after = store.points(run_id, "m")
    assert str(after) == str([*before, (7, 1.0, 2.0)])
    assert len(store.curves([key])[key]) == 3 * SEAL + 1


def test_a_reader_sees_each_point_once_while_points_are_packed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (new_run(store), "m")
    store.add_batches({key: numbers(SEAL - 1)}, {})
    read_rows = series._rows

    def pack_meanwhile(*args: Any) -> Any:
        rows = read_rows(*args)
        monkeypatch.setattr(series, "_rows", read_rows)
        store.add_batches({key: numbers(5, SEAL - 1)}, {})
        return rows

    monkeypatch.setattr(series, "_rows", pack_meanwhile)
    curve = store.curves([key])[key]
    assert (curve.first, len(curve)) in ((0, SEAL - 1), (0, SEAL + 4))
    assert curve.step.tolist() == numbers(SEAL + 4).steps[: len(curve)]
    assert len(store.curves([key])[key]) == SEAL + 4


_values = st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(_values, st.sampled_from(["higher", "lower", None]))
def test_a_summary_of_many_at_once_is_that_of_one_by_one(values: list[float], better: str | None) -> None:
    steps = [at * 3 for at in range(len(values))]
    one, many = series._Tally(1, better), series._Tally(1, better)
    for step, value in zip(steps, values, strict=True):
        one.add([step], [value])
    many.count, many.changed = len(values), True
    many._meet_many(steps, values)
    many.last, many.last_step = one.last, one.last_step
    assert repr(many.columns()) == repr(one.columns())


def test_metrics_at_a_step_are_those_logged_last_at_it(store: Store) -> None:
    run_id = new_run(store)
    points = [(1, 0.5), (2, 0.75), (1, 0.25), (3, math.nan)]
    add_points(store, [Point(run_id, "m", step, 0.0, value) for step, value in points])
    add_points(store, [Point(run_id, "n", 2, 0.0, 9.0)])
    found = store.at_steps(run_id, [1, 2, 3, 4])
    assert repr(found) == repr({1: {"m": 0.25}, 2: {"m": 0.75, "n": 9.0}, 3: {"m": math.nan}, 4: {}})


def test_metrics_at_a_step_are_the_last_of_packed_points_and_of_those_after(store: Store) -> None:
    run_id = new_run(store)
    many = [Point(run_id, "m", step, 0.0, float(step)) for step in range(series.SEAL + 5)]
    add_points(store, many)
    add_points(store, [Point(run_id, "m", 3, 0.0, 0.5), Point(run_id, "n", 4, 0.0, 9.0)])
    found = store.at_steps(run_id, [3, 4, 5])
    assert found == {3: {"m": 0.5}, 4: {"m": 4.0, "n": 9.0}, 5: {"m": 5.0}}


def test_the_end_of_a_short_run_needs_no_numpy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = new_run(store)
    add_points(store, [Point(run_id, "m", 1, 0.0, 0.5)])
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert store.at_steps(run_id, [1]) == {1: {"m": 0.5}}


def test_points_that_come_after_the_end_are_in_the_outcome(store: Store) -> None:
    run_id = new_run(store)
    add_points(store, [Point(run_id, "m", 0, 0.0, 1.0)])
    assert store.end_run(run_id, "cancelled")
    assert not store.end_run(run_id, "failed")
    add_points(store, [Point(run_id, "m", 5, 0.0, 2.0)])
    outcome = store.outcome(run_id)
    assert outcome is not None
    assert (outcome["status"], outcome["points"], outcome["steps"]) == ("cancelled", 2, 5)
    stored = store.run(run_id)
    assert stored is not None
    assert stored.outcome == outcome


def test_an_origin_is_one_run(store: Store) -> None:
    def foreign_run(**about: Any) -> records.RunRecord:
        return records.RunRecord(experiment_id=0, origin="mlflow:1", name="n", **about)

    first = store.put_run(foreign_run(status="running", notes="theirs", tags={"a": 1}), "e")
    store.change_run(first.id or 0, notes="mine", tags={"a": 1, "own": 2})
    again = store.put_run(
        foreign_run(status="succeeded", notes="theirs", tags={"a": 3}, finished_at=9.0), "other"
    )
    assert (again.id, again.experiment_id, again.notes) == (first.id, first.experiment_id, "mine")
    assert again.tags == {"a": 3, "own": 2}
    found = store.run_of("mlflow:1")
    assert found is not None
    assert (found.status, found.finished_at) == ("succeeded", 9.0)
    assert found.outcome is not None
    assert store.run_of("mlflow:2") is None
    # Local runs have no origin, and there may be many of them.
    assert [new_run(store), new_run(store)] == [2, 3]


def test_tables_for_many_runs_leave_nothing_out(store: Store) -> None:
    runs = [new_run(store) for _ in range(3)]
    store.add_batches({(runs[0], "b"): numbers(3), (runs[0], "a"): numbers(3)}, {})
    table = store.summary_table([*runs, 99])
    assert {run_id: list(rows) for run_id, rows in table.items()} == {
        runs[0]: ["b", "a"],
        runs[1]: [],
        runs[2]: [],
        99: [],
    }
    rows = store.run_table(runs[:2])
    assert list(rows) == [runs[1], runs[0]]
    assert rows[runs[0]].experiment == "e"
    assert list(store.run_table()) == runs[::-1]
