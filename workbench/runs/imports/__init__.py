"""Import runs that other tools recorded, without loss and without duplicates.

A reader (:mod:`~workbench.runs.imports.mlflow`, :mod:`~workbench.runs.imports.tensorboard`) yields
:class:`ForeignRun` objects; :func:`bring` stores them. A run is identified by its ``origin``. Importing it
again updates the same run: new points are appended, points that the other tool has discarded are removed, and
the status is refreshed. What cannot be imported is named in :class:`~workbench.runs.imports.report.Report`.

While the points of a run are being written, its status is ``lost`` and its error says that the import was
interrupted: a process that is killed half way leaves no run that looks complete.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

from workbench.runs.description import NAME_CHARACTERS
from workbench.runs.imports.report import Report
from workbench.store.points import Batch, Series
from workbench.store.records import RunRecord
from workbench.store.store import Store
from workbench.values import described, storable

#: Maximum number of points per transaction.
_BATCH_POINTS = 100_000

#: The columns of a run that are the other tool's.
_TAKEN = ("name", "status", "config", "tags", "git", "environment", "error", "created_at", "finished_at")

#: The error of a run while its points are written.
_INCOMPLETE = {
    "type": "ImportInterrupted",
    "message": "The import was interrupted while this run was being written. Import it again to complete it.",
}


@dataclass
class ForeignRun:
    """A run as another tool recorded it.

    Attributes
    ----------
    origin : str
        Its permanent identity: tool and id.
    metrics : callable
        Yields its metrics as (name, points), points in the order logged.
    discarded : mapping of str to Batch
        Points, by metric, that the other tool recorded and shows no longer; they are removed if stored.
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
    discarded: Mapping[str, Batch] = field(default_factory=dict)


class Imported(NamedTuple):
    """The result of an import: the numbers of new, changed and unchanged runs, and of new points.

    ``passed_over`` counts what was skipped, by description; ``notes`` say what was changed on the way.
    """

    new: int
    changed: int
    unchanged: int
    points: int
    run_ids: tuple[int, ...]
    passed_over: dict[str, int]
    notes: tuple[str, ...] = ()


#: Called during an import with the number of runs done, the number of runs, and the points so far.
OnProgress = Callable[[int, int, int], object]


def bring(
    store: Store,
    runs: Sequence[ForeignRun],
    report: Report,
    on_progress: OnProgress | None = None,
) -> Imported:
    """Add runs to the store, or update those that exist."""
    counts: Counter[str] = Counter()
    ids: list[int] = []
    points = 0

    def say(done: int) -> None:
        if on_progress is not None:
            on_progress(done, len(runs), points)

    say(0)
    for number, run in enumerate(runs):
        writing = _Writing(store, run)
        for added in writing.points(report):
            points += added
            say(number)
        run_id, how = writing.finish()
        ids.append(run_id)
        counts[how] += 1
        say(number + 1)
    return Imported(
        counts["new"],
        counts["changed"],
        counts["unchanged"],
        points,
        tuple(ids),
        report.left_out,
        report.notes,
    )


