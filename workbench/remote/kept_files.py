"""Files on a server: checkpoints and artifacts of runs, and what jobs printed.

A server is not trusted with this machine's files: a name that it sends is checked before it is part of any
path, so that saving a file into a folder never writes elsewhere.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from workbench.errors import BadName
from workbench.host.files import check_file_name
from workbench.remote.door import not_here
from workbench.runs.kept_files import ArtifactFile, CheckpointFile, KeptFile
from workbench.runs.media import MediaFile

if TYPE_CHECKING:
    from workbench.remote.door import Door

#: Number of bytes of a file read at once.
_PART_BYTES = 2**20


@dataclass(frozen=True)
class Source:
    """The location of a file's content on a server."""

    door: Door
    place: str


def sent_name(reply: Mapping[str, Any], kind: str) -> str:
    """Return the name of a file that a server sent.

    Raises
    ------
    BadName
        It is not a plain file name: no server of a workspace sends one.
    """
    try:
        return check_file_name(reply["name"], kind)
    except BadName as error:
        message = f"the server names a file that could be written elsewhere: {error.message}"
        raise BadName(message, hint="Nothing was written. Do not trust this server.") from None


def file_at(source: Source) -> BinaryIO:
    """Open a file on a server for reading, as a stream that downloads as it is read."""
    parts = source.door.file_parts(source.place, _PART_BYTES)
    return cast(BinaryIO, io.BufferedReader(_Parts(parts), _PART_BYTES))


@dataclass(frozen=True)
class _RemoteFile(KeptFile):
    """Base of files on a server; ``path`` is only a name there."""

    source: Source = field(kw_only=True, compare=False, repr=False)

    def __fspath__(self) -> str:
        raise not_here(f"a path of {self.name!r}", "Download it first: file.save(path) returns a local path.")

    def open(self) -> BinaryIO:
        """Open it for reading, as a stream that downloads as it is read."""
        return file_at(self.source)


@dataclass(frozen=True)
class RemoteCheckpoint(_RemoteFile, CheckpointFile):
    """One checkpoint of a run on a server."""


@dataclass(frozen=True)
class RemoteArtifact(_RemoteFile, ArtifactFile):
    """One artifact of a run on a server."""


@dataclass(frozen=True)
class RemoteMedia(_RemoteFile, MediaFile):
    """One picture, figure, table, text or histogram of a run on a server."""


@dataclass(frozen=True)
class RemoteOutput(_RemoteFile):
    """Everything that a job on a server printed."""


class _Parts(io.RawIOBase):
    """A readable file over byte parts."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(next(parts, b""))  # errors are raised on opening

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return 0
            self._rest = memoryview(part)
        taken = min(len(buffer), len(self._rest))
        buffer[:taken] = self._rest[:taken]
        self._rest = self._rest[taken:]
        return taken

    def close(self) -> None:
        if not self.closed:
            cast(Any, self._parts).close()
        super().close()
