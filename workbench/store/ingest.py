"""Adding points, from this process or from a sender elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import insert, select, update

from workbench.errors import WrongState
from workbench.store import points as series
from workbench.store.database import as_record
from workbench.store.points import Batch, Key
from workbench.store.records import Run, Sender
from workbench.store.runs import RunQueries
from workbench.store.tables import RUNS, SENDERS


class Ingest(RunQueries):
    """Points on their way in."""

    def add_batches(
        self, batches: Mapping[Key, Batch], better: Mapping[Key, str | None], *, durable: bool = False
    ) -> None:
        """Add points by (run id, metric name), each batch in the order logged, in one transaction.

        Parameters
        ----------
        batches : mapping of (run id, name) to Batch
            New points of each metric, in the order they were logged.
        better : mapping of (run id, name) to {"higher", "lower", None}
            Direction of a metric that is new; one that is known keeps its own.
        durable : bool
            What this has returned from survives the end of this process, however it ends; with ``durable``
            a power cut too. Without, that comes with the next state that is written, such as the run's end.
        """
        batches = {key: batch for key, batch in batches.items() if len(batch.values)}
        if not batches:
            return
        with self._writing(durable=durable) as connection:
            series.append(connection, batches, better, sqlite=self.is_sqlite)
            self._collect(connection, {run_id for run_id, _ in batches})

    def add_sent_run(self, run: Run, experiment: str, key: str) -> Run:
        """Add a run that is logged from another machine; asked again with the same key, it is the same run.

        Parameters
        ----------
        run : Run
            The new run.
        experiment : str
            Its experiment, which is made if it is new.
        key : str
            What the sender calls itself.
        """

        def add() -> Run:
            with self._writing() as connection:
                known = select(RUNS).join(SENDERS, SENDERS.c.run_id == RUNS.c.id)
                there = connection.execute(known.where(SENDERS.c.key == key)).first()
                if there is not None:
                    return as_record(Run, there)
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
        """Keep a numbered batch that was sent from elsewhere; one that is kept already changes nothing.

        What this has returned from survives a power cut, since its sender forgets it.

        Parameters
        ----------
        run_id : int
            The run.
        key : str
            What the sender calls itself; one that was never heard of begins with batch 1.
        number : int
            Counted from 1. The number of the last one again, or 0 before the first, is a sign of life.
        batches : mapping of str to Batch
            New points by metric.
        better : mapping of (run id, name) to {"higher", "lower", None}
            As in :meth:`add_batches`.

        Returns
        -------
        int or None
            The number of the last batch that is kept; None where there is no such run.

        Raises
        ------
        WrongState
            The run is over, or a batch is missing before this one, or the key is another run's.
        """
        new = {(run_id, name): batch for name, batch in batches.items() if len(batch.values)}
        with self._writing() as connection:
            # On PostgreSQL the run's row is the lock; an SQLite file has one writer at a time.
            run = connection.execute(select(RUNS.c.status).where(RUNS.c.id == run_id).with_for_update())
            status = run.scalar()
            if status is None:
                return None
            found = connection.execute(select(SENDERS).where(SENDERS.c.key == key)).first()
            kept = 0 if found is None else int(found.received)
            if found is not None and found.run_id != run_id:
                raise WrongState(f"who sends this logs run {found.run_id}, and not run {run_id}")
            if status != "running" and (number > kept or not new):
                raise WrongState(
                    f"run {run_id} is {status}: nothing more can be logged to it",
                    hint="It was ended by somebody else, or silent for so long that it was taken for lost.",
                )
            if number > kept + 1:
                raise WrongState(f"batch {number} of run {run_id} comes before batch {kept + 1}")
            if number == kept + 1 and new:
                series.append(connection, new, better, sqlite=self.is_sqlite)
                self._collect(connection, [run_id])
                kept = number
            change: dict[str, Any] = {"received": kept, "heard_at": self._clock(connection)}
            if found is None:
                sender = Sender(key=key, run_id=run_id, **change)
                connection.execute(insert(SENDERS).values(sender.model_dump()))
            else:
                connection.execute(update(SENDERS).where(SENDERS.c.key == key).values(change))
        return kept

    def heard_of(self, run_ids: Collection[int]) -> dict[int, float]:
        """Return when runs that were started from elsewhere were heard of last, by the store's clock."""
        query = select(SENDERS.c.run_id, SENDERS.c.heard_at)
        with self._reading() as connection:
            rows = connection.execute(query.where(SENDERS.c.owner, SENDERS.c.run_id.in_(run_ids)))
            return {row.run_id: row.heard_at for row in rows}
