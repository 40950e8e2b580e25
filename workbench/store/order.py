"""Order among runs, experiments and jobs: what is archived, moved, deleted or set aside."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Table, delete, func, insert, select, update

from workbench.errors import WrongState
from workbench.store import points as series
from workbench.store.database import as_record, new_id, new_values
from workbench.store.jobs import JobQueries
from workbench.store.outcome import of_training
from workbench.store.points import Batch
from workbench.store.records import FINAL_STATUSES, JobRecord, RunRecord, Sender
from workbench.store.runs import RunQueries, experiment_id_of
from workbench.store.tables import (
    ARTIFACTS,
    CHECKPOINTS,
    CHUNKS,
    EXPERIMENTS,
    JOBS,
    MEDIA,
    POINTS,
    RESULTS,
    RUNS,
    SENDERS,
    SUMMARIES,
)
from workbench.values import storable

#: The tables with what belongs to one run, and what each is called in counts.
_OF_A_RUN = ((CHECKPOINTS, "checkpoints"), (ARTIFACTS, "artifacts"), (MEDIA, "media"), (SENDERS, ""))


class OrderQueries(JobQueries, RunQueries):
    """Archive, move and delete; set points aside."""

    def change_job(self, job_id: int, **change: Any) -> None:
        """Update columns of a job that are not part of its state: its name, whether it is archived."""
        with self._writing() as connection:
            connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(storable(change)))

    def change_experiment(self, experiment_id: int, **change: Any) -> None:
        """Update an experiment's name, or whether it is archived.

        Raises
        ------
        WrongState
            Another experiment has that name.
        """
        with self._writing() as connection:
            same = (EXPERIMENTS.c.name == change.get("name")) & (EXPERIMENTS.c.id != experiment_id)
            if "name" in change and connection.execute(select(EXPERIMENTS.c.id).where(same)).first():
                raise WrongState(
                    f"there is an experiment {change['name']!r} already",
                    hint="Move the runs there instead: run.move(…).",
                )
            mine = EXPERIMENTS.c.id == experiment_id
            connection.execute(update(EXPERIMENTS).where(mine).values(storable(change)))

    def move_run(self, run_id: int, experiment: str, created_at: float) -> None:
        """Move a run to another experiment, created if new."""
        with self._writing() as connection:
            place = experiment_id_of(connection, experiment, created_at)
            connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(experiment_id=place))

    # Deleting ----------------------------------------------------------------------------------

    def delete_runs(self, run_ids: Collection[int]) -> dict[str, int]:
        """Delete runs with their points and the records of their files, all or none.

        Jobs keep their results; they only no longer name the run. The caller deletes the files, afterwards.

        Returns
        -------
        dict of str to int
            How many ``runs``, ``metrics``, ``points``, ``checkpoints``, ``artifacts`` and ``media`` there
            were.

        Raises
        ------
        WrongState
            A run goes on, or a job that is queued or running uses it.
        """
        ids = sorted(run_ids)
        with self._writing() as connection:
            query = select(RUNS.c.id, RUNS.c.status).where(RUNS.c.id.in_(ids)).order_by(RUNS.c.id)
            for run_id, status in connection.execute(query.with_for_update()).all():
                if status == "running":
                    raise WrongState(f"run {run_id} is running", hint="End it first, or archive it.")
            _check_unused(connection, set(ids))
            return _delete_runs(connection, ids)

    def delete_experiment(self, experiment_id: int) -> tuple[list[int], dict[str, int]]:
        """Delete an experiment with its runs; return their ids and the counts, see :meth:`delete_runs`.

        Raises
        ------
        WrongState
            One of its runs goes on, or is used.
        """
        with self._writing() as connection:
            query = select(RUNS.c.id, RUNS.c.status).where(RUNS.c.experiment_id == experiment_id)
            rows = connection.execute(query.order_by(RUNS.c.id).with_for_update()).all()
            if running := [str(row.id) for row in rows if row.status == "running"]:
                raise WrongState(
                    f"runs of the experiment are running: {', '.join(running[:10])}",
                    hint="End them first, or archive the experiment.",
                )
            ids = [int(row.id) for row in rows]
            _check_unused(connection, set(ids))
            counts = _delete_runs(connection, ids)
            connection.execute(delete(EXPERIMENTS).where(EXPERIMENTS.c.id == experiment_id))
        return ids, {"experiments": 1, **counts}

    def delete_job(self, job_id: int) -> dict[str, int]:
        """Delete a job that has ended, with its result; its runs stay.

        Raises
        ------
        WrongState
            It is queued or running.
        """
        with self._writing() as connection:
            over = (JOBS.c.id == job_id) & JOBS.c.status.in_(FINAL_STATUSES)
            connection.execute(update(RUNS).where(RUNS.c.job_id == job_id).values(job_id=None))
            results = connection.execute(delete(RESULTS).where(RESULTS.c.job_id == job_id)).rowcount
            if connection.execute(delete(JOBS).where(over)).rowcount != 1:
                raise WrongState(
                    f"job {job_id} has not ended, or was deleted by another process",
                    hint="Cancel it first, or archive it.",
                )
        return {"jobs": 1, "results": int(results)}

    def active_jobs(self) -> list[JobRecord]:
        """Return the jobs that are queued or running."""
        return self._all(JobRecord, _ACTIVE)

    # Resuming ----------------------------------------------------------------------------------

    def resume_run(
        self, run_id: int, step: int | None, process: Mapping[str, Any], key: str = ""
    ) -> tuple[RunRecord, int | None]:
        """Let a run that has ended go on, from a step, in one transaction.

        Points behind the step move to a new run, which is archived and tagged ``set_aside``.

        Parameters
        ----------
        run_id : int
            The run.
        step : int or None
            Points at higher steps are set aside; None keeps all.
        process : mapping
            Columns of the process that logs it from now on: ``host``, ``pid`` and ``pid_started``.
        key : str
            The key of a remote sender that logs it.

        Returns
        -------
        (RunRecord, int or None)
            The run, and the id of the run with the points that were set aside, if there were any.

        Raises
        ------
        WrongState
            The run is running.
        """
        with self._writing() as connection:
            row = connection.execute(select(RUNS).where(RUNS.c.id == run_id).with_for_update()).one()
            run = as_record(RunRecord, row)
            known = select(SENDERS.c.run_id).where(SENDERS.c.key == key)
            if key and (logs := connection.execute(known).scalar()) is not None:
                if logs == run_id and run.status == "running":  # the answer to the first request was lost
                    return run, None
                raise WrongState(f"this sender logged run {logs} already", hint="Use a new key.")
            if run.status == "running":
                raise WrongState(
                    f"run {run_id} is running",
                    hint="Log to it with ws.run(id), or end it before you resume it.",
                )
            aside = None if step is None else self._set_aside(connection, run, step)
            how = {"step": step, "at": self._clock(connection), "status": run.status, "set_aside": aside}
            resumed = [*(run.environment.get("resumed") or []), how]
            change = {
                "status": "running",
                "error": None,
                "finished_at": None,
                "outcome": None,
                "archived_at": None,
                "environment": {**run.environment, "resumed": resumed},
                **process,
            }
            connection.execute(update(RUNS).where(RUNS.c.id == run_id).values(change))
            if key:
                heard = self._clock(connection)
                connection.execute(update(SENDERS).where(SENDERS.c.run_id == run_id).values(owner=False))
                sender = Sender(key=key, run_id=run_id, owner=True, heard_at=heard)
                connection.execute(insert(SENDERS).values(sender.model_dump()))
            else:  # heartbeats of those who logged it before must not end it
                connection.execute(delete(SENDERS).where(SENDERS.c.run_id == run_id))
            row = connection.execute(select(RUNS).where(RUNS.c.id == run_id)).one()
            return as_record(RunRecord, row), aside

    def _set_aside(self, connection: Connection, run: RunRecord, step: int) -> int | None:
        """Move a run's points behind a step to a new run; return its id, or None if there are none."""
        run_id, made = run.id or 0, None
        summaries = self._summary_table(connection, [run_id])[run_id]
        for name in of_training(summaries):  # the machine's are by seconds
            summary = summaries[name]
            key = (run_id, name)
            curve = series.read(connection, [key])[key]
            behind = curve.step > step
            if not behind.any():
                continue
            if made is None:
                made = _new_aside(connection, run, step)
            kept, moved = (
                Batch(*(column[part].tolist() for column in (curve.step, curve.time, curve.value)))
                for part in (~behind, behind)
            )
            better = {(made, name): summary["better"]}
            series.append(connection, {(made, name): moved}, better, sqlite=self.is_sqlite)
            series.replace(connection, key, kept, sqlite=self.is_sqlite)
        if made is not None:
            self._collect(connection, [made])
        return made


