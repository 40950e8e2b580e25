"""Queries about experiments and runs."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from sqlalchemy import JSON, Connection, Text, func, insert, select, update

from workbench.store.database import as_record, new_id, new_values
from workbench.store.engines import storable
from workbench.store.metrics import IDS, MetricQueries
from workbench.store.outcome import collect
from workbench.store.records import Checkpoint, Experiment, Run
from workbench.store.tables import CHECKPOINTS, EXPERIMENTS, JOBS, RUNS, SENDERS, SUMMARIES


class RunRow(NamedTuple):
    """A run without what only its own page shows."""

    id: int
    name: str
    experiment: str
    status: str
    config: dict[str, Any]
    tags: dict[str, Any]
    directions: list[list[str]]
    job_id: int | None
    error: dict[str, Any] | None
    created_at: float
    finished_at: float | None
    notes: str


_RUN_TABLE = (
    select(
        *(
            EXPERIMENTS.c.name.label("experiment") if name == "experiment" else RUNS.c[name]
            for name in RunRow._fields
        )
    )
    .join(EXPERIMENTS, EXPERIMENTS.c.id == RUNS.c.experiment_id)
    .order_by(RUNS.c.id.desc())
)


_RUN_TABLE_OF = _RUN_TABLE.where(RUNS.c.id.in_(IDS))


class RunQueries(MetricQueries):
    """Experiments and runs."""

    def experiments(self) -> list[Experiment]:
        """Return every experiment, by name."""
        return self._all(Experiment, select(EXPERIMENTS).order_by(EXPERIMENTS.c.name))

    def experiment(self, key: str | int) -> Experiment | None:
        """Return an experiment by name or id."""
        column = EXPERIMENTS.c.id if isinstance(key, int) else EXPERIMENTS.c.name
        return self._one(Experiment, select(EXPERIMENTS).where(column == key))

    def add_run(self, run: Run, experiment: str) -> Run:
        """Add a run, and its experiment if that is new; return the run with its ids.

        A run without a name is called ``run-<id>``.
        """

        def add() -> Run:
            with self._writing() as connection:
                return self._add_run(connection, run, experiment)

        return self._adding(add)

    def _add_run(self, connection: Connection, run: Run, experiment: str) -> Run:
        # What is JSON escapes any text by itself; a column of text does not.
        texts = {name: storable(value) for name, value in new_values(run).items() if isinstance(value, str)}
        experiment_id = _experiment_id(connection, experiment, run.created_at)
        row = {**new_values(run), **texts, "experiment_id": experiment_id}
        run_id = new_id(connection, insert(RUNS).values(row), RUNS)
        row["name"] = run.name or f"run-{run_id}"
        connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(name=row["name"]))
        if run.job_id is not None:
            connection.execute(update(JOBS).where(JOBS.c.id == run.job_id).values(run_id=run_id))
        return Run(**{**row, "id": run_id})

    def put_run(self, run: Run, experiment: str) -> Run:
        """Add a run that has an ``origin``, or bring the one that came from there up to date.

        A run that is there keeps its id, its notes, its experiment and the tags it was given here; all else
        is as ``run`` says, its state too.
        """
        with self._writing() as connection:
            there = connection.execute(select(RUNS).where(RUNS.c.origin == run.origin)).first()
            if there is None:
                added = self._add_run(connection, run, experiment)
                self._collect(connection, [added.id or 0])
                return added
            kept = {
                "id": there.id,
                "experiment_id": there.experiment_id,
                "notes": there.notes or run.notes,
                "tags": {**there.tags, **run.tags},
                "outcome": there.outcome,
            }
            row = {**new_values(run), **kept}
            connection.execute(update(RUNS).where(RUNS.c.id == there.id).values(row))
            self._collect(connection, [there.id])
        return Run(**row)

    def change_run(self, run_id: int, **change: Any) -> None:
        """Change columns of a run that say nothing of its state, such as its notes and tags."""
        with self._writing() as connection:
            connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(change))

    def run(self, run_id: int) -> Run | None:
        """Return a run."""
        return self._one(Run, select(RUNS).where(RUNS.c.id == run_id))

    def runs(
        self,
        *,
        experiment_id: int | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Run]:
        """Return runs, newest first; those of one experiment if it is named."""
        query = select(RUNS).order_by(RUNS.c.id.desc()).limit(limit).offset(offset)
        if experiment_id is not None:
            query = query.where(RUNS.c.experiment_id == experiment_id)
        return self._all(Run, query)

    def run_table(self, run_ids: Collection[int] | None = None) -> dict[int, RunRow]:
        """Return runs by id, newest first, without what only a run's own page shows; all of them if None."""
        with self._reading() as connection:
            if run_ids is None:
                found = connection.execute(_RUN_TABLE)
            else:
                found = connection.execute(_RUN_TABLE_OF, {"ids": list(run_ids)})
            return {row[0]: RunRow(*row) for row in found}

    def run_marks(self, run_ids: Collection[int]) -> dict[int, str]:
        """Return by id a mark that is another one when a run's row of ``run_table`` is.

        Of a run that is running, also when it has logged more points. Texts are compared as they lie in the
        database: nothing of them is read.
        """
        read = [RUNS.c[name] for name in RunRow._fields if name != "experiment"]
        columns = [one.cast(Text) if isinstance(one.type, JSON) else one for one in read]
        table = select(*columns).where(RUNS.c.id.in_(run_ids))
        counts = (
            select(SUMMARIES.c.run_id, func.sum(SUMMARIES.c.count))
            .join(RUNS, RUNS.c.id == SUMMARIES.c.run_id)
            .where(RUNS.c.id.in_(run_ids), RUNS.c.status == "running")
            .group_by(SUMMARIES.c.run_id)
        )
        with self._reading() as connection:
            # Counted first: what is logged between the two questions changes the mark the next time.
            logged = {run_id: int(count) for run_id, count in connection.execute(counts)}
            return {
                row[0]: blake2b(repr((*row, logged.get(row[0]))).encode(), digest_size=9).hexdigest()
                for row in connection.execute(table.order_by(RUNS.c.id.desc()))
            }

    def run_of(self, origin: str) -> Run | None:
        """Return the run that was brought from somewhere."""
        return self._one(Run, select(RUNS).where(RUNS.c.origin == origin))

    def running(self) -> list[tuple[int, str, int | None, str]]:
        """Return (id, host, pid, when that process started) of the runs that are running."""
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
        """End a run that is running and collect its outcome, in one; say whether it was running.

        With ``heard_at`` only if nothing was heard since of who logs it from elsewhere.
        """
        wanted = (RUNS.c.id == run_id) & (RUNS.c.status == "running")
        if heard_at is not None:
            silent = select(SENDERS.c.run_id).where(SENDERS.c.owner, SENDERS.c.heard_at == heard_at)
            wanted &= RUNS.c.id.in_(silent)
        change = {
            "status": status,
            "error": dict(error) if error else None,
            "finished_at": time.time() if finished_at is None else finished_at,
        }
        with self._writing() as connection:
            if connection.execute(update(RUNS).where(wanted).values(change)).rowcount != 1:
                return False
            self._collect(connection, [run_id])
        return True

    def outcome(self, run_id: int) -> dict[str, Any] | None:
        """Return what a run has come to: what was collected at its end, or how it stands now."""
        with self._reading() as connection:
            row = connection.execute(select(RUNS).where(RUNS.c.id == run_id)).first()
            if row is None:
                return None
            stored: dict[str, Any] | None = row.outcome
            return stored or self._outcome(connection, as_record(Run, row))

    def _collect(self, connection: Connection, run_ids: Collection[int]) -> None:
        """Write the outcomes of runs that have ended, again where more was logged since."""
        ended = select(RUNS).where(RUNS.c.id.in_(run_ids), RUNS.c.status != "running")
        for row in connection.execute(ended).all():
            outcome = self._outcome(connection, as_record(Run, row))
            connection.execute(update(RUNS).where(RUNS.c.id == row.id).values(outcome=outcome))

    def _outcome(self, connection: Connection, run: Run) -> dict[str, Any]:
        run_id = run.id or 0
        summaries = self._summary_table(connection, [run_id])[run_id]
        rows = connection.execute(
            select(CHECKPOINTS).where(CHECKPOINTS.c.run_id == run_id).order_by(CHECKPOINTS.c.id)
        )
        checkpoints = [as_record(Checkpoint, row) for row in rows]
        steps = {one.step for one in checkpoints if one.step is not None}
        values = self._at_steps(connection, run_id, summaries, steps)
        return collect(run, summaries, checkpoints, values)


def _experiment_id(connection: Connection, name: str, created_at: float) -> int:
    """Return the id of an experiment, which is made if it is new."""
    found = connection.execute(select(EXPERIMENTS.c.id).where(EXPERIMENTS.c.name == name)).scalar()
    if found is not None:
        return int(found)
    return new_id(connection, insert(EXPERIMENTS).values(name=name, created_at=created_at), EXPERIMENTS)
