"""What comparing reads of a workspace: light rows of runs, their summaries, and curves that remember.

Nothing is read twice that cannot have changed: a run that is over keeps its summary, and of a curve only the
points are read that were logged since.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from workbench.adapter.registry import adapters, load_adapters
from workbench.compare.curves import Series, thinned
from workbench.results.result import Metric
from workbench.runs.heartbeats import Hearing
from workbench.runs.settling import settle_runs
from workbench.store.points import Curve
from workbench.store.runs import RunRow
from workbench.store.store import Store

#: Points that curves keep in memory between two looks (24 bytes each); what is not on a chart goes first.
MAX_HELD_POINTS = 8_000_000


class Runs(Protocol):
    """What comparing asks of the runs of a workspace, wherever that is: ``workspace.run_reader()``."""

    def look(self, limit: int, also: Collection[int] = ()) -> tuple[range, dict[int, RunRow]]:
        """Return the ids among which the newest runs are, and light rows by id, the newest first.

        Parameters
        ----------
        limit : int
            How many ids, oldest first. Ids are counted up and never used twice.
        also : collection of int
            Runs wanted besides; one that is not there is left out.
        """

    def summaries(self, rows: Iterable[RunRow]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return what the metrics of runs that were just looked at came to, by run and metric."""

    def declared(self, rows: Iterable[RunRow]) -> list[Metric]:
        """Return what is declared of the runs' metrics: by the adapters of their jobs, then by the runs."""


class PointSource(Protocol):
    """Where points come from: a :class:`~workbench.store.store.Store`, or a server."""

    def curves(
        self, keys: Sequence[tuple[int, str]], after: Mapping[tuple[int, str], int] | None = None
    ) -> dict[tuple[int, str], Curve]:
        """Return the points of some metrics, those after a ``seq`` each; see ``Store.curves``."""


class RunReader:
    """Reads runs and what they came to out of a store; what is over is read once.

    Parameters
    ----------
    store : Store
        Whose runs.
    written : callable, optional
        Called before each look: what this process has logged is in the store then.
    hearing : Hearing, optional
        What this process, a server, has heard of the runs that are logged to it.
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
        """Return the newest ids and rows; see :class:`Runs`. Runs whose process vanished are seen to have."""
        if self._written is not None:
            self._written()
        settle_runs(self._store, hearing=self._hearing)
        newest = self._store.newest_run() or 0
        listed = range(max(1, newest - limit + 1), newest + 1)
        wanted = {*listed, *also}
        return listed, self._store.run_table(wanted) if wanted else {}

    def summaries(self, rows: Iterable[RunRow]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return what the metrics of some runs came to, by run and metric."""
        rows = list(rows)
        wanted = [row.id for row in rows if row.id not in self._summaries]
        read = self._store.summary_table(wanted) if wanted else {}
        out = {row.id: read[row.id] if row.id in read else self._summaries[row.id] for row in rows}
        # Its row was read before its summary: what was over then had all of its points.
        self._summaries |= {
            row.id: read[row.id] for row in rows if row.status != "running" and row.id in read
        }
        return out

    def declared(self, rows: Iterable[RunRow]) -> list[Metric]:
        """Return what is declared of the runs' metrics: by the adapters of their jobs, then by the runs."""
        rows = list(rows)
        job_ids = {row.job_id for row in rows if row.job_id is not None}
        if unknown := job_ids - self._adapters.keys():
            self._adapters |= dict.fromkeys(unknown, "") | self._store.job_adapters(unknown)
        return family_metrics({self._adapters[job_id] for job_id in job_ids}) + said_directions(rows)


def family_metrics(families: Collection[str]) -> list[Metric]:
    """Return what adapters declare of their metrics, in the order of their names.

    One that is unknown or cannot be loaded declares nothing: its runs are compared all the same.
    """
    if not families:  # to look for adapters costs files
        return []
    working, _ = load_adapters(sorted(set(families) & set(adapters())))
    return [metric for adapter in working.values() for metric in adapter.metrics]


def said_directions(rows: Iterable[RunRow]) -> list[Metric]:
    """Return what runs say themselves of which way their metrics are better."""
    said = dict.fromkeys((pattern, way) for row in rows for pattern, way in row.directions)
    return [Metric(pattern, "higher" if way == "higher" else "lower") for pattern, way in said]


def curve_points(
    source: PointSource, keys: Sequence[tuple[int, str]], after: Mapping[tuple[int, str], int]
) -> dict[tuple[int, str], Series]:
    """Return points of some curves, those after the one that is held last."""
    found = source.curves(keys, after)
    return {key: Series(curve.step, curve.time, curve.value) for key, curve in found.items()}


def thinned_curves(
    store: Store, run_ids: Sequence[int], names: Sequence[str], buckets: int
) -> dict[tuple[int, str], Series]:
    """Return curves by step, thinned so that a chart of some width loses nothing that can be seen.

    Parameters
    ----------
    store : Store
        Whose runs.
    run_ids, names : sequence
        Which runs, and which of their metrics.
    buckets : int
        Of each the smallest, the largest and the last point are kept.

    Returns
    -------
    dict
        By run and metric; what a run never logged is left out.
    """
    found = store.curves([(run_id, name) for run_id in run_ids for name in names])
    out = {}
    for key, curve in found.items():
        if len(curve.value):
            kept = thinned(curve.step.astype(np.float64), curve.value, buckets)
            out[key] = Series(curve.step[kept], curve.time[kept], curve.value[kept])
    return out


class Curves:
    """Curves that are read once and then only continued.

    Parameters
    ----------
    source : PointSource
        Whose points: a store, or what stands for one.
    """

    def __init__(self, source: PointSource) -> None:
        self._source = source
        self._held: dict[tuple[int, str], Series] = {}

    def series(self, counts: Mapping[tuple[int, str], int]) -> dict[tuple[int, str], Series]:
        """Return curves by (run id, metric), up to date.

        Parameters
        ----------
        counts : mapping of (run id, metric) to int
            Which, and how many points each has now: one that is held whole is not read again.
        """
        # What was asked for before and is not now is forgotten, the oldest first, until the rest fits.
        kept = sum(len(series) for series in self._held.values())
        for key in [key for key in self._held if key not in counts]:
            if kept <= MAX_HELD_POINTS:
                break
            kept -= len(self._held.pop(key))
        nothing = Series(np.empty(0, np.int64), np.empty(0), np.empty(0))
        behind = [key for key, count in counts.items() if len(self._held.get(key, nothing)) < count]
        after = {key: len(self._held[key]) - 1 for key in behind if key in self._held}
        for key, new in curve_points(self._source, behind, after).items() if behind else ():
            self._held[key] = joined(self._held[key], new) if key in after else new
        return {key: self._held.get(key, nothing) for key in counts}


def joined(one: Series, other: Series) -> Series:
    """Return two parts of a series as one."""
    return Series(
        np.concatenate([one.step, other.step]),
        np.concatenate([one.time, other.time]),
        np.concatenate([one.value, other.value]),
    )