_ACTIVE = select(JOBS).where(JOBS.c.status.not_in(FINAL_STATUSES)).order_by(JOBS.c.id)


def _new_aside(connection: Connection, run: RunRecord, step: int) -> int:
    """Add the run that holds the points of another one behind a step."""
    row = RunRecord(
        experiment_id=run.experiment_id,
        name=f"{run.name}, set aside behind step {step}",
        status=run.status,
        config=run.config,
        tags={**run.tags, "set_aside": run.id},
        directions=run.directions,
        error=run.error,
        created_at=run.created_at,
        finished_at=run.finished_at,
        notes=f"Points of run {run.id} behind step {step}, from which it was resumed.",
        git=run.git,
        environment=run.environment,
        seed=run.seed,
        archived_at=run.finished_at or run.created_at,
    )
    return new_id(connection, insert(RUNS).values(new_values(row)), RUNS)


def _check_unused(connection: Connection, run_ids: set[int]) -> None:
    """Raise if a job that is queued or running was given one of the runs, or logs one.

    Raises
    ------
    WrongState
        One is; the message names the job.
    """
    for job in connection.execute(_ACTIVE):
        options = job.options if isinstance(job.options, dict) else {}
        used = options.get("runs")
        named = {options.get("run"), job.run_id, *(used if isinstance(used, list) else ())}
        if both := run_ids & {value for value in named if type(value) is int}:
            raise WrongState(
                f"run {min(both)} is used by job {job.id}, which is {job.status}",
                hint="Cancel the job first, or archive the run.",
            )


