"""Read what a comparison needs from a workspace: light rows of runs, their summaries, and cached curves.

Only data that may have changed is read again: summaries of finished runs are cached, and of a curve only the
new points are read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from workbench.adapter.registry import adapters, load_adapters
from workbench.compare.curves import thinned
from workbench.results.result import Metric
from workbench.runs.heartbeats import Hearing
from workbench.runs.settling import settle_runs
from workbench.store.points import Series
from workbench.store.runs import RunRow
from workbench.store.store import Store

#: Maximum number of points cached between reads (24 bytes each); curves not on a chart are dropped first.
MAX_HELD_POINTS = 8_000_000


#: Number of points of several curves that are read at once before they are thinned.
READ_POINTS = 2**20


class Runs(Protocol):
    """The runs of a workspace, local or remote, as a comparison reads them: ``workspace.run_reader()``."""

    def look(self, limit: int, also: Collection[int] = ()) -> tuple[range, dict[int, RunRow]]:
        """Return the range of the newest run ids, and light rows by id, newest first.

        Parameters
        ----------
        limit : int
            Length of the range, which is in ascending order. Ids increase and are never reused.
        also : collection of int
            Ids of further runs; missing runs are left out.
        """

    def summaries(self, rows: Iterable[RunRow]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return the metric summaries of runs returned by :meth:`look`, by run and metric."""

    def declared(self, rows: Iterable[RunRow]) -> dict[int, list[Metric]]:
        """Return the metrics that the adapters of the runs' jobs declare, by run id."""


class PointSource(Protocol):
    """A source of points: a :class:`~workbench.store.store.Store`, or a server."""

    def curves(
        self, keys: Sequence[tuple[int, str]], after: Mapping[tuple[int, str], int] | None = None
    ) -> dict[tuple[int, str], Series]:
        """Return the points of metrics, each after the index already known; see ``Store.curves``."""


