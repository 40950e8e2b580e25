"""Digests of a collection's pictures: each is decoded once, and known again by its file.

They tell broken pictures when a collection is opened, and copies by their pixels.
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import workbench as wb
from adapters.vlm_quantization.data.collection import Item, UnusableLine
from adapters.vlm_quantization.data.digest_cache import DigestCache
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


#: The message of the progress while pictures are decoded.
OPENING = "opening pictures"


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
    captions = sum(bool(item.captions) for _, item in items)
    total = captions or len(items)
    kept: list[Item] = []
    problems: list[UnusableLine] = []
    for _, one in each_decoded(items, total, path, cache_dir, progress, decode=decode, captions=captions > 0):
        if isinstance(one, UnusableLine):
            problems.append(one)
        else:
            kept.append(one)
    return kept, problems


def each_decoded(
    items: Iterable[tuple[int, Item]],
    total: int,
    path: Path,
    cache_dir: Path | None,
    progress: OnProgress | None,
    *,
    decode: bool | Onlooker,
    captions: bool,
) -> Iterator[tuple[int, Item | UnusableLine]]:
    """Yield the items as :func:`decoded` returns them, each with its line; some are decoded ahead.

    Parameters
    ----------
    items : iterable of (int, Item)
    total : int
        Number of items that are decoded, for the progress.
    path, cache_dir, progress, decode
        As in :func:`decoded`.
    captions : bool
        Whether items without captions are problems.
    """
    usable: deque[tuple[int, Item | UnusableLine]] = deque()
    if not decode:
        for number, item in items:
            if captions and not item.captions:
                yield number, UnusableLine(number, NO_CAPTIONS)
            elif fault := fault_in_head(item.image):
                yield number, UnusableLine(number, f"{item.id}: {fault}")
            else:
                yield number, item
        return
    onlooker = None if isinstance(decode, bool) else decode
    if onlooker:
        onlooker.begin(total)

    def images() -> Iterator[Picture]:
        for number, item in items:
            if captions and not item.captions:
                usable.append((number, UnusableLine(number, NO_CAPTIONS)))
            else:
                usable.append((number, item))
                yield item.image

    with (
        _Digests(path, cache_dir, onlooker) as cache,
        closing(opened_ahead(cache.look, images(), ahead=_AHEAD)) as opened,
    ):
        for done, look in enumerate(opened):
            if progress and done % 25 == 0:
                progress(done, total, OPENING)
            number, one = usable.popleft()
            while isinstance(one, UnusableLine):
                yield number, one
                number, one = usable.popleft()
            if isinstance(look, wb.BadInput):
                yield number, UnusableLine(number, str(look.message))
            elif isinstance(look, Exception):
                raise look
            else:
                yield number, replace(one, digest=look.digest)
                if onlooker and look.picture is not None:
                    onlooker.show(look.digest, look.picture)
    yield from usable
    if progress:
        progress(total, total, OPENING)


#: Pictures that are decoded ahead of the one that is used; bounds those in memory.
_AHEAD = 16


class _Look(NamedTuple):
    """The digest of a picture's pixels, and the picture if it was decoded for an onlooker."""

    digest: str
    picture: Image | None = None


class _Digests:
    """Digests of pictures, decoded now or before; a context manager, which keeps them.

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
        self._cache = DigestCache(cache_dir / f"pictures-{key}.sqlite" if cache_dir else None)
        if cache_dir:
            with suppress(OSError):  # of versions before this one
                (cache_dir / f"pictures-{key}.json").unlink(missing_ok=True)
        self._folder = path.parent
        self._opened_ns = time.time_ns()

    def __enter__(self) -> _Digests:
        self._cache.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cache.__exit__(kind, error, trace)

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
        known = self._cache.get(name, status.st_size, status.st_mtime_ns)
        wanted = not known or (self._onlooker is not None and self._onlooker.wants(known))
        look = self._decoded(image, name) if wanted else _Look(known)
        # A file modified just now may change again within one clock tick, at the same size.
        if look.digest != known and self._opened_ns - status.st_mtime_ns > SETTLED_NS:
            self._cache.put(name, status.st_size, status.st_mtime_ns, look.digest)
        return look

    def _decoded(self, image: Picture, name: str) -> _Look:
        if self._onlooker is None:
            return _Look(picture_file_digest(image, name=name))
        picture, digest = decode_with_digest(image, name=name)
        return _Look(digest, picture)
