"""The feature cache of a workspace: what was computed of a picture or a text, by its content.

Records of one kind (the features of one tower, thumbnails of one size) are on a shelf, which is a folder of
shard files. A shard is written whole under a name that is a digest of its content, and never changed, so that
jobs which run at the same time add to a shelf without waiting for each other, and a killed job leaves what
it had finished. Each file has checksums of its own: a damaged one is deleted, and its records are computed
again. When the cache exceeds its limit, the shards that were used least recently are deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Maximum size of the cache in bytes, unless :data:`LIMIT` says otherwise; a million pictures of a base-size
#: encoder take 3 GB.
LIMIT_BYTES = 8 * 2**30


#: Environment variable: maximum size of the cache in GB; 0 keeps nothing.
LIMIT = "WORKBENCH_FEATURE_CACHE_GB"


#: Free bytes that the cache leaves on its disk.
KEPT_FREE = 2**29


#: Name of the cache's folder in a workspace's cache folder.
FOLDER = "features"


#: Records per shard, at the least: what a killed job may have to compute again.
SHARD_RECORDS = 256


_MAGIC = b"WBSHELF1"

_HEAD = struct.Struct(
    "<8sI32s32s"
)  # magic, number of records, checksum of the lists, checksum of the records

_KEY_BYTES = 16

_ENDING = ".shard"


def limit_bytes() -> int:
    """Return the maximum size of the cache: :data:`LIMIT_BYTES`, or what the environment says.

    Raises
    ------
    BadInput
        The environment variable is not a number of GB of at least 0.
    """
    text = os.environ.get(LIMIT, "").strip()
    if not text:
        return LIMIT_BYTES
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < 1e6:
        raise wb.BadInput(
            f"${LIMIT} must be the size of the feature cache in GB, such as 20; got {text!r}",
            hint="0 keeps nothing.",
        )
    return round(gigabytes * 1e9)


def key_of(content: str) -> bytes:
    """Return the key of a content: of the digest of a picture's pixels, or of a text."""
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).digest()[:_KEY_BYTES]


class FeatureCache:
    """The cache in a folder; one object per job.

    Parameters
    ----------
    folder : Path
        The workspace's cache folder.
    limit : int, optional
        Maximum size in bytes. Default: :func:`limit_bytes`.

    Attributes
    ----------
    damaged : int
        Number of damaged files that were deleted.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder = folder / FOLDER
        self.limit = limit_bytes() if limit is None else limit
        self.damaged = 0
        #: Shards that this object has read or written: they stay, else a collection that is larger than the
        #: cache would push out its own beginning and find nothing the next time.
        self.used: set[Path] = set()

    def shelf(self, what: str, about: Mapping[str, Any]) -> Shelf:
        """Return the shelf of one kind of records.

        Parameters
        ----------
        what : str
            Words for people, such as ``"pictures"``.
        about : mapping
            JSON data that determines the records, apart from their content: two shelves that differ in it
            share nothing.
        """
        text = json.dumps({"what": what, **about}, sort_keys=True, ensure_ascii=False)
        return Shelf(self, self.folder / hashlib.sha256(text.encode()).hexdigest()[:24], text)

    def files(self) -> list[tuple[float, int, Path]]:
        """Return all files of the cache as (time of last use, bytes, path), least recently used first."""
        out = []
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = Path(folder, name)
                with contextlib.suppress(FileNotFoundError):
                    status = path.stat()
                    out.append((status.st_mtime, status.st_size, path))
        return sorted(out)

    def make_room(self, size: int) -> bool:
        """Delete least recently used files until ``size`` more bytes fit; return whether they do.

        Files that this object has used stay.
        """
        files = self.files()
        total = sum(one for _, one, _ in files)
        free = shutil.disk_usage(self.folder).free - KEPT_FREE
        excess = max(total + size - self.limit, size - free)
        loose = [(one, path) for _, one, path in files if path not in self.used and path.name != _ABOUT]
        if excess > sum(one for one, _ in loose):
            return False
        for one, path in loose:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= one
        return True


_ABOUT = "about.json"


#: Where a record is: its key, the number of its shard, its first byte there, and the number of bytes. In
#: objects of Python it would take ten times the memory.
_PLACE = np.dtype([("key", f"S{_KEY_BYTES}"), ("shard", "<u4"), ("start", "<u8"), ("size", "<u4")])


class _Places:
    """Where records are, by key: sorted blocks, each larger than all that are newer."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[Any]] = []
        #: Numbers of shards that are gone.
        self.gone: set[int] = set()

    def add(self, places: NDArray[Any]) -> None:
        """Add the places of one shard; they count before older ones of the same keys."""
        block = places[np.argsort(places["key"], kind="stable")]
        while self._blocks and len(self._blocks[-1]) <= 2 * len(block):
            block = np.concatenate([block, self._blocks.pop()])
            block = block[np.argsort(block["key"], kind="stable")]  # of equal keys the newer stays first
        self._blocks.append(block)

    def find(self, keys: Sequence[bytes]) -> NDArray[Any]:
        """Return shard, start and size of each key as int64; -1 where it is unknown."""
        out = np.full(len(keys), -1, [("shard", "<i8"), ("start", "<i8"), ("size", "<i8")])
        wanted = np.array(keys, f"S{_KEY_BYTES}")
        missing = np.arange(len(keys))
        for block in reversed(self._blocks):
            if not len(missing):
                break
            at = np.searchsorted(block["key"], wanted[missing])
            inside = np.minimum(at, len(block) - 1)
            same = (at < len(block)) & (block["key"][inside] == wanted[missing])
            if self.gone:
                same &= ~np.isin(block["shard"][inside], [*self.gone])
            for field in ("shard", "start", "size"):
                out[field][missing[same]] = block[field][inside[same]]
            missing = missing[~same]
        return out

    def __contains__(self, key: bytes) -> bool:
        return bool(self.find([key])["shard"][0] >= 0)


