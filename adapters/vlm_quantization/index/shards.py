"""Shards of an index under construction, so that a killed build resumes where it stopped."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization.codes import Encoded, Encoder
from adapters.vlm_quantization.data.pictures import opened_ahead
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.entries import Collection, Entry

if TYPE_CHECKING:
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import OnProgress


#: Longest side of a thumbnail, in pixels.
THUMBNAIL_PIXELS = 128


#: Minimum number of items per shard: enough to amortise its fsync, few enough to lose little work.
SHARD_ITEMS = 256


# --- shards -------------------------------------------------------------------------------------------------


def shard_items(batch_size: int) -> int:
    """Return the number of items per shard: whole batches, so that resuming does not change any batch."""
    return max(1, -(-SHARD_ITEMS // batch_size)) * batch_size


_SHARD_PARTS = ("codes", "features", "kept", "thumbnails", "lengths", "problems")


class Part(NamedTuple):
    """The items of one shard: what is stored of them, codes, features, and thumbnails of pictures."""

    items: list[dict[str, Any]]
    codes: NDArray[np.uint8]
    features: NDArray[np.float32]
    thumbnails: list[bytes]


class Shards:
    """The encoded parts of an index under construction, one file each."""

    def __init__(
        self,
        folder: Path,
        collection: Collection,
        encoder: Encoder,
        sides: Mapping[str, list[Entry]],
        batch_size: int,
        progress: OnProgress | None,
    ) -> None:
        self._folder = folder
        self._collection = collection
        self._encoder = encoder
        self._sides = sides
        self._batch_size = batch_size
        self._progress = progress or (lambda done, total, message: None)
        self.resumed = 0

    def _plan(self) -> Iterator[tuple[str, Path, int, int]]:
        size = shard_items(self._batch_size)
        for side, entries in self._sides.items():
            for number, start in enumerate(range(0, len(entries), size)):
                path = self._folder / f"{side}-{number:05d}.npz"
                yield side, path, start, min(start + size, len(entries))

    def complete(self) -> None:
        """Encode the missing shards."""
        self._folder.mkdir(parents=True, exist_ok=True)
        total = sum(len(entries) for entries in self._sides.values())
        done = made = 0
        for side, path, start, stop in self._plan():
            if self._is_whole(path):
                self.resumed += 1
                self._progress(done + stop - start, total, f"{side} already encoded")
            else:
                self._make(side, path, start, stop, done, total)
                made += 1
                wb.crash_point(f"index:shard:{made}")
            done += stop - start

    @staticmethod
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

    def _make(self, side: str, path: Path, start: int, stop: int, done: int, total: int) -> None:
        codes: list[NDArray[np.uint8]] = []
        features: list[NDArray[np.float32]] = []
        kept: list[int] = []
        thumbnails: list[bytes] = []
        problems: list[dict[str, str]] = []
        sources = [self._sides[side][row].source for row in range(start, stop)]
        opened = opened_ahead(self._collection.open, sources if side == "images" else [])
        for at in range(start, stop, self._batch_size):
            self._progress(done + at - start, total, f"encoding {side}")
            rows: Sequence[int] = range(at, min(at + self._batch_size, stop))
            if side == "images":
                rows, pictures = self._pictures(rows, opened, problems)
                thumbnails += map(thumbnail_of, pictures)
                encoded = self._encoder.encode_images(pictures) if pictures else None
            else:
                encoded = self._encoder.encode_texts(sources[at - start : at - start + len(rows)])
            if encoded is not None:
                _check_encoded(encoded, self._encoder, [self._sides[side][row].item["id"] for row in rows])
                codes.append(encoded.codes)
                features.append(np.asarray(encoded.features, np.float32))
                kept += rows
        data = io.BytesIO()
        np.savez(
            data,
            codes=np.concatenate([np.empty((0, self._encoder.bits[-1] // 8), np.uint8), *codes]),
            features=np.concatenate([np.empty((0, self._encoder.dim), np.float32), *features]),
            kept=np.array(kept, np.int64),
            thumbnails=np.frombuffer(b"".join(thumbnails), np.uint8),
            lengths=np.array([len(picture) for picture in thumbnails], np.int64),
            problems=np.frombuffer(json.dumps(problems).encode(), np.uint8),
        )
        files.write_atomically(path, data.getvalue())
        self._progress(done + stop - start, total, f"encoding {side}")

    def _pictures(
        self, rows: Sequence[int], opened: Iterator[Image | Exception], problems: list[dict[str, str]]
    ) -> tuple[list[int], list[Image]]:
        """Take the pictures of some rows; an unreadable one is skipped and added to the problems."""
        kept, pictures = [], []
        for row, picture in zip(rows, itertools.islice(opened, len(rows)), strict=True):
            if isinstance(picture, wb.BadInput):
                problems.append({"id": self._sides["images"][row].item["id"], "reason": picture.message})
            elif isinstance(picture, Exception):
                reason = f"{type(picture).__name__}: {picture}"
                problems.append({"id": self._sides["images"][row].item["id"], "reason": reason})
            else:
                kept.append(row)
                pictures.append(picture)
        return kept, pictures

    def read(self, side: str, key: str) -> Iterator[NDArray[Any]]:
        """Yield one part of every shard of a side, in order."""
        for of, path, _, _ in self._plan():
            if of == side:
                with np.load(path, allow_pickle=False) as shard:
                    yield shard[key]

    def parts(self, side: str) -> Iterator[Part]:
        """Yield the encoded items of a side, shard by shard, in order of rows."""
        for of, path, _, _ in self._plan():
            if of == side:
                with np.load(path, allow_pickle=False) as shard:
                    data, ends = shard["thumbnails"].tobytes(), np.cumsum(shard["lengths"]).tolist()
                    yield Part(
                        [self._sides[side][row].item for row in shard["kept"]],
                        shard["codes"],
                        shard["features"],
                        [data[start:end] for start, end in itertools.pairwise([0, *ends])],
                    )

    def problems(self) -> list[dict[str, str]]:
        """Return the pictures that were skipped, with reasons."""
        return [problem for part in self.read("images", "problems") for problem in json.loads(part.tobytes())]


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
