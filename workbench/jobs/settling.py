"""Settle what processes left that are gone: their jobs, and their runs.

A worker does it every few seconds. So does whoever looks at a job whose worker has vanished: what a row says
is true even when no worker is left to correct it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from workbench.errors import StoreError
from workbench.home import Home
from workbench.host import processes
from workbench.host.locks import is_locked
from workbench.host.processes import Process
from workbench.jobs import workers
from workbench.runs.settling import settle_runs
from workbench.store import records
from workbench.store.store import Store

#: Seconds between two heartbeats of a worker, and how long a claim holds without one.
BEAT_SECONDS, LEASE_SECONDS = 2.0, 40.0


#: A lease that has run out by the clock still holds while its heartbeat moved within so many seconds.
QUIET_SECONDS = 2.5 * BEAT_SECONDS


_LIVE = ("running", "cancelling")


class _Seen(NamedTuple):
    beat: tuple[int, float | None]
    since: float


class Watch:
    """Looks again and again at what is running, and settles what nobody runs any more.

    On this host a job is lost when its process is gone; of a process that is there but no longer works
    (stopped, or stuck), when its heartbeat has not moved for a lease's time. Of another host only the
    heartbeat is known: it is lost when its lease has run out by the store's clock. A clock can be wrong, so a
    lease that has run out does not count while its heartbeat is seen to move, and one that seems to last
    for ever (the clock was set back) counts as run out when its heartbeat stands still for a lease's time
    on this process's own clock, which nobody can set. Where the clock is wrong at the very first look, a
    job may be begun twice; the attempt number then keeps the first from writing anything.

    Parameters
    ----------
    store : Store
        The jobs.
    timer : callable
        Seconds of a clock that never jumps.
    """

    def __init__(self, store: Store, *, timer: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._timer = timer
        self._seen: dict[int, _Seen] = {}

    def look(self) -> None:
        """Settle every job and run that is lost."""
        jobs = self._store.jobs(status=_LIVE)
        clock = self._store.clock() if any(job.host != processes.host() for job in jobs) else 0.0
        for job in jobs:
            if reason := self._lost(job, clock):
                try:
                    settle(self._store, job, reason)
                except StoreError:
                    # What refuses this process (a full disk) refuses the worker its heartbeats as well:
                    # its silence says nothing, and is counted anew.
                    self._seen.clear()
                    raise
        ids = {job.id for job in jobs}
        self._seen = {job_id: seen for job_id, seen in self._seen.items() if job_id in ids}
        settle_runs(self._store)

    def _lost(self, job: records.Job, clock: float) -> str:
        who = "worker" if job.worker_id else "process"
        if gone_here(job):
            return f"the {who} that ran it vanished"
        if not job.worker_id:
            return ""  # by hand there is no lease: nothing can be known of another host
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
            return "the host that ran it was silent beyond its lease"
        return ""


def gone_here(job: records.Job) -> bool:
    """Say whether a job that is running was run by a process of this host that is gone."""
    if job.status not in _LIVE or job.host != processes.host():
        return False
    by_worker = (job.worker_pid, job.worker_pid_started)
    return not processes.alive(*(by_worker if job.worker_id else (job.pid, job.pid_started)))


def look_after(home: Home, rows: Collection[records.Job]) -> bool:
    """See to it that what rows say is true; return whether some of it was not.

    What is said to run and is gone is settled, and what was queued here and waits gets a worker. A worker
    does this too; this is for when none is left.
    """
    gone = [row for row in rows if gone_here(row)]
    here = processes.host()
    waiting = any(row.status == "queued" and row.host == here for row in rows)
    try:
        if gone:
            settle_gone(home.store)
        idle = waiting and not is_locked(workers.worker_lock(home))
        if idle or (gone and home.store.count_jobs("queued")):
            workers.ensure_worker(home)
    except (StoreError, OSError):  # somebody who may only read: what is known is shown as it is
        return False
    return bool(gone)


def settle_gone(store: Store) -> None:
    """Settle at once what processes of this host left that are gone; for leases there is :class:`Watch`."""
    for job in store.jobs(status=_LIVE):
        if gone_here(job):
            settle(store, job, f"the {'worker' if job.worker_id else 'process'} that ran it vanished")
    settle_runs(store)


def settle(store: Store, job: records.Job, reason: str, *, counts: bool = True, begun: bool = True) -> None:
    """End an attempt that nobody runs any more: again while attempts are left, else failed.

    Parameters
    ----------
    store : Store
        Where the job is.
    job : Job
        The row as it was read; if it has moved since, nothing happens.
    reason : str
        Why the attempt is over.
    counts : bool
        Whether the attempt is used up; it is not where a worker was asked to leave.
    begun : bool
        Whether there may be processes of it; where it was taken and never begun, the process that its row
        names may be busy with another job.
    """
    job_id = job.id or 0
    if begun and job.host == processes.host():
        root = Process(job.pid, job.pid_started) if job.worker_id and job.pid else None
        processes.kill_family(root, job.token)
        processes.remove_runtime(job.token)
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
