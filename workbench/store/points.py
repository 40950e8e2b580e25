"""Storage of metric points: new points have one row each; many points of a metric are packed in chunks.

A rarely logged metric takes one row per point, committed a moment later. Once :data:`SEAL` of its points are
in rows, or arrive at once, they are packed into one row of three arrays. A curve of a million points is thus
read as a few blobs, and the table of rows stays small. ``sealed`` in a metric's summary is the ``seq`` of its
first row. All functions run inside a transaction that the store opened.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import Connection, Table, bindparam, delete, insert, select, update

from workbench.store.records import MetricChunk, MetricPoint, MetricSummary, RunRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


#: Number of points that are packed into a chunk; maximum number of points per chunk.
SEAL, CHUNK = 1024, 65_536


#: Below this number of new points plain Python updates a summary faster than arrays do.
_FEW = 48


#: Maximum number of ids per query: databases limit the number of values.
IDS = 5000


# Raw SQL: compiling a statement for each batch costs more than the batch.
_INSERT_POINTS = "insert into metric_point (metric_id, seq, step, time, value) values (?, ?, ?, ?, ?)"


class Batch(NamedTuple):
    """New points of one metric, in the order they were logged: three sequences of equal length."""

    steps: Sequence[int]
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True, eq=False, slots=True)
class Series:
    """Points of one metric of one run, in the order in which they were logged.

    Attributes
    ----------
    step : ndarray of int64, shape (n,)
        Not sorted: steps may go back.
    time : ndarray of float64, shape (n,)
        Seconds since 1970.
    value : ndarray of float64, shape (n,)
        NaN and infinity are kept as logged.
    first : int
        Index of the first of these points among all points of the metric, from 0.
    """

    step: NDArray[np.int64]
    time: NDArray[np.float64]
    value: NDArray[np.float64]
    first: int = 0

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, points: slice) -> Series:
        """Return some of the points; a slice counts from the first of these points."""
        start = points.indices(len(self))[0]
        return Series(self.step[points], self.time[points], self.value[points], self.first + start)

    @classmethod
    def joined(cls, parts: Sequence[Series]) -> Series:
        """Return parts that follow one another as one series; an empty series if there are none."""
        import numpy as np

        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls(np.empty(0, np.int64), np.empty(0), np.empty(0))
        step = np.concatenate([part.step for part in parts])
        time = np.concatenate([part.time for part in parts])
        return cls(step, time, np.concatenate([part.value for part in parts]), parts[0].first)


Key = tuple[int, str]


_TALLIED = ("better", "count", "nonfinite", "last", "last_step", "min", "max", "best", "best_step", "sealed")


def _table(record: Any) -> Table:
    return cast(Table, record.__table__)


RUNS, SUMMARIES = _table(RunRecord), _table(MetricSummary)


_points, _chunks = _table(MetricPoint), _table(MetricChunk)


_keep = (
    update(SUMMARIES)
    .where(SUMMARIES.c.id == bindparam("_id"))
    .values({name: bindparam(f"_{name}") for name in _TALLIED})
)


# Writing ----------------------------------------------------------------------------------------------


def append(
    connection: Connection, batches: Mapping[Key, Batch], better: Mapping[Key, str | None], *, sqlite: bool
) -> None:
    """Add points and update the summaries of their metrics."""
    tallies = _tallies(connection, {run_id for run_id, _ in batches}, sqlite)
    rows: list[tuple[int, int, int, float, float | None]] = []
    for key, batch in batches.items():
        if (tally := tallies.get(key)) is None:
            tally = tallies[key] = _new_tally(connection, *key, better.get(key))
        first, number = tally.count, len(batch.values)
        tally.add(batch.steps, batch.values)
        if first + number - tally.sealed >= SEAL:
            _seal(connection, tally, batch, first)
            continue
        numbers = [None if value != value else value for value in batch.values]  # NaN
        rows += zip(
            repeat(tally.id), range(first, first + number), batch.steps, batch.times, numbers, strict=False
        )
    if rows:
        statement = _INSERT_POINTS if sqlite else _INSERT_POINTS.replace("?", "%s")
        connection.exec_driver_sql(statement, cast(Any, rows))
    connection.execute(_keep, [tally.columns() for tally in tallies.values() if tally.changed])


def replace(connection: Connection, key: Key, batch: Batch, *, sqlite: bool) -> None:
    """Replace all points of a metric; without new points it is removed."""
    run_id, _ = key
    tally = _tallies(connection, {run_id}, sqlite).get(key)  # also the lock
    if tally is not None:
        for table in (_points, _chunks):
            connection.execute(delete(table).where(table.c.metric_id == tally.id))
        if len(batch.values):
            connection.execute(_keep, [_Tally(tally.id, tally.better).columns()])
        else:
            connection.execute(delete(SUMMARIES).where(SUMMARIES.c.id == tally.id))
    if len(batch.values):
        append(connection, {key: batch}, {}, sqlite=sqlite)


def _tallies(connection: Connection, run_ids: Collection[int], sqlite: bool) -> dict[Key, _Tally]:
    if not sqlite:  # SQLite has one writer at a time; elsewhere the run's row is the lock
        ordered = select(RUNS.c.id).where(RUNS.c.id.in_(run_ids)).order_by(RUNS.c.id)
        connection.execute(ordered.with_for_update())
    columns = [SUMMARIES.c[name] for name in ("run_id", "name", "id", *_TALLIED)]
    rows = connection.execute(select(*columns).where(SUMMARIES.c.run_id.in_(run_ids)))
    return {(run_id, name): _Tally(*rest) for run_id, name, *rest in rows}


def _new_tally(connection: Connection, run_id: int, name: str, better: str | None) -> _Tally:
    row = MetricSummary(run_id=run_id, name=name, better=better).model_dump(exclude={"id"})
    made = connection.execute(insert(SUMMARIES).values(row).returning(SUMMARIES.c.id))
    return _Tally(int(made.scalar_one()), better)


def _seal(connection: Connection, tally: _Tally, batch: Batch, first: int) -> None:
    """Pack a metric's rows and its new points into chunks."""
    import numpy as np

    curve = [np.asarray(column, kind) for column, kind in zip(batch, ("<i8", "<f8", "<f8"), strict=True)]
    if first > tally.sealed:
        loose = _points.c.metric_id == tally.id
        query = select(_points.c.step, _points.c.time, _points.c.value).where(loose).order_by(_points.c.seq)
        before = zip(*connection.execute(query).all(), strict=True)
        curve = [
            np.concatenate([np.array(old, new.dtype), new]) for old, new in zip(before, curve, strict=True)
        ]
        connection.execute(delete(_points).where(loose))
    rows = [
        {
            "metric_id": tally.id,
            "first": tally.sealed + at,
            "count": len(curve[0][at : at + CHUNK]),
            **{
                name: column[at : at + CHUNK].tobytes()
                for name, column in zip(("step", "time", "value"), curve, strict=True)
            },
        }
        for at in range(0, len(curve[0]), CHUNK)
    ]
    connection.execute(insert(_chunks), rows)
    tally.sealed = tally.count


