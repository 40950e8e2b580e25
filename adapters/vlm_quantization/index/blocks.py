"""Checksums of the blocks of a file, so that each is compared before the first use of its block.

A file is cut into blocks of a fixed number of bytes. The checksum of a block is the first half of its
SHA-256; those of all files stand in one file, and the SHA-256 of a file's checksums is its seal in the
manifest. So an altered byte is found when its block is first used, and nothing has to be read before.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Bytes of a block: what is read and compared before one item of it can be used.
BLOCK = 1 << 16

#: Fewest bytes of a block: the header of an array must fit in one.
LEAST_BLOCK = 256

#: Most bytes of a block.
MOST_BLOCK = 1 << 30

#: Bytes of the checksum of a block.
CHECKSUM = 16

_REBUILD = "Build the index again."


def checksum(data: Any) -> bytes:
    """Return the checksum of a block, any object with a buffer."""
    return hashlib.sha256(data).digest()[:CHECKSUM]


def checksums_of(path: Path, block: int) -> bytes:
    """Return the checksums of a file's blocks, one after the other."""
    out = bytearray()
    with path.open("rb") as file:
        while data := file.read(block):
            out += checksum(data)
    return bytes(out)


def seal_of(checksums: Any) -> str:
    """Return what seals a file in the manifest: the SHA-256 of its blocks' checksums."""
    return hashlib.sha256(checksums).hexdigest()


class BlockWriter:
    """A new file, whose blocks' checksums are computed while it is written.

    Parameters
    ----------
    path : Path
        The file.
    block : int
        Bytes of a block.
    """

    def __init__(self, path: Path, block: int) -> None:
        self.path = path
        self.size = 0
        self._block = block
        self._file = path.open("wb")
        self._checksums = bytearray()
        self._pending = bytearray()
        self._head = b""

    @property
    def closed(self) -> bool:
        """Whether the file is closed."""
        return self._file.closed

    def write(self, data: Any) -> int:
        """Append bytes: any object with a contiguous buffer."""
        view = memoryview(data).cast("B")
        size = len(view)
        self._file.write(view)
        self.size += size
        if self._pending:
            missing = self._block - len(self._pending)
            self._pending += view[:missing]
            view = view[missing:]
            if len(self._pending) < self._block:
                return size
            self._add(self._pending)
            self._pending = bytearray()
        while len(view) >= self._block:
            self._add(view[: self._block])
            view = view[self._block :]
        self._pending += view
        return size

    def _add(self, data: Any) -> None:
        if not self._checksums:
            self._head = bytes(data)
        self._checksums += checksum(data)

    def flush(self) -> None:
        """Do nothing; writers of other libraries call it."""

    def finish(self, head: bytes = b"") -> bytes:
        """Sync the file to disk, and return the checksums of its blocks.

        Parameters
        ----------
        head : bytes
            Written over the first bytes, of which there must be as many.
        """
        if self._pending:
            self._add(self._pending)
        if head:
            self._head = head + self._head[len(head) :]
            self._checksums[:CHECKSUM] = checksum(self._head)
            self._file.seek(0)
            self._file.write(head)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return bytes(self._checksums)

    def close(self) -> None:
        """Close the file, which is not finished."""
        with suppress(OSError):  # what could not be written is the error that led here
            self._file.close()


