"""Build an index folder from a collection and an encoder.

The folder is published atomically. Work is done in a hidden sibling folder: each shard of items is encoded
and synced to disk before the next, so a killed build resumes where it stopped if collection, model and
settings are the same. At the end the shards are merged into the files described in
:mod:`adapters.vlm_quantization.index.format`, and one rename moves the folder into place.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import itertools
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.codes import Encoder, check_lengths
from adapters.vlm_quantization.index import format as files
from adapters.vlm_quantization.index.entries import (
    Collection,
    SortedEntries,
    caption_entries,
    common_root,
    picture_entries,
)
from adapters.vlm_quantization.index.features import FeatureKind, check_kind
from adapters.vlm_quantization.index.made_before import MADE, Chain, LeftShards, old_index
from adapters.vlm_quantization.index.on_engine import encode_on_engine, forget_stored
from adapters.vlm_quantization.index.portable import EncoderFile
from adapters.vlm_quantization.index.shards import THUMBNAIL_PIXELS, Shards, shard_items
from adapters.vlm_quantization.index.space import check_space, full_disk_named, gives_space_back, least_bytes
from adapters.vlm_quantization.index.writer import IndexWriter, Written

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import OnProgress


#: The message of the progress while the files of the index are written from its shards.
WRITING = "writing the index"

#: Seconds between two looks whether another build of the same index has ended.
_WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read, and why; ``path`` is empty if it is not in a file."""

    id: str
    reason: str
    path: str = ""


@dataclass(frozen=True)
class IndexReport:
    """The result of a build.

    Attributes
    ----------
    path : Path
        The index folder.
    name : str
        Its name.
    images, captions : int
        Number of items on each side.
    skipped : tuple of Skipped
        Skipped pictures; their captions are still indexed.
    size : int
        Bytes on disk.
    resumed : int
        Number of shards reused from a killed build.
    reused : int
        Number of items of other shards that were made before: they were copied, and not encoded.
    seconds : float
        Duration of the build.
    """

    path: Path
    name: str
    images: int
    captions: int
    skipped: tuple[Skipped, ...]
    size: int
    resumed: int
    reused: int
    seconds: float