class _Writing:
    """One run while it is written: marked as incomplete from its first change to its end."""

    def __init__(self, store: Store, run: ForeignRun) -> None:
        self._store, self._run = store, run
        self._before = store.run_of(_text(run.origin))
        self._id = 0 if self._before is None else self._before.id or 0
        self._marked = False
        if self._before is None:
            self._mark()

    def _mark(self) -> None:
        if not self._marked:
            self._marked = True
            self._id = self._put(status="lost", error=_INCOMPLETE).id or 0

    def points(self, report: Report) -> Iterator[int]:
        """Write new points; yield their numbers."""
        left = dict(self._run.discarded)
        for foreign_name, batch in self._run.metrics():
            if (name := _metric_name(foreign_name, report)) is not None:
                yield from self._write(name, batch, left.pop(foreign_name, None))
        for name, gone in left.items():  # metrics of which every point was discarded
            yield from self._write(name, Batch([], [], []), gone)

    def _write(self, name: str, batch: Batch, gone: Batch | None) -> Iterator[int]:
        key = (self._id, name)
        there = self._store.curves([key])[key]
        new = _missing(batch, there)
        rest = None if gone is None or not len(there) else _without(there, batch, gone)
        if rest is not None:
            self._mark()
            self._store.replace_points(key, rest)
            yield len(new.values)
            return
        for part in _parts(new):
            self._mark()
            self._store.add_batches({key: part}, {})
            yield len(part.values)

    def finish(self) -> tuple[int, str]:
        """Write its final state; return its id and whether it is new, changed or unchanged."""
        row = self._put()
        before = self._before
        if before is None:
            return self._id, "new"
        changed = self._marked or any(getattr(before, one) != getattr(row, one) for one in _TAKEN)
        return self._id, "changed" if changed else "unchanged"

    def _put(self, **change: Any) -> RunRecord:
        run = self._run
        columns = {
            "name": _text(run.name),
            "status": run.status,
            "config": described(run.config, "config"),
            "tags": described(run.tags, "tags"),
            "notes": _text(run.notes),
            "git": storable(run.git),
            "environment": described(run.environment, "environment"),
            "error": run.error,
            "created_at": run.created_at,
            "finished_at": run.finished_at,
            "origin": _text(run.origin),
        }
        return self._store.put_run(
            RunRecord(experiment_id=0, **{**columns, **change}), _text(run.experiment).strip() or "imported"
        )


def _text(value: str) -> str:
    return str(storable(value))


def _metric_name(name: str, report: Report) -> str | None:
    """Return the name under which a metric is stored; None if it has none."""
    name = _text(name)
    if not name.strip():
        report.leave_out("a metric without a name")
        return None
    if len(name) <= NAME_CHARACTERS:
        return name
    mark = blake2b(name.encode(), digest_size=4).hexdigest()
    short = f"{name[: NAME_CHARACTERS - len(mark) - 1]}…{mark}"
    report.note(f"a metric name of {len(name)} characters was shortened to {short}")
    return short


def _missing(batch: Batch, there: Series) -> Batch:
    """Return the points that are not stored yet, in order."""
    import numpy as np

    if not len(there):
        return batch
    number = len(there)
    columns = _columns(batch)
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


def _without(there: Series, batch: Batch, gone: Batch) -> Batch | None:
    """Return a stored curve without discarded points, in the order of ``batch``; None if it has none.

    Stored points of which the other tool knows nothing any more are kept, before the others.
    """
    kept = there.step, there.time, there.value
    shown, dropped = Counter(_points(_columns(batch))), Counter(_points(_columns(gone)))
    others, found = [], False
    for at, point in enumerate(_points(kept)):
        if shown[point] > 0:
            shown[point] -= 1
        elif dropped[point] > 0:
            dropped[point] -= 1
            found = True
        else:
            others.append(at)
    if not found:
        return None
    return Batch(*([*column[others].tolist(), *new] for column, new in zip(kept, _lists(batch), strict=True)))


def _columns(batch: Batch) -> list[Any]:
    import numpy as np

    return [np.asarray(column, kind) for column, kind in zip(batch, ("i8", "f8", "f8"), strict=True)]


def _lists(batch: Batch) -> list[list[Any]]:
    return [column.tolist() for column in _columns(batch)]


def _points(columns: Iterable[Any]) -> Iterator[tuple[int, float, str]]:
    """Yield points as hashable keys; the value is its repr, since NaN is not equal to itself."""
    step, time, value = columns
    return zip(step.tolist(), time.tolist(), map(repr, value.tolist()), strict=True)


def _parts(batch: Batch) -> Iterator[Batch]:
    for at in range(0, len(batch.values), _BATCH_POINTS):
        end = at + _BATCH_POINTS
        yield Batch(batch.steps[at:end], batch.times[at:end], batch.values[at:end])
