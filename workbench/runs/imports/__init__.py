"""Import runs that other tools recorded, without loss and without duplicates.

A reader (:mod:`~workbench.runs.imports.mlflow`, :mod:`~workbench.runs.imports.tensorboard`) yields
:class:`ForeignRun` objects; :func:`bring` stores them. A run is identified by its ``origin``. Importing it
again updates the same run: new points are appended and the status is refreshed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workbench.store.points import Batch, Series
from workbench.store.records import RunRecord
from workbench.store.store import Store

#: Maximum number of points per transaction.
_BATCH_POINTS = 100_000


@dataclass
class ForeignRun:
    """A run as another tool recorded it.

    Attributes
    ----------
    origin : str
        Its permanent identity: tool and id.
    metrics : callable
        Yields its metrics as (name, points), points in the order logged.
    """

    origin: str
    experiment: str
    name: str
    status: str
    created_at: float
    finished_at: float | None
    metrics: Callable[[], Iterable[tuple[str, Batch]]]
    config: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    notes: str = ""
    git: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None


class Imported(NamedTuple):
    """The result of an import: the numbers of new, changed and unchanged runs, and of new points.

    ``passed_over`` counts what was skipped, by description.
    """

    new: int
    changed: int
    unchanged: int
    points: int
    run_ids: tuple[int, ...]
    passed_over: dict[str, int]


#: Called during an import with the number of runs done, the number of runs, and the points so far.
OnProgress = Callable[[int, int, int], object]


def bring(
    store: Store,
    runs: Sequence[ForeignRun],
    passed_over: dict[str, int],
    on_progress: OnProgress | None = None,
) -> Imported:
    """Add runs to the store, or update those that exist."""
    counts: Counter[str] = Counter()
    ids: list[int] = []
    points = 0

    def report(done: int) -> None:
        if on_progress is not None:
            on_progress(done, len(runs), points)

    report(0)
    for number, run in enumerate(runs):
        row, how = _put(store, run)
        run_id = row.id or 0
        ids.append(run_id)
        more = 0
        for name, batch in run.metrics():
            for part in _parts(_missing(batch, store.curves([(run_id, name)])[run_id, name])):
                store.add_batches({(run_id, name): part}, {})
                more += len(part.values)
                points += len(part.values)
                report(number)
        counts["changed" if how == "unchanged" and more else how] += 1
        report(number + 1)
    return Imported(counts["new"], counts["changed"], counts["unchanged"], points, tuple(ids), passed_over)


def _put(store: Store, run: ForeignRun) -> tuple[RunRecord, str]:
    imported = RunRecord(
        experiment_id=0,
        name=run.name,
        status=run.status,
        config=run.config,
        tags=run.tags,
        notes=run.notes,
        git=run.git,
        environment=run.environment,
        error=run.error,
        created_at=run.created_at,
        finished_at=run.finished_at,
        origin=run.origin,
    )
    existing = store.run_of(run.origin)
    row = store.put_run(imported, run.experiment)
    if existing is None:
        return row, "new"
    same = ("name", "status", "config", "tags", "git", "environment", "error", "created_at", "finished_at")
    changed = any(getattr(existing, column) != getattr(row, column) for column in same)
    return row, "changed" if changed else "unchanged"


def _missing(batch: Batch, there: Series) -> Batch:
    """Return the points that are not stored yet, in order."""
    import numpy as np

    if not len(there):
        return batch
    number = len(there)
    columns = [np.asarray(column, kind) for column, kind in zip(batch, ("i8", "f8", "f8"), strict=True)]
    kept = there.step, there.time, there.value
    if len(columns[0]) >= number and all(
        np.array_equal(new[:number], old, equal_nan=True) for new, old in zip(columns, kept, strict=True)
    ):
        return Batch(*(column[number:].tolist() for column in columns))  # points were only appended
    left = Counter(_points(kept))
    new = []
    for at, point in enumerate(_points(columns)):
        if left[point] > 0:
            left[point] -= 1
        else:
            new.append(at)
    return Batch(*(column[new].tolist() for column in columns))


def _points(columns: Iterable[Any]) -> Iterator[tuple[int, float, str]]:
    """Yield points as hashable keys; the value is its repr, since NaN is not equal to itself."""
    step, time, value = columns
    return zip(step.tolist(), time.tolist(), map(repr, value.tolist()), strict=True)


def _parts(batch: Batch) -> Iterator[Batch]:
    for at in range(0, len(batch.values), _BATCH_POINTS):
        end = at + _BATCH_POINTS
        yield Batch(batch.steps[at:end], batch.times[at:end], batch.values[at:end])
