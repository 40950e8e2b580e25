"""Shards of an index under construction, so that a killed build resumes where it stopped.

A shard holds what was made of some items: codes, features and thumbnails. It is one file, written whole by
:func:`encode_shard`, a pure function of a small description, under a name that is a digest of what is in it:
the pixels or texts of its items, the model, and how they are encoded. So a file of that name need not be made
again, whatever has become of the collection or of its items' names meanwhile.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import Encoded, Encoder
from adapters.vlm_quantization.data.pictures import opened_ahead
from adapters.vlm_quantization.index.entries import KEY_BYTES, Entry, SortedEntries
from adapters.vlm_quantization.towers.estimates import SAMPLE_SECONDS, duration

if TYPE_CHECKING:
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import OnProgress


#: Longest side of a thumbnail, in pixels.
THUMBNAIL_PIXELS = 128


#: Minimum number of items per shard: enough to amortise its fsync, few enough to lose little work.
SHARD_ITEMS = 256


#: A rest of fewer seconds than this is not announced.
WORTH_SAYING = 20.0


#: Version of a shard's file; part of its name.
_SHARD_FORMAT = 1


# --- one shard ----------------------------------------------------------------------------------------------


class Made(NamedTuple):
    """What was made of one item.

    Attributes
    ----------
    codes : ndarray, uint8, shape (bytes,)
    features : ndarray, float32, shape (d,)
    thumbnail : bytes
        Empty for a text.
    """

    codes: NDArray[np.uint8]
    features: NDArray[np.float32]
    thumbnail: bytes


class MadeBefore(Protocol):
    """Knows what was made of items before, by the same encoder."""

    def get(self, side: str, key: bytes) -> Made | None:
        """Return what was made of the pixels or the text with a key, or None."""


class Pictures(Protocol):
    """Opens the pictures of a collection by number."""

    def open(self, i: int, /) -> Image:
        """Open picture ``i`` as RGB."""


@dataclass(frozen=True)
class ShardTask:
    """One shard: what is encoded, how, and where it is written.

    It is small, and can be sent to another process if ``pictures`` and ``encoder`` can.

    Attributes
    ----------
    side : {"images", "captions"}
    ids : tuple of str
        The items' ids, for messages.
    keys : tuple of bytes
        A digest of each item's pixels or text; see :class:`~adapters.vlm_quantization.index.entries.Entry`.
    sources : tuple
        The numbers of pictures that ``pictures`` opens, or texts.
    pictures : Pictures or None
        None for texts.
    encoder : Encoder, or callable without arguments that returns one
        A callable is called only if something is to be encoded.
    bits : int
        Length of the stored code.
    dim : int
        Width of the features.
    batch_size : int
        Items encoded at a time.
    output : str
        Path of the file.
    made : mapping of int to Made
        What was made before of some of the items, by place in ``sources``: it is copied.
    """

    side: str
    ids: tuple[str, ...]
    keys: tuple[bytes, ...]
    sources: tuple[Any, ...]
    pictures: Pictures | None = field(repr=False)
    encoder: Encoder | Callable[[], Encoder] = field(repr=False)
    bits: int
    dim: int
    batch_size: int
    output: str
    made: Mapping[int, Made] = field(default_factory=dict, repr=False)


def encode_shard(task: ShardTask, on_batch: Callable[[int], None] | None = None) -> None:
    """Encode the items of a shard and write its file, which appears whole or not at all.

    Parameters
    ----------
    task : ShardTask
    on_batch : callable, optional
        Called with the number of finished items before each batch; an exception stops the shard.

    Raises
    ------
    workbench.BadInput
        The encoder returned invalid output.
    """
    new = [place for place in range(len(task.sources)) if place not in task.made]
    rows: dict[int, Made] = dict(task.made)
    problems: list[tuple[int, str]] = []
    encoder: Encoder | None = None
    numbers = [] if task.pictures is None else [task.sources[place] for place in new]
    open_one = partial(_opened, cast("Pictures", task.pictures))
    with closing(opened_ahead(open_one, numbers)) as opened:
        for at in range(0, len(new), task.batch_size):
            if on_batch is not None:
                on_batch(len(task.made) + at)
            encoder = encoder or _encoder_of(task)
            places: Sequence[int] = new[at : at + task.batch_size]
            thumbnails: Sequence[bytes] = [b""] * len(places)
            if task.pictures is None:
                encoded = encoder.encode_texts([task.sources[place] for place in places])
            else:
                places, pictures, thumbnails = _readable(places, opened, problems)
                if not pictures:
                    continue
                encoded = encoder.encode_images(pictures)
            _check_encoded(encoded, encoder, [task.ids[place] for place in places])
            features = np.asarray(encoded.features, np.float32)
            rows.update(zip(places, map(Made, encoded.codes, features, thumbnails), strict=True))
    _write(task, rows, problems)


def _encoder_of(task: ShardTask) -> Encoder:
    if hasattr(task.encoder, "encode_texts"):
        return cast("Encoder", task.encoder)
    return task.encoder()


def _opened(pictures: Pictures, number: int) -> tuple[Image, bytes]:
    """Open a picture and make its thumbnail, in another thread than the one that encodes."""
    picture = pictures.open(number)
    return picture, thumbnail_of(picture)


def _readable(
    places: Sequence[int],
    opened: Iterator[tuple[Image, bytes] | Exception],
    problems: list[tuple[int, str]],
) -> tuple[list[int], list[Image], list[bytes]]:
    """Take the pictures of some places; an unreadable one is left out and added to the problems."""
    kept, pictures, thumbnails = [], [], []
    for place, made in zip(places, itertools.islice(opened, len(places)), strict=True):
        if isinstance(made, wb.BadInput):
            problems.append((place, made.message))
        elif isinstance(made, Exception):
            problems.append((place, f"{type(made).__name__}: {made}"))
        else:
            kept.append(place)
            pictures.append(made[0])
            thumbnails.append(made[1])
    return kept, pictures, thumbnails


def _write(task: ShardTask, rows: Mapping[int, Made], problems: Sequence[tuple[int, str]]) -> None:
    kept = sorted(rows)
    codes = np.empty((len(kept), task.bits // 8), np.uint8)
    features = np.empty((len(kept), task.dim), np.float32)
    for row, place in enumerate(kept):
        codes[row], features[row] = rows[place].codes, rows[place].features
    thumbnails = [rows[place].thumbnail for place in kept]
    data = io.BytesIO()
    np.savez(
        data,
        keys=np.frombuffer(b"".join(task.keys[place] for place in kept), np.uint8).reshape(
            len(kept), KEY_BYTES
        ),
        codes=codes,
        features=features,
        kept=np.array(kept, np.int64),
        thumbnails=np.frombuffer(b"".join(thumbnails), np.uint8),
        lengths=np.array([len(picture) for picture in thumbnails], np.int64),
        problems=np.frombuffer(json.dumps(problems).encode(), np.uint8),
    )
    wb.write_whole(Path(task.output), data.getvalue(), crash_at="index:shard-written")


def thumbnail_of(picture: Image) -> bytes:
    """Return a picture as a thumbnail of an index: WebP, at most :data:`THUMBNAIL_PIXELS` on a side."""
    known: bytes | None = getattr(picture, "encoded_thumbnail", None)  # made when it was first decoded
    if known is not None:
        return known
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    data = io.BytesIO()
    small.save(data, "WEBP", quality=85, method=0)  # four times as fast as the default, a little larger
    return data.getvalue()


def _check_encoded(encoded: Encoded, encoder: Encoder, ids: Sequence[str]) -> None:
    """Refuse invalid encoder output before it is written to disk."""
    codes, features = np.asarray(encoded.codes), np.asarray(encoded.features)
    width = encoder.bits[-1] // 8
    if codes.dtype != np.uint8 or codes.shape != (len(ids), width):
        raise wb.BadInput(
            f"encoder {encoder.name!r} returned codes {codes.dtype} {codes.shape} for {len(ids)} items; "
            f"they must be uint8 ({len(ids)}, {width})"
        )
    if features.dtype.kind != "f" or features.shape != (len(ids), encoder.dim):
        raise wb.BadInput(
            f"encoder {encoder.name!r} returned features {features.dtype} {features.shape} for {len(ids)} "
            f"items; they must be float ({len(ids)}, {encoder.dim})"
        )
    # A NaN fails the comparison, so one check detects NaN, infinity and a wrong norm.
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    bad = [item_id for item_id, unit in zip(ids, np.abs(norms - 1) < 1e-2, strict=True) if not unit]
    if bad:
        raise wb.BadInput(
            f"encoder {encoder.name!r} returned features that are not finite or not of unit norm for "
            f"{len(bad)} items; the first is {bad[0]!r}"
        )


# --- all shards ---------------------------------------------------------------------------------------------


def shard_items(batch_size: int) -> int:
    """Return the number of items per shard: whole batches, so that resuming does not change any batch."""
    return max(1, -(-SHARD_ITEMS // batch_size)) * batch_size


_SHARD_PARTS = ("keys", "codes", "features", "kept", "thumbnails", "lengths", "problems")


@dataclass(frozen=True)
class _Planned:
    """A shard of the plan: its entries and its file."""

    side: str
    entries: Sequence[Entry]
    path: Path


@dataclass(frozen=True)
class ShardRows:
    """What a finished shard holds, in order of ids; the arrays have one row per item."""

    items: Sequence[dict[str, Any]]
    codes: NDArray[np.uint8]
    features: NDArray[np.float32]
    thumbnails: Sequence[bytes]


class Shards:
    """The shards of an index under construction; one is in memory at a time.

    Parameters
    ----------
    folder : Path
        Where the files are.
    pictures : Pictures
        Opens the pictures of the collection.
    encoder : Encoder
    sides : mapping of str to SortedEntries
        The entries of each side.
    batch_size : int
        Items encoded at a time.
    progress : callable or None
        ``progress(done, total, message)``.

    Attributes
    ----------
    before : MadeBefore or None
        What was made before, which is not encoded again.
    resumed, resumed_items : int
        Number of shards that a killed build had finished, and of items in them.
    reused : int
        Number of items that were made before.
    """

    def __init__(
        self,
        folder: Path,
        pictures: Pictures,
        encoder: Encoder,
        sides: Mapping[str, SortedEntries],
        batch_size: int,
        progress: OnProgress | None,
    ) -> None:
        self._folder = folder
        self._pictures = pictures
        self._encoder = encoder
        self._sides = sides
        self._batch_size = batch_size
        self._progress = progress or (lambda done, total, message: None)
        self.before: MadeBefore | None = None
        self.resumed = self.resumed_items = 0
        self.reused = 0

    def _plan(self, side: str) -> Iterator[_Planned]:
        entries = iter(self._sides[side])
        while part := list(itertools.islice(entries, shard_items(self._batch_size))):
            yield _Planned(side, part, self._folder / f"{self._name(side, part)}.npz")

    def _name(self, side: str, entries: Sequence[Entry]) -> str:
        """Return the digest of what is in a shard."""
        encoder = self._encoder
        settings = (_SHARD_FORMAT, side, encoder.fingerprint, *encoder.bits, encoder.dim)
        digest = hashlib.sha256(
            f"{settings} {self._batch_size} {THUMBNAIL_PIXELS if side == 'images' else ''}".encode()
        )
        for entry in entries:
            digest.update(entry.key)
        return f"{side}-{digest.hexdigest()[:32]}"

    def files(self) -> Iterator[Path]:
        """Yield the path of each shard's file."""
        return (planned.path for side in self._sides for planned in self._plan(side))

    def left(self) -> list[Path]:
        """Return the finished shards that are not in the plan: a killed build made them of other items."""
        planned = {planned.path.name for planned, _ in self._with_done()}
        if not self._folder.is_dir():
            return []
        return [path for path in sorted(self._folder.glob("*.npz")) if path.name not in planned]

    def missing(self) -> Iterator[ShardTask]:
        """Yield a task for each shard that is not there; their order does not matter.

        Progress goes on over those that are there.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for planned, done in self._with_done():
            if _is_whole(planned.path):
                self.resumed += 1
                self.resumed_items += len(planned.entries)
                self._progress(done + len(planned.entries), self.total, f"{planned.side} already encoded")
            else:
                yield self._task(planned)

    @property
    def planned(self) -> int:
        """Number of shards of all sides."""
        return sum(-(-len(entries) // shard_items(self._batch_size)) for entries in self._sides.values())

    @property
    def total(self) -> int:
        """Number of items of all sides."""
        return sum(len(entries) for entries in self._sides.values())

    def _with_done(self) -> Iterator[tuple[_Planned, int]]:
        """Yield each shard of the plan with the number of items before it."""
        done = 0
        for side in self._sides:
            for planned in self._plan(side):
                yield planned, done
                done += len(planned.entries)

    def _task(self, planned: _Planned) -> ShardTask:
        made = {}
        if self.before is not None:
            for place, entry in enumerate(planned.entries):
                if (known := self.before.get(planned.side, entry.key)) is not None:
                    made[place] = known
        self.reused += len(made)
        return ShardTask(
            side=planned.side,
            ids=tuple(entry.item["id"] for entry in planned.entries),
            keys=tuple(entry.key for entry in planned.entries),
            sources=tuple(entry.source for entry in planned.entries),
            pictures=self._pictures if planned.side == "images" else None,
            encoder=self._encoder,
            bits=self._encoder.bits[-1],
            dim=self._encoder.dim,
            batch_size=self._batch_size,
            output=str(planned.path),
            made=made,
        )

    def complete(self, say: Callable[[str], None] | None = None) -> None:
        """Encode the missing shards in this process, one after another.

        Parameters
        ----------
        say : callable, optional
            Takes a sentence on how long the rest takes, once that is known and worth saying.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        made = 0
        pace = _Pace(self.total, say)
        for planned, done in self._with_done():
            message = f"encoding {planned.side}"
            if _is_whole(planned.path):
                self.resumed += 1
                message = f"{planned.side} already encoded"
            else:
                encode_shard(
                    self._task(planned),
                    lambda batch, done=done, message=message: self._progress(  # type: ignore[misc]
                        done + batch, self.total, message
                    ),
                )
                made += 1
                wb.crash_point(f"index:shard:{made}")
                pace.made(done + len(planned.entries), len(planned.entries))
            self._progress(done + len(planned.entries), self.total, message)

    def read(self, side: str) -> Iterator[ShardRows]:
        """Yield what the shards of a side hold, in order of ids."""
        for planned in self._plan(side):
            with np.load(planned.path, allow_pickle=False) as shard:
                ends = np.cumsum(shard["lengths"])
                thumbnails = shard["thumbnails"].tobytes()
                yield ShardRows(
                    items=[planned.entries[place].item for place in shard["kept"]],
                    codes=shard["codes"],
                    features=shard["features"],
                    thumbnails=[
                        thumbnails[end - length : end]
                        for end, length in zip(ends, shard["lengths"], strict=True)
                    ],
                )

    def problems(self) -> Iterator[tuple[Entry, str]]:
        """Yield the pictures that were left out, with reasons."""
        for planned in self._plan("images"):
            for place, reason in json.loads(self._part(planned, "problems").tobytes()):
                yield planned.entries[place], reason

    @staticmethod
    def _part(planned: _Planned, name: str) -> NDArray[Any]:
        with np.load(planned.path, allow_pickle=False) as shard:
            part: NDArray[Any] = shard[name]
        return part


class _Pace:
    """Says once how long the rest takes, from a timed sample."""

    def __init__(self, total: int, say: Callable[[str], None] | None) -> None:
        self._total = total
        self._say = say
        self._started = time.perf_counter()
        self._count = 0

    def made(self, done: int, count: int) -> None:
        """Take the number of items that are done, and that were made just now."""
        self._count += count
        seconds = time.perf_counter() - self._started
        if self._say is None or seconds < SAMPLE_SECONDS:
            return
        rest = (self._total - done) * seconds / self._count
        if rest >= WORTH_SAYING:
            self._say(
                f"{self._total - done:,} of {self._total:,} pictures and captions are left: "
                f"about {duration(rest)} more, {self._count / seconds:,.1f} per second."
            )
        self._say = None


def _is_whole(path: Path) -> bool:
    try:
        # numpy leaves the file open if it is not an archive, so it is opened here.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as shard:
            for part in _SHARD_PARTS:
                shard[part]  # reading a part checks its CRC
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        path.unlink()
        return False
    return True
