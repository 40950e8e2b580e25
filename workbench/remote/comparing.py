"""Readers of runs on a server, for ``RemoteWorkspace.run_reader`` and ``curve_reader``.

Each poll requests one mark per run; the server answers 304 if none has changed. Only runs whose mark changed
are read again, and only the new points of curves. An idle panel sends one request per poll, and a panel that
watches runs sends three.
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
from workbench.compare.reading import by_run
from workbench.errors import ServerUnreachable, WorkbenchError
from workbench.results.result import Metric
from workbench.store.points import Key, Series
from workbench.store.runs import RunRow

if TYPE_CHECKING:
    from workbench.remote.door import Door

#: Timeout in seconds of requests that a panel waits for; seconds until a failed adapter request is retried.
LOOK_SECONDS, ASK_AGAIN_SECONDS = 20.0, 60.0

#: Maximum number of runs, metrics and bytes of names per request, and of runs in a URL.
RUNS_ASKED, CURVES_ASKED, BYTES_ASKED, ALSO_ASKED = 200, 200, 2**17, 100

#: The columns of a summary that are never NaN or infinite.
_WHOLE = frozenset({"best_step", "last_step", "count", "nonfinite", "better"})


class Families:
    """The metrics that the server's adapters declare, requested once per adapter.

    Parameters
    ----------
    door : Door
        The server.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._known: dict[str, list[Metric]] = {}
        self._failed: dict[str, float] = {}

    def metrics(self, families: Collection[str]) -> dict[str, list[Metric]]:
        """Return the metrics that some adapters declare, by adapter.

        A missing or broken adapter declares nothing, so that runs can be compared anyway.

        Raises
        ------
        ServerUnreachable
            The server does not answer.
        """
        return {family: self._of(family) for family in sorted(set(families) - {""})}

    def _of(self, family: str) -> list[Metric]:
        if family not in self._known and time.monotonic() > self._failed.get(family, 0.0):
            try:
                reply = self._door.get(f"adapters/{quote(family, safe='')}")
                self._known[family] = [Metric(**metric) for metric in reply["metrics"]]
            except ServerUnreachable:
                raise
            except WorkbenchError:
                self._failed[family] = time.monotonic() + ASK_AGAIN_SECONDS
        return self._known.get(family, [])


