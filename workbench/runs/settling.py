"""End the runs whose process is gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from workbench.host import processes
from workbench.runs.heartbeats import ABANDONED_SECONDS, Hearing
from workbench.store import records
from workbench.store.store import Store


def settle_runs(
    store: Store, runs: Iterable[records.Run] | None = None, *, hearing: Hearing | None = None
) -> bool:
    """End as lost the runs whose process is gone; say whether there was one.

    Of a process of this host that can be seen. Who logs from elsewhere over HTTP is known by its signs of
    life only (:mod:`workbench.runs.heartbeats`): the server that hears them takes silence for an end.

    Parameters
    ----------
    store : Store
        Where they are.
    runs : iterable of Run, optional
        Those to look at, as they were read; every run that is running if not given.
    hearing : Hearing, optional
        What this process, a server, has heard of the runs that are logged to it.
    """
    here, found = processes.host(), False
    if runs is None:
        running = store.running()
    else:
        mine = (run for run in runs if run.status == "running")
        running = [(run.id or 0, run.host, run.pid, run.pid_started) for run in mine]
    for run_id, host, pid, started in running:
        # An SQLite file has one host: what ran before it was started anew is gone. Elsewhere two hosts may
        # have one name, and only a process of this very start of this host can be looked for.
        name, before_boot = here.partition("/")[0], host != here and store.is_sqlite
        if host == here and not processes.alive(pid, started):
            said = "the process that logged it vanished"
        elif before_boot and host.partition("/")[0] == name:
            said = "the host of the process that logged it was started anew"
        else:
            continue
        found |= store.end_run(run_id, "lost", {"type": "Lost", "message": said})
    silent = [run_id for run_id, host, *_ in running if not host]
    return _settle_silent(store, silent, hearing) or found


def _settle_silent(store: Store, run_ids: Collection[int], hearing: Hearing | None) -> bool:
    """End as lost the runs that are logged from elsewhere and were silent for too long."""
    heard = store.heard_of(run_ids) if run_ids else {}  # a run that was imported has nobody to be heard of
    if not heard:
        return False
    found, now = False, store.clock()
    for run_id, heard_at in heard.items():
        quiet = now - heard_at
        if hearing is not None and hearing.silent(run_id, quiet):
            limit = hearing.said()
        elif quiet > ABANDONED_SECONDS:
            limit = f"{ABANDONED_SECONDS / 3600:g} h"
        else:
            continue
        said = f"nothing was heard for {limit} of the process that logged it from elsewhere"
        if store.end_run(run_id, "lost", {"type": "Lost", "message": said}, heard_at=heard_at):
            found = True
            if hearing is not None:
                hearing.ended(run_id)
    return found