@dataclass(slots=True)
class _Tally:
    """A metric's summary while points are added."""

    id: int
    better: str | None
    count: int = 0
    nonfinite: int = 0
    last: float | None = None
    last_step: int | None = None
    min: float | None = None
    max: float | None = None
    best: float | None = None
    best_step: int | None = None
    sealed: int = 0
    changed: bool = False

    def add(self, steps: Sequence[int], values: Sequence[float]) -> None:
        """Add new points."""
        self.changed = True
        self.count += len(values)
        last = float(values[-1])
        self.last, self.last_step = None if math.isnan(last) else last, int(steps[-1])
        if len(values) < _FEW:
            for step, value in zip(steps, values, strict=True):
                self._meet(step, value, value)
        else:
            self._meet_many(steps, values)

    def _meet(self, step: int, low: float, high: float) -> None:
        if not math.isfinite(low):
            self.nonfinite += 1
            return
        if self.min is None or low < self.min:
            self.min = low
        if self.max is None or high > self.max:
            self.max = high
        if self.better is None:
            return
        if self.best is None or (high > self.best if self.better == "higher" else low < self.best):
            self.best, self.best_step = (high if self.better == "higher" else low), step

    def _meet_many(self, steps: Sequence[int], values: Sequence[float]) -> None:
        import numpy as np

        array = np.asarray(values, np.float64)
        finite = np.isfinite(array)
        self.nonfinite += int(len(array) - np.count_nonzero(finite))
        if not finite.any():
            return
        # The first of equal best values counts, as when adding them one by one.
        low = int(np.argmin(np.where(finite, array, np.inf)))
        high = int(np.argmax(np.where(finite, array, -np.inf)))
        step = steps[high if self.better == "higher" else low]
        self._meet(int(step), float(array[low]), float(array[high]))

    def columns(self) -> dict[str, Any]:
        return {"_id": self.id, **{f"_{name}": getattr(self, name) for name in _TALLIED}}


