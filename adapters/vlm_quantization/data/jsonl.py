"""A user's own collection: a JSONL file and its pictures, one JSON object per line.

::

    {"image": "pictures/0001.jpg", "captions": {"en": ["a red kite"], "ko": ["빨간 연"]}, "labels": ["kite"]}

``image`` is a path relative to the file's folder and must stay inside it; ``captions`` maps a language to
one or more captions, the first of which is the display name (a file without any ``captions`` is a collection
of pictures alone). Captions without a language, a string or a
list, count as Korean if they hold Hangul, else as English. ``labels``, ``id`` (default: the image's path) and
``keywords`` (same form as ``captions``) are optional, and null counts as absent. So is ``split``, see
:mod:`adapters.vlm_quantization.data.split_names`. Common other names of these fields are read too, see
:data:`ALIASES`. Other fields are ignored, and named in a note.

A picture that several lines list, one line per caption, is one picture with all their captions: recognised
by its path or, as a copy, by its pixels; see :mod:`adapters.vlm_quantization.data.joining`. Pictures whose
captions have the same words, whatever their case and punctuation, are one concept: each is a correct
result for those captions, and they are held out together.

An invalid line is skipped and reported with its number; the other lines are still read.
"""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench as wb
from adapters.vlm_quantization.data.collection import CaptionedImages, Item, UnusableLine
from adapters.vlm_quantization.data.digests import NO_CAPTIONS, decoded
from adapters.vlm_quantization.data.joining import JoinedItems, ignored_note, repeats_note, without_copies
from adapters.vlm_quantization.data.parquet_rows import ParquetPicture
from adapters.vlm_quantization.data.split_names import split_name
from adapters.vlm_quantization.data.stored import Picture
from adapters.vlm_quantization.data.streaming import ReadLine, Streaming
from adapters.vlm_quantization.towers.ngrams import words_of

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import OnProgress
    from adapters.vlm_quantization.data.loader import Onlooker


#: A line longer than this many characters is reported, not parsed.
MAX_LINE_CHARACTERS = 1_000_000


_FIELDS = ("image", "captions", "labels", "id", "keywords", "split")


#: Names of fields in other people's files, by ours; only read where ours is missing.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "image": ("file_name", "filepath", "image_path", "img_path", "filename", "path", "img", "file"),
    "captions": ("caption", "text", "texts", "sentence", "sentences"),
    "labels": ("label", "category", "categories", "class"),
}


#: Bytes read at a time.
_CHUNK_BYTES = 1 << 20


_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")


_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


class _Refused(Exception):
    """A line is invalid; the message is the reason."""


def _shown(value: object) -> str:
    """Return a value's repr, shortened for a message."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"


def read_jsonl(
    path: Path,
    *,
    cache_dir: Path | None = None,
    progress: OnProgress | None = None,
    decode: bool | Onlooker = True,
    spill: Path | None = None,
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
    decode : bool or Onlooker
        Whether to decode every picture once, which finds broken ones and copies; an onlooker is shown the
        pictures then. If not, items have no digest.
    spill : Path, optional
        An existing folder for files, if the collection is not to be in memory.

    Raises
    ------
    BadInput
        No line is valid, or lines put one picture in two splits; the message names the first problems.
    """
    return read_lines(
        path, numbered_lines(path), cache_dir=cache_dir, progress=progress, decode=decode, spill=spill
    )


