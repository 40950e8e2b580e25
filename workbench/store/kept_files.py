"""Queries about checkpoints and artifacts."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from workbench.store.database import new_values
from workbench.store.records import Artifact, Checkpoint
from workbench.store.runs import RunQueries
from workbench.store.tables import ARTIFACTS, CHECKPOINTS


class KeptFileQueries(RunQueries):
    """Checkpoints and artifacts of runs."""

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint, or replace the run's checkpoint record with that name."""
        values = new_values(checkpoint)
        same = (CHECKPOINTS.c.run_id == checkpoint.run_id) & (CHECKPOINTS.c.name == checkpoint.name)
        with self._writing() as connection:
            if connection.execute(update(CHECKPOINTS).where(same).values(values)).rowcount == 0:
                connection.execute(insert(CHECKPOINTS).values(values))

    def checkpoints(self, run_id: int) -> list[Checkpoint]:
        """Return a run's checkpoints, oldest first."""
        query = select(CHECKPOINTS).where(CHECKPOINTS.c.run_id == run_id).order_by(CHECKPOINTS.c.id)
        return self._all(Checkpoint, query)

    def forget_checkpoint(self, run_id: int, name: str) -> bool:
        """Remove the record of a checkpoint; return whether there was one."""
        mine = (CHECKPOINTS.c.run_id == run_id) & (CHECKPOINTS.c.name == name)
        with self._writing() as connection:
            removed = connection.execute(delete(CHECKPOINTS).where(mine)).rowcount == 1
            if removed:
                self._collect(connection, [run_id])
        return removed

    def add_artifact(self, artifact: Artifact) -> None:
        """Add an artifact, or replace the run's artifact record with that name."""
        values = new_values(artifact)
        same = (ARTIFACTS.c.run_id == artifact.run_id) & (ARTIFACTS.c.name == artifact.name)
        with self._writing() as connection:
            if connection.execute(update(ARTIFACTS).where(same).values(values)).rowcount == 0:
                connection.execute(insert(ARTIFACTS).values(values))

    def artifacts(self, run_id: int) -> list[Artifact]:
        """Return a run's artifacts, oldest first."""
        query = select(ARTIFACTS).where(ARTIFACTS.c.run_id == run_id).order_by(ARTIFACTS.c.id)
        return self._all(Artifact, query)