# Reading ----------------------------------------------------------------------------------------------


def read(
    connection: Connection,
    keys: Sequence[Key],
    after: Mapping[Key, int] | None = None,
    most: int | None = None,
) -> dict[Key, Series]:
    """Return the points of some metrics, each after the index already known; see ``Store.curves``."""
    known = after or {}
    pending: dict[int, tuple[Key, int]] = {}
    ends: dict[int, int] = {}
    left = math.inf if most is None else most
    for key, metric_id, count in _existing(connection, keys):
        known_to = known.get(key, -1)
        if (new := min(count - 1 - known_to, left)) > 0:
            pending[metric_id] = (key, known_to)
            if most is not None:
                ends[metric_id] = known_to + int(new)
                left -= new
    parts: dict[int, list[Series]] = {metric_id: [] for metric_id in pending}
    for some in _alike({metric_id: known_to for metric_id, (_, known_to) in pending.items()}):
        least = pending[some[0]][1]
        last = None if most is None else max(ends[metric_id] for metric_id in some)
        # Rows first: rows packed between the two queries are then read twice, and never missed.
        rows = _rows(connection, some, least)
        for metric_id, curve in _chunked(connection, some, least, last):
            parts[metric_id].append(curve)
        for metric_id, curve in rows:
            before = parts[metric_id]
            end = before[-1].first + len(before[-1]) - 1 if before else -1
            before.append(_between(curve, end))
    out = {key: Series.joined(()) for key in keys}
    for metric_id, (key, known_to) in pending.items():
        out[key] = _between(Series.joined(parts[metric_id]), known_to, ends.get(metric_id))
    return out


def _alike(known_to: Mapping[int, int]) -> Iterator[list[int]]:
    """Yield groups of metric ids to read in one query, those with the lowest known ``seq`` first.

    A metric that is read from the start is not grouped with one that misses only its end: both would be
    read from the start.
    """
    some: list[int] = []
    for metric_id in sorted(known_to, key=known_to.__getitem__):
        if some and (len(some) == IDS or known_to[metric_id] - known_to[some[0]] > CHUNK):
            yield some
            some = []
        some.append(metric_id)
    if some:
        yield some


def _existing(connection: Connection, keys: Sequence[Key]) -> Iterator[tuple[Key, int, int]]:
    requested = set(keys)
    run_ids = sorted({run_id for run_id, _ in requested})
    names = {name for _, name in requested}
    columns = (SUMMARIES.c.run_id, SUMMARIES.c.name, SUMMARIES.c.id, SUMMARIES.c.count)
    for at in range(0, len(run_ids), IDS):
        query = select(*columns).where(SUMMARIES.c.run_id.in_(run_ids[at : at + IDS]))
        if len(names) <= IDS:
            query = query.where(SUMMARIES.c.name.in_(names))
        for run_id, name, metric_id, count in connection.execute(query):
            if (run_id, name) in requested:
                yield (run_id, name), metric_id, count