def build_index(
    indexes: Path,
    collection: Collection,
    encoder: Encoder,
    *,
    name: str,
    title: str = "",
    adapter: str = files.ADAPTER,
    model_file: Path | None = None,
    captions: bool = True,
    batch_size: int = 64,
    features: FeatureKind = "float32",
    progress: OnProgress | None = None,
    provenance: Mapping[str, Any] | None = None,
    engine: str | wb.Engine = "",
    storage: str = "",
    device: str = "",
    say: Callable[[str], None] | None = None,
) -> IndexReport:
    """Build ``indexes / name``, replacing an index of that name only when the new one is complete.

    Parameters
    ----------
    indexes : Path
        The folder that contains one folder per index.
    collection : Collection
        Captioned pictures.
    encoder : Encoder
        Computes the codes and features of both sides.
    name : str
        Name of the folder: letters of any script, digits, ``. _ -``.
    title : str
        Display title. Empty: the collection's name.
    adapter : str
        The adapter that will open the index.
    model_file : Path, optional
        The encoder's checkpoint, copied into the index so that queries can be encoded anywhere.
    captions : bool
        Whether captions are indexed; not with an encoder that knows no words. They are stored with the
        pictures in any case.
    batch_size : int
        Items encoded at a time.
    features : {"float32", "float16", "int8", "none"}
        How float features are stored; without any, there is no cosine.
    progress : callable, optional
        Called as ``progress(done, total, message)``; an exception stops the build, which can be resumed.
    provenance : mapping, optional
        JSON data to store, such as the job and the run.
    engine : str or workbench.Engine
        What encodes the shards: empty for this process, or an address of :func:`workbench.open_engine`. The
        bytes are the same, where processors and packages are.
    storage : str
        With an engine: a folder or URL that all workers see, where shards are kept until the index is
        complete; empty: beside the index.
    device : str
        With an engine: what workers compute on; empty: as the model is opened.
    say : callable, optional
        Takes sentences on what the build needs: a job prints them.

    Raises
    ------
    workbench.BadName
        The name is not a valid folder name.
    workbench.BadInput
        Two items have the same id, the encoder's code lengths are invalid, it returns invalid output (shape,
        unit norm, NaN), no picture is readable, or the kind of features is unknown; or with an engine, its
        address or storage is none, or there is no ``model_file``.
    workbench.TaskFailed
        A shard failed on the engine, or its workers died too often.
    workbench.EngineLost
        The engine cannot be reached.
    workbench.WrongState
        The folder of that name exists and is not an index, or the disk has no room for this one.
    workbench.Busy
        An index of that name is being built by another process, from another collection or with another
        model; or the same index is, and there is no ``progress`` to wait with.
    """
    started = time.perf_counter()
    name = _name_in(Path(indexes), files.check_name(name))
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise wb.BadInput(f"batch_size must be a whole number of at least 1, not {batch_size!r}")
    check_kind(features)
    cuts = check_lengths(encoder.bits, f"the code lengths of {encoder.name!r}")
    final = Path(indexes) / name
    if final.exists() and not (final / files.MANIFEST).is_file():
        raise wb.WrongState(f"{final} exists and is not an index", hint="Choose another name, or move it.")
    settings = _fingerprint(encoder, batch_size)
    fingerprint = _digest(
        settings, collection.fingerprint, model_file and files.sha256_of(model_file), captions, features
    )

    root = common_root(collection)
    Path(indexes).mkdir(parents=True, exist_ok=True)
    work = final.with_name(f".{name}.building-{settings[:12]}")
    with (
        full_disk_named(Path(indexes)),
        SortedEntries(picture_entries(collection, root), Path(indexes)) as pictures,
        SortedEntries(caption_entries(collection, Path(indexes)) if captions else (), Path(indexes)) as texts,
        _name_locked(final, fingerprint, progress),
        _locked(work),
        gives_space_back(work),
    ):
        sides = {"images": pictures, "captions": texts}
        _clear_leftovers(final, keep=settings)
        check_space(work, least_bytes(sides, encoder.dim, cuts[-1], model_file, features), say)
        shards = Shards(work / "shards", collection, encoder, sides, batch_size, progress)
        shards.before = _made_before(final, adapter, encoder, settings, shards)
        wb.crash_point("index:listed")
        if engine:
            opener = EncoderFile(str(_model_for(engine, model_file)), adapter, encoder.fingerprint, device)
            encode_on_engine(shards, engine, opener, progress, storage=storage)
        else:
            shards.complete(say)
        built = work / "index"
        shutil.rmtree(built, ignore_errors=True)
        built.mkdir()
        written = _merge(built, shards, sides, encoder, model_file, features, progress)
        skipped = tuple(
            Skipped(one.item["id"], reason, str(Path(root, path)) if (path := one.item.get("path")) else "")
            for one, reason in shards.problems()
        )
        counts = written.counts
        made = {**(provenance or {}), MADE: settings, **({"root": root} if root else {})}
        wb.crash_point("index:merged")
        about = _about(collection, encoder, (adapter, name, title), model_file, made)
        manifest = files.Manifest(
            **about,
            counts={**counts, "skipped": len(skipped)},
            thresholds=written.thresholds,
            files=written.files,
            features=written.features,
            block_bytes=written.block_bytes,
        )
        with files.synced(built / files.MANIFEST) as out:
            out.write(files.manifest_text(manifest).encode())
        files.sync_folder(built)
        wb.crash_point("index:before-publish")
        files.publish(built, final)
        wb.crash_point("index:after-publish")
        if engine and storage:
            forget_stored(shards, storage)
    with suppress(wb.Busy), _name_locked(final):
        _clear_leftovers(final, keep="")
    return IndexReport(
        path=final,
        name=name,
        images=counts["images"],
        captions=counts["captions"],
        skipped=skipped,
        size=sum(path.stat().st_size for path in final.iterdir()),
        resumed=shards.resumed,
        reused=shards.reused,
        seconds=time.perf_counter() - started,
    )


