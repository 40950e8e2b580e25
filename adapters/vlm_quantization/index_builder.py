"""Build an index folder from a collection and an encoder.

The folder appears whole or not at all. Work is done in a hidden folder beside the final one: each shard of
items is encoded and put on the disk before the next, so a build that was killed goes on where it was, as long
as collection, model and settings are the same. At the end the shards are poured into the files that
:mod:`adapters.vlm_quantization.index_files` describes, and one rename puts the folder in its place.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

import workbench as wb
from adapters.vlm_quantization import index_files as files
from adapters.vlm_quantization.codes import CODE_BITS, CODE_LENGTHS, Encoded, Encoder

if TYPE_CHECKING:
    from PIL.Image import Image

#: Longest side of a thumbnail, in pixels.
THUMBNAIL_PIXELS = 128

#: A shard holds at least this many items: enough to make its fsync cheap, few enough to lose little.
SHARD_ITEMS = 256

#: An item counts as near a query when only this share of unrelated pairs is as near.
UNRELATED_TAIL = 1e-3

#: Items drawn from each side to measure how near unrelated pairs are, and the fewest pairs that say anything.
UNRELATED_SAMPLE = 1_000
UNRELATED_PAIRS_MIN = 10_000


class CollectionItem(Protocol):
    """What is read of one picture of a collection."""

    id: str
    concept: str
    captions: Mapping[str, Sequence[str]]
    labels: Sequence[str]
    style: str
    group: str
    flag: bool


class Collection(Protocol):
    """What is read of a collection of captioned pictures."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def items(self) -> Sequence[Any]:
        """What is read of each picture, as :class:`CollectionItem`."""

    @property
    def languages(self) -> Sequence[str]:
        """Language tags of the captions."""

    @property
    def credits(self) -> Sequence[str]:
        """Attributions that have to be shown with the pictures."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex): equal only for equal collections."""

    def open(self, i: int, /) -> Image:
        """Open picture ``i`` as RGB."""


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class IndexReport:
    """What a build made.

    Attributes
    ----------
    path : Path
        The index folder.
    name : str
        Its name.
    images, captions : int
        Items on each side.
    skipped : tuple of Skipped
        Pictures left out; their captions are indexed all the same.
    size : int
        Bytes on disk.
    resumed : int
        Shards taken over from a build that was killed.
    seconds : float
        How long it took.
    """

    path: Path
    name: str
    images: int
    captions: int
    skipped: tuple[Skipped, ...]
    size: int
    resumed: int
    seconds: float


Progress = Callable[[float, float, str], None]