def _delete_runs(connection: Connection, ids: list[int]) -> dict[str, int]:
    counts = {"runs": 0, "metrics": 0, "points": 0, "checkpoints": 0, "artifacts": 0, "media": 0}
    for at in range(0, len(ids), series.IDS):
        some = ids[at : at + series.IDS]
        mine = SUMMARIES.c.run_id.in_(some)
        count = select(func.coalesce(func.sum(SUMMARIES.c.count), 0)).where(mine)
        counts["points"] += int(connection.execute(count).scalar_one())
        metrics = select(SUMMARIES.c.id).where(mine)
        for table in (POINTS, CHUNKS):
            connection.execute(delete(table).where(table.c.metric_id.in_(metrics)))
        counts["metrics"] += connection.execute(delete(SUMMARIES).where(mine)).rowcount
        for table, name in _OF_A_RUN:
            number = _delete_of(connection, table, some)
            if name:
                counts[name] += number
        connection.execute(update(JOBS).where(JOBS.c.run_id.in_(some)).values(run_id=None))
        counts["runs"] += connection.execute(delete(RUNS).where(RUNS.c.id.in_(some))).rowcount
    return counts


def _delete_of(connection: Connection, table: Table, run_ids: list[int]) -> int:
    return int(connection.execute(delete(table).where(table.c.run_id.in_(run_ids))).rowcount)
