"""Mark runs as lost whose process is gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from workbench.host import processes
from workbench.runs.heartbeats import ABANDONED_SECONDS, Hearing
from workbench.store import records
from workbench.store.store import Store


def settle_runs(
    store: Store, runs: Iterable[records.RunRecord] | None = None, *, hearing: Hearing | None = None
) -> bool:
    """Mark runs as lost whose process is gone; return whether there were any.

    Processes on this host are checked directly. Remote senders over HTTP are known only by their heartbeats
    (:mod:`workbench.runs.heartbeats`): the server that receives them treats silence as an end.

    Parameters
    ----------
    store : Store
        The database.
    runs : iterable of Run, optional
        The rows of the runs to check; default: all running runs.
    hearing : Hearing, optional
        The heartbeats that this process received, if it is a server.
    """
    here, any_ended = processes.host(), False
    if runs is None:
        running = store.running()
    else:
        mine = (run for run in runs if run.status == "running")
        running = [(run.id or 0, run.host, run.pid, run.pid_started) for run in mine]
    for run_id, host, pid, started in running:
        # An SQLite file has one host, so processes from before its last boot are gone. On PostgreSQL two
        # hosts may share a name, so only processes of this host and boot can be checked.
        name, before_boot = here.partition("/")[0], host != here and store.is_sqlite
        if host == here and not processes.alive(pid, started):
            message = "the process that logged the run is gone"
        elif before_boot and host.partition("/")[0] == name:
            message = "the host of the process that logged the run was restarted"
        else:
            continue
        any_ended |= store.end_run(run_id, "lost", {"type": "Lost", "message": message})
    silent = [run_id for run_id, host, *_ in running if not host]
    return _settle_silent(store, silent, hearing) or any_ended


def _settle_silent(store: Store, run_ids: Collection[int], hearing: Hearing | None) -> bool:
    """Mark runs as lost whose remote senders have been silent for too long."""
    last_heard = store.heard_of(run_ids) if run_ids else {}  # imported runs have no sender
    if not last_heard:
        return False
    any_ended, now = False, store.clock()
    for run_id, heard_at in last_heard.items():
        quiet = now - heard_at
        if hearing is not None and hearing.silent(run_id, quiet):
            limit = hearing.said()
        elif quiet > ABANDONED_SECONDS:
            limit = f"{ABANDONED_SECONDS / 3600:g} h"
        else:
            continue
        message = f"no heartbeat for {limit} from the process that logs the run"
        if store.end_run(run_id, "lost", {"type": "Lost", "message": message}, heard_at=heard_at):
            any_ended = True
            if hearing is not None:
                hearing.ended(run_id)
    return any_ended
