"""Points one by one, for tests that add a few to a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from workbench.store.points import Batch, Key
from workbench.store.store import Store


class Point(NamedTuple):
    """One logged value."""

    run_id: int
    name: str
    step: int
    time: float
    value: float


def add_points(store: Store, points: Iterable[Point], better: Mapping[Key, str | None] | None = None) -> None:
    """Add points in the order given, in one transaction."""
    batches: dict[Key, Batch] = {}
    for run_id, name, *numbers in points:
        batch = batches.setdefault((run_id, name), Batch([], [], []))
        for column, number in zip(batch, numbers, strict=True):
            column.append(number)  # type: ignore[attr-defined]  # made as lists above
    store.add_batches(batches, better or {})
