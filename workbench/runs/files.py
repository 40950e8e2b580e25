"""The files of one run: checkpoints, of which only the best may be kept, artifacts, and media."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, UnknownCheckpoint, WrongState
from workbench.host.files import check_file_name, copy_whole, delete_file, open_file, write_whole
from workbench.runs import media
from workbench.runs.kept_files import ARTIFACTS, CHECKPOINTS, ArtifactFile, CheckpointFile
from workbench.runs.media import MediaFile
from workbench.store import records
from workbench.store.store import Store

#: The folder of pictures, figures, tables, texts and histograms.
MEDIA = "media"


class KeptFiles:
    """The files of one run.

    Parameters
    ----------
    store : Store
        The database with their records.
    folder : Path
        The run's folder, named by its id.
    put : callable
        Copies or moves a file to its place, atomically.
    """

    def __init__(self, store: Store, folder: Path, put: Callable[[Path, Path], None] = copy_whole) -> None:
        self._store = store
        self._put = put
        self._folder = folder
        self._run_id = int(folder.name)

    def keep(self, kind: str, name: str, path: str | os.PathLike[str]) -> tuple[Path, int]:
        """Copy a file into the run's folder; return its path and its size in bytes."""
        target, source = self._target(kind, name), Path(path)
        if not source.is_file():
            raise BadInput(f"cannot keep {kind[:-1]} {name!r}: no file {str(source)!r}")
        self._store.check_there()
        target.parent.mkdir(parents=True, exist_ok=True)
        size = source.stat().st_size
        if not (target.exists() and target.samefile(source)):
            self._put(source, target)
        return target, size  # of what was put there: another process may delete it at once

    def _target(self, kind: str, name: str) -> Path:
        return self._folder / kind / check_file_name(name, kind[:-1])

    # Checkpoints ---------------------------------------------------------------------------------

    def keep_checkpoint(self, name: str, path: str | os.PathLike[str], step: int | None) -> Path:
        """Keep a checkpoint unconditionally."""
        target, size = self.keep(CHECKPOINTS, name, path)
        self._store.add_checkpoint(records.Checkpoint(run_id=self._run_id, name=name, step=step, size=size))
        return target

    def keep_if_best(
        self, name: str, path: str | os.PathLike[str], step: int | None, metric: str, keep: int, better: str
    ) -> Path | None:
        """Keep a checkpoint if it is among the best ``keep`` by a metric at its step; delete worse ones."""
        check_file_name(name, "checkpoint")
        value = None if step is None else self._store.at_steps(self._run_id, [step])[step].get(metric)
        if value is None:
            raise BadInput(
                f"cannot rank checkpoint {name!r}: run {self._run_id} has no {metric!r} at step {step}",
                hint="Log the metric first, with the same step.",
            )
        rivals = [
            one
            for one in self._store.checkpoints(self._run_id)
            if one.metric == metric and one.name != name and (self._folder / CHECKPOINTS / one.name).is_file()
        ]
        # Of equal values the earlier ranks first; NaN ranks last.
        ranked = sorted(rivals, key=lambda one: _rank(one.value, better))
        place = sum(_rank(one.value, better) <= _rank(value, better) for one in ranked)
        if place >= keep:
            return None
        target, size = self.keep(CHECKPOINTS, name, path)
        kept = None if math.isnan(value) else value
        row = records.Checkpoint(
            run_id=self._run_id, name=name, step=step, size=size, metric=metric, value=kept
        )
        self._store.add_checkpoint(row)
        for one in ranked[keep - 1 :]:  # only after the better one is stored
            self.delete_checkpoint(one.name)
        return target

    def checkpoints(self) -> list[CheckpointFile]:
        """Return the checkpoints whose files exist, oldest first."""
        rows = [
            row
            for row in self._store.checkpoints(self._run_id)
            if (self._folder / CHECKPOINTS / row.name).is_file()
        ]
        steps = {row.step for row in rows if row.step is not None}
        metrics = self._store.at_steps(self._run_id, steps) if steps else {}
        return [
            CheckpointFile(
                row.name,
                self._folder / CHECKPOINTS / row.name,
                row.size,
                _moment(row.created_at),
                row.step,
                {} if row.step is None else metrics[row.step],
            )
            for row in rows
        ]

    def delete_checkpoint(self, name: str) -> None:
        """Delete one checkpoint: a regular file in the run's checkpoint folder, and its record.

        A file without a record (a trainer may be writing it) is not a checkpoint.
        """
        check_file_name(name, "checkpoint")
        recorded = any(one.name == name for one in self._store.checkpoints(self._run_id))
        at = (self._folder.parent, self._folder.name, CHECKPOINTS, name)
        exists = True
        try:
            if recorded:
                delete_file(*at)
            else:
                open_file(*at).close()  # raises for a link or a folder
        except FileNotFoundError:
            exists = False
        if recorded:  # also if the file is missing
            self._store.forget_checkpoint(self._run_id, name)
        if not (recorded and exists):
            raise UnknownCheckpoint(name, [one.name for one in self.checkpoints()])

    # Artifacts -----------------------------------------------------------------------------------

    def keep_artifact(self, name: str, path: str | os.PathLike[str]) -> Path:
        """Keep an artifact."""
        target, size = self.keep(ARTIFACTS, name, path)
        self._store.add_artifact(records.Artifact(run_id=self._run_id, name=name, size=size))
        return target

    def artifacts(self) -> list[ArtifactFile]:
        """Return the artifacts whose files exist, oldest first."""
        folder = self._folder / ARTIFACTS
        return [
            ArtifactFile(row.name, folder / row.name, row.size, _moment(row.created_at))
            for row in self._store.artifacts(self._run_id)
            if (folder / row.name).is_file()
        ]

    # Media ---------------------------------------------------------------------------------------

    def keep_media(self, kind: str, label: str, data: bytes, step: int, caption: str) -> bool:
        """Keep a picture, figure, table, text or histogram; return whether there was room for it."""
        name = media.file_name(kind, label, step)
        target = self._folder / MEDIA / name
        if not target.exists() and self._store.count_media(self._run_id, label) >= media.MOST_KEPT:
            return False
        self._store.check_there()
        if target.parent.is_symlink():
            raise WrongState(f"the folder of run {self._run_id} is a symlink; refusing to write")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, data)
        row = records.Media(run_id=self._run_id, kind=kind, label=label, step=step, file=name)
        row.caption, row.size = caption, len(data)
        self._store.add_media(row)
        return True

    def media(self, kind: str | None = None, label: str | None = None) -> list[MediaFile]:
        """Return the media whose files exist, by label and step."""
        folder = self._folder / MEDIA
        return [
            MediaFile(
                row.file,
                folder / row.file,
                row.size,
                _moment(row.created_at),
                row.kind,
                row.label,
                row.step,
                row.caption,
            )
            for row in self._store.media(self._run_id, kind, label)
            if (folder / row.file).is_file()
        ]


def _rank(value: float | None, better: str) -> Any:
    """Return the sort key of a value, best first."""
    if value is None or math.isnan(value):
        return (1, 0.0)
    return (0, -value if better == "higher" else value)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