class RemoteRuns:
    """Reads runs and their summaries from a server; see :class:`workbench.compare.reading.Runs`.

    Parameters
    ----------
    door : Door
        The server.
    families : Families
        The metrics that its adapters declare.
    """

    def __init__(self, door: Door, families: Families) -> None:
        self._door = door
        self._families = families
        self._held: dict[int, tuple[str, RunRow, str, dict[str, dict[str, Any]]]] = {}

    def look(self, limit: int, also: Collection[int] = ()) -> tuple[range, dict[int, RunRow]]:
        """Return the newest ids and rows; unchanged rows are not read again."""
        listed, marks = self._marks(limit, also)
        held = {run_id: one for run_id, one in self._held.items() if run_id in marks}
        stale = [run_id for run_id in marks if run_id not in held or held[run_id][0] != marks[run_id]]
        for reply in self._table(stale):
            run_id = reply["id"]
            held[run_id] = (marks[run_id], _row(reply), reply["adapter"], reply["summary"])
        self._held = held
        return listed, {run_id: held[run_id][1] for run_id in sorted(held, reverse=True)}

    def summaries(self, rows: Iterable[RunRow]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return the summaries of the runs of the last look, by run and metric."""
        return {row.id: self._held[row.id][3] for row in rows}

    def declared(self, rows: Iterable[RunRow]) -> dict[int, list[Metric]]:
        """Return the metrics that the adapters of the runs' jobs declare, by run id."""
        return by_run(
            {row.id: self._held[row.id][2] for row in rows if row.job_id is not None}, self._families.metrics
        )

    def _marks(self, limit: int, also: Collection[int]) -> tuple[range, dict[int, str]]:
        reply = self._door.polled("runs/marks", LOOK_SECONDS, newest=limit)
        listed = range(reply["first"], reply["newest"] + 1)
        marks = {int(run_id): mark for run_id, mark in reply["marks"].items()}
        # Invalid ids are unknown, as are missing ones.
        others = sorted({run_id for run_id in also if run_id not in listed and 0 < run_id < 2**31})
        for some in _parts(others, ALSO_ASKED):
            ids = ",".join(map(str, some))
            reply = self._door.polled("runs/marks", LOOK_SECONDS, newest=0, also=ids)
            marks |= {int(run_id): mark for run_id, mark in reply["marks"].items()}
        return listed, marks

    def _table(self, ids: Sequence[int]) -> Iterator[dict[str, Any]]:
        for some in _parts(ids, RUNS_ASKED):
            left = list(some)
            while left:
                reply = self._door.post("runs/table", {"runs": left}, again=True, seconds=LOOK_SECONDS)
                for run in reply["runs"]:
                    yield {**run, "summary": _summary(reply["columns"], run["summary"])}
                left = reply["left"]


class RemotePoints:
    """The points of a server's metrics; see :class:`workbench.compare.reading.PointSource`.

    Parameters
    ----------
    door : Door
        The server.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    def curves(self, keys: Sequence[Key], after: Mapping[Key, int] | None = None) -> dict[Key, Series]:
        """Return the points of some metrics, each after the index already known; see ``Store.curves``."""
        first = {key: (after or {}).get(key, -1) for key in keys}
        parts: dict[Key, list[Series]] = {key: [] for key in keys}
        for some in _askable(list(first)):
            more = True
            while more:
                requests = [{"run": run, "name": name, "after": first[run, name]} for run, name in some]
                reply = self._door.post("runs/points", {"curves": requests}, again=True, seconds=LOOK_SECONDS)
                for one in reply["curves"]:
                    key = (one["run"], one["name"])
                    curve = _curve(one, first[key] + 1)
                    parts[key].append(curve)
                    first[key] += len(curve)
                more = reply["more"]
        return {key: Series.joined(curves) for key, curves in parts.items()}


def _row(reply: Mapping[str, Any]) -> RunRow:
    # Servers of version 0.2.0 archive nothing.
    return RunRow(**{name: reply[name] for name in RunRow._fields if name in reply})


def _summary(columns: Sequence[str], reply: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """Return a summary in the store's form: None if the last value was NaN."""
    return {
        name: {
            column: value if value is None or column in _WHOLE else wire.number_from(value)
            for column, value in zip(columns, values, strict=True)
        }
        for name, values in reply.items()
    }


def _curve(reply: Mapping[str, Any], first: int) -> Series:
    step = np.frombuffer(b64decode(reply["step"]), "<i8")
    at, value = (np.frombuffer(b64decode(reply[name]), "<f8") for name in ("time", "value"))
    return Series(step, at, value, first)


def _parts(ids: Sequence[int], most: int) -> Iterator[Sequence[int]]:
    return (ids[at : at + most] for at in range(0, len(ids), most))


def _askable(keys: Sequence[Key]) -> Iterator[list[Key]]:
    """Yield groups of metrics, each small enough for one request."""
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
    """The server's comparison of some runs; has the attributes of a ``Comparison``."""

    def __init__(self, reply: Mapping[str, Any]) -> None:
        self._reply = reply

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._reply:
            raise AttributeError(name)
        return _spaces(self._reply[name])

    @property
    def differences(self) -> list[Any]:
        """The settings in which the runs differ."""
        return [row for row in _spaces(self._reply["config"]) if row.differs]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON, as ``Comparison.to_json`` does; without the curves, which are in ``series``."""
        return {key: value for key, value in self._reply.items() if key not in ("series", "buckets")}


def _spaces(value: Any) -> Any:
    """Return rows whose columns are attributes."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [SimpleNamespace(**item) for item in value]
    return value
