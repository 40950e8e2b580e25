"""Queries about experiments and runs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from sqlalchemy import JSON, Connection, Select, Text, func, insert, select, update
from sqlalchemy.dialects import sqlite

from workbench.store.damage import RowCheck
from workbench.store.database import as_record, new_id, new_values
from workbench.store.metrics import IDS, MetricQueries
from workbench.store.outcome import collect, of_training
from workbench.store.records import DAMAGED, Checkpoint, Experiment, Json, RunRecord
from workbench.store.tables import CHECKPOINTS, EXPERIMENTS, JOBS, RUNS, SENDERS, SUMMARIES
from workbench.values import known_time, storable


class RunRow(NamedTuple):
    """A run without the columns that only its own page shows; a time that is unknown is None."""

    id: int
    name: str
    experiment: str
    status: str
    config: dict[str, Any]
    tags: dict[str, Any]
    directions: list[list[str]]
    job_id: int | None
    error: dict[str, Any] | None
    created_at: float | None
    finished_at: float | None
    notes: str
    archived_at: float | None = None


_RUN_TABLE = (
    select(
        *(
            func.coalesce(EXPERIMENTS.c.name, DAMAGED).label("experiment")
            if name == "experiment"
            else RUNS.c[name]
            for name in RunRow._fields
        )
    )
    .join(EXPERIMENTS, EXPERIMENTS.c.id == RUNS.c.experiment_id, isouter=True)
    .order_by(RUNS.c.id.desc())
)


_CHECK_RUN_ROW = RowCheck(
    [EXPERIMENTS.c.name if name == "experiment" else RUNS.c[name] for name in RunRow._fields]
)


_RUN_TABLE_OF = _RUN_TABLE.where(RUNS.c.id.in_(IDS))


class RunQueries(MetricQueries):
    """Experiments and runs."""

    def experiments(self) -> list[Experiment]:
        """Return all experiments, sorted by name."""
        return self._all(Experiment, select(EXPERIMENTS).order_by(EXPERIMENTS.c.name))

    def experiment(self, key: str | int) -> Experiment | None:
        """Return an experiment by name or id."""
        column = EXPERIMENTS.c.id if isinstance(key, int) else EXPERIMENTS.c.name
        return self._one(Experiment, select(EXPERIMENTS).where(column == key))

    def add_run(self, run: RunRecord, experiment: str) -> RunRecord:
        """Add a run, and its experiment if new; return the run with its ids.

        The default name is ``run-<id>``.
        """

        def add() -> RunRecord:
            with self._writing() as connection:
                return self._add_run(connection, run, experiment)

        return self._adding(add)

    def _add_run(self, connection: Connection, run: RunRecord, experiment: str) -> RunRecord:
        # JSON columns escape any text; text columns do not.
        texts = {name: storable(value) for name, value in new_values(run).items() if isinstance(value, str)}
        experiment_id = experiment_id_of(connection, experiment, run.created_at)
        row = {**new_values(run), **texts, "experiment_id": experiment_id}
        run_id = new_id(connection, insert(RUNS).values(row), RUNS)
        row["name"] = run.name or f"run-{run_id}"
        connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(name=row["name"]))
        if run.job_id is not None:
            connection.execute(update(JOBS).where(JOBS.c.id == run.job_id).values(run_id=run_id))
        return RunRecord(**{**row, "id": run_id})

    def put_run(self, run: RunRecord, experiment: str) -> RunRecord:
        """Add a run that has an ``origin``, or update the existing run with that origin.

        An existing run keeps its id, its notes, its experiment and the tags added here; everything else,
        including its status, is taken from ``run``.
        """
        with self._writing() as connection:
            existing = connection.execute(select(RUNS).where(RUNS.c.origin == run.origin)).first()
            if existing is None:
                added = self._add_run(connection, run, experiment)
                self._collect(connection, [added.id or 0])
                return added
            kept = {
                "id": existing.id,
                "experiment_id": existing.experiment_id,
                "notes": existing.notes or run.notes,
                "tags": {**existing.tags, **run.tags},
                "outcome": existing.outcome,
            }
            row = {**new_values(run), **kept}
            connection.execute(update(RUNS).where(RUNS.c.id == existing.id).values(row))
            self._collect(connection, [existing.id])
        return RunRecord(**row)

    def change_run(self, run_id: int, **change: Any) -> None:
        """Update columns of a run that are not part of its state, such as notes and tags."""
        with self._writing() as connection:
            connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(change))

    def run(self, run_id: int) -> RunRecord | None:
        """Return a run."""
        row = self._one(RunRecord, select(RUNS).where(RUNS.c.id == run_id))
        return None if row is None else self._with_end(row)

    def _with_end(self, row: RunRecord) -> RunRecord:
        """Return a run that has ended, although that could not be written, as ended."""
        if row.status == "running" and (end := self.unwritten_runs.get(row.id or 0)):
            row.__dict__.update(end)
        return row

    def runs(
        self,
        *,
        experiment_id: int | None = None,
        limit: int | None = None,
        offset: int = 0,
        archived: bool | None = None,
        where: Any = None,
        order: Sequence[Any] = (),
    ) -> list[RunRecord]:
        """Return runs, newest first.

        Parameters
        ----------
        experiment_id : int, optional
            Only of this experiment.
        limit, offset : int
            At most this many, after the first ones.
        archived : bool, optional
            Only runs that are archived, themselves or by their experiment, or only others; None for all.
        where : SQL clause, optional
            A condition on ``run`` and ``experiment``; see :mod:`workbench.runs.where`.
        order : sequence of SQL clauses
            Another order.
        """
        query = _selected(select(RUNS), experiment_id, archived, where, joined=bool(order))
        query = query.order_by(*(order or [RUNS.c.id.desc()])).limit(limit).offset(offset)
        rows = self._all(RunRecord, query)
        return [self._with_end(row) for row in rows] if self.unwritten_runs else rows

    def run_ids(
        self,
        *,
        experiment_id: int | None = None,
        limit: int | None = None,
        archived: bool | None = None,
        where: Any = None,
        order: Sequence[Any] = (),
    ) -> list[int]:
        """Return the ids of runs; see :meth:`runs`."""
        query = _selected(select(RUNS.c.id), experiment_id, archived, where, joined=bool(order))
        with self._reading() as connection:
            rows = connection.execute(query.order_by(*(order or [RUNS.c.id.desc()])).limit(limit))
            return [int(row.id) for row in rows]

    def count_runs(
        self, *, experiment_id: int | None = None, archived: bool | None = None, where: Any = None
    ) -> int:
        """Return the number of runs; see :meth:`runs`."""
        query = _selected(select(func.count()).select_from(RUNS), experiment_id, archived, where)
        with self._reading() as connection:
            return int(connection.execute(query).scalar_one())

    def metric_names(self) -> list[str]:
        """Return the names of all metrics, sorted."""
        with self._reading() as connection:
            return sorted(connection.execute(select(SUMMARIES.c.name).distinct()).scalars())

    def configs(self) -> Iterator[dict[str, Any]]:
        """Yield the settings of all runs."""
        with self._reading() as connection:
            yield from connection.execute(select(RUNS.c.config)).scalars()

    def run_table(self, run_ids: Collection[int] | None = None) -> dict[int, RunRow]:
        """Return runs by id, newest first, without the columns of a run's own page; all runs if None."""
        with self._reading() as connection:
            if run_ids is None:
                rows = connection.execute(_RUN_TABLE)
            else:
                rows = connection.execute(_RUN_TABLE_OF, {"ids": list(run_ids)})
            table = {row[0]: _light(RunRow(*(_CHECK_RUN_ROW.mended(row) or row))) for row in rows}
        for run_id, end in self.unwritten_runs.items():
            if run_id in table and table[run_id].status == "running":
                table[run_id] = table[run_id]._replace(**end)
        return table

    def run_marks(self, run_ids: Collection[int]) -> dict[int, str]:
        """Return by id a mark that changes when a run's row of ``run_table`` changes.

        For a running run it also changes when more points are logged. JSON columns count as stored,
        without parsing.
        """
        read = [RUNS.c[name] for name in RunRow._fields if name != "experiment"]
        columns = [one.cast(Text) if isinstance(one.type, (JSON, Json)) else one for one in read]
        table = select(*columns).where(RUNS.c.id.in_(run_ids))
        counts = (
            select(SUMMARIES.c.run_id, func.sum(SUMMARIES.c.count))
            .join(RUNS, RUNS.c.id == SUMMARIES.c.run_id)
            .where(RUNS.c.id.in_(run_ids), RUNS.c.status == "running")
            .group_by(SUMMARIES.c.run_id)
        )
        with self._reading() as connection:
            # Counted first: points logged between the two queries change the mark the next time.
            logged = {run_id: int(count) for run_id, count in connection.execute(counts)}
            return {
                row[0]: blake2b(
                    repr((*row, logged.get(row[0]), self.unwritten_runs.get(row[0]))).encode(), digest_size=9
                ).hexdigest()
                for row in connection.execute(table.order_by(RUNS.c.id.desc()))
            }

    def run_of(self, origin: str) -> RunRecord | None:
        """Return the run that was imported from an origin."""
        return self._one(RunRecord, select(RUNS).where(RUNS.c.origin == origin))

    def imported(self, tool: str) -> list[tuple[str, str, dict[str, Any]]]:
        """Return (origin, name, environment) of the runs that were imported from a tool, oldest first."""
        query = select(RUNS.c.origin, RUNS.c.name, RUNS.c.environment).order_by(RUNS.c.id)
        with self._reading() as connection:
            rows = connection.execute(query.where(RUNS.c.origin.startswith(f"{tool}:", autoescape=True)))
            return [tuple(row) for row in rows]

    def running(self) -> list[tuple[int, str, int | None, str]]:
        """Return (id, host, pid, start of that process) of the running runs."""
        query = select(RUNS.c.id, RUNS.c.host, RUNS.c.pid, RUNS.c.pid_started)
        with self._reading() as connection:
            return [tuple(row) for row in connection.execute(query.where(RUNS.c.status == "running"))]

    def newest_run(self) -> int | None:
        """Return the highest run id."""
        with self._reading() as connection:
            return connection.execute(select(func.max(RUNS.c.id))).scalar()

    def end_run(
        self,
        run_id: int,
        status: str,
        error: Mapping[str, Any] | None = None,
        *,
        finished_at: float | None = None,
        heard_at: float | None = None,
    ) -> bool:
        """End a running run and collect its outcome, in one transaction; return whether it was running.

        With ``heard_at``, only if its remote sender has sent no heartbeat since then.
        """
        matches = (RUNS.c.id == run_id) & (RUNS.c.status == "running")
        if heard_at is not None:
            silent = select(SENDERS.c.run_id).where(SENDERS.c.owner, SENDERS.c.heard_at == heard_at)
            matches &= RUNS.c.id.in_(silent)
        change = {
            "status": status,
            "error": dict(error) if error else None,
            "finished_at": time.time() if finished_at is None else finished_at,
        }
        with self._writing() as connection:
            if connection.execute(update(RUNS).where(matches).values(change)).rowcount != 1:
                return False
            self._collect(connection, [run_id])
        return True

    def end_unwritten(self, run_id: int, status: str, error: Mapping[str, Any], finished_at: float) -> bool:
        """Show a run as ended in this process, because that cannot be written; return whether that is new."""
        known = run_id in self.unwritten_runs
        self.unwritten_runs[run_id] = {
            "status": status,
            "error": dict(error),
            "finished_at": self.unwritten_runs[run_id]["finished_at"] if known else finished_at,
        }
        return not known

    def outcome(self, run_id: int) -> dict[str, Any] | None:
        """Return the outcome of a run: as collected at its end, or its current state."""
        with self._reading() as connection:
            row = connection.execute(select(RUNS).where(RUNS.c.id == run_id)).first()
            if row is None:
                return None
            stored: dict[str, Any] | None = row.outcome
            return stored or self._outcome(connection, self._with_end(as_record(RunRecord, row)))

    def _collect(self, connection: Connection, run_ids: Collection[int]) -> None:
        """Write the outcomes of ended runs; rewrite them if more was logged since."""
        ended = select(RUNS).where(RUNS.c.id.in_(run_ids), RUNS.c.status != "running")
        for row in connection.execute(ended).all():
            outcome = self._outcome(connection, as_record(RunRecord, row))
            connection.execute(update(RUNS).where(RUNS.c.id == row.id).values(outcome=outcome))

    def _outcome(self, connection: Connection, run: RunRecord) -> dict[str, Any]:
        run_id = run.id or 0
        summaries = self._summary_table(connection, [run_id])[run_id]
        rows = connection.execute(
            select(CHECKPOINTS).where(CHECKPOINTS.c.run_id == run_id).order_by(CHECKPOINTS.c.id)
        )
        checkpoints = [as_record(Checkpoint, row) for row in rows]
        steps = {one.step for one in checkpoints if one.step is not None}
        values = self._at_steps(connection, run_id, of_training(summaries), steps)
        return collect(run, summaries, checkpoints, values)