def build_index(
    indexes: Path,
    collection: Collection,
    encoder: Encoder,
    *,
    name: str,
    title: str = "",
    model_file: Path | None = None,
    batch_size: int = 64,
    progress: Progress | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> IndexReport:
    """Build ``indexes / name``, replacing an index of that name only when the new one is whole.

    Parameters
    ----------
    indexes : Path
        The folder that holds one folder an index.
    collection : Collection
        Captioned pictures.
    encoder : Encoder
        Makes the codes and features of both sides.
    name : str
        Name of the folder: letters of any script, digits, ``. _ -``.
    title : str
        Shown to people; the collection's name if empty.
    model_file : Path, optional
        The checkpoint behind the encoder, copied into the index so that queries can be encoded anywhere.
    batch_size : int
        Items encoded at a time.
    progress : callable, optional
        Called as ``progress(done, total, message)``; what it raises stops the build, which can be resumed.
    provenance : mapping, optional
        Plain JSON to remember: the job, the run.

    Raises
    ------
    workbench.BadName
        The name cannot name a folder.
    workbench.BadInput
        Items of one id, an encoder that breaks its promises (shape, unit norm, NaN), or no readable picture.
    workbench.WrongState
        What stands at that name is not an index.
    workbench.Busy
        The same index is being built by another process.
    """
    started = time.perf_counter()
    files.check_name(name)
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise wb.BadInput(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
    final = Path(indexes) / name
    if final.exists() and not (final / files.MANIFEST).is_file():
        raise wb.WrongState(f"{final} is there and is not an index", hint="Choose another name, or move it.")
    sides = {"images": _images(collection), "captions": _captions(collection)}
    fingerprint = _fingerprint(collection, encoder, model_file, batch_size, sides)

    Path(indexes).mkdir(parents=True, exist_ok=True)
    _clear_leftovers(final, keep=fingerprint)
    work = final.with_name(f".{name}.building-{fingerprint[:12]}")
    with _locked(work):
        shards = _Shards(work / "shards", collection, encoder, sides, batch_size, progress)
        shards.complete()
        built = work / "index"
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir()
        seals = _pour(built, shards, sides, encoder.dim, model_file)
        skipped = tuple(Skipped(**problem) for problem in shards.problems())
        counts = {side: shards.count(side) for side in files.SIDES}
        about = _about(collection, encoder, name, title, model_file, provenance)
        manifest = files.Manifest(
            **about,
            counts={**counts, "skipped": len(skipped)},
            thresholds=_thresholds(built, shards),
            files=seals,
        )
        with files.sealed(built / files.MANIFEST) as out:
            out.write(files.manifest_text(manifest).encode())
        files.sync_folder(built)
        files.crash_point("index:before-publish")
        files.publish(built, final)
        files.crash_point("index:after-publish")
    _clear_leftovers(final, keep="")
    return IndexReport(
        path=final,
        name=name,
        images=counts["images"],
        captions=counts["captions"],
        skipped=skipped,
        size=sum(path.stat().st_size for path in final.iterdir()),
        resumed=shards.resumed,
        seconds=time.perf_counter() - started,
    )


def _about(
    collection: Collection,
    encoder: Encoder,
    name: str,
    title: str,
    model_file: Path | None,
    provenance: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the part of the manifest that is known before anything is encoded."""
    return {
        "format": files.FORMAT,
        "adapter": files.ADAPTER,
        "name": name,
        "title": title or collection.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_bits": CODE_BITS,
        "code_lengths": list(CODE_LENGTHS),
        "feature_dim": encoder.dim,
        "languages": list(collection.languages),
        "model": {
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "file": files.MODEL if model_file else None,
        },
        "data": {"name": collection.name, "fingerprint": collection.fingerprint},
        "credits": list(collection.credits),
        "provenance": dict(provenance or {}),
    }


# --- what is indexed ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """An item to index: what is stored of it, and what is encoded (a picture's number, or a text)."""

    item: dict[str, Any]
    source: Any


def _sorted_by_id(entries: list[_Entry]) -> list[_Entry]:
    entries.sort(key=lambda entry: entry.item["id"])
    for one, other in itertools.pairwise(entries):
        if one.item["id"] == other.item["id"]:
            raise wb.BadInput(f"two items have the id {one.item['id']!r}; ids must be unique")
    return entries


def _first_names(item: CollectionItem, languages: Sequence[str]) -> list[str]:
    return [item.captions[language][0] for language in languages if item.captions.get(language)]


def _images(collection: Collection) -> list[_Entry]:
    entries = []
    for i, item in enumerate(collection.items):
        caption, subtitle, *_ = [*_first_names(item, collection.languages), "", ""]
        entries.append(
            _Entry(
                {
                    "id": item.id,
                    "concept": item.concept,
                    "caption": caption,
                    "subtitle": subtitle,
                    "captions": {language: list(names) for language, names in item.captions.items()},
                    "labels": list(item.labels),
                    "style": item.style,
                    "group": item.group,
                    "flag": bool(item.flag),
                },
                i,
            )
        )
    return _sorted_by_id(entries)


def _captions(collection: Collection) -> list[_Entry]:
    """Return one entry a distinct text of a concept, whatever the number of its drawings."""
    entries = []
    seen: set[tuple[str, str]] = set()
    numbers: dict[tuple[str, str], int] = {}
    for item in collection.items:
        for language in collection.languages:
            for text in item.captions.get(language, ()):
                if (item.concept, text) in seen:
                    continue
                seen.add((item.concept, text))
                number = numbers.get((item.concept, language), 0)
                numbers[item.concept, language] = number + 1
                others = [other for other in collection.languages if other != language]
                entries.append(
                    _Entry(
                        {
                            "id": f"{item.concept}:{language}:{number}",
                            "concept": item.concept,
                            "caption": text,
                            "subtitle": next(iter(_first_names(item, others)), ""),
                            "language": language,
                        },
                        text,
                    )
                )
    return _sorted_by_id(entries)


def _fingerprint(
    collection: Collection,
    encoder: Encoder,
    model_file: Path | None,
    batch_size: int,
    sides: Mapping[str, Sequence[_Entry]],
) -> str:
    """Digest all that decides what is in the shards."""
    digest = hashlib.sha256()
    for part in (
        files.FORMAT,
        collection.fingerprint,
        encoder.fingerprint,
        model_file and files.sha256_of(model_file),
        _shard_items(batch_size),
        THUMBNAIL_PIXELS,
        *(len(entries) for entries in sides.values()),
    ):
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


# --- shards -------------------------------------------------------------------------------------------------


def _shard_items(batch_size: int) -> int:
    """Return how many items a shard holds: whole batches, so that resuming changes no batch."""
    return max(1, -(-SHARD_ITEMS // batch_size)) * batch_size


_SHARD_PARTS = ("codes", "features", "kept", "thumbnails", "lengths", "problems")


class _Shards:
    """The encoded parts of an index under construction, each a file of its own."""

    def __init__(
        self,
        folder: Path,
        collection: Collection,
        encoder: Encoder,
        sides: Mapping[str, list[_Entry]],
        batch_size: int,
        progress: Progress | None,
    ) -> None:
        self._folder = folder
        self._collection = collection
        self._encoder = encoder
        self._sides = sides
        self._batch_size = batch_size
        self._progress = progress or (lambda done, total, message: None)
        self.resumed = 0

    def _plan(self) -> Iterator[tuple[str, Path, int, int]]:
        size = _shard_items(self._batch_size)
        for side, entries in self._sides.items():
            for number, start in enumerate(range(0, len(entries), size)):
                path = self._folder / f"{side}-{number:05d}.npz"
                yield side, path, start, min(start + size, len(entries))

    def complete(self) -> None:
        """Encode what is not there yet."""
        self._folder.mkdir(parents=True, exist_ok=True)
        total = sum(len(entries) for entries in self._sides.values())
        done = made = 0
        for side, path, start, stop in self._plan():
            if self._is_whole(path):
                self.resumed += 1
                self._progress(done + stop - start, total, f"{side} encoded before")
            else:
                self._make(side, path, start, stop, done, total)
                made += 1
                files.crash_point(f"index:shard:{made}")
            done += stop - start

    @staticmethod
    def _is_whole(path: Path) -> bool:
        try:
            # numpy leaves the file open when it turns out to be no archive, so it is opened here.
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
        for at in range(start, stop, self._batch_size):
            self._progress(done + at - start, total, f"encoding {side}")
            rows: Sequence[int] = range(at, min(at + self._batch_size, stop))
            if side == "images":
                rows, pictures = self._open(rows, problems)
                thumbnails += map(_thumbnail, pictures)
                encoded = self._encoder.encode_images(pictures) if pictures else None
            else:
                encoded = self._encoder.encode_texts([self._sides[side][row].source for row in rows])
            if encoded is not None:
                _check_encoded(encoded, self._encoder, [self._sides[side][row].item["id"] for row in rows])
                codes.append(encoded.codes)
                features.append(np.asarray(encoded.features, np.float32))
                kept += rows
        data = io.BytesIO()
        np.savez(
            data,
            codes=np.concatenate([np.empty((0, CODE_BITS // 8), np.uint8), *codes]),
            features=np.concatenate([np.empty((0, self._encoder.dim), np.float32), *features]),
            kept=np.array(kept, np.int64),
            thumbnails=np.frombuffer(b"".join(thumbnails), np.uint8),
            lengths=np.array([len(picture) for picture in thumbnails], np.int64),
            problems=np.frombuffer(json.dumps(problems).encode(), np.uint8),
        )
        files.write_atomically(path, data.getvalue())
        self._progress(done + stop - start, total, f"encoding {side}")

    def _open(self, rows: Sequence[int], problems: list[dict[str, str]]) -> tuple[list[int], list[Image]]:
        """Open pictures; one that cannot be read becomes a problem and no more."""
        opened, pictures = [], []
        for row in rows:
            entry = self._sides["images"][row]
            try:
                pictures.append(self._collection.open(entry.source))
            except Exception as error:  # decoders raise anything from OSError to SyntaxError
                problems.append({"id": entry.item["id"], "reason": f"{type(error).__name__}: {error}"})
            else:
                opened.append(row)
        return opened, pictures

    def read(self, side: str, key: str) -> Iterator[NDArray[Any]]:
        """Yield one part of every shard of a side, in order."""
        for of, path, _, _ in self._plan():
            if of == side:
                with np.load(path, allow_pickle=False) as shard:
                    yield shard[key]

    def count(self, side: str) -> int:
        """Return how many items of a side were encoded."""
        return sum(len(kept) for kept in self.read(side, "kept"))

    def kept(self, side: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a side that were encoded, in order of rows."""
        for rows in self.read(side, "kept"):
            for row in rows:
                yield self._sides[side][row].item

    def problems(self) -> list[dict[str, str]]:
        """Return the pictures that were skipped, with reasons."""
        return [problem for part in self.read("images", "problems") for problem in json.loads(part.tobytes())]


def _thumbnail(picture: Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    data = io.BytesIO()
    small.save(data, "WEBP", quality=85, method=0)  # four times as fast as the default, a little larger
    return data.getvalue()


def _check_encoded(encoded: Encoded, encoder: Encoder, ids: Sequence[str]) -> None:
    """Refuse what an encoder must not return before it reaches the disk."""
    codes, features = np.asarray(encoded.codes), np.asarray(encoded.features)
    if codes.dtype != np.uint8 or codes.shape != (len(ids), CODE_BITS // 8):
        raise wb.BadInput(
            f"encoder {encoder.name!r} returned codes {codes.dtype} {codes.shape} for {len(ids)} items; "
            f"they must be uint8 ({len(ids)}, {CODE_BITS // 8})"
        )
    if features.dtype.kind != "f" or features.shape != (len(ids), encoder.dim):
        raise wb.BadInput(
            f"encoder {encoder.name!r} returned features {features.dtype} {features.shape} for {len(ids)} "
            f"items; they must be float ({len(ids)}, {encoder.dim})"
        )
    # A NaN fails the comparison, so one check finds it, infinity, and a wrong norm.
    norms = np.linalg.norm(features.astype(np.float64), axis=1)
    bad = [item_id for item_id, unit in zip(ids, np.abs(norms - 1) < 1e-2, strict=True) if not unit]
    if bad:
        raise wb.BadInput(
            f"encoder {encoder.name!r} returned features that are not finite or not of unit norm for "
            f"{len(bad)} items, the first is {bad[0]!r}"
        )


# --- the folder ---------------------------------------------------------------------------------------------


def _pour(
    built: Path,
    shards: _Shards,
    sides: Mapping[str, Sequence[_Entry]],
    dim: int,
    model_file: Path | None,
) -> dict[str, files.FileSeal]:
    """Write the files of an index from its shards, one shard in memory at a time."""
    seals: dict[str, files.FileSeal] = {}
    for side in files.SIDES:
        n = shards.count(side)
        if not n and side == "images":
            reasons = "; ".join(f"{p['id']}: {p['reason']}" for p in shards.problems()[:3])
            raise wb.BadInput(f"none of the {len(sides[side])} pictures can be read. {reasons}".strip())
        name = files.codes_file(side)
        parts = shards.read(side, "codes")
        seals[name] = files.write_rows(built / name, parts, (n, CODE_BITS // 8), np.uint8)
        name = files.features_file(side)
        seals[name] = files.write_rows(built / name, shards.read(side, "features"), (n, dim), np.float32)
        name = files.items_file(side)
        seals[name] = files.write_lines(built / name, shards.kept(side))
    with files.sealed(built / files.THUMBNAILS) as out:
        for part in shards.read("images", "thumbnails"):
            out.write(part.tobytes())
    seals[files.THUMBNAILS] = out.seal
    lengths = np.concatenate(list(shards.read("images", "lengths")))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    seals[files.THUMBNAIL_OFFSETS] = files.write_rows(
        built / files.THUMBNAIL_OFFSETS, [offsets], offsets.shape, np.int64
    )
    if model_file is not None:
        with model_file.open("rb") as source, files.sealed(built / files.MODEL) as out:
            shutil.copyfileobj(source, out)
        seals[files.MODEL] = out.seal
    return seals


def _thresholds(built: Path, shards: _Shards) -> dict[str, dict[str, float | None]]:
    """Measure how near unrelated items are, for each pair of sides, length and method.

    Items of different concepts count as unrelated. The threshold of a length is the largest distance within
    which at most :data:`UNRELATED_TAIL` of the pairs lie (-1: even equal codes are commoner than that);
    for cosine it is the score that as many exceed.
    """
    random = np.random.default_rng(0)
    drawn: dict[str, tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.str_]]] = {}
    for side in files.SIDES:
        concepts = np.array([item["concept"] for item in shards.kept(side)], dtype=str)
        rows = np.sort(random.permutation(len(concepts))[:UNRELATED_SAMPLE])
        codes = files.open_rows(built / files.codes_file(side))[rows]
        features = files.open_rows(built / files.features_file(side))[rows]
        drawn[side] = codes, features, concepts[rows]
    out: dict[str, dict[str, float | None]] = {}
    for one, other in (("images", "images"), ("captions", "images"), ("captions", "captions")):
        (codes, features, concepts), (codes2, features2, concepts2) = drawn[one], drawn[other]
        unrelated = concepts[:, None] != concepts2
        pairs = int(unrelated.sum())
        tails: dict[str, float | None] = dict.fromkeys([*map(str, CODE_LENGTHS), "cosine"])
        if pairs >= UNRELATED_PAIRS_MIN:
            distances = np.bitwise_count(codes[:, None, :] ^ codes2).cumsum(axis=2, dtype=np.uint8)
            for length in CODE_LENGTHS:
                counts = np.bincount(distances[:, :, length // 8 - 1][unrelated], minlength=length + 1)
                within = counts.cumsum() <= UNRELATED_TAIL * pairs
                tails[str(length)] = float(within.sum() - 1)
            scores = (features @ features2.T)[unrelated]
            tails["cosine"] = float(np.quantile(scores, 1 - UNRELATED_TAIL))
        out[files.pair_key(one, other)] = tails
    return out


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Hold a work folder alone; it is deleted when the build ends well, kept to resume when it does not."""
    work.mkdir(exist_ok=True)
    try:
        lock = (work / "lock").open("w")
    except FileNotFoundError:  # its builder ended and deleted it a moment ago
        raise wb.Busy(f"{work.name}: this index was just built by another process") from None
    with lock:
        if not _take(lock):
            raise wb.Busy(
                f"{work.name}: this index is being built by another process", hint="Wait for it to end."
            )
        yield
        shutil.rmtree(work, ignore_errors=True)


def _take(lock: io.TextIOWrapper) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows: two builds of one index at once are the user's to avoid
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _clear_leftovers(final: Path, *, keep: str) -> None:
    """Bring back an index that a crash left aside, and delete what dead builds of that name left."""
    old = files.aside(final)
    if old.exists():
        if final.exists():
            shutil.rmtree(old)
        else:
            old.rename(final)
    ours = re.compile(re.escape(f".{final.name}.building-") + "[0-9a-f]{12}")
    for work in final.parent.glob(f".{final.name}.building-*"):
        if ours.fullmatch(work.name) and not (keep and work.name.endswith(keep[:12])):
            with suppress(wb.Busy), _locked(work):
                pass  # nobody is at it, and leaving deletes it
