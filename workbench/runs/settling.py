"""Mark runs as lost whose process is gone."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from workbench.errors import StoreError, StoreUnavailable
from workbench.host import processes
from workbench.runs.heartbeats import ABANDONED_SECONDS, Hearing
from workbench.store import records
from workbench.store.store import Store


def settle_runs(
    store: Store, runs: Iterable[records.RunRecord] | None = None, *, hearing: Hearing | None = None
) -> bool:
    """Mark runs as lost whose process is gone; return whether there were any.

    A run is lost if its process is certainly gone (:func:`workbench.host.processes.why_gone`), or if its
    heartbeats have stopped (:mod:`workbench.runs.heartbeats`): those of remote senders for the server that
    receives them, and for everybody those of processes that cannot be checked from here, in a container or on
    another host.

    Parameters
    ----------
    store : Store
        The database.
    runs : iterable of Run, optional
        The rows of the runs to check; default: all running runs.
    hearing : Hearing, optional
        The heartbeats that this process received, if it is a server.
    """
    any_ended = False
    if runs is None:
        running = store.running()
    else:
        # Those whose end could not be written are tried again.
        mine = (run for run in runs if run.status == "running" or run.id in store.unwritten_runs)
        running = [(run.id or 0, run.host, run.pid, run.pid_started) for run in mine]
    here, unknown = processes.host(), []
    for run_id, host, pid, started in running:
        if host and (reason := processes.why_gone(host, pid, started, one_machine=store.is_sqlite)):
            message = f"the process that logged the run {reason}"
            any_ended |= _end(store, run_id, message)
        elif host != here:
            unknown.append(run_id)
    remote = {run_id for run_id, host, *_ in running if not host}
    return _settle_silent(store, unknown, remote, hearing) or any_ended


def _settle_silent(
    store: Store, run_ids: Collection[int], remote: Collection[int], hearing: Hearing | None
) -> bool:
    """Mark runs as lost whose heartbeats stopped too long ago; ``remote`` ones send them to a server."""
    last_heard = store.heard_of(run_ids) if run_ids else {}  # imported runs have no sender
    if not last_heard:
        return False
    any_ended, now = False, store.clock()
    for run_id, heard_at in last_heard.items():
        quiet = now - heard_at
        if hearing is not None and run_id in remote and hearing.silent(run_id, quiet):
            limit = hearing.said()
        elif quiet > ABANDONED_SECONDS:
            limit = f"{ABANDONED_SECONDS / 3600:g} h"
        else:
            continue
        message = f"no heartbeat for {limit} from the process that logs the run"
        if _end(store, run_id, message, heard_at):
            any_ended = True
            if hearing is not None:
                hearing.ended(run_id)
    return any_ended


def _end(store: Store, run_id: int, message: str, heard_at: float | None = None) -> bool:
    """Mark a run as lost: in the database or, if nothing can be written there, for those who look here."""
    error = {"type": "Lost", "message": message}
    try:
        return store.end_run(run_id, "lost", error, heard_at=heard_at)
    except StoreUnavailable:
        raise
    except StoreError as refusal:
        error["message"] += f" (this could not be written: {refusal.message})"
        return store.end_unwritten(run_id, "lost", error, time.time())
