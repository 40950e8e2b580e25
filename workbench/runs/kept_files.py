"""The files of a run: checkpoints, of which only the best may be kept, and artifacts.

Untrusted names reach files only through :mod:`workbench.host.files`: they name one regular file in one
folder, or raise.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from workbench.errors import BadInput, UnknownArtifact, UnknownCheckpoint
from workbench.host.files import check_file_name, copy_stream, copy_whole, delete_file, open_file
from workbench.store import records
from workbench.store.store import Store

CHECKPOINTS, ARTIFACTS = "checkpoints", "artifacts"


_Kept = TypeVar("_Kept", bound="KeptFile")


@dataclass(frozen=True)
class KeptFile(os.PathLike[str]):
    """A file of a run, or of a job; usable as a path."""

    name: str
    path: Path
    size: int
    created_at: datetime

    def __fspath__(self) -> str:
        return str(self.path)

    def open(self) -> BinaryIO:
        """Open it for reading, as a stream of bytes; a link is refused."""
        *_, run, kind, name = self.path.parts
        return open_file(self.path.parents[2], run, kind, name)

    def save(self, target: str | os.PathLike[str]) -> Path:
        """Copy it to a local file or folder; an existing file is replaced atomically.

        Returns
        -------
        Path
            The copy.

        Raises
        ------
        BadName
            The target is a folder, and the file's name could lead out of it.
        """
        path = Path(target)
        path = path / check_file_name(self.name) if path.is_dir() else path
        with self.open() as file:
            copy_stream(file, path)
        return path


@dataclass(frozen=True)
class ArtifactFile(KeptFile):
    """One artifact of a run."""


@dataclass(frozen=True)
class CheckpointFile(KeptFile):
    """One checkpoint of a run.

    Attributes
    ----------
    step : int or None
        The step it belongs to.
    metrics : mapping of str to float
        The metrics logged at that step; the last value of each counts.
    """

    step: int | None
    metrics: Mapping[str, float] = field(default_factory=dict, compare=False)


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


def named(name: str, kind: str, files: Callable[[], Sequence[_Kept]]) -> _Kept:
    """Return the checkpoint or artifact of a run with a name.

    Raises
    ------
    BadName
        The name could refer to a file outside the folder.
    UnknownCheckpoint, UnknownArtifact
        Not found.
    """
    check_file_name(name, kind)
    present = files()
    for one in present:
        if one.name == name:
            return one
    unknown = UnknownCheckpoint if kind == "checkpoint" else UnknownArtifact
    raise unknown(name, [one.name for one in present])


def check_ranking(keep_best: Any, metric: str | None) -> None:
    """Raise if the ranking arguments of a checkpoint are invalid.

    Raises
    ------
    BadInput
        Only one of the two is given, or ``keep_best`` is not a whole number of at least 1.
    """
    if (keep_best is None) != (metric is None):
        raise BadInput(
            "keep_best and metric must be given together", hint='For example keep_best=3, metric="val/loss".'
        )
    whole = isinstance(keep_best, int) and not isinstance(keep_best, bool)
    if keep_best is not None and (not whole or keep_best < 1):
        raise BadInput(f"keep_best must be a whole number of at least 1, got {keep_best!r}")


def _rank(value: float | None, better: str) -> Any:
    """Return the sort key of a value, best first."""
    if value is None or math.isnan(value):
        return (1, 0.0)
    return (0, -value if better == "higher" else value)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