def read_lines(
    path: Path,
    lines: Iterable[tuple[int, bytes] | tuple[int, bytes, Picture | wb.BadInput | None]],
    *,
    cache_dir: Path | None = None,
    progress: OnProgress | None = None,
    decode: bool | Onlooker = True,
    hint: str = "",
    spill: Path | None = None,
) -> CaptionedImages:
    """Read numbered lines, of a JSONL file or as :func:`as_line` makes them of another form.

    Parameters
    ----------
    path : Path
        The pictures' paths are relative to its folder; its stem is the collection's name. It need not exist.
    lines : iterable of (int, bytes)
        Number, for messages, and a line of JSON; as a third, the line's picture if its ``image`` is not to be
        read, or why the line cannot be.
    cache_dir, progress, decode, spill
        As in :func:`read_jsonl`.
    hint : str
        What to do if no line is valid. Default: an example of a line.

    Raises
    ------
    BadInput
        As :func:`read_jsonl`.
    """
    reading = _Reading(path)
    each = (reading.line(number, line, *picture) for number, line, *picture in lines)
    if spill is not None:
        steps = Streaming(spill, path, cache_dir, progress, decode=decode, concept_key=caption_key)
        collection: CaptionedImages = (streamed := steps.read(path.stem, each))
        repeats = streamed.repeats
    else:
        collection, repeats = _read_in_memory(path, each, cache_dir, progress, decode)
    notes = [repeats_note(repeats), ignored_note(reading.ignored, _FIELDS)]
    collection.notes += [*filter(None, notes), *_wordless(collection.items)]
    if not collection.items:
        summary = collection.problem_summary or "the file has no lines"
        raise wb.BadInput(f"no usable picture in {path}: {summary}", hint=hint or _EXAMPLE)
    return collection


def as_line(row: Mapping[str, Any]) -> bytes:
    """Return a row of another form as a line of this one, so that both are checked alike."""
    return json.dumps(row, ensure_ascii=True).encode()


def _read_in_memory(
    path: Path,
    lines: Iterable[ReadLine | UnusableLine],
    cache_dir: Path | None,
    progress: OnProgress | None,
    decode: bool | Onlooker,
) -> tuple[CaptionedImages, int]:
    """Return the collection of some lines, and the number of those that list a picture again."""
    items = JoinedItems()
    problems: list[UnusableLine] = []
    for line in lines:
        if isinstance(line, UnusableLine):
            problems.append(line)
            continue
        try:
            items.add(line.number, line.picture, line.item)
        except wb.BadInput as error:
            problems.append(UnusableLine(line.number, error.message))
    kept, broken = decoded(items.numbered(), path, cache_dir, progress, decode=decode)
    kept, copies = without_copies(kept)
    problems = sorted([*problems, *broken], key=lambda problem: problem.line)
    return CaptionedImages(path.stem, with_concepts(kept), problems=problems), items.repeats + copies


class _Reading:
    """Reads the lines of a file."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        #: The fields that were ignored, each with its number of lines.
        self.ignored: Counter[str] = Counter()

    def line(
        self, number: int, line: bytes, image: Picture | wb.BadInput | None = None
    ) -> ReadLine | UnusableLine:
        """Read a line, or say why it is invalid."""
        try:
            if isinstance(image, wb.BadInput):
                raise image
            item, ignored = _item(line, self._folder, image)
        except _Refused as reason:
            return UnusableLine(number, str(reason))
        except wb.BadInput as error:
            return UnusableLine(number, error.message)
        self.ignored.update(ignored)
        picture = os.path.realpath(item.image) if isinstance(item.image, Path) else ""
        if isinstance(item.image, ParquetPicture):  # equal bytes in another split are for the checks
            picture = f"{item.split} {item.image.content.hex()}"
        return ReadLine(number, picture, item)


def _wordless(items: Iterable[Item]) -> list[str]:
    """Return a sentence on captions that a model cannot tell apart, if there are any."""
    count, different = 0, dict[str, None]()
    for item in items:
        for texts in item.captions.values():
            for text in texts:
                if not words_of(text):
                    count += 1
                    if len(different) < SHOWN_WORDLESS:
                        different[text] = None
    if not count:
        return []
    shown = ", ".join(map(_shown, different))
    captions = "1 caption has" if count == 1 else f"{count:,} captions have"
    return [f"{captions} no letter or digit ({shown}): such captions all look the same to a model."]


#: Captions without a letter that a note shows.
SHOWN_WORDLESS = 3


_EXAMPLE = 'A line looks like {"image": "a.jpg", "captions": {"en": ["a red kite"]}, "labels": ["kite"]}'


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, numbered from 1; they end with LF, CR LF or CR."""
    try:
        with path.open("rb") as file:
            rest, number, start = b"", 0, True
            while chunk := file.read(_CHUNK_BYTES):
                if start:
                    _refuse_encodings(chunk, path)
                    chunk, start = chunk.removeprefix(b"\xef\xbb\xbf"), False
                *lines, rest = _BREAK.split(rest + chunk)
                if lines and rest == b"" and chunk.endswith(b"\r"):  # its LF may be in the next chunk
                    rest = lines.pop() + b"\r"
                for line in lines:
                    number += 1
                    if line.strip():
                        yield number, line
                if len(rest) > MAX_LINE_CHARACTERS:  # reported as it is; its end need not be read
                    rest = rest[: MAX_LINE_CHARACTERS + 1]
            for line in _BREAK.split(rest):
                number += 1
                if line.strip():
                    yield number, line
    except OSError as error:
        raise wb.BadInput(f"{path} cannot be read ({error.strerror or type(error).__name__})") from error


