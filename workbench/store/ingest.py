"""Add points, from this process or from a remote sender."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, insert, select, update

from workbench.errors import WrongState
from workbench.store import points as series
from workbench.store.database import as_record
from workbench.store.points import Batch, Key
from workbench.store.records import RunRecord, Sender
from workbench.store.runs import RunQueries
from workbench.store.tables import RUNS, SENDERS


class Ingest(RunQueries):
    """Queries that add points."""

    def add_batches(
        self,
        batches: Mapping[Key, Batch],
        better: Mapping[Key, str | None],
        *,
        durable: bool = False,
        sent: tuple[str, int] | None = None,
    ) -> None:
        """Add points by (run id, metric name), each batch in the order logged, in one transaction.

        Parameters
        ----------
        batches : mapping of (run id, name) to Batch
            New points of each metric, in the order they were logged.
        better : mapping of (run id, name) to {"higher", "lower", None}
            Directions of new metrics; existing metrics keep theirs.
        durable : bool
            On return the points survive any crash of this process; if ``durable``, also a power cut.
            Otherwise they survive a power cut after the next durable write, such as the run's end. On a
            database server they always survive its crash: other processes would not notice the loss.
        sent : (str, int), optional
            Key and batch number of a sender, for a database server: if a batch with that number or a later
            one is stored already, nothing is added.
        """
        durable |= not self.is_sqlite
        batches = {key: batch for key, batch in batches.items() if len(batch.values)}
        if not batches:
            return
        with self._writing(durable=durable) as connection:
            if sent is not None and not _is_new(connection, *sent, run_id=min(batches)[0]):
                return
            series.append(connection, batches, better, sqlite=self.is_sqlite)
            self._collect(connection, {run_id for run_id, _ in batches})

    def replace_points(self, key: Key, batch: Batch) -> None:
        """Replace all points of a metric, by (run id, metric name), in one transaction."""
        with self._writing() as connection:
            series.replace(connection, key, batch, sqlite=self.is_sqlite)
            self._collect(connection, {key[0]})

    def add_sent_run(self, run: RunRecord, experiment: str, key: str) -> RunRecord:
        """Add a run that is logged from another machine; the same key always returns the same run.

        Parameters
        ----------
        run : RunRecord
            The new run.
        experiment : str
            Its experiment; created if new.
        key : str
            The sender's key.
        """

        def add() -> RunRecord:
            with self._writing() as connection:
                known = select(RUNS).join(SENDERS, SENDERS.c.run_id == RUNS.c.id)
                existing = connection.execute(known.where(SENDERS.c.key == key)).first()
                if existing is not None:
                    return as_record(RunRecord, existing)
                added = self._add_run(connection, run, experiment)
                sender = Sender(key=key, run_id=added.id or 0, owner=True, heard_at=self._clock(connection))
                connection.execute(insert(SENDERS).values(sender.model_dump()))
                return added

        return self._adding(add)

    def take_batch(
        self,
        run_id: int,
        key: str,
        number: int,
        batches: Mapping[str, Batch],
        better: Mapping[Key, str | None],
    ) -> int | None:
        """Save a numbered batch from a remote sender; a batch already saved changes nothing.

        On return the batch survives a power cut, since the sender then drops its copy.

        Parameters
        ----------
        run_id : int
            The run.
        key : str
            The sender's key; a new sender begins with batch 1.
        number : int
            Batch number, from 1. Repeating the last number, or 0 before the first, is a heartbeat.
        batches : mapping of str to Batch
            New points by metric.
        better : mapping of (run id, name) to {"higher", "lower", None}
            As in :meth:`add_batches`.

        Returns
        -------
        int or None
            The number of the last saved batch; None if there is no such run.

        Raises
        ------
        WrongState
            The run has ended, an earlier batch is missing, or the key belongs to another run.
        """
        new = {(run_id, name): batch for name, batch in batches.items() if len(batch.values)}
        with self._writing() as connection:
            # On PostgreSQL the run's row is the lock; SQLite has one writer at a time.
            run = connection.execute(select(RUNS.c.status).where(RUNS.c.id == run_id).with_for_update())
            status = run.scalar()
            if status is None:
                return None
            sender = connection.execute(select(SENDERS).where(SENDERS.c.key == key)).first()
            kept = 0 if sender is None else int(sender.received)
            if sender is not None and sender.run_id != run_id:
                raise WrongState(f"this sender is logging run {sender.run_id}, not run {run_id}")
            if status != "running" and (number > kept or not new):
                raise WrongState(
                    f"run {run_id} is {status}: no more values can be logged",
                    hint="Another process ended it, or it was marked as lost for lack of heartbeats.",
                )
            if number > kept + 1:
                raise WrongState(f"batch {number} of run {run_id} arrived before batch {kept + 1}")
            if number == kept + 1 and new:
                series.append(connection, new, better, sqlite=self.is_sqlite)
                self._collect(connection, [run_id])
                kept = number
            change: dict[str, Any] = {"received": kept, "heard_at": self._clock(connection)}
            if sender is None:
                added = Sender(key=key, run_id=run_id, **change)
                connection.execute(insert(SENDERS).values(added.model_dump()))
            else:
                connection.execute(update(SENDERS).where(SENDERS.c.key == key).values(change))
        return kept

    def note_alive(self, run_ids: Collection[int], key: str) -> None:
        """Note that the process that started these runs is alive.

        Parameters
        ----------
        run_ids : collection of int
            Its open runs.
        key : str
            A random key of the process.
        """
        with self._writing(durable=False) as connection:
            now = self._clock(connection)
            for run_id in sorted(run_ids):
                mine = SENDERS.c.key == f"{key}-{run_id}"
                if connection.execute(update(SENDERS).where(mine).values(heard_at=now)).rowcount == 0:
                    added = Sender(key=f"{key}-{run_id}", run_id=run_id, owner=True, heard_at=now)
                    connection.execute(insert(SENDERS).values(added.model_dump()))

    def heard_of(self, run_ids: Collection[int]) -> dict[int, float]:
        """Return the last heartbeats of the runs that have any, by the store's clock."""
        query = select(SENDERS.c.run_id, SENDERS.c.heard_at)
        with self._reading() as connection:
            rows = connection.execute(query.where(SENDERS.c.owner, SENDERS.c.run_id.in_(run_ids)))
            return {row.run_id: row.heard_at for row in rows}


def _is_new(connection: Connection, key: str, number: int, *, run_id: int) -> bool:
    """Return whether a numbered batch is not stored yet, and record that it is."""
    mine = SENDERS.c.key == key
    received = connection.execute(select(SENDERS.c.received).where(mine)).scalar()
    if received is None:
        added = Sender(key=key, run_id=run_id, received=number)
        connection.execute(insert(SENDERS).values(added.model_dump()))
    elif received < number:
        connection.execute(update(SENDERS).where(mine).values(received=number))
    return received is None or received < number
