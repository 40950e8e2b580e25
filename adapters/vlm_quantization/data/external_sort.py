"""Sort more records than fit in memory: sorted runs in files without a name, merged in levels."""

from __future__ import annotations

import heapq
import operator
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, cast

Record = tuple[bytes, bytes]

#: Bytes of records that are sorted in memory before they are written as one run.
RUN_BYTES = 2**24

#: Runs that are merged into one, and so the most files that are open per level.
FAN_IN = 32

#: Bytes of memory that a small record takes in a list, beside its content.
_OVERHEAD = 160

_LENGTHS = struct.Struct("<II")

#: Bytes that are read ahead of each run while runs are merged.
_READ_BYTES = 2**16

_KEY = operator.itemgetter(0)


class ExternalSort:
    """Records sorted by key; those of one key stay in the order in which they were added.

    Memory is bounded whatever the number of records: :data:`RUN_BYTES` of them, and a small buffer per run
    that is merged. The files have no name, so that nothing is left of them when the process is killed. Use
    it as a context manager, which closes them.

    Parameters
    ----------
    folder : Path
        An existing folder on the disk that the files take space of.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._records: list[Record] = []
        self._bytes = 0
        self._levels: list[list[IO[bytes]]] = []
        #: Number of records.
        self.count = 0

    def __enter__(self) -> ExternalSort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._records = []
        for run in [run for level in self._levels for run in level]:
            run.close()
        self._levels = []

    def __len__(self) -> int:
        return self.count

    def add(self, key: bytes, value: bytes = b"") -> None:
        """Add a record; keys are compared byte by byte, as UTF-8 texts are by code point."""
        self._records.append((key, value))
        self._bytes += len(key) + len(value) + _OVERHEAD
        self.count += 1
        if self._bytes >= RUN_BYTES:
            self._write_run()

    def __iter__(self) -> Iterator[Record]:
        """Yield all records in order; may be called again, but no record may be added meanwhile."""
        self._records.sort(key=_KEY)
        runs = [run for level in reversed(self._levels) for run in level]  # the oldest first
        return heapq.merge(*map(read_records, runs), iter(self._records), key=_KEY)

    def _write_run(self) -> None:
        self._records.sort(key=_KEY)
        self._put(0, self._written(iter(self._records)))
        self._records, self._bytes = [], 0

    def _put(self, level: int, run: IO[bytes]) -> None:
        """Keep a run; as many as :data:`FAN_IN` of one level become one of the next."""
        if level == len(self._levels):
            self._levels.append([])
        runs = self._levels[level]
        runs.append(run)
        if len(runs) >= FAN_IN:
            merged = self._written(heapq.merge(*map(read_records, runs), key=_KEY))
            for old in runs:
                old.close()
            runs.clear()
            self._put(level + 1, merged)

    def _written(self, records: Iterator[Record]) -> IO[bytes]:
        file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # closed by __exit__
        for record in records:
            write_record(file, *record)
        file.flush()
        return cast("IO[bytes]", file.detach())  # which gives its buffer back


def write_record(file: IO[bytes], key: bytes, value: bytes) -> None:
    """Append a record to a file, as :func:`read_records` reads it."""
    file.write(_LENGTHS.pack(len(key), len(value)) + key + value)


def read_records(file: IO[bytes]) -> Iterator[Record]:
    """Yield the records of a file from its start; several readers of one file do not disturb each other."""
    at, rest = 0, b""
    while chunk := os.pread(file.fileno(), _READ_BYTES, at):
        at += len(chunk)
        rest += chunk
        start = 0
        while start + _LENGTHS.size <= len(rest):
            key, value = _LENGTHS.unpack_from(rest, start)
            middle = start + _LENGTHS.size + key
            if middle + value > len(rest):
                break
            yield rest[middle - key : middle], rest[middle : middle + value]
            start = middle + value
        rest = rest[start:]
