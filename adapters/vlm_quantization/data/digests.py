"""Digests of a collection's pictures: each is decoded once, and known again by its file.

They tell broken pictures when a collection is opened, and copies by their pixels.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import workbench as wb
from adapters.vlm_quantization.data.collection import Item, UnusableLine
from adapters.vlm_quantization.data.heads import fault_in_head
from adapters.vlm_quantization.data.pictures import decode_with_digest, opened_ahead, picture_file_digest
from adapters.vlm_quantization.data.stored import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

    from adapters.vlm_quantization.data.collection import OnProgress
    from adapters.vlm_quantization.data.loader import Onlooker


#: A picture modified less than this long ago, in nanoseconds, is decoded again next time.
SETTLED_NS = 2_000_000_000


#: Why a line is left out where others have captions.
NO_CAPTIONS = "no captions: 'captions' must map a language to at least one text"


def decoded(
    items: Sequence[tuple[int, Item]],
    path: Path,
    cache_dir: Path | None,
    progress: OnProgress | None,
    *,
    decode: bool | Onlooker = True,
) -> tuple[list[Item], list[UnusableLine]]:
    """Decode every picture once, to report broken ones now and to have digests to compare.

    If some items have captions, those without are reported too: a model cannot use them. If none has, it is a
    collection of pictures alone.

    Parameters
    ----------
    items : sequence of (int, Item)
        The items, each with the number of its line.
    path : Path
        The collection's file, or any name in the folder of its pictures.
    cache_dir, progress
        As in :func:`adapters.vlm_quantization.data.jsonl.read_jsonl`.
    decode : bool or Onlooker
        Whether to decode; an onlooker is shown the pictures then. If not, the items have no digest, and
        pictures are judged by their first bytes.

    Returns
    -------
    items, problems
        The items that can be used, and the others' lines.
    """
    problems: list[UnusableLine] = []
    if any(item.captions for _, item in items):
        problems = [UnusableLine(number, NO_CAPTIONS) for number, item in items if not item.captions]
        items = [(number, item) for number, item in items if item.captions]
    if not decode:
        faults = [fault_in_head(item.image) for _, item in items]
        problems += [
            UnusableLine(number, f"{item.id}: {fault}")
            for (number, item), fault in zip(items, faults, strict=True)
            if fault
        ]
        return [item for (_, item), fault in zip(items, faults, strict=True) if not fault], problems
    onlooker = None if isinstance(decode, bool) else decode
    if onlooker:
        onlooker.begin(len(items))
    cache = _Digests(path, cache_dir, onlooker)
    kept: list[Item] = []
    try:
        with closing(opened_ahead(cache.look, (item.image for _, item in items), ahead=_AHEAD)) as opened:
            for done, ((number, item), look) in enumerate(zip(items, opened, strict=True)):
                if progress and done % 25 == 0:
                    progress(done, len(items), "opening pictures")
                if isinstance(look, wb.BadInput):
                    problems.append(UnusableLine(number, str(look.message)))
                elif isinstance(look, Exception):
                    raise look
                else:
                    kept.append(replace(item, digest=look.digest))
                    if onlooker and look.picture is not None:
                        onlooker.show(look.digest, look.picture)
    except BaseException:
        cache.save(whole=False)  # the next opening goes on
        raise
    cache.save()
    if progress:
        progress(len(items), len(items), "opening pictures")
    return kept, problems


#: Pictures that are decoded ahead of the one that is used; bounds those in memory.
_AHEAD = 16


class _Look(NamedTuple):
    """The digest of a picture's pixels, and the picture if it was decoded for an onlooker."""

    digest: str
    picture: Image | None = None


class _Digests:
    """Digests of pictures decoded before, by path, size and modification time.

    Parameters
    ----------
    path : Path
        The collection's file.
    cache_dir : Path or None
        Folder of the cache file; None for no cache.
    onlooker : Onlooker or None
        Is shown pictures.
    """

    def __init__(self, path: Path, cache_dir: Path | None, onlooker: Onlooker | None = None) -> None:
        self._onlooker = onlooker
        key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
        self._file = cache_dir / f"pictures-{key}.json" if cache_dir else None
        self._folder = path.parent
        self._opened_ns = time.time_ns()
        self._new: dict[str, list[Any]] = {}
        self._old: dict[str, list[Any]] = {}
        if self._file is not None:
            try:
                self._old = dict(json.loads(self._file.read_bytes()))
            except (OSError, ValueError, TypeError):
                self._old = {}  # no cache, or a damaged one: decode again

    def look(self, image: Picture) -> _Look:
        """Return the digest of a picture's pixels, and the picture if the onlooker is to see it.

        Raises
        ------
        BadInput
            It cannot be decoded.
        """
        if isinstance(image, bytes):
            return self._decoded(image, "")
        file = image if isinstance(image, Path) else image.path
        name = file.relative_to(self._folder).as_posix()
        if not isinstance(image, Path):
            name = f"{name}:{image.name}" if image.name else name
        try:
            status = file.stat()
        except OSError as error:
            raise wb.BadInput(f"{name}: cannot be read ({error.strerror})") from None
        entry = [status.st_size, status.st_mtime_ns]
        old = self._old.get(name)
        known = str(old[2]) if isinstance(old, list) and len(old) == 3 and old[:2] == entry else ""
        wanted = not known or (self._onlooker is not None and self._onlooker.wants(known))
        look = self._decoded(image, name) if wanted else _Look(known)
        # A file modified just now may change again within one clock tick, at the same size.
        if self._opened_ns - status.st_mtime_ns > SETTLED_NS:
            self._new[name] = [*entry, look.digest]
        return look

    def _decoded(self, image: Picture, name: str) -> _Look:
        if self._onlooker is None:
            return _Look(picture_file_digest(image, name=name))
        picture, digest = decode_with_digest(image, name=name)
        return _Look(digest, picture)

    def save(self, *, whole: bool = True) -> None:
        """Save the digests for the next opening; of one that was not whole, with those known before."""
        known = self._new if whole else self._old | self._new
        if self._file is not None and known != self._old:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            wb.write_whole(self._file, json.dumps(known, ensure_ascii=False).encode())
