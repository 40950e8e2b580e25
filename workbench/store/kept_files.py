"""Queries about checkpoints and artifacts."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from workbench.store.database import _values
from workbench.store.records import Artifact, Checkpoint
from workbench.store.runs import Runs
from workbench.store.tables import _artifacts, _checkpoints


class KeptFiles(Runs):
    """Checkpoints and artifacts of runs."""

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint, or replace the record of the run's checkpoint of that name."""
        values = _values(checkpoint)
        same = (_checkpoints.c.run_id == checkpoint.run_id) & (_checkpoints.c.name == checkpoint.name)
        with self._writing() as connection:
            if connection.execute(update(_checkpoints).where(same).values(values)).rowcount == 0:
                connection.execute(insert(_checkpoints).values(values))

    def checkpoints(self, run_id: int) -> list[Checkpoint]:
        """Return a run's checkpoints, oldest first."""
        query = select(_checkpoints).where(_checkpoints.c.run_id == run_id).order_by(_checkpoints.c.id)
        return self._all(Checkpoint, query)

    def forget_checkpoint(self, run_id: int, name: str) -> bool:
        """Remove the record of a checkpoint; say whether there was one."""
        mine = (_checkpoints.c.run_id == run_id) & (_checkpoints.c.name == name)
        with self._writing() as connection:
            gone = connection.execute(delete(_checkpoints).where(mine)).rowcount == 1
            if gone:
                self._collect(connection, [run_id])
        return gone

    def add_artifact(self, artifact: Artifact) -> None:
        """Add an artifact, or replace the record of the run's artifact of that name."""
        values = _values(artifact)
        same = (_artifacts.c.run_id == artifact.run_id) & (_artifacts.c.name == artifact.name)
        with self._writing() as connection:
            if connection.execute(update(_artifacts).where(same).values(values)).rowcount == 0:
                connection.execute(insert(_artifacts).values(values))

    def artifacts(self, run_id: int) -> list[Artifact]:
        """Return a run's artifacts, oldest first."""
        query = select(_artifacts).where(_artifacts.c.run_id == run_id).order_by(_artifacts.c.id)
        return self._all(Artifact, query)