class Shelf:
    """Records of one kind by key; :meth:`FeatureCache.shelf` returns it."""

    def __init__(self, cache: FeatureCache, folder: Path, about: str) -> None:
        self._cache = cache
        self._folder = folder
        self._about = about
        self._listed: set[str] = set()
        self._sound: set[Path] = set()
        self._places = _Places()
        self._paths: list[Path] = []
        self._numbers: dict[Path, int] = {}
        #: Whether the last shard did not fit.
        self.full = False
        self.refresh()

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    @property
    def damaged(self) -> int:
        """Number of damaged files of the cache that were deleted."""
        return self._cache.damaged

    def refresh(self) -> None:
        """Read which records there are by now; other processes may have added some."""
        try:
            names = [name for name in os.listdir(self._folder) if name.endswith(_ENDING)]  # noqa: PTH208
        except OSError:
            return
        for name in names:
            if name not in self._listed:
                self._list(self._folder / name)

    def _list(self, shard: Path) -> None:
        """Read the keys of a shard; one with a damaged head is deleted."""
        try:
            with shard.open("rb") as file:
                head = file.read(_HEAD.size)
                magic, count, digest, _ = _HEAD.unpack(head)
                lists = file.read(count * (_KEY_BYTES + 4))
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:  # deleted to make room
            return
        except (struct.error, OSError, OverflowError, MemoryError):
            self._drop(shard)
            return
        lengths = struct.unpack_from(f"<{count}I", lists, count * _KEY_BYTES) if _is(lists, digest) else ()
        start = _HEAD.size + len(lists)
        if magic != _MAGIC or len(lengths) != count or start + sum(lengths) != size:
            self._drop(shard)
            return
        if not count:
            self._listed.add(shard.name)
            return
        places = np.empty(count, _PLACE)
        places["key"] = np.frombuffer(lists, f"S{_KEY_BYTES}", count)
        places["size"] = lengths
        places["start"] = start + np.cumsum(places["size"], dtype=np.uint64) - places["size"]
        places["shard"] = len(self._paths)
        self._numbers[shard] = len(self._paths)
        self._paths.append(shard)
        self._places.add(places)
        self._listed.add(shard.name)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the records of some keys; those that are missing or damaged are left out."""
        keys = list(keys)
        by_shard: dict[Path, list[tuple[bytes, int, int]]] = {}
        for key, (number, start, size) in zip(keys, self._places.find(keys).tolist(), strict=True):
            if number >= 0:
                by_shard.setdefault(self._paths[number], []).append((key, start, size))
        out: dict[bytes, bytes] = {}
        for shard, wanted in by_shard.items():
            try:
                with shard.open("rb") as file:
                    if not self._is_sound(shard, file):
                        self._drop(shard)
                        continue
                    for key, start, size in wanted:
                        out[key] = os.pread(file.fileno(), size, start)
            except OSError:  # deleted to make room, or not readable
                self._forget(shard)
        return out

    def _is_sound(self, shard: Path, file: Any) -> bool:
        """Return whether the records of a shard are those that were written; it is read once per job."""
        if shard in self._sound:
            return True
        _, count, _, digest = _HEAD.unpack(file.read(_HEAD.size))
        file.seek(count * (_KEY_BYTES + 4), os.SEEK_CUR)
        if hashlib.file_digest(file, "sha256").digest() != digest:
            return False
        self._sound.add(shard)
        self._cache.used.add(shard)
        with contextlib.suppress(OSError):
            os.utime(shard)
        return True

    def put(self, records: Sequence[tuple[bytes, bytes]]) -> bool:
        """Write records as one shard; return False where they do not fit, and nothing is written.

        Parameters
        ----------
        records : sequence of (key, record)
        """
        if not records:
            return True
        keys = b"".join(key for key, _ in records)
        lists = keys + struct.pack(f"<{len(records)}I", *(len(record) for _, record in records))
        content = b"".join(record for _, record in records)
        head = _HEAD.pack(_MAGIC, len(records), _digest(lists), _digest(content))
        shard = self._folder / f"{hashlib.sha256(head).hexdigest()[:32]}{_ENDING}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.full = not self._cache.make_room(len(head) + len(lists) + len(content))
            if self.full:
                return False
            if not (self._folder / _ABOUT).exists():
                wb.write_whole(self._folder / _ABOUT, self._about.encode())
            wb.write_whole(shard, head + lists + content)
        except OSError:  # a full or read-only disk: the job goes on without the cache
            self.full = True
            return False
        self._cache.used.add(shard)
        self._sound.add(shard)
        self._list(shard)
        return True

    def _drop(self, shard: Path) -> None:
        """Delete a damaged shard."""
        self._cache.damaged += 1
        self._forget(shard)
        with contextlib.suppress(OSError):
            shard.unlink(missing_ok=True)

    def _forget(self, shard: Path) -> None:
        self._listed.discard(shard.name)
        self._sound.discard(shard)
        if (number := self._numbers.pop(shard, None)) is not None:
            self._places.gone.add(number)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _is(data: bytes, digest: bytes) -> bool:
    return _digest(data) == digest
