"""Writes the files of an index from items that come in parts, in bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.index import blocks, item_table, thumbnails
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.blocks import BlockWriter
from adapters.vlm_quantization.index.features import FeatureKind, check_kind, stored
from adapters.vlm_quantization.index.names import KEY, ROW, NameWriter
from adapters.vlm_quantization.index.thresholds import chance_thresholds, drawn_from

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

#: More items than this have no place in the files of names.
MOST_ITEMS = int(np.iinfo(ROW).max)


@dataclass(frozen=True)
class Written:
    """What :class:`IndexWriter` wrote, for the manifest.

    Attributes
    ----------
    files : dict
        The seal of every file, by name.
    counts : dict
        Items by side.
    thresholds : dict
        See :func:`~adapters.vlm_quantization.index.thresholds.chance_thresholds`.
    features : {"float32", "float16", "int8", "none"}
        How features are stored.
    block_bytes : int
        Bytes of a block that has its own checksum.
    """

    files: dict[str, files.FileSeal]
    counts: dict[str, int]
    thresholds: dict[str, dict[str, float | None]]
    features: FeatureKind
    block_bytes: int


class IndexWriter:
    """Writes all files of an index but its manifest, from items in the order of their ids.

    The same items give the same bytes, in whatever parts they come. At most
    :data:`~adapters.vlm_quantization.index.item_table.ROWS` items of each side are held, and
    :data:`~adapters.vlm_quantization.index.names.RUN` of their names. It is a context manager, which closes
    the files; those of a writer that was not finished are for the caller to delete.

    Parameters
    ----------
    folder : Path
        An empty folder.
    cuts : sequence of int
        The code lengths in bits: ascending multiples of 8.
    dim : int
        Width of the features.
    features : {"float32", "float16", "int8", "none"}
        How they are stored.
    """

    def __init__(
        self, folder: Path, cuts: Sequence[int], dim: int, *, features: FeatureKind = "float32"
    ) -> None:
        self._folder = folder
        self._cuts = tuple(cuts)
        self._dim = dim
        self._kind = check_kind(features)
        self._block = blocks.BLOCK
        self._open: dict[str, BlockWriter] = {}
        self._seals: dict[str, files.FileSeal] = {}
        self._checksums: dict[str, bytes] = {}
        self._sides = {side: _Side(self, side) for side in files.SIDES}
        self._thumbnails = _Thumbnails(self)

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        for side in self._sides.values():
            side.close()
        for out in self._open.values():
            out.close()

    @property
    def counts(self) -> dict[str, int]:
        """Items added so far, by side."""
        return {name: side.count for name, side in self._sides.items()}

    def add(
        self,
        side: str,
        items: Sequence[Mapping[str, Any]],
        codes: NDArray[np.uint8],
        features: NDArray[Any] | None = None,
        thumbnails: Sequence[bytes] = (),
    ) -> None:
        """Add items of a side, whose ids are above those of all before.

        Parameters
        ----------
        side : {"images", "captions"}
            The sides may take turns.
        items : sequence of mapping
            What is stored of each of the m items.
        codes : ndarray, uint8, shape (m, bytes)
            Packed codes of full length.
        features : ndarray, float, shape (m, d)
            Rows of unit norm; not needed if none are stored.
        thumbnails : sequence of bytes
            An encoded picture for each item of ``images``.

        Raises
        ------
        workbench.BadInput
            Two items have the same id, a field has a value of another type, or there are too many items.
        ValueError
            The parts have different lengths, or the ids do not ascend.
        """
        m = len(items)
        if codes.dtype != np.uint8 or codes.shape != (m, self._cuts[-1] // 8):
            raise ValueError(
                f"codes must be uint8 ({m}, {self._cuts[-1] // 8}), not {codes.dtype} {codes.shape}"
            )
        if self._kind != "none" and (features is None or features.shape != (m, self._dim)):
            given = None if features is None else features.shape
            raise ValueError(f"features must have shape ({m}, {self._dim}), not {given}")
        if len(thumbnails) != (m if side == "images" else 0):
            raise ValueError(f"{len(thumbnails)} thumbnails for {m} {side}")
        self._sides[side].add(items, codes, features)
        self._thumbnails.add(thumbnails)

    def add_file(self, name: str, source: Path) -> None:
        """Copy a file into the index, such as the checkpoint."""
        with source.open("rb") as file:
            out = self.opened(name)
            while data := file.read(1 << 20):
                out.write(data)
        self.finished(name)

    def finish(self) -> Written:
        """Complete all files, and return their seals.

        Raises
        ------
        workbench.CorruptFile
            A file cannot be read back: thresholds are measured on a sample.
        """
        for side in self._sides.values():
            side.finish()
        self._thumbnails.finish()
        size, checksums = blocks.write_all(
            self._folder / files.CHECKSUMS, blocks.joined(self._checksums), self._block
        )
        self._seals[files.CHECKSUMS] = files.FileSeal(size=size, sha256=blocks.seal_of(checksums))
        files.sync_folder(self._folder)
        samples = {
            side: drawn_from(self._folder, side, self.counts[side], self._cuts, self._dim, self._kind)
            for side in files.SIDES
        }
        return Written(
            files=dict(self._seals),
            counts=self.counts,
            thresholds=chance_thresholds(samples, self._cuts),
            features=self._kind,
            block_bytes=self._block,
        )

    # --- for its parts --------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """The folder it writes to."""
        return self._folder

    @property
    def cuts(self) -> tuple[int, ...]:
        """The code lengths."""
        return self._cuts

    @property
    def layout(self) -> tuple[int, FeatureKind]:
        """Width and kind of the features."""
        return self._dim, self._kind

    def opened(self, name: str) -> BlockWriter:
        """Begin a file."""
        out = self._open[name] = BlockWriter(self._folder / name, self._block)
        return out

    def finished(self, name: str, head: bytes = b"") -> None:
        """Complete a file, whose first bytes may have been unknown."""
        out = self._open.pop(name)
        try:
            checksums = out.finish(head)
        finally:
            out.close()
        self._checksums[name] = checksums
        self._seals[name] = files.FileSeal(size=out.size, sha256=blocks.seal_of(checksums))


class _Rows:
    """An array whose number of rows is not known before all are written."""

    def __init__(self, writer: IndexWriter, name: str, width: tuple[int, ...], dtype: DTypeLike) -> None:
        self._writer = writer
        self._name = name
        self._width = width
        self._dtype = np.dtype(dtype)
        self._out = writer.opened(name)
        self._out.write(files.array_header((0, *width), dtype))
        self._count = 0

    def write(self, rows: NDArray[Any]) -> None:
        rows = np.ascontiguousarray(rows, self._dtype)
        self._out.write(rows.reshape(-1).view(np.uint8))
        self._count += len(rows)

    def finish(self) -> None:
        self._writer.finished(self._name, files.array_header((self._count, *self._width), self._dtype))


class _Side:
    """The files of one side."""

    def __init__(self, writer: IndexWriter, side: str) -> None:
        import pyarrow as pa

        dim, self._kind = writer.layout
        self.count = 0
        self._writer = writer
        self._side = side
        self._columns = {
            cut: _Rows(writer, name, (cut.width,), np.uint8)
            for cut, name in files.column_files(side, writer.cuts).items()
        }
        self._features = self._scales = None
        if self._kind != "none":
            self._features = _Rows(writer, files.features_file(side), (dim,), self._kind)
        if self._kind == "int8":
            self._scales = _Rows(writer, files.scales_file(side), (), np.float32)
        self._names = NameWriter(writer.folder)
        self._held: list[Mapping[str, Any]] = []
        self._last = ""
        schema = item_table.schema_of(side, item_table.ROWS)
        self._rows = item_table.ROWS
        self._table = pa.ipc.new_file(writer.opened(files.items_file(side)), schema)

    def add(
        self, items: Sequence[Mapping[str, Any]], codes: NDArray[np.uint8], features: NDArray[Any] | None
    ) -> None:
        if self.count + len(items) > MOST_ITEMS:
            raise wb.BadInput(
                f"an index holds at most {MOST_ITEMS:,} {self._side}", hint="Build several indexes."
            )
        for row, item in enumerate(items, self.count):
            item_id = item["id"]
            if row and item_id == self._last:
                raise wb.BadInput(f"two items have the id {item_id!r}; ids must be unique")
            if row and item_id < self._last:
                raise ValueError(f"item {item_id!r} comes after {self._last!r}")
            self._last = item_id
            self._names.add(row, item)
            self._held.append(item)
            if len(self._held) == self._rows:
                self._flush()
        self.count += len(items)
        for cut, column in self._columns.items():
            column.write(codes[:, cut.first : cut.last])
        if self._features is not None and features is not None and self._kind != "none":
            rows, scales = stored(features, self._kind)
            self._features.write(rows)
            if self._scales is not None and scales is not None:
                self._scales.write(scales)

    def _flush(self) -> None:
        # Not with its metadata: that of the schema would be written again with each batch.
        self._table.write_batch(item_table.batch_of(self._held, self._side))
        self._held = []

    def finish(self) -> None:
        if self._held:
            self._flush()
        self._table.close()
        self._writer.finished(files.items_file(self._side))
        for rows in (*self._columns.values(), self._features, self._scales):
            if rows is not None:
                rows.finish()
        keys_name, rows_name = files.names_files(self._side)
        keys, rows = _Rows(self._writer, keys_name, (), KEY), _Rows(self._writer, rows_name, (), ROW)
        for numbers, of in self._names.merged():
            keys.write(numbers)
            rows.write(of)
        keys.finish()
        rows.finish()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # a writer that is broken off has no footer to write
            self._table.close()


class _Thumbnails:
    """Encoded pictures, one after the other, in files of one size."""

    def __init__(self, writer: IndexWriter) -> None:
        self._writer = writer
        self._shard_bytes = thumbnails.SHARD_BYTES
        self._offsets = _Rows(writer, files.THUMBNAIL_OFFSETS, (), np.int64)
        self._offsets.write(np.zeros(1, np.int64))
        self._end = 0
        self._number = 0
        self._out = writer.opened(files.shard_file(0))

    def add(self, pictures: Sequence[bytes]) -> None:
        if not pictures:
            return
        ends = self._end + np.cumsum([len(picture) for picture in pictures])
        self._offsets.write(ends)
        self._end = int(ends[-1])
        data = memoryview(b"".join(pictures))
        while data:
            if self._out.size == self._shard_bytes:
                self._writer.finished(files.shard_file(self._number))
                self._number += 1
                self._out = self._writer.opened(files.shard_file(self._number))
            part = data[: self._shard_bytes - self._out.size]
            self._out.write(part)
            data = data[len(part) :]

    def finish(self) -> None:
        self._writer.finished(files.shard_file(self._number))
        self._offsets.finish()
