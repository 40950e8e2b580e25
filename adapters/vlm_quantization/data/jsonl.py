"""A user's own collection: a JSONL file and its pictures, one JSON object per line.

::

    {"image": "pictures/0001.jpg", "captions": {"en": ["a red kite"], "ko": ["빨간 연"]}, "labels": ["kite"]}

``image`` is a path relative to the file's folder and must stay inside it; ``captions`` maps a language to
one or more captions, the first of which is the display name. ``labels``, ``id`` (default: the image's path)
and ``keywords`` (same form as ``captions``) are optional. Pictures with the same captions are one concept:
each is a correct result for those captions, and they are held out together.

An invalid line is skipped and reported with its number; the other lines are still read.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
import unicodedata
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages, Item, UnusableLine, picture_digest
from adapters.vlm_quantization.data.pictures import decode_picture

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import OnProgress


#: A line longer than this many characters is reported, not parsed.
MAX_LINE_CHARACTERS = 1_000_000


#: Threads that decode pictures; Pillow releases the interpreter lock while it decodes.
DECODERS = 2


#: A picture modified less than this long ago, in nanoseconds, is decoded again next time.
SETTLED_NS = 2_000_000_000


_FIELDS = ("image", "captions", "labels", "id", "keywords")


_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class _Refused(Exception):
    """A line is invalid; the message is the reason."""


def _shown(value: object) -> str:
    """Return a value's repr, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"


def read_jsonl(
    path: Path, *, cache_dir: Path | None = None, progress: OnProgress | None = None
) -> CaptionedImages:
    """Read a user's own collection.

    Parameters
    ----------
    path : Path
        The JSONL file: ``{"image", "captions": {"en": [...]}, "labels": [...]}`` per line.
    cache_dir : Path, optional
        Folder that caches the digests of decoded pictures, so that reopening is fast.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while pictures are decoded.

    Raises
    ------
    BadInput
        No line is valid; the message names the first problems.
    """
    items: list[tuple[int, Item]] = []
    problems: list[UnusableLine] = []
    first: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            item = _item(line, path.parent)
            if item.id in first:
                raise _Refused(f"the id {_shown(item.id)} is already used in line {first[item.id]}")
        except _Refused as reason:
            problems.append(UnusableLine(number, str(reason)))
        else:
            first[item.id] = number
            items.append((number, item))
    kept, broken = _decoded(items, path, cache_dir, progress)
    problems = sorted([*problems, *broken], key=lambda problem: problem.line)
    collection = CaptionedImages(path.stem, _with_concepts(kept), problems=problems)
    if not kept:
        summary = collection.problem_summary or "the file has no lines"
        raise wb.BadInput(f"no usable picture in {path}: {summary}", hint=_EXAMPLE)
    return collection


_EXAMPLE = 'A line looks like {"image": "a.jpg", "captions": {"en": ["a red kite"]}, "labels": ["kite"]}'


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, numbered from 1."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield number, line
    except OSError as error:
        raise wb.BadInput(f"{path} cannot be read ({error.strerror or type(error).__name__})") from error