class RunReader:
    """Reads runs and their summaries from a store; finished runs are read once.

    Parameters
    ----------
    store : Store
        The store of the runs.
    written : callable, optional
        Called before each read, to write what this process has logged to the store.
    hearing : Hearing, optional
        If this process is a server: the heartbeats of the runs that are logged to it.
    """

    def __init__(
        self,
        store: Store,
        written: Callable[[], object] | None = None,
        hearing: Hearing | None = None,
    ) -> None:
        self._store = store
        self._written = written
        self._hearing = hearing
        self._summaries: dict[int, dict[str, dict[str, Any]]] = {}
        self._adapters: dict[int, str] = {}

    def look(self, limit: int, also: Collection[int] = ()) -> tuple[range, dict[int, RunRow]]:
        """Return the newest ids and rows; see :class:`Runs`. Runs of vanished processes are settled first."""
        if self._written is not None:
            self._written()
        settle_runs(self._store, hearing=self._hearing)
        newest = self._store.newest_run() or 0
        listed = range(max(1, newest - limit + 1), newest + 1)
        run_ids = {*listed, *also}
        return listed, self._store.run_table(run_ids) if run_ids else {}

    def summaries(self, rows: Iterable[RunRow]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return the metric summaries of runs, by run and metric."""
        rows = list(rows)
        missing = [row.id for row in rows if row.id not in self._summaries]
        read = self._store.summary_table(missing) if missing else {}
        out = {row.id: read[row.id] if row.id in read else self._summaries[row.id] for row in rows}
        # Rows are read before summaries, so the summary of a finished run includes all its points.
        self._summaries |= {
            row.id: read[row.id] for row in rows if row.status != "running" and row.id in read
        }
        return out

    def declared(self, rows: Iterable[RunRow]) -> dict[int, list[Metric]]:
        """Return the metrics that the adapters of the runs' jobs declare; see :class:`Runs`."""
        job_of = {row.id: row.job_id for row in rows if row.job_id is not None}
        if unknown := set(job_of.values()) - self._adapters.keys():
            self._adapters |= dict.fromkeys(unknown, "") | self._store.job_adapters(unknown)
        return by_run({run_id: self._adapters[job_id] for run_id, job_id in job_of.items()}, family_metrics)


def family_metrics(families: Collection[str]) -> dict[str, list[Metric]]:
    """Return the metrics that adapters declare, by adapter.

    Adapters that are unknown or cannot be loaded are skipped; their runs can still be compared.
    """
    if not families:  # looking up adapters reads files
        return {}
    working, _ = load_adapters(sorted(set(families) & set(adapters())))
    return {name: list(adapter.metrics) for name, adapter in working.items()}


def by_run(
    adapter_of: Mapping[int, str], metrics_of: Callable[[Collection[str]], Mapping[str, list[Metric]]]
) -> dict[int, list[Metric]]:
    """Return the metrics that hold for runs, or jobs, by id: each one's adapter's own."""
    known = metrics_of(set(adapter_of.values()) - {""})
    return {one: metrics for one, adapter in adapter_of.items() if (metrics := known.get(adapter))}


def thinned_curves(
    store: Store, run_ids: Sequence[int], names: Sequence[str], buckets: int
) -> dict[tuple[int, str], Series]:
    """Return curves by step, thinned without visible loss for a chart of a certain width.

    Parameters
    ----------
    store : Store
        The store of the runs.
    run_ids, names : sequence
        Ids of the runs, and names of the metrics.
    buckets : int
        Number of buckets; each keeps its smallest, largest and last point.

    Returns
    -------
    dict
        By run and metric; metrics that a run never logged are left out.
    """
    out = {}
    for keys in _at_once(store, run_ids, names):
        for key, curve in store.curves(keys).items():
            if len(curve.value):
                kept = thinned(curve.step.astype(np.float64), curve.value, buckets)
                out[key] = Series(curve.step[kept], curve.time[kept], curve.value[kept])
    return out


def _at_once(store: Store, run_ids: Sequence[int], names: Sequence[str]) -> Iterator[list[tuple[int, str]]]:
    """Yield the existing curves in groups of at most :data:`READ_POINTS` points, which bounds memory."""
    summaries = store.summary_table(run_ids)
    group: list[tuple[int, str]] = []
    points = 0
    for key in ((run_id, name) for run_id in run_ids for name in names):
        if (summary := summaries.get(key[0], {}).get(key[1])) is None:
            continue
        count = int(summary["count"])
        if group and points + count > READ_POINTS:
            yield group
            group, points = [], 0
        group.append(key)
        points += count
    if group:
        yield group


class Curves:
    """Cached curves: after the first read only new points are read.

    Parameters
    ----------
    source : PointSource
        Source of the points: a store, or a server.
    """

    def __init__(self, source: PointSource) -> None:
        self._source = source
        self._held: dict[tuple[int, str], Series] = {}

    def series(self, counts: Mapping[tuple[int, str], int]) -> dict[tuple[int, str], Series]:
        """Return curves by (run id, metric), up to date.

        Parameters
        ----------
        counts : mapping of (run id, metric) to int
            The curves, with their current numbers of points; complete curves are not read again.
        """
        # Curves that are no longer requested are dropped, oldest first, until the rest fits.
        kept = sum(len(series) for series in self._held.values())
        for key in [key for key in self._held if key not in counts]:
            if kept <= MAX_HELD_POINTS:
                break
            kept -= len(self._held.pop(key))
        nothing = Series.joined(())
        for key in [key for key, held in self._held.items() if len(held) > counts.get(key, len(held))]:
            del self._held[key]  # an import removed points that the other tool had discarded
        behind = [key for key, count in counts.items() if len(self._held.get(key, nothing)) < count]
        after = {key: len(self._held[key]) - 1 for key in behind if key in self._held}
        for key, new in self._source.curves(behind, after).items() if behind else ():
            self._held[key] = Series.joined([self._held[key], new]) if key in after else new
        return {key: self._held.get(key, nothing) for key in counts}
