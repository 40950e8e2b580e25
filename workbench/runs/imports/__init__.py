"""Bring in runs that other tools recorded, without loss, and once only however often it is done.

A reader (:mod:`~workbench.runs.imports.mlflow`, :mod:`~workbench.runs.imports.tensorboard`) says what there
is as :class:`ForeignRun`; :func:`bring` puts it into the store. A run is known by its ``origin``. Brought
again it is the same run: what it has grown by is added, and its state is what the other tool says now.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workbench.store.points import Batch, Curve
from workbench.store.records import Run
from workbench.store.store import Store

#: Points in one transaction at most.
_BATCH_POINTS = 100_000


@dataclass
class ForeignRun:
    """A run as another tool recorded it.

    Attributes
    ----------
    origin : str
        Which one it is, for ever: tool and id.
    metrics : callable
        Returns its metrics, one at a time: name and points, in the order they were logged.
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
    """What came of an import: how many runs are new, have grown or changed, are as they were; new points.

    ``passed_over`` says what was not brought, in words, and how much of it there was.
    """

    new: int
    changed: int
    unchanged: int
    points: int
    run_ids: tuple[int, ...]
    passed_over: dict[str, int]


#: Called while it goes on, with the number of runs done, how many there are, and the points so far.
OnProgress = Callable[[int, int, int], object]


def bring(
    store: Store,
    runs: Sequence[ForeignRun],
    passed_over: dict[str, int],
    on_progress: OnProgress | None = None,
) -> Imported:
    """Put runs into the store, or bring those that are there up to date."""
    counts: Counter[str] = Counter()
    ids: list[int] = []
    points = 0

    def say(done: int) -> None:
        if on_progress is not None:
            on_progress(done, len(runs), points)

    say(0)
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
                say(number)
        counts["changed" if how == "unchanged" and more else how] += 1
        say(number + 1)
    return Imported(counts["new"], counts["changed"], counts["unchanged"], points, tuple(ids), passed_over)


def _put(store: Store, run: ForeignRun) -> tuple[Run, str]:
    said = Run(
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
    there = store.run_of(run.origin)
    row = store.put_run(said, run.experiment)
    if there is None:
        return row, "new"
    same = ("name", "status", "config", "tags", "git", "environment", "error", "created_at", "finished_at")
    changed = any(getattr(there, column) != getattr(row, column) for column in same)
    return row, "changed" if changed else "unchanged"


def _missing(batch: Batch, there: Curve) -> Batch:
    """Return the points that are not there yet, in their order."""
    import numpy as np

    if not len(there.seq):
        return batch
    number = len(there.seq)
    columns = [np.asarray(column, kind) for column, kind in zip(batch, ("i8", "f8", "f8"), strict=True)]
    kept = there[1:]
    if len(columns[0]) >= number and all(
        np.array_equal(new[:number], old, equal_nan=True) for new, old in zip(columns, kept, strict=True)
    ):
        return Batch(*(column[number:].tolist() for column in columns))  # it has only grown at its end
    left = Counter(_points(kept))
    new = []
    for at, point in enumerate(_points(columns)):
        if left[point] > 0:
            left[point] -= 1
        else:
            new.append(at)
    return Batch(*(column[new].tolist() for column in columns))


def _points(columns: Iterable[Any]) -> Iterator[tuple[int, float, str]]:
    """Yield points that can be told apart and found again; NaN is not equal to itself, its name is."""
    step, time, value = columns
    return zip(step.tolist(), time.tolist(), map(repr, value.tolist()), strict=True)


def _parts(batch: Batch) -> Iterator[Batch]:
    for at in range(0, len(batch.values), _BATCH_POINTS):
        end = at + _BATCH_POINTS
        yield Batch(batch.steps[at:end], batch.times[at:end], batch.values[at:end])
