"""A user's own collection: one JSON object a line, pictures beside the file.

::

    {"image": "pictures/0001.jpg", "captions": {"en": ["a red kite"], "ko": ["빨간 연"]}, "labels": ["kite"]}

``image`` is a path relative to the file's folder and has to stay inside it; ``captions`` maps a language
to one or more captions, the first being the name people see; ``labels`` is optional. Optional too are
``id`` (by default the image's path) and ``keywords`` (as ``captions``). Pictures with the same captions
are one concept: each is a right answer to those captions, and they are held out together.

A line that cannot be used is reported with its number and left out; the rest is read all the same.
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
from adapters.vlm_quantization.data.collection import CaptionedImages, Item, Problem, picture_digest
from adapters.vlm_quantization.data.pictures import decode_picture

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import Progress


#: A line longer than this many characters is reported, not parsed.
MAX_LINE_CHARACTERS = 1_000_000


#: Threads that decode pictures; Pillow lets go of the interpreter lock while it decodes.
DECODERS = 2


#: A picture that was changed less than this long ago, in nanoseconds, is decoded again next time.
SETTLED_NS = 2_000_000_000


_FIELDS = ("image", "captions", "labels", "id", "keywords")


_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class _Refused(Exception):
    """What is wrong with a line."""


def _shown(value: object) -> str:
    """Return what was given, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"


def read_jsonl(
    path: Path, *, cache_dir: Path | None = None, progress: Progress | None = None
) -> CaptionedImages:
    """Read a user's own collection.

    Parameters
    ----------
    path : Path
        The JSONL file: ``{"image", "captions": {"en": [...]}, "labels": [...]}`` per line.
    cache_dir : Path, optional
        Folder that remembers which pictures were decoded, so that a second opening is quick.
    progress : callable, optional
        Called as ``progress(done, total, message)`` while pictures are decoded.

    Raises
    ------
    BadInput
        No line could be used; the message names the first problems.
    """
    items: list[tuple[int, Item]] = []
    problems: list[Problem] = []
    first: dict[str, int] = {}
    for number, line in _lines(path):
        try:
            item = _item(line, path.parent)
            if item.id in first:
                raise _Refused(f"the id {_shown(item.id)} was used in line {first[item.id]} already")
        except _Refused as refused:
            problems.append(Problem(number, str(refused)))
        else:
            first[item.id] = number
            items.append((number, item))
    kept, broken = _decoded(items, path, cache_dir, progress)
    problems = sorted([*problems, *broken], key=lambda problem: problem.line)
    collection = CaptionedImages(path.stem, _with_concepts(kept), problems=problems)
    if not kept:
        summary = collection.problem_summary or f"{path} holds no lines"
        raise wb.BadInput(f"no picture of {path} can be used: {summary}", hint=_EXAMPLE)
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
        raise _Refused(f"{len(line):,} characters; at most {MAX_LINE_CHARACTERS:,} are taken")
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise _Refused("not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise _Refused(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise _Refused(f"a {type(row).__name__}, not an object with 'image' and 'captions'")
    unknown = sorted(row.keys() - set(_FIELDS))
    if unknown:
        raise _Refused(f"unknown field {_shown(unknown[0])}; allowed: {', '.join(_FIELDS)}")
    image = _inside(row.get("image"), folder)
    item_id = row.get("id", row.get("image"))
    if not isinstance(item_id, str) or not item_id.strip():
        raise _Refused(f"'id' must be a text that is not empty, not {_shown(item_id)}")
    captions = _texts(row, "captions")
    if not captions:
        raise _Refused("no captions: 'captions' must map a language to at least one text")
    labels = row.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise _Refused(f"'labels' must be a list of texts, not {_shown(labels)}")
    item_id = unicodedata.normalize("NFC", item_id.strip())
    return Item(
        id=item_id,
        concept=item_id,
        captions=captions,
        image=image,
        keywords=_texts(row, "keywords"),
        labels=tuple(dict.fromkeys(label.strip() for label in labels if label.strip())),
    )


def _inside(given: Any, folder: Path) -> Path:
    """Return the picture's path, which may not leave the folder, not by a link either."""
    if not isinstance(given, str) or not given.strip() or "\0" in given:
        raise _Refused(f"'image' must be the path of a picture, not {_shown(given)}")
    path = folder / given
    try:
        inside = not Path(given).is_absolute() and path.resolve().is_relative_to(folder.resolve())
        there = inside and path.is_file()
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise _Refused(f"the path {_shown(given)} cannot be used ({why})") from None
    if not inside:
        raise _Refused(f"the path {_shown(given)} leads out of the folder of the collection")
    if not there:
        raise _Refused(f"no such file: {_shown(given)}")
    return path


def _texts(row: Mapping[str, Any], field: str) -> dict[str, tuple[str, ...]]:
    """Return language to texts, blank ones dropped, languages without a text too."""
    given = row.get(field, {})
    if not isinstance(given, dict):
        raise _Refused(f"{field!r} must map a language to a list of texts, not {_shown(given)}")
    out = {}
    for language, texts in given.items():
        if not _LANGUAGE.fullmatch(language):
            raise _Refused(f"{_shown(language)} in {field!r} is not a language tag such as 'en' or 'ko'")
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise _Refused(f"{field!r} of {_shown(language)} must be a list of texts, not {_shown(texts)}")
        kept = dict.fromkeys(unicodedata.normalize("NFC", text.strip()) for text in texts if text.strip())
        if kept:
            out[language] = tuple(kept)
    return out


def _with_concepts(items: list[Item]) -> list[Item]:
    """Give pictures with the same captions one concept: the id of the first of them."""
    first: dict[tuple[tuple[str, tuple[str, ...]], ...], str] = {}
    return [
        replace(item, concept=first.setdefault(tuple(sorted(item.captions.items())), item.id))
        for item in items
    ]


def _decoded(
    items: list[tuple[int, Item]], path: Path, cache_dir: Path | None, progress: Progress | None
) -> tuple[list[Item], list[Problem]]:
    """Decode every picture once, so that broken ones are known now and digests can be compared."""
    remembered = _Remembered(path, cache_dir)
    kept: list[Item] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(DECODERS) as pool:
        digests = pool.map(remembered.digest, [item.image for _, item in items])
        for done, ((number, item), digest) in enumerate(zip(items, digests, strict=True)):
            if progress and done % 25 == 0:
                progress(done, len(items), "opening pictures")
            if isinstance(digest, wb.BadInput):
                problems.append(Problem(number, str(digest.message)))
            else:
                kept.append(replace(item, digest=digest))
    remembered.save()
    if progress:
        progress(len(items), len(items), "opening pictures")
    return kept, problems


class _Remembered:
    """Digests of pictures that were decoded before, by path, size and time of change.

    Parameters
    ----------
    path : Path
        The collection's file.
    cache_dir : Path or None
        Where they are kept; None keeps nothing.
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
                self._old = {}  # nothing kept, or nothing that can be trusted: decode again

    def digest(self, image: bytes | Path) -> str | wb.BadInput:
        """Return the digest of a picture's pixels, or what is wrong with the picture."""
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
        # A file changed just now may change again within one tick of its clock, at the same size.
        if self._opened_ns - status.st_mtime_ns > SETTLED_NS:
            self._new[name] = [*entry, digest]
        return digest

    def save(self) -> None:
        """Keep what is known for the next opening."""
        if self._file is not None and self._new != self._old:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            wb.write_whole(self._file, json.dumps(self._new, ensure_ascii=False).encode())
