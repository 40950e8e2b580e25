"""Pictures that are not a file of their own: a member of an archive, or a drawing that becomes pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.vlm_quantization.data import decoder

#: An SVG file larger than this many bytes is refused.
MAX_SVG_BYTES = 10_000_000


class StoredPicture(Protocol):
    """Where a picture is kept, other than in a file of its own; ``str()`` of it names it for people."""

    @property
    def path(self) -> Path:
        """The file it is in."""

    @property
    def name(self) -> str:
        """Its name within that file; empty if the file holds nothing else."""

    def read(self, max_bytes: int, /) -> bytes:
        """Return the encoded picture.

        Raises
        ------
        decoder.Refused
            It cannot be read, or is larger than ``max_bytes``.
        """


Picture = bytes | Path | StoredPicture


@dataclass(frozen=True)
class ArchiveMember:
    """A picture inside an uncompressed archive, read by its place without unpacking anything.

    Attributes
    ----------
    path : Path
        The archive.
    name : str
        Name of the member.
    offset, size : int
        Where its bytes are in the archive, and how many there are.
    """

    path: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}/{self.name}"

    def read(self, max_bytes: int, /) -> bytes:
        """Return the member's bytes."""
        if self.size > max_bytes:
            size, most = self.size / 1e6, max_bytes / 1e6
            raise decoder.Refused(f"a file of {size:,.0f} MB; at most {most:,.0f} MB are allowed")
        try:
            with self.path.open("rb") as file:
                data = os.pread(file.fileno(), self.size, self.offset)
        except OSError as error:
            raise decoder.Refused(f"cannot be read ({error.strerror or type(error).__name__})") from None
        if len(data) < self.size:
            raise decoder.Refused("the archive ends in the middle of it")
        return data


@dataclass(frozen=True)
class SvgDrawing:
    """An SVG file, drawn on white when it is read.

    Attributes
    ----------
    path : Path
        The file.
    width : int
        Width of the drawn picture in pixels.
    """

    path: Path
    width: int
    name: str = ""

    def __str__(self) -> str:
        return str(self.path)

    def read(self, max_bytes: int, /) -> bytes:
        """Return the drawing as an encoded PNG."""
        import resvg_py

        svg = decoder.read_file(str(self.path), min(MAX_SVG_BYTES, max_bytes))
        try:
            drawn = resvg_py.svg_to_bytes(
                svg_string=svg.decode("utf-8", "replace"), width=self.width, background="white"
            )
        except Exception as error:  # it raises ValueError, and what its own library panics with
            raise decoder.Refused(f"broken drawing ({str(error)[:200]})") from None
        return bytes(drawn)
