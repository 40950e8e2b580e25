"""Settle what processes left that are gone: their jobs, and their runs.

A worker does it every few seconds. So does whoever looks at a job whose worker has vanished: what a row says
is true even when no worker is left to correct it.
"""

from __future__ import annotations

import time
from typing import Any

from workbench import processes, records
from workbench.processes import Process
from workbench.store import Store


def settle_lost(store: Store) -> None:
    """End what is running as far as anybody said, and whose process is gone."""
    here = processes.host()
    for job in store.jobs(status=("running", "cancelling")):
        pid, started = (
            (job.worker_pid, job.worker_pid_started) if job.worker_id else (job.pid, job.pid_started)
        )
        if job.host == here:
            lost = not processes.alive(pid, started)
        else:  # by hand on another host there is no lease, and no way to know
            lost = bool(job.worker_id) and (job.lease_until is None or job.lease_until < time.time())
        if lost:
            who = "worker" if job.worker_id else "process"
            settle(store, job, f"the {who} that ran it vanished")
    for run in store.runs(status="running"):
        if run.host == here and not processes.alive(run.pid, run.pid_started):
            reason = {"type": "Lost", "message": "the process that logged it vanished"}
            store.end_run(run.id or 0, "lost", reason)


def settle(store: Store, job: records.Job, reason: str) -> None:
    """End an attempt that nobody runs any more: again while attempts are left, else failed."""
    job_id = job.id or 0
    if job.host == processes.host():
        root = Process(job.pid, job.pid_started) if job.worker_id and job.pid else None
        processes.kill_family(root, job.token)
    again = bool(job.worker_id) and job.attempt < job.max_attempts
    error = {"cell": None, "type": "Lost", "message": f"{reason}, at attempt {job.attempt}"}
    to = "queued" if again else "failed"
    change: dict[str, Any] = {"error": error}
    if again:
        change |= {"worker_id": "", "pid": None, "pid_started": ""}
    if store.move_job(job_id, expect="running", to=to, attempt=job.attempt, **change):
        end_runs(store, job_id, "lost", error)
    elif store.move_job(job_id, expect="cancelling", to="cancelled", attempt=job.attempt):
        end_runs(store, job_id, "cancelled", None)


def end_runs(store: Store, job_id: int, status: str, error: dict[str, Any] | None) -> None:
    """End the runs that a job which has ended left open."""
    for run in store.runs(job_id=job_id, status="running"):
        store.end_run(run.id or 0, status, error)
