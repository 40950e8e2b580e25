"""Settle the jobs and runs of processes that are gone.

A worker does this every few seconds. Reading a job whose worker has vanished does it as well, so the state of
a row is correct even when no worker is left to update it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

from workbench.errors import StoreError, StoreUnavailable
from workbench.home import Home
from workbench.host import processes
from workbench.host.locks import is_locked
from workbench.host.processes import Process
from workbench.jobs import unwritten, workers
from workbench.notebooks.saving import sign_if_ours
from workbench.runs.heartbeats import ABANDONED_SECONDS
from workbench.runs.settling import settle_runs
from workbench.store import records
from workbench.store.store import Store

#: Seconds between two heartbeats of a worker, and how long a claim holds without one.
BEAT_SECONDS, LEASE_SECONDS = 2.0, 40.0


#: A lease that has expired by the clock is still valid if its heartbeat changed within this many seconds.
QUIET_SECONDS = 2.5 * BEAT_SECONDS


_LIVE = ("running", "cancelling")


class _Seen(NamedTuple):
    beat: tuple[int, float | None]
    since: float


class Watch:
    """Checks the running jobs repeatedly, and settles those that no process runs any more.

    On this host a job is lost when its process is gone. A job that was run by hand has no worker: it is lost
    when its process is certainly gone (:func:`workbench.host.processes.why_gone`), or has been silent for
    :data:`workbench.runs.heartbeats.ABANDONED_SECONDS`. If the process exists but no longer works (stopped
    or stuck), the job is lost when its heartbeat has not changed for the length of a lease. For other hosts
    only the heartbeat is known: a job is lost when its lease has expired by the store's clock. Clocks can be
    wrong. So an expired lease is ignored while its heartbeat is seen to change; and a lease that never seems
    to expire (the clock was set back) counts as expired when its heartbeat has not changed for the length of
    a lease on this process's monotonic clock. If the clock is wrong at the very first check, a job may be
    started twice; its attempt number then keeps the first attempt from writing anything.

    Parameters
    ----------
    store : Store
        The store of the jobs.
    jobs_dir : Path, optional
        The folder with the jobs' notebooks; see :func:`settle`.
    timer : callable
        A monotonic clock, in seconds.
    """

    def __init__(
        self,
        store: Store,
        *,
        jobs_dir: Path | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._jobs_dir = jobs_dir
        self._timer = timer
        self._seen: dict[int, _Seen] = {}

    def look(self) -> None:
        """Settle all lost jobs and runs."""
        jobs = self._store.jobs(status=_LIVE)
        clock = self._store.clock() if any(job.host != processes.host() for job in jobs) else 0.0
        for job in jobs:
            if reason := self._lost(job, clock):
                try:
                    settle(self._store, job, reason, jobs_dir=self._jobs_dir)
                except StoreError:
                    # What stops this process from writing (a full disk) stops the worker's heartbeats too:
                    # its silence means nothing, and is timed from the start again.
                    self._seen.clear()
                    raise
        ids = {job.id for job in jobs}
        self._seen = {job_id: seen for job_id, seen in self._seen.items() if job_id in ids}
        settle_runs(self._store)

    def _lost(self, job: records.JobRecord, clock: float) -> str:
        if reason := why_gone(self._store, job):
            return reason
        if not job.worker_id:  # it was run by hand, and has no lease
            noted = job.heartbeat_at
            if job.host != processes.host() and noted is not None and clock - noted > ABANDONED_SECONDS:
                return f"the process that ran it was silent for {ABANDONED_SECONDS / 3600:g} h"
            return ""
        now, job_id = self._timer(), job.id or 0
        beat = (job.attempt, job.lease_until)  # only the worker itself moves the lease
        before = self._seen.get(job_id)
        if before is None or before.beat != beat:
            self._seen[job_id] = _Seen(beat, now)
        quiet = now - self._seen[job_id].since
        if quiet > LEASE_SECONDS:
            return f"the worker that ran it was silent for {LEASE_SECONDS:g} s"
        if job.host == processes.host():
            return ""
        ran_out = job.lease_until is None or job.lease_until < clock
        if ran_out and (before is None or quiet > QUIET_SECONDS):
            return "the host that ran it was silent until its lease expired"
        return ""


def why_gone(store: Store, job: records.JobRecord) -> str:
    """Return why the process that runs a job is certainly gone; empty if it is not, or if nobody can tell.

    A worker on another host, or in another container, has a lease; see :class:`Watch`.
    """
    if job.status not in _LIVE:
        return ""
    if job.worker_id:
        here = job.host == processes.host()
        gone = here and not processes.alive(job.worker_pid, job.worker_pid_started)
        return "the worker that ran it vanished" if gone else ""
    why = processes.why_gone(job.host, job.pid, job.pid_started, one_machine=store.is_sqlite)
    return why and f"the process that ran it {why}"


def look_after(home: Home, rows: Collection[records.JobRecord]) -> bool:
    """Make sure that rows are up to date; return whether some were not.

    Jobs that are marked as running but are gone are settled, and a worker is started for jobs queued here. A
    worker does the same; this is for when no worker is left.
    """
    gone = {(row.id or 0, row.attempt): reason for row in rows if (reason := why_gone(home.store, row))}
    here = processes.host()
    waiting = any(row.status == "queued" and row.host == here for row in rows)
    changed = any(row.status in _LIVE and row.host == here for row in rows) and _show_unwritten(home)
    try:
        if gone:
            settle_gone(home.store, home.jobs_dir)
        idle = waiting and not is_locked(workers.worker_lock(home))
        if idle or (gone and home.store.count_jobs("queued")):
            home.store.check_version()  # else a worker of this version could claim nothing
            workers.ensure_worker(home)
    except StoreUnavailable:
        return changed
    except (StoreError, OSError) as error:  # it cannot be written: show what is known
        why = getattr(error, "message", "") or str(error)
        for (job_id, attempt), reason in gone.items():
            message = f"{reason}, at attempt {attempt} (this could not be written: {why})"
            problem = {"cell": None, "type": "Lost", "message": message}
            changed |= home.store.end_job_unwritten(job_id, attempt, "failed", problem, time.time())
        return changed
    return changed or bool(gone)


def _show_unwritten(home: Home) -> bool:
    """Show the ends that the worker cannot write; return whether there are new ones."""
    new = [home.store.end_job_unwritten(*end) for end in unwritten.read_ends(home)]
    return any(new)


def settle_gone(store: Store, jobs_dir: Path | None = None) -> None:
    """Settle at once the jobs and runs of vanished processes; :class:`Watch` handles leases."""
    for job in store.jobs(status=_LIVE):
        if reason := why_gone(store, job):
            settle(store, job, reason, jobs_dir=jobs_dir)
    settle_runs(store)


def settle(
    store: Store,
    job: records.JobRecord,
    reason: str,
    *,
    counts: bool = True,
    begun: bool = True,
    jobs_dir: Path | None = None,
) -> None:
    """End an attempt that no process runs any more: requeue the job if attempts are left, else fail it.

    Parameters
    ----------
    store : Store
        The store of the job.
    job : Job
        The row as read; if it has changed since, nothing happens.
    reason : str
        Why the attempt ended.
    counts : bool
        Whether the attempt is used up; False if the worker was asked to stop.
    begun : bool
        Whether processes of the attempt may exist. If it was claimed but never started, the process named in
        its row may be busy with another job.
    jobs_dir : Path, optional
        The folder with the jobs' notebooks. The job's is signed there, if it is as its runner saved it, so
        that Jupyter trusts the report of a job that was killed too.
    """
    job_id = job.id or 0
    if begun and job.host == processes.host():
        root = Process(job.pid, job.pid_started) if job.worker_id and job.pid else None
        processes.kill_family(root, job.token)
        processes.remove_runtime(job.token)
    if begun and jobs_dir is not None:
        sign_if_ours(jobs_dir / str(job_id) / "notebook.ipynb")
    again = bool(job.worker_id) and (job.attempt < job.max_attempts or not counts)
    error = {"cell": None, "type": "Lost", "message": f"{reason}, at attempt {job.attempt}"}
    to = "queued" if again else "failed"
    change: dict[str, Any] = {"error": error}
    if again:
        change |= {"worker_id": "", "pid": None, "pid_started": ""}
        if not counts:
            change["max_attempts"] = job.max_attempts + 1
    if not store.move_job(job_id, expect="running", to=to, attempt=job.attempt, runs="lost", **change):
        store.move_job(job_id, expect="cancelling", to="cancelled", attempt=job.attempt, runs="cancelled")