def _rows(connection: Connection, ids: Sequence[int], after: int) -> list[tuple[int, Series]]:
    import numpy as np

    query = (
        select(_points.c.metric_id, _points.c.seq, _points.c.step, _points.c.time, _points.c.value)
        .where(_points.c.metric_id.in_(ids), _points.c.seq > after)
        .order_by(_points.c.metric_id, _points.c.seq)
    )
    rows = connection.execute(query).all()
    if not rows:
        return []
    owner, seq, steps, times, values = zip(*rows, strict=True)
    step, at = np.array(steps, np.int64), np.array(times, np.float64)
    value = np.array(values, np.float64)  # None becomes NaN
    cuts = np.flatnonzero(np.diff(np.array(owner))) + 1
    bounds = [0, *(int(cut) for cut in cuts), len(owner)]
    return [
        (int(owner[start]), Series(step[start:end], at[start:end], value[start:end], int(seq[start])))
        for start, end in pairwise(bounds)
    ]


def _chunked(
    connection: Connection, ids: Sequence[int], after: int, last: int | None
) -> Iterator[tuple[int, Series]]:
    query = (
        select(
            _chunks.c.metric_id,
            _chunks.c.first,
            _chunks.c.step,
            _chunks.c.time,
            _chunks.c.value,
        )
        .where(_chunks.c.metric_id.in_(ids), _chunks.c.first + _chunks.c.count - 1 > after)
        .order_by(_chunks.c.metric_id, _chunks.c.first)
    )
    if last is not None:
        query = query.where(_chunks.c.first <= last)
    for metric_id, first, step, at, value in connection.execute(query):
        import numpy as np  # most runs have no chunk

        series = Series(
            np.frombuffer(step, "<i8"), np.frombuffer(at, "<f8"), np.frombuffer(value, "<f8"), first
        )
        yield metric_id, series


def _between(series: Series, after: int, last: int | None = None) -> Series:
    """Return the points whose index is above ``after``, and at most ``last`` unless that is None."""
    start = max(after + 1 - series.first, 0)
    stop = len(series) if last is None else max(last + 1 - series.first, 0)
    return series[start:stop] if start or stop < len(series) else series


def at_steps(
    connection: Connection, keys: Sequence[Key], steps: Collection[int]
) -> dict[int, dict[str, float]]:
    """Return the metrics of a run logged at each step; the last value counts if there are several."""
    names = {metric_id: name for (_, name), metric_id, _ in _existing(connection, keys)}
    ids, wanted = list(names), set(steps)
    last: dict[tuple[int, str], float] = {}
    for start in range(0, len(ids), IDS):
        some = ids[start : start + IDS]
        # Rows first, as in `read`. They need no numpy, which a short job would import for its few points.
        query = select(_points.c.metric_id, _points.c.step, _points.c.value)
        query = query.where(_points.c.metric_id.in_(some)).order_by(_points.c.metric_id, _points.c.seq)
        rows = connection.execute(query.where(_points.c.step.in_(wanted)) if len(wanted) <= IDS else query)
        loose = rows.all()
        for metric_id, curve in _chunked(connection, some, -1, None):
            for step in wanted:
                if len(places := (curve.step == step).nonzero()[0]):
                    last[step, names[metric_id]] = float(curve.value[places[-1]])
        for metric_id, step, value in loose:
            last[step, names[metric_id]] = math.nan if value is None else float(value)
    ordered = dict.fromkeys(name for _, name in keys)
    return {step: {name: last[step, name] for name in ordered if (step, name) in last} for step in steps}