def _item(line: bytes, folder: Path) -> Item:
    """Return the item of a line, its picture not yet opened."""
    if len(line) > MAX_LINE_CHARACTERS:
        raise _Refused(f"{len(line):,} characters; at most {MAX_LINE_CHARACTERS:,} are allowed")
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise _Refused("not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise _Refused(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise _Refused(f"must be an object with 'image' and 'captions', not a {type(row).__name__}")
    unknown = sorted(row.keys() - set(_FIELDS))
    if unknown:
        raise _Refused(f"unknown field {_shown(unknown[0])}; allowed: {', '.join(_FIELDS)}")
    image = _inside(row.get("image"), folder)
    item_id = row.get("id", row.get("image"))
    if not isinstance(item_id, str) or not item_id.strip():
        raise _Refused(f"'id' must be a non-empty string, not {_shown(item_id)}")
    captions = _texts(row, "captions")
    if not captions:
        raise _Refused("no captions: 'captions' must map a language to at least one text")
    labels = row.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise _Refused(f"'labels' must be a list of strings, not {_shown(labels)}")
    item_id = unicodedata.normalize("NFC", item_id.strip())
    return Item(
        id=item_id,
        concept=item_id,
        captions=captions,
        image=image,
        keywords=_texts(row, "keywords"),
        labels=tuple(dict.fromkeys(label.strip() for label in labels if label.strip())),
    )


def _inside(value: Any, folder: Path) -> Path:
    """Return the picture's path, which must stay inside the folder, also through symlinks."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise _Refused(f"'image' must be the path of a picture, not {_shown(value)}")
    path = folder / value
    try:
        inside = not Path(value).is_absolute() and path.resolve().is_relative_to(folder.resolve())
        exists = inside and path.is_file()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise _Refused(f"the path {_shown(value)} cannot be used ({reason})") from None
    if not inside:
        raise _Refused(f"the path {_shown(value)} is outside the collection's folder")
    if not exists:
        raise _Refused(f"no such file: {_shown(value)}")
    return path


def _texts(row: Mapping[str, Any], field: str) -> dict[str, tuple[str, ...]]:
    """Return texts by language, without blank texts and without languages that have no text."""
    value = row.get(field, {})
    if not isinstance(value, dict):
        raise _Refused(f"{field!r} must map a language to a list of strings, not {_shown(value)}")
    out = {}
    for language, texts in value.items():
        if not _LANGUAGE.fullmatch(language):
            raise _Refused(f"{_shown(language)} in {field!r} is not a language tag such as 'en' or 'ko'")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise _Refused(f"{field!r} of {_shown(language)} must be a list of strings, not {_shown(texts)}")
        kept = dict.fromkeys(unicodedata.normalize("NFC", text.strip()) for text in texts if text.strip())
        if kept:
            out[language] = tuple(kept)
    return out


def _with_concepts(items: list[Item]) -> list[Item]:
    """Assign one concept to pictures with equal captions: the id of the first of them."""
    first: dict[tuple[tuple[str, tuple[str, ...]], ...], str] = {}
    return [
        replace(item, concept=first.setdefault(tuple(sorted(item.captions.items())), item.id))
        for item in items
    ]


def _decoded(
    items: list[tuple[int, Item]], path: Path, cache_dir: Path | None, progress: OnProgress | None
) -> tuple[list[Item], list[UnusableLine]]:
    """Decode every picture once, to report broken ones now and to have digests to compare."""
    cache = _DigestCache(path, cache_dir)
    kept: list[Item] = []
    problems: list[UnusableLine] = []
    with ThreadPoolExecutor(DECODERS) as pool:
        digests = pool.map(cache.digest, [item.image for _, item in items])
        for done, ((number, item), digest) in enumerate(zip(items, digests, strict=True)):
            if progress and done % 25 == 0:
                progress(done, len(items), "opening pictures")
            if isinstance(digest, wb.BadInput):
                problems.append(UnusableLine(number, str(digest.message)))
            else:
                kept.append(replace(item, digest=digest))
    cache.save()
    if progress:
        progress(len(items), len(items), "opening pictures")
    return kept, problems


class _DigestCache:
    """Digests of pictures decoded before, by path, size and modification time.

    Parameters
    ----------
    path : Path
        The collection's file.
    cache_dir : Path or None
        Folder of the cache file; None for no cache.
    """

    def __init__(self, path: Path, cache_dir: Path | None) -> None:
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

    def digest(self, image: bytes | Path) -> str | wb.BadInput:
        """Return the digest of a picture's pixels, or the error if it cannot be decoded."""
        if isinstance(image, bytes):
            return picture_digest(decode_picture(image))
        name = image.relative_to(self._folder).as_posix()
        try:
            status = image.stat()
            entry = [status.st_size, status.st_mtime_ns]
            old = self._old.get(name)
            known = isinstance(old, list) and len(old) == 3 and old[:2] == entry
            digest = str(old[2]) if known and old else picture_digest(decode_picture(image, name=name))
        except wb.BadInput as error:
            return error
        except OSError as error:
            return wb.BadInput(f"{name}: cannot be read ({error.strerror})")
        # A file modified just now may change again within one clock tick, at the same size.
        if self._opened_ns - status.st_mtime_ns > SETTLED_NS:
            self._new[name] = [*entry, digest]
        return digest

    def save(self) -> None:
        """Save the digests for the next opening."""
        if self._file is not None and self._new != self._old:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            wb.write_whole(self._file, json.dumps(self._new, ensure_ascii=False).encode())
