"""Queries about checkpoints, artifacts and media."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, update

from workbench.store.database import new_values
from workbench.store.records import Artifact, Checkpoint, Media
from workbench.store.runs import RunQueries
from workbench.store.tables import ARTIFACTS, CHECKPOINTS, MEDIA
from workbench.values import storable


class KeptFileQueries(RunQueries):
    """Checkpoints, artifacts and media of runs."""

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

    def add_media(self, media: Media) -> None:
        """Add a picture, table, text or histogram, or replace the run's record with that file."""
        values = storable(new_values(media))
        same = (MEDIA.c.run_id == media.run_id) & (MEDIA.c.file == media.file)
        with self._writing() as connection:
            if connection.execute(update(MEDIA).where(same).values(values)).rowcount == 0:
                connection.execute(insert(MEDIA).values(values))

    def media(self, run_id: int, kind: str | None = None, label: str | None = None) -> list[Media]:
        """Return a run's media by label and step, only of a kind or label if given."""
        query = select(MEDIA).where(MEDIA.c.run_id == run_id)
        if kind is not None:
            query = query.where(MEDIA.c.kind == kind)
        if label is not None:
            query = query.where(MEDIA.c.label == label)
        return self._all(Media, query.order_by(MEDIA.c.label, MEDIA.c.step, MEDIA.c.id))

    def count_media(self, run_id: int, label: str) -> int:
        """Return how many media a run has under a label."""
        query = select(func.count()).select_from(MEDIA)
        with self._reading() as connection:
            mine = query.where(MEDIA.c.run_id == run_id, MEDIA.c.label == label)
            return int(connection.execute(mine).scalar_one())