def _about(
    collection: Collection,
    encoder: Encoder,
    names: tuple[str, str, str],
    model_file: Path | None,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the part of the manifest that is known before anything is encoded."""
    adapter, name, title = names
    return {
        "format": files.FORMAT,
        "adapter": adapter,
        "name": name,
        "title": title or collection.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_bits": encoder.bits[-1],
        "code_cuts": list(encoder.bits),
        "feature_dim": encoder.dim,
        "languages": list(collection.languages),
        "model": {
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "file": _model_name(model_file),
        },
        "data": {"name": collection.name, "fingerprint": collection.fingerprint},
        "credits": list(collection.credits),
        "provenance": dict(provenance),
    }


def _made_before(final: Path, adapter: str, encoder: Encoder, settings: str, shards: Shards) -> Chain:
    """Return what was made before: rows of the old index, and shards of a killed build of other items."""
    left = shards.left()
    old = old_index(final, adapter, encoder, settings, final.parent)
    return Chain([*([old] if old else []), *([LeftShards(left, final.parent)] if left else [])])


def _fingerprint(encoder: Encoder, batch_size: int) -> str:
    """Return a digest of all that determines what is made of an item: shards of another are of no use."""
    return _digest(
        files.FORMAT,
        encoder.fingerprint,
        *encoder.bits,
        encoder.dim,
        shard_items(batch_size),
        THUMBNAIL_PIXELS,
        importlib.metadata.version("Pillow"),
    )


def _digest(*parts: object) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


# --- the folder ---------------------------------------------------------------------------------------------


def _merge(
    built: Path,
    shards: Shards,
    sides: Mapping[str, SortedEntries],
    encoder: Encoder,
    model_file: Path | None,
    features: FeatureKind,
    progress: OnProgress | None,
) -> Written:
    """Write the files of an index from its shards, one shard in memory at a time."""
    with IndexWriter(built, encoder.bits, encoder.dim, features=features) as writer:
        for side in files.SIDES:
            for rows in shards.read(side):
                if progress is not None:  # also so that it can be cancelled
                    progress(shards.total, shards.total, WRITING)
                thumbnails = rows.thumbnails if side == "images" else ()
                writer.add(side, rows.items, rows.codes, rows.features, thumbnails)
        if not writer.counts["images"]:
            first = itertools.islice(shards.problems(), 3)
            reasons = "; ".join(f"{entry.item['id']}: {reason}" for entry, reason in first)
            raise wb.BadInput(f"none of the {len(sides['images'])} pictures is readable. {reasons}".strip())
        if model_file is not None and (model := _model_name(model_file)):
            writer.add_file(model, model_file)
        return writer.finish()


def _model_for(engine: str | wb.Engine, model_file: Path | None) -> Path:
    if model_file is None:
        raise wb.BadInput(
            f"an engine ({engine!r}) needs the file of the model, which workers open",
            hint="Give model_file, or build without an engine.",
        )
    return model_file.absolute()


def _model_name(model_file: Path | None) -> str | None:
    """Return the checkpoint's name in the index; other files of an index have two endings or another stem."""
    return None if model_file is None else files.MODEL + (model_file.suffix or ".bin")


def _name_in(indexes: Path, name: str) -> str:
    """Return a name as an existing index has it, whose name may be stored in another Unicode form."""
    if indexes.is_dir():
        for entry in indexes.iterdir():
            if unicodedata.normalize("NFC", entry.name) == name:
                return entry.name
    return name


@contextmanager
def _name_locked(final: Path, fingerprint: str = "", progress: OnProgress | None = None) -> Iterator[None]:
    """Lock a name, so that of two collections built under it neither replaces the other unseen.

    With ``progress``, wait while another process makes the same build; the wait is shown there, and can be
    cancelled. The lock file holds the fingerprint of the build.
    """
    path = final.with_name(f".{final.name}.lock")
    while True:
        with path.open("a+") as lock:
            if not _take(lock):
                lock.seek(0)
                if progress is None or lock.read() not in ("", fingerprint):  # empty: it has just begun
                    raise wb.Busy(
                        f"index {final.name!r} is being built by another process",
                        retry_after=60,
                        hint="Wait until it ends, or choose another name.",
                    )
                progress(0, 1, "waiting for another build of this index")
                time.sleep(_WAIT_SECONDS)
                continue
            try:
                if os.fstat(lock.fileno()).st_ino != path.stat().st_ino:
                    continue  # the one before has just deleted this file
            except FileNotFoundError:
                continue
            lock.truncate(0)
            lock.write(fingerprint)
            lock.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def _locked(work: Path) -> Iterator[None]:
    """Lock a work folder; it is deleted if the build succeeds, and kept for resuming if it fails."""
    work.mkdir(exist_ok=True)
    try:
        lock = (work / "lock").open("w")
    except FileNotFoundError:  # another build has just finished and deleted it
        raise wb.Busy("this index was just built by another process") from None
    with lock:
        if not _take(lock):
            raise wb.Busy("this index is being built by another process", hint="Wait until it ends.")
        yield
        shutil.rmtree(work, ignore_errors=True)


def _take(lock: io.TextIOWrapper) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock: the user must avoid concurrent builds of one index
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _clear_leftovers(final: Path, *, keep: str) -> None:
    """Restore an index that a crash left aside, and delete the leftovers of dead builds of that name."""
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
                pass  # not in use; leaving the lock deletes it