class CheckedFile:
    """A file that is memory-mapped, and whose blocks are compared with their checksums before they are used.

    Parameters
    ----------
    path : Path
        The file.
    block : int
        Bytes of a block; 0 if nothing is compared.
    checksums : ndarray, uint8, shape (blocks, CHECKSUM), optional
        Memory-mapped checksums of its blocks.
    seal : str
        The SHA-256 of the checksums.
    source : Path, optional
        The file with the checksums, named if these were altered.
    """

    def __init__(
        self,
        path: Path,
        block: int = 0,
        checksums: NDArray[np.uint8] | None = None,
        seal: str = "",
        source: Path | None = None,
    ) -> None:
        self.path = path
        self.bytes: NDArray[np.uint8] = (
            np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.empty(0, np.uint8)
        )
        self._block = block
        self._checksums = checksums
        self._seal = seal
        self._source = source
        self._known = np.zeros(0 if checksums is None else len(checksums), bool)
        self._done = checksums is None
        self._sealed = False

    def check(self, start: int, stop: int) -> None:
        """Compare the blocks of bytes ``start`` to ``stop``, the last not included, that were not yet.

        Raises
        ------
        workbench.CorruptFile
            A block was altered, or the checksums were.
        """
        if not self._done and start < stop:
            self._compare(range(start // self._block, -(-stop // self._block)))

    def check_many(self, starts: NDArray[np.int64], size: int) -> None:
        """Compare the blocks of several ranges, each of ``size`` bytes, as :meth:`check` does."""
        if self._done or not size or not len(starts):
            return
        first, last = starts // self._block, (starts + size - 1) // self._block
        if (last - first).max() > 1:
            for start in starts.tolist():
                self.check(start, start + size)
        else:
            self._compare(np.unique(np.concatenate([first, last])).tolist())

    def check_all(self) -> None:
        """Compare all blocks."""
        if not self._done:
            self._compare(range(len(self._known)))
            self._done = True

    def _compare(self, blocks: range | list[int]) -> None:
        known, checksums = self._known, self._checksums
        if isinstance(blocks, range) and known[blocks.start : blocks.stop].all():
            return
        if checksums is None:
            return
        self._check_seal()
        data: Any = self.bytes
        for at in blocks:
            if known[at]:
                continue
            start = at * self._block
            if checksum(data[start : start + self._block]) != checksums[at].tobytes():
                stop = min(start + self._block, len(self.bytes))
                raise wb.CorruptFile(
                    self.path,
                    f"checksum mismatch in bytes {start:,} to {stop:,}: the file was altered",
                    hint=_REBUILD,
                )
            known[at] = True

    def _check_seal(self) -> None:
        """Compare the checksums of the blocks with the seal, once."""
        if not self._sealed:
            if seal_of(np.ascontiguousarray(self._checksums)) != self._seal:
                raise wb.CorruptFile(
                    self._source or self.path,
                    f"the checksums of {self.path.name} do not have the seal in the manifest: "
                    "one of the two was altered",
                    hint=_REBUILD,
                )
            self._sealed = True


class CheckedRows:
    """An array of a :class:`CheckedFile`, whose rows are checked before they are given.

    Parameters
    ----------
    file : CheckedFile
        The file.
    rows : ndarray, shape (n, ...)
        Memory-mapped from it.
    """

    def __init__(self, file: CheckedFile, rows: NDArray[Any]) -> None:
        self.file = file
        self.rows = rows
        self._offset = int(getattr(rows, "offset", 0))
        self._size = rows.itemsize * int(np.prod(rows.shape[1:], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def check(self, rows: Any) -> None:
        """Compare the blocks of some rows: a number, a slice, an array of numbers, or bools."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self.rows))
            if step < 0:
                start, stop = (stop + 1, start + 1) if start > stop else (0, 0)
            self.file.check(self._offset + start * self._size, self._offset + stop * self._size)
        else:
            some = np.asarray(rows)
            some = np.flatnonzero(some) if some.dtype == bool else some.astype(np.int64).ravel()
            some = np.where(some < 0, some + len(self.rows), some)
            self.file.check_many(self._offset + some * self._size, self._size)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        found = self.rows[rows]  # an IndexError comes from here
        self.check(rows)
        return np.asarray(found)


class Checks:
    """The checksums of an index's files, which are read when a file is first used.

    Parameters
    ----------
    folder : Path
        The index.
    files : mapping of str to (size, seal)
        The sealed files.
    name : str
        The file with the checksums; they are in the order of the other files' names.
    block : int
        Bytes of a block; 0 for an index without such checksums.
    """

    def __init__(self, folder: Path, files: Mapping[str, tuple[int, str]], name: str, block: int) -> None:
        self._folder = folder
        self._files = files
        self._block = block
        self._source = folder / name
        self._places: dict[str, tuple[int, int]] = {}
        self._opened: dict[str, CheckedFile] = {}
        self._lock = threading.Lock()
        self._checksums = np.empty((0, CHECKSUM), np.uint8)
        if block:
            blocks = {one: -(-files[one][0] // block) for one in sorted(files) if one != name}
            total = 0
            for one, count in blocks.items():
                self._places[one] = total, total + count
                total += count
            size = self._source.stat().st_size
            if size != total * CHECKSUM:
                raise wb.CorruptFile(
                    self._source,
                    f"must have {total * CHECKSUM:,} bytes for {total:,} blocks, not {size:,}",
                    hint=_REBUILD,
                )
            if total:
                self._checksums = np.memmap(self._source, np.uint8, mode="r", shape=(total, CHECKSUM))

    def file(self, name: str) -> CheckedFile:
        """Return a file of the index."""
        with self._lock:
            if name not in self._opened:
                self._opened[name] = self._open(name)
            return self._opened[name]

    def _open(self, name: str) -> CheckedFile:
        path = self._folder / name
        if not self._block or name not in self._places:
            return CheckedFile(path)
        first, last = self._places[name]
        return CheckedFile(path, self._block, self._checksums[first:last], self._files[name][1], self._source)

    def check_all(self) -> None:
        """Compare all blocks of all files, and the checksums themselves.

        Raises
        ------
        workbench.CorruptFile
            A file was altered; the error names the first one.
        """
        if not self._block:
            return
        for name in self._places:
            self.file(name).check_all()
        name = self._source.name
        if seal_of(checksums_of(self._source, self._block)) != self._files[name][1]:
            raise wb.CorruptFile(self._source, "checksum mismatch: the file was altered", hint=_REBUILD)


def joined(checksums: Mapping[str, bytes]) -> Iterator[bytes]:
    """Yield the contents of the file with the checksums of these files."""
    for name in sorted(checksums):
        yield checksums[name]


def write_all(path: Path, parts: Iterable[Any], block: int) -> tuple[int, bytes]:
    """Write a file at once; return its size and the checksums of its blocks."""
    out = BlockWriter(path, block)
    try:
        for part in parts:
            out.write(part)
        return out.size, out.finish()
    finally:
        out.close()
