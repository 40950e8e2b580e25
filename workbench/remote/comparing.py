"""What comparing reads of a workspace on a server, for ``RemoteWorkspace.run_reader`` and ``curve_reader``.

Every look is one question for marks, one a run, which the server answers with nothing (304) where none has
changed. Only a run whose mark is another one is read again, and of a curve only the points that were logged
since. So an idle panel asks once a look, and one that watches runs asks three times.
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from workbench import wire
from workbench.compare.reading import said_directions
from workbench.errors import ServerUnreachable, WorkbenchError
from workbench.results.result import Metric
from workbench.store.points import Curve, Key
from workbench.store.runs import RunRow

if TYPE_CHECKING:
    from workbench.remote.door import Door

#: Seconds that a server may take for an answer that a panel waits for, and after which one that could not say
#: what an adapter declares is asked again.
LOOK_SECONDS, ASK_AGAIN_SECONDS = 20.0, 60.0

#: Runs, metrics and bytes of names that one question holds, and runs that stand in one's address.
RUNS_ASKED, CURVES_ASKED, BYTES_ASKED, ALSO_ASKED = 200, 200, 2**17, 100

#: What each number of a summary is; the others are numbers that may be NaN or infinite.
_WHOLE = frozenset({"best_step", "last_step", "count", "nonfinite", "better"})


class Families:
    """What the server's adapters declare of their metrics, asked once each.

    Parameters
    ----------
    door : Door
        The server.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._known: dict[str, list[Metric]] = {}
        self._failed: dict[str, float] = {}

    def metrics(self, families: Collection[str]) -> list[Metric]:
        """Return what some adapters declare, in the order of their names.

        One that is not there, or breaks, declares nothing: runs are compared all the same.

        Raises
        ------
        ServerUnreachable
            Nobody answers.
        """
        return [metric for family in sorted(set(families) - {""}) for metric in self._of(family)]

    def _of(self, family: str) -> list[Metric]:
        if family not in self._known and time.monotonic() > self._failed.get(family, 0.0):
            try:
                told = self._door.get(f"adapters/{quote(family, safe='')}")
                self._known[family] = [Metric(**metric) for metric in told["metrics"]]
            except ServerUnreachable:
                raise
            except WorkbenchError:
                self._failed[family] = time.monotonic() + ASK_AGAIN_SECONDS
        return self._known.get(family, [])