_BREAK = re.compile(rb"\r\n|\n|\r")


#: How files of gzip, bzip2, xz, Zstandard and zip start.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"PK\x03\x04")


def _refuse_encodings(start: bytes, path: Path) -> None:
    """Refuse a file that is not a text of lines, with what to do."""
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise wb.BadInput(f"{path} is UTF-32 text", hint="Save it as UTF-8.")
    # Without a mark at its start, every other byte of a brace in UTF-16 is zero.
    if start.startswith((b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{")):
        raise wb.BadInput(f"{path} is UTF-16 text", hint="Save it as UTF-8.")
    if start.startswith(_COMPRESSED):
        raise wb.BadInput(f"{path} is compressed", hint="Unpack it first.")
    if start.lstrip().startswith(b"["):
        raise wb.BadInput(f"{path} is one JSON array, not a JSON object per line", hint=_EXAMPLE)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON; Python would keep the last of several values of a key without a word."""
    row = dict(pairs)
    if len(row) < len(pairs):
        again = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _Refused(f"{_shown(again)} occurs twice in one object")
    return row


def line_item(line: bytes, image: Picture) -> Item:
    """Return the item of a line whose picture is already known; the line's ``image`` is not read.

    Raises
    ------
    BadInput
        The line is invalid.
    """
    try:
        return _item(line, Path(), image)[0]
    except _Refused as reason:
        raise wb.BadInput(str(reason)) from None


def _item(line: bytes, folder: Path, image: Picture | None = None) -> tuple[Item, list[str]]:
    """Return the item of a line, its picture not yet opened, and the fields that were ignored."""
    if len(line) > MAX_LINE_CHARACTERS:
        raise _Refused(f"over {MAX_LINE_CHARACTERS:,} characters, the most that are allowed")
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_each_once)
    except UnicodeDecodeError:
        raise _Refused("not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise _Refused(f"not JSON ({error})") from None
    if not isinstance(row, dict):
        raise _Refused(f"must be an object with 'image' and 'captions', not a {type(row).__name__}")
    row = _by_our_names(row)
    ignored = sorted(name for name in row.keys() - set(_FIELDS) if not _is_broken(name))
    row = {name: value for name, value in row.items() if value is not None}
    image = image or _inside(row.get("image"), folder)
    item_id = row.get("id", row.get("image"))
    if isinstance(item_id, int) and not isinstance(item_id, bool):
        item_id = str(item_id)
    if not isinstance(item_id, str) or not item_id.strip() or _is_broken(item_id):
        raise _Refused(f"'id' must be a non-empty string or a whole number, not {_shown(item_id)}")
    captions = _texts(row, "captions")
    if not captions and "captions" in row:
        raise _Refused(NO_CAPTIONS)
    labels = row.get("labels", [])
    labels = [labels] if isinstance(labels, str) else labels
    if not isinstance(labels, list) or not all(
        isinstance(one, str) and not _is_broken(one) for one in labels
    ):
        raise _Refused(f"'labels' must be a list of strings, not {_shown(labels)}")
    item_id = unicodedata.normalize("NFC", item_id.strip())
    item = Item(
        id=item_id,
        concept=item_id,
        captions=captions,
        image=image,
        keywords={lang: tuple(dict.fromkeys(texts)) for lang, texts in _texts(row, "keywords").items()},
        labels=tuple(dict.fromkeys(label.strip() for label in labels if label.strip())),
        split=_split(row.get("split", "")),
    )
    return item, ignored


def _split(value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused(f"'split' must be the name of a split, not {_shown(value)}")
    try:
        return split_name(value)
    except wb.BadInput as error:
        raise _Refused(error.message) from None


def _by_our_names(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a line's object with the names that others give to its fields replaced by ours."""
    out = dict(row)
    for ours, theirs in ALIASES.items():
        if ours not in out and (name := next((one for one in theirs if one in out), "")):
            value = out.pop(name)
            # Other people's labels are often numbers of classes.
            out[ours] = str(value) if ours == "labels" and type(value) is int else value
    return out


def _is_broken(text: str) -> bool:
    """Return whether a text holds half a character (an unpaired surrogate), which cannot be encoded."""
    return any("\ud800" <= one <= "\udfff" for one in text) if not text.isascii() else False


def _inside(value: Any, folder: Path) -> Path:
    """Return the picture's path, which must stay inside the folder, also through symlinks."""
    if not isinstance(value, str) or not value.strip() or "\0" in value or _is_broken(value):
        raise _Refused(f"'image' must be the path of a picture, not {_shown(value)}")
    if _is_plain_file(folder, value):
        return folder / value
    try:
        path = _as_stored(folder, value)
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


def _is_plain_file(folder: Path, value: str) -> bool:
    """Return whether a relative path without ``..`` leads to a file through no link: then it is inside.

    Most paths are like this, and resolving each of a hundred thousand takes longer than all else.
    """
    parts = value.split("/")
    if os.sep != "/" or any(part in ("", ".", "..") for part in parts):
        return False
    at, mode = str(folder), 0
    try:
        for part in parts:
            at = f"{at}/{part}"
            mode = os.lstat(at).st_mode
            if stat.S_ISLNK(mode):
                return False
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode)


def _as_stored(folder: Path, value: str) -> Path:
    """Return the path of a file whose name may be stored in another Unicode form, as a Mac stores Korean."""
    if value.isascii() or (folder / value).exists():
        return folder / value
    return next(
        (path for form in ("NFC", "NFD") if (path := folder / unicodedata.normalize(form, value)).exists()),
        folder / value,
    )


def _texts(row: Mapping[str, Any], field: str) -> dict[str, tuple[str, ...]]:
    """Return texts by language, without blank texts and without languages that have no text."""
    value = row.get(field, {})
    if isinstance(value, (str, list)):  # without languages
        value = _by_script(value)
    if not isinstance(value, dict):
        raise _Refused(f"{field!r} must map a language to a list of strings, not {_shown(value)}")
    out = {}
    for language, texts in value.items():
        if not _LANGUAGE.fullmatch(language):
            raise _Refused(f"{_shown(language)} in {field!r} is not a language tag such as 'en' or 'ko'")
        texts = [] if texts is None else [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise _Refused(f"{field!r} of {_shown(language)} must be a list of strings, not {_shown(texts)}")
        if broken := next((text for text in texts if _is_broken(text)), None):
            raise _Refused(f"{field!r} of {_shown(language)} holds half a character: {_shown(broken)}")
        kept = [unicodedata.normalize("NFC", text.strip()) for text in texts if text.strip()]
        if kept:
            out[language] = tuple(kept)
    return out


def _by_script(texts: str | list[Any]) -> dict[str, list[Any]]:
    """Return texts without a language by language: Korean if they hold Hangul, else English."""
    out: dict[str, list[Any]] = {}
    for text in [texts] if isinstance(texts, str) else texts:
        korean = isinstance(text, str) and _HANGUL.search(text)
        out.setdefault("ko" if korean else "en", []).append(text)
    return out


def with_concepts(items: list[Item]) -> list[Item]:
    """Assign one concept to pictures whose captions have equal words: the id of the first of them.

    Each picture without captions is a concept of its own.
    """
    first: dict[tuple[tuple[str, tuple[str, ...]], ...], str] = {}
    return [
        replace(item, concept=first.setdefault(caption_key(item), item.id) if item.captions else item.id)
        for item in items
    ]


def caption_key(item: Item) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return an item's captions as a model sees them: without case, width, spaces and punctuation."""
    return tuple(
        (language, tuple(sorted({" ".join(words_of(text)) or text for text in texts})))
        for language, texts in sorted(item.captions.items())
    )
