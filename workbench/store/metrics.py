"""Read what runs logged: summaries and points."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, bindparam, select

from workbench.errors import StoreError
from workbench.store import points as series
from workbench.store.damage import RowCheck
from workbench.store.database import Database
from workbench.store.outcome import of_training
from workbench.store.points import Key, Series
from workbench.store.records import MetricSummary
from workbench.store.tables import SUMMARIES

#: The columns that :meth:`MetricQueries.summary_table` reads of each metric, in its unpacking order.
_SUMMARY_COLUMNS = ("last", "min", "max", "best", "best_step", "last_step", "count", "nonfinite", "better")


# Built once: building the statement takes as long as executing it.
IDS: Any = bindparam("ids", expanding=True)


_SUMMARY_TABLE = (
    select(*(SUMMARIES.c[name] for name in ("run_id", "name", *_SUMMARY_COLUMNS)))
    .where(SUMMARIES.c.run_id.in_(IDS))
    .order_by(SUMMARIES.c.id)
)


_CHECK_SUMMARY = RowCheck([SUMMARIES.c[name] for name in ("run_id", "name", *_SUMMARY_COLUMNS)])


class MetricQueries(Database):
    """Queries about metrics."""

    def summaries(self, run_ids: Collection[int]) -> dict[int, list[MetricSummary]]:
        """Return the metric summaries of some runs, by run, in order of first appearance."""
        out: dict[int, list[MetricSummary]] = {run_id: [] for run_id in run_ids}
        query = select(SUMMARIES).where(SUMMARIES.c.run_id.in_(run_ids)).order_by(SUMMARIES.c.id)
        for summary in self._all(MetricSummary, query):
            out[summary.run_id].append(summary)
        return out

    def summary_table(self, run_ids: Collection[int]) -> dict[int, dict[str, dict[str, Any]]]:
        """Return the metric summaries by run and metric name, in order of first appearance.

        Plain values, fast for many runs: ``last``, ``min``, ``max``, ``best``, ``best_step``,
        ``last_step``, ``count``, ``nonfinite`` and ``better``. ``last`` is None if it was NaN.
        """
        with self._reading() as connection:
            return self._summary_table(connection, run_ids)

    def _summary_table(
        self, connection: Connection, run_ids: Collection[int]
    ) -> dict[int, dict[str, dict[str, Any]]]:
        out: dict[int, dict[str, dict[str, Any]]] = {run_id: {} for run_id in run_ids}
        # Raw driver rows and literal dicts, for speed: there are thousands, and no value needs converting.
        rows = connection.execute(_SUMMARY_TABLE, {"ids": list(run_ids)}).cursor.fetchall()
        for row in rows:
            run_id, name, last, low, high, best, best_step, last_step, count, nonfinite, better = (
                _CHECK_SUMMARY.mended(row) or row
            )
            out[run_id][name] = {
                "last": last,
                "min": low,
                "max": high,
                "best": best,
                "best_step": best_step,
                "last_step": last_step,
                "count": count,
                "nonfinite": nonfinite,
                "better": better,
            }
        return out

    def curves(
        self, keys: Sequence[Key], after: Mapping[Key, int] | None = None, most: int | None = None
    ) -> dict[Key, Series]:
        """Return the points of many metrics, in the order logged.

        Parameters
        ----------
        keys : sequence of (run id, metric name)
            The metrics.
        after : mapping of (run id, metric name) to int, optional
            Only points after this index (from 0); all points of metrics not in it.
        most : int, optional
            Maximum number of points in total: metrics are read in turn, each from its first new point, until
            it is reached.

        Returns
        -------
        dict of (run id, metric name) to Series
            One per key; empty if there is no such metric or no new point. The arrays may be read-only.
        """
        with self._reading() as connection, _damaged_points():
            return series.read(connection, keys, after, most)

    def points(self, run_id: int, name: str, *, after: int = -1) -> list[tuple[int, float, float]]:
        """Return (step, time, value) of one metric in the order logged, from index ``after`` + 1 on."""
        key = (run_id, name)
        curve = self.curves([key], {key: after})[key]
        return list(zip(curve.step.tolist(), curve.time.tolist(), curve.value.tolist(), strict=True))

    def at_steps(self, run_id: int, steps: Collection[int]) -> dict[int, dict[str, float]]:
        """Return the metrics of a run logged at each step; the last value of each metric counts."""
        with self._reading() as connection:
            names = of_training(self._summary_table(connection, [run_id])[run_id])
            return self._at_steps(connection, run_id, names, steps)

    def _at_steps(
        self, connection: Connection, run_id: int, names: Iterable[str], steps: Collection[int]
    ) -> dict[int, dict[str, float]]:
        if not steps:
            return {}
        with _damaged_points():
            return series.at_steps(connection, [(run_id, name) for name in names], steps)


@contextmanager
def _damaged_points() -> Iterator[None]:
    """Convert the errors of points that are no numbers, or of chunks that are cut off."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise StoreError(
            f"stored metric points are damaged: {error}", hint="See which parts: workbench doctor"
        ) from None
