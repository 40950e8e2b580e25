"""Handles of the files of runs and jobs: checkpoints and artifacts.

Untrusted names reach files only through :mod:`workbench.host.files`: they name one regular file in one
folder, or raise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from workbench.errors import BadInput, UnknownArtifact, UnknownCheckpoint
from workbench.host.files import check_file_name, copy_stream, open_file

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
