"""Queries about jobs and their results."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, func, insert, select, update

from workbench.store.database import _new_id, _record, _values
from workbench.store.engines import _storable
from workbench.store.records import EvalResult, Job
from workbench.store.runs import Runs
from workbench.store.tables import _jobs, _results, _runs


class Jobs(Runs):
    """Jobs and their results."""

    def add_job(self, job: Job) -> Job:
        """Add a job as it is; return it with its id."""
        row = _storable(_values(job))

        def add() -> int:
            with self._writing() as connection:
                return _new_id(connection, insert(_jobs).values(row), _jobs)

        return Job(**{**row, "id": self._adding(add)})

    def job(self, job_id: int) -> Job | None:
        """Return a job."""
        return self._one(Job, select(_jobs).where(_jobs.c.id == job_id))

    def jobs(
        self,
        *,
        type: str | None = None,  # noqa: A002  # the word for it everywhere
        status: str | Collection[str] | None = None,
        host: str | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Job]:
        """Return jobs, newest first."""
        return self._all(Job, _some_jobs(type, status, host, limit, offset))

    def job_rows(
        self,
        *,
        type: str | None = None,  # noqa: A002
        status: str | Collection[str] | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> list[Job]:
        """Return jobs, newest first, as plain rows to read from: of a thousand, five times as fast."""
        with self._reading() as connection:
            rows = connection.execute(_some_jobs(type, status, None, limit, offset)).all()
        return cast("list[Job]", rows)

    def count_jobs(
        self,
        status: str | Collection[str] | None = None,
        *,
        type: str | None = None,  # noqa: A002  # the word for it everywhere
    ) -> int:
        """Return how many jobs there are."""
        query = select(func.count()).select_from(_jobs)
        if type is not None:
            query = query.where(_jobs.c.type == type)
        if status is not None:
            query = query.where(_jobs.c.status.in_([status] if isinstance(status, str) else status))
        with self._reading() as connection:
            return connection.execute(query).scalar_one()

    def job_adapters(self, job_ids: Collection[int]) -> dict[int, str]:
        """Return whose adapter's some jobs are, by id."""
        query = select(_jobs.c.id, _jobs.c.adapter).where(_jobs.c.id.in_(job_ids))
        with self._reading() as connection:
            return {row.id: row.adapter for row in connection.execute(query)}

    def job_types(self) -> list[str]:
        """Return the types of the jobs there are, sorted."""
        with self._reading() as connection:
            return sorted(connection.execute(select(_jobs.c.type).distinct()).scalars())

    def newest_job(self) -> int | None:
        """Return the highest job id."""
        with self._reading() as connection:
            return connection.execute(select(func.max(_jobs.c.id))).scalar()

    def claim_job(self, worker: Mapping[str, Any], lease_seconds: float) -> Job | None:
        """Take the oldest queued job for a worker, or return None; one job is never taken by two.

        Parameters
        ----------
        worker : mapping
            Values of the columns that say who runs it: ``worker_id``, ``host``, ``worker_pid`` and
            ``worker_pid_started``; and, where the process is there already, ``pid``, ``pid_started`` and
            ``token``.
        lease_seconds : float
            How long the claim holds if it is never renewed.
        """
        oldest = select(_jobs.c.id).where(_jobs.c.status == "queued").order_by(_jobs.c.id).limit(1)
        with self._reading() as connection:  # no write lock for the many times there is nothing
            if connection.execute(oldest).first() is None:
                return None
        with self._writing() as connection:
            job_id = connection.execute(oldest.with_for_update(skip_locked=True)).scalar()
            if job_id is None:
                return None
            now = self._clock(connection)
            change = {
                "status": "running",
                "attempt": _jobs.c.attempt + 1,
                "started_at": now,
                "finished_at": None,
                "heartbeat_at": now,
                "lease_until": now + lease_seconds,
                "pid": None,
                "pid_started": "",
                "token": "",
                "error": None,
                "summary": "",
                "progress_done": 0.0,
                "progress_total": None,
                "progress_message": "",
                "progress_stages": [],
                "progress_rate": None,
                "progress_left": None,
                **worker,
            }
            mine = (_jobs.c.id == job_id) & (_jobs.c.status == "queued")
            if connection.execute(update(_jobs).where(mine).values(change)).rowcount != 1:
                return None
            row = connection.execute(select(_jobs).where(_jobs.c.id == job_id)).one()
        return _record(Job, row)

    def move_job(
        self,
        job_id: int,
        *,
        expect: str | Collection[str],
        to: str,
        attempt: int | None = None,
        runs: str = "",
        **change: Any,
    ) -> bool:
        """Move a job to another state if it is in one of those expected; say whether it moved.

        Parameters
        ----------
        job_id : int
            The job.
        expect : str or collection of str
            States the mover believes the job to be in.
        to : str
            The state it moves to; a final one sets ``finished_at`` too.
        attempt : int, optional
            The attempt the mover speaks for. A job that has since begun another one does not move.
        runs : str
            How the runs end that the attempt left open, with the job's ``error``: in the same transaction,
            since a moment later they could be the next attempt's.
        **change
            Further columns to set.
        """
        wanted = _expected(job_id, expect, attempt)
        now = time.time()
        if to in ("succeeded", "failed", "cancelled"):
            change.setdefault("finished_at", now)
        change = _storable(change)
        with self._writing() as connection:
            done = connection.execute(update(_jobs).where(wanted).values(status=to, **change))
            if done.rowcount == 1 and runs:
                left = (_runs.c.job_id == job_id) & (_runs.c.status == "running")
                ended = {"status": runs, "error": change.get("error"), "finished_at": now}
                stopped = update(_runs).where(left).values(ended).returning(_runs.c.id)
                self._collect(connection, connection.execute(stopped).scalars().all())
            return done.rowcount == 1

    def update_job(
        self,
        job_id: int,
        *,
        attempt: int,
        expect: str | Collection[str] = ("running", "cancelling"),
        durable: bool = False,
        **change: Any,
    ) -> str | None:
        """Change columns of a running attempt; return the job's status, or None if nothing changed."""
        wanted = _expected(job_id, expect, attempt)
        changed = update(_jobs).where(wanted).values(_storable(change)).returning(_jobs.c.status)
        with self._writing(durable=durable) as connection:
            status = connection.execute(changed).scalar()
        return None if status is None else str(status)

    def renew_leases(self, worker_id: str, lease_seconds: float) -> dict[int, tuple[str, int]]:
        """Renew a worker's leases; return (status, attempt) of each job it still holds, by id."""
        wanted = (_jobs.c.worker_id == worker_id) & _jobs.c.status.in_(("running", "cancelling"))
        with self._writing(durable=False) as connection:
            now = self._clock(connection)
            change = {"heartbeat_at": now, "lease_until": now + lease_seconds}
            connection.execute(update(_jobs).where(wanted).values(change))
            rows = connection.execute(select(_jobs.c.id, _jobs.c.status, _jobs.c.attempt).where(wanted)).all()
        return {job_id: (status, attempt) for job_id, status, attempt in rows}

    def held_jobs(self, worker_id: str) -> dict[int, tuple[str, int]]:
        """Return (status, attempt) of each job a worker holds, by id."""
        wanted = (_jobs.c.worker_id == worker_id) & _jobs.c.status.in_(("running", "cancelling"))
        with self._reading() as connection:
            rows = connection.execute(select(_jobs.c.id, _jobs.c.status, _jobs.c.attempt).where(wanted)).all()
        return {job_id: (status, attempt) for job_id, status, attempt in rows}

    def save_result(self, job_id: int, attempt: int, data: Mapping[str, Any]) -> bool:
        """Keep what a running attempt returned; say whether it was still that attempt's turn."""
        wanted = _expected(job_id, ("running", "cancelling"), attempt)
        row = _storable({"attempt": attempt, "data": dict(data), "created_at": time.time()})
        summary = str(row["data"].get("summary", ""))
        with self._writing() as connection:
            if connection.execute(update(_jobs).where(wanted).values(summary=summary)).rowcount != 1:
                return False
            mine = _results.c.job_id == job_id
            if connection.execute(update(_results).where(mine).values(row)).rowcount == 0:
                connection.execute(insert(_results).values(job_id=job_id, **row))
        return True

    def result(self, job_id: int) -> EvalResult | None:
        """Return what a job's latest attempt returned."""
        current = select(_jobs.c.attempt).where(_jobs.c.id == job_id).scalar_subquery()
        wanted = (_results.c.job_id == job_id) & (_results.c.attempt == current)
        return self._one(EvalResult, select(_results).where(wanted))


def _some_jobs(
    kind: str | None,
    status: str | Collection[str] | None,
    host: str | None,
    limit: int | None,
    offset: int,
) -> Select[Any]:
    query = select(_jobs).order_by(_jobs.c.id.desc()).limit(limit).offset(offset)
    if kind is not None:
        query = query.where(_jobs.c.type == kind)
    if status is not None:
        query = query.where(_jobs.c.status.in_([status] if isinstance(status, str) else status))
    return query if host is None else query.where(_jobs.c.host == host)


def _expected(job_id: int, expect: str | Collection[str], attempt: int | None) -> ColumnElement[bool]:
    states = [expect] if isinstance(expect, str) else list(expect)
    wanted = (_jobs.c.id == job_id) & _jobs.c.status.in_(states)
    return wanted if attempt is None else wanted & (_jobs.c.attempt == attempt)