def _selected(
    query: Select[Any],
    experiment_id: int | None,
    archived: bool | None,
    where: Any,
    *,
    joined: bool = False,
) -> Select[Any]:
    """Return a query of runs with conditions."""
    if joined or archived is not None or where is not None:
        query = query.join(EXPERIMENTS, EXPERIMENTS.c.id == RUNS.c.experiment_id, isouter=True)
    if experiment_id is not None:
        query = query.where(RUNS.c.experiment_id == experiment_id)
    if archived is not None:
        hidden = RUNS.c.archived_at.is_not(None) | EXPERIMENTS.c.archived_at.is_not(None)
        query = query.where(hidden if archived else ~hidden)
    return query if where is None else query.where(where)


def _light(row: RunRow) -> RunRow:
    return row._replace(created_at=known_time(row.created_at), finished_at=known_time(row.finished_at))


def experiment_id_of(connection: Connection, name: str, created_at: float) -> int:
    """Return the id of an experiment, created if new."""
    existing = connection.execute(select(EXPERIMENTS.c.id).where(EXPERIMENTS.c.name == name)).scalar()
    if existing is not None:
        return int(existing)
    # Another process may add it at the same moment: then its row is taken.
    insert: Any = sqlite.insert
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # slow to import, and seldom needed
    adding = insert(EXPERIMENTS).values(name=name, created_at=created_at)
    added = connection.execute(
        adding.on_conflict_do_nothing(index_elements=["name"]).returning(EXPERIMENTS.c.id)
    ).scalar()
    return int(added) if added is not None else experiment_id_of(connection, name, created_at)