class RemoteRuns:
    """Reads runs and what they came to from a server; see :class:`workbench.compare.reading.Runs`.

    Parameters
    ----------
    door : Door
        The server.
    families : Families
        What its adapters declare.
    """

    def __init__(self, door: Door, families: Families) -> None:
        self._door = door
        self._families = families
        self._held: dict[int, tuple[str, RunRow, str, dict[str, dict[str, Any]]]] = {}

    def look(self, limit: int, also: Collection[int] = ()) -> tuple[range, dict[int, RunRow]]:
        """Return the newest ids and rows; what has not changed since the last look is not read."""
        listed, marks = self._marks(limit, also)
        held = {run_id: one for run_id, one in self._held.items() if run_id in marks}
        stale = [run_id for run_id in marks if run_id not in held or held[run_id][0] != marks[run_id]]
        for told in self._table(stale):
            run_id = told["id"]
            held[run_id] = (marks[run_id], _row(told), told["adapter"], told["summary"])
        self._held = held
        return listed, {run_id: held[run_id][1] for run_id in sorted(held, reverse=True)}

    def summaries(self, rows: Iterable[RunRow]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return what the metrics of runs that were just looked at came to, by run and metric."""
        return {row.id: self._held[row.id][3] for row in rows}

    def declared(self, rows: Iterable[RunRow]) -> list[Metric]:
        """Return what is declared of the runs' metrics: by the adapters of their jobs, then by the runs."""
        rows = list(rows)
        families = {self._held[row.id][2] for row in rows if row.job_id is not None}
        return self._families.metrics(families) + said_directions(rows)

    def _marks(self, limit: int, also: Collection[int]) -> tuple[range, dict[int, str]]:
        told = self._door.polled("runs/marks", LOOK_SECONDS, newest=limit)
        listed = range(told["first"], told["newest"] + 1)
        marks = {int(run_id): mark for run_id, mark in told["marks"].items()}
        # What no id can be is unknown, as one that is not there.
        others = sorted({run_id for run_id in also if run_id not in listed and 0 < run_id < 2**31})
        for some in _parts(others, ALSO_ASKED):
            ids = ",".join(map(str, some))
            told = self._door.polled("runs/marks", LOOK_SECONDS, newest=0, also=ids)
            marks |= {int(run_id): mark for run_id, mark in told["marks"].items()}
        return listed, marks

    def _table(self, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        for some in _parts(ids, RUNS_ASKED):
            left = list(some)
            while left:
                told = self._door.post("runs/table", {"runs": left}, again=True, seconds=LOOK_SECONDS)
                for run in told["runs"]:
                    yield {**run, "summary": _summary(told["columns"], run["summary"])}
                left = told["left"]


class RemotePoints:
    """The points of a server's metrics; see :class:`workbench.compare.reading.PointSource`.

    Parameters
    ----------
    door : Door
        The server.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    def curves(self, keys: Sequence[Key], after: Mapping[Key, int] | None = None) -> dict[Key, Curve]:
        """Return the points of some metrics, those after a ``seq`` each; see ``Store.curves``."""
        first = {key: (after or {}).get(key, -1) for key in keys}
        parts: dict[Key, list[Curve]] = {key: [] for key in keys}
        for some in _askable(list(first)):
            more = True
            while more:
                asked = [{"run": run, "name": name, "after": first[run, name]} for run, name in some]
                told = self._door.post("runs/points", {"curves": asked}, again=True, seconds=LOOK_SECONDS)
                for one in told["curves"]:
                    key = (one["run"], one["name"])
                    curve = _curve(one, first[key] + 1)
                    parts[key].append(curve)
                    first[key] += len(curve.seq)
                more = told["more"]
        return {key: _joined(found) for key, found in parts.items()}


def _row(told: Mapping[str, Any]) -> RunRow:
    return RunRow(**{name: told[name] for name in RunRow._fields})


def _summary(columns: Sequence[str], told: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Return a summary as a store has it: None where the last value was NaN."""
    return {
        name: {
            column: value if value is None or column in _WHOLE else wire.number_from(value)
            for column, value in zip(columns, values, strict=True)
        }
        for name, values in told.items()
    }


def _curve(told: Mapping[str, Any], first: int) -> Curve:
    step = np.frombuffer(b64decode(told["step"]), "<i8")
    seq = np.arange(first, first + len(step), dtype=np.int64)
    at, value = (np.frombuffer(b64decode(told[name]), "<f8") for name in ("time", "value"))
    return Curve(seq, step, at, value)


def _joined(parts: Sequence[Curve]) -> Curve:
    if not parts:
        return Curve(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))
    return parts[0] if len(parts) == 1 else Curve(*map(np.concatenate, zip(*parts, strict=True)))


def _parts(ids: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    return (ids[at : at + most] for at in range(0, len(ids), most))


def _askable(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Yield as many metrics as one question can name."""
    some: list[Key] = []
    size = 0
    for key in keys:
        takes = len(wire.dumps(key[1])) + 50
        if some and (len(some) == CURVES_ASKED or size + takes > BYTES_ASKED):
            yield some
            some, size = [], 0
        some.append(key)
        size += takes
    if some:
        yield some


class RemoteComparison:
    """What the server says of some runs beside each other; read as a ``Comparison`` is."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = told

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._told:
            raise AttributeError(name)
        return _spaces(self._told[name])

    @property
    def differences(self) -> list[Any]:
        """The settings in which the runs differ."""
        return [row for row in _spaces(self._told["config"]) if row.differs]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, as ``Comparison.to_json`` does; the curves are beside it, in ``series``."""
        return {key: value for key, value in self._told.items() if key != "series"}


def _spaces(value: Any) -> Any:
    """Return rows whose columns are attributes."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [SimpleNamespace(**item) for item in value]
    return value
