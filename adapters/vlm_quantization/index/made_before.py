"""What was made of pictures and texts before: it is copied into a new index, and not encoded again.

It comes from the index that is being replaced, and from shards that a killed build left, also if the
collection has changed since. Items are found by their pixels or their text, whatever they are called.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.data.external_sort import ExternalSort
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.entries import PIXELS
from adapters.vlm_quantization.index.opened import load_index
from adapters.vlm_quantization.index.shards import Made
from adapters.vlm_quantization.towers.feature_cache import key_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.codes import Encoder
    from adapters.vlm_quantization.index.opened import Index
    from adapters.vlm_quantization.index.shards import MadeBefore

#: The entry of an index's provenance with a digest of how its rows were made.
MADE = "made"

#: Shards of a killed build that are open at a time.
_OPEN = 4


class KeyTable:
    """Numbers by key in a mapped file without a name: nothing of it is held in memory.

    Parameters
    ----------
    numbers : iterable of (bytes, int)
        Keys of 16 bytes, in any order, each with a number of at least 0. Of equal keys any is found.
    folder : Path
        An existing folder on the disk that the file takes space of.
    """

    def __init__(self, numbers: Iterable[tuple[bytes, int]], folder: Path) -> None:
        with (
            ExternalSort(folder) as sort,
            tempfile.TemporaryFile(dir=folder) as heads,
            tempfile.TemporaryFile(dir=folder) as rest,
        ):
            for key, number in numbers:
                sort.add(key, number.to_bytes(8, "big"))
            for key, value in sort:
                heads.write(key[:8])
                rest.write(key[8:] + value)
            heads.flush()
            rest.flush()
            count = len(sort)
            empty = np.empty(0, ">u8")
            self._heads: NDArray[Any] = np.memmap(heads, ">u8", "r", shape=(count,)) if count else empty
            self._rest: NDArray[Any] = (
                np.memmap(rest, ">u8", "r", shape=(count, 2)) if count else empty.reshape(0, 2)
            )

    def __len__(self) -> int:
        return len(self._heads)

    def get(self, key: bytes) -> int | None:
        """Return the number of a key, or None."""
        head, tail = np.frombuffer(key, ">u8")
        place = int(np.searchsorted(self._heads, head))
        while place < len(self._heads) and self._heads[place] == head:
            if self._rest[place, 0] == tail:
                return int(self._rest[place, 1])
            place += 1
        return None


class OldIndex:
    """The rows of an index; every byte is checked before it is copied.

    Parameters
    ----------
    index : Index
    folder : Path
        For the files of the keys.
    """

    def __init__(self, index: Index, folder: Path) -> None:
        self._index = index
        self._keys = {side: KeyTable(_keys_of(index, side), folder) for side in files.SIDES}
        self._damaged = False

    def get(self, side: str, key: bytes) -> Made | None:
        """Return what was made of the pixels or the text with a key, or None."""
        row = self._keys[side].get(key)
        if row is None or self._damaged:
            return None
        try:
            rows = self._index.sides[side]
            thumbnail = self._index.thumbnail(row) if side == "images" else b""
            return Made(np.array(rows.codes[row]), np.array(rows.features[row], np.float32), thumbnail)
        except wb.CorruptFile:  # what is left of it is made again
            self._damaged = True
            return None


def old_index(path: Path, adapter: str, encoder: Encoder, made: str, folder: Path) -> OldIndex | None:
    """Open the index that is to be replaced, if its rows are those that a new one would have.

    Parameters
    ----------
    path : Path
        The index, which need not exist.
    adapter, encoder
        Those of the new index.
    made : str
        Digest of how rows are made.
    folder : Path
        For the files of the keys.
    """
    try:
        manifest = files.read_manifest(path, adapter)
        if manifest.provenance.get(MADE) != made or manifest.features != "float32":
            return None
        return OldIndex(load_index(path, lambda file: encoder, adapter=adapter), folder)
    except wb.WorkbenchError:  # missing, damaged, or of another version: it is no source, but no obstacle
        return None


def _keys_of(index: Index, side: str) -> Iterator[tuple[bytes, int]]:
    row = 0
    column, key = ("other", _pixels) if side == "images" else ("caption", key_of)
    for batch in index.sides[side].items.batches([column]):
        for value in batch.column(0).to_pylist():
            if (found := key(value)) is not None:
                yield found, row
            row += 1


def _pixels(other: str | None) -> bytes | None:
    """Return the key of a picture's pixels from the fields that have no column of their own."""
    text = json.loads(other).get(PIXELS) if other else None
    try:
        key = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        return None
    return key if len(key) == 16 else None


class LeftShards:
    """Shards of a killed build, with whatever items they hold.

    Parameters
    ----------
    paths : sequence of Path
        Their files; damaged ones are passed over.
    folder : Path
        For the files of the keys.
    """

    def __init__(self, paths: Sequence[Path], folder: Path) -> None:
        self._paths = [path for path in paths if _keys_in(path) is not None]
        self._keys = {
            side: KeyTable(
                (
                    (key, number << 32 | row)
                    for number, path in enumerate(self._paths)
                    if path.name.startswith(f"{side}-")
                    for row, key in enumerate(_keys_in(path) or ())
                ),
                folder,
            )
            for side in files.SIDES
        }
        self._open: OrderedDict[int, dict[str, NDArray[Any]]] = OrderedDict()

    def get(self, side: str, key: bytes) -> Made | None:
        """Return what was made of the pixels or the text with a key, or None."""
        place = self._keys[side].get(key)
        if place is None:
            return None
        shard, row = self._shard(place >> 32), place & 0xFFFFFFFF
        end = int(shard["ends"][row])
        thumbnail = shard["thumbnails"][end - int(shard["lengths"][row]) : end].tobytes()
        return Made(shard["codes"][row], shard["features"][row], thumbnail)

    def _shard(self, number: int) -> dict[str, NDArray[Any]]:
        if number not in self._open:
            with np.load(self._paths[number], allow_pickle=False) as file:
                shard = {name: file[name] for name in ("codes", "features", "thumbnails", "lengths")}
            self._open[number] = {**shard, "ends": np.cumsum(shard["lengths"])}
            while len(self._open) > _OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(number)
        return self._open[number]


def _keys_in(path: Path) -> list[bytes] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as shard:
            return [row.tobytes() for row in shard["keys"]]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


class Chain:
    """Several sources of what was made before; the first that knows an item counts."""

    def __init__(self, sources: Sequence[MadeBefore]) -> None:
        self._sources = sources

    def get(self, side: str, key: bytes) -> Made | None:
        """Return what was made of the pixels or the text with a key, or None."""
        return next((made for one in self._sources if (made := one.get(side, key)) is not None), None)
