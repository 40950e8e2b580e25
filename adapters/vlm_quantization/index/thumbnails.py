"""The thumbnails of an index: one stream of bytes, cut into files, and where each thumbnail lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import workbench as wb

if TYPE_CHECKING:
    from adapters.vlm_quantization.index.blocks import CheckedFile, CheckedRows

#: Bytes of one file of thumbnails; the last one may have fewer.
SHARD_BYTES = 1 << 30

#: A thumbnail has at most this many bytes, so that a wrong offset does not load a file.
MOST_BYTES = 1 << 24


class Thumbnails:
    """The thumbnails of an opened index, memory-mapped.

    Parameters
    ----------
    shards : sequence of CheckedFile
        Files that together hold all bytes; all have the size of the first, except for the last.
    offsets : CheckedRows, int64, shape (n + 1,)
        Where each thumbnail begins, and where the last one ends.

    Raises
    ------
    workbench.CorruptFile
        The first and the last offset do not match the files.
    """

    def __init__(self, shards: Sequence[CheckedFile], offsets: CheckedRows) -> None:
        self._shards = shards
        self._offsets = offsets
        self._shard_bytes = max(1, len(shards[0].bytes))
        self._total = sum(len(shard.bytes) for shard in shards)
        if offsets[0] != 0 or offsets[-1] != self._total:
            raise self._corrupt()

    def _corrupt(self) -> wb.CorruptFile:
        path = self._offsets.file.path
        first = self._shards[0].path.name
        return wb.CorruptFile(path, f"the offsets do not match {first}", hint="Build the index again.")

    def __getitem__(self, row: int) -> bytes:
        start, stop = self._offsets[row : row + 2].tolist()
        if not 0 <= start < stop <= self._total or stop - start > MOST_BYTES:
            raise self._corrupt()
        parts = []
        while start < stop:
            number, place = divmod(start, self._shard_bytes)
            shard = self._shards[number]
            end = min(place + stop - start, len(shard.bytes))
            shard.check(place, end)
            parts.append(shard.bytes[place:end].tobytes())
            start += end - place
        return b"".join(parts)

    def check(self, rows_at_once: int = 1 << 20) -> None:
        """Check that every thumbnail has at least one byte.

        Raises
        ------
        workbench.CorruptFile
            An offset is not above the one before it.
        """
        for start in range(0, len(self._offsets), rows_at_once):
            part = self._offsets[max(0, start - 1) : start + rows_at_once]
            if (part[1:] <= part[:-1]).any():
                raise self._corrupt()
