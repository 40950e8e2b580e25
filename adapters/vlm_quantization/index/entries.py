"""The entries of an index: pictures and captions of a collection, sorted by their ids in bounded memory."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import workbench as wb
from adapters.vlm_quantization.data.external_sort import ExternalSort, read_records, write_record
from adapters.vlm_quantization.towers.feature_cache import key_of

if TYPE_CHECKING:
    from PIL.Image import Image


#: Length of an entry's key; see :func:`~adapters.vlm_quantization.towers.feature_cache.key_of`.
KEY_BYTES = 16


#: The field of a stored picture with the key of its pixels, in hexadecimal.
PIXELS = "pixels"


class CollectionItem(Protocol):
    """The attributes that an index reads from an item of a collection."""

    id: str
    concept: str
    captions: Mapping[str, Sequence[str]]
    labels: Sequence[str]
    style: str
    group: str
    flag: bool


class Collection(Protocol):
    """The attributes that an index reads from a collection of captioned pictures."""

    @property
    def name(self) -> str:
        """Display name."""

    @property
    def items(self) -> Sequence[Any]:
        """The items, each a :class:`CollectionItem`; they are read in order, and need not be in memory."""

    @property
    def languages(self) -> Sequence[str]:
        """Language tags of the captions."""

    @property
    def credits(self) -> Sequence[str]:
        """Attributions that must be shown with the pictures."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex): equal only for equal collections."""

    def open(self, i: int, /) -> Image:
        """Open picture ``i`` as RGB."""


# --- entries ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """An item to index.

    Attributes
    ----------
    item : dict
        The stored data.
    source : int or str
        What is encoded: the number of a picture in its collection, or a text.
    key : bytes
        A digest of what is encoded (the pixels, or the text), whatever the item is called.
    """

    item: dict[str, Any]
    source: Any
    key: bytes


class SortedEntries:
    """The entries of one side in the order of their ids, in a file without a name.

    They may be read as often as needed; one is in memory at a time. Use it as a context manager, which closes
    the file.

    Parameters
    ----------
    entries : iterable of Entry
        In any order.
    folder : Path
        An existing folder on the disk that the file takes space of.

    Raises
    ------
    workbench.BadInput
        Two entries have the same id.
    """

    def __init__(self, entries: Iterable[Entry], folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by __exit__
        self._count = 0
        try:
            with ExternalSort(folder) as sort:
                for entry in entries:
                    row = json.dumps([entry.item, entry.source], ensure_ascii=False, separators=(",", ":"))
                    sort.add(_bytes(entry.item["id"]), entry.key + _bytes(row))
                before: bytes | None = None
                for item_id, row_bytes in sort:
                    if item_id == before:
                        name = item_id.decode("utf-8", "surrogatepass")
                        raise wb.BadInput(f"two items have the id {name!r}; ids must be unique")
                    write_record(self._file, row_bytes[:KEY_BYTES], row_bytes[KEY_BYTES:])
                    self._count += 1
                    before = item_id
            self._file.flush()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> SortedEntries:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Entry]:
        for key, row in read_records(self._file):
            item, source = json.loads(row.decode("utf-8", "surrogatepass"))
            yield Entry(item, source, key)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _first_names(item: CollectionItem, languages: Sequence[str]) -> list[str]:
    return [item.captions[language][0] for language in languages if item.captions.get(language)]


def _path_of(item: CollectionItem) -> str:
    """Return the absolute path of an item's picture; empty if it is not in a file."""
    path = str(getattr(item, "path", ""))
    return path if os.path.isabs(path) else ""  # noqa: PTH117  # may be of a member of an archive


def _file_of(path: str) -> list[int]:
    """Return the size in bytes and the time of modification in ns of a file; empty if it is no file."""
    try:
        status = os.stat(path)  # noqa: PTH116  # may be of a member of an archive
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns] if stat.S_ISREG(status.st_mode) else []


def common_root(collection: Collection) -> str:
    """Return the folder that holds all pictures of a collection that are in files; empty if there is none."""
    root = last = ""
    for item in collection.items:
        if not (path := _path_of(item)):
            continue
        folder = os.path.dirname(path)  # noqa: PTH120
        if folder != last:
            root = os.path.commonpath([root, folder]) if root else folder
            last = folder
    return os.path.normpath(root) if root else ""


def picture_entries(collection: Collection, root: str | None = None) -> Iterator[Entry]:
    """Yield the pictures of a collection in its order; paths are relative to a root.

    Parameters
    ----------
    collection : Collection
    root : str, optional
        Default: its :func:`common_root`.
    """
    root = common_root(collection) if root is None else root
    for i, item in enumerate(collection.items):
        names = _first_names(item, collection.languages)
        # Without captions a picture is shown with its file's name.
        caption, subtitle, *_ = [*(names or [item.id.rpartition("/")[2]]), "", ""]
        path = _path_of(item)
        digest = getattr(item, "digest", "")
        key = key_of(digest or f"{collection.fingerprint} {i}")
        yield Entry(
            {
                **({"path": os.path.relpath(path, root)} if path else {}),
                **({"file": known} if path and (known := _file_of(path)) else {}),
                "id": item.id,
                "concept": item.concept,
                "caption": caption,
                "subtitle": subtitle,
                "captions": {lang: [*dict.fromkeys(names)] for lang, names in item.captions.items()},
                "labels": list(item.labels),
                "style": item.style,
                "group": item.group,
                "flag": bool(item.flag),
                **({"split": split} if (split := str(getattr(item, "split", ""))) else {}),
                **({PIXELS: key.hex()} if digest else {}),
            },
            i,
            key,
        )


def caption_entries(collection: Collection, folder: Path) -> Iterator[Entry]:
    """Yield one entry per distinct text of a concept, regardless of the number of its drawings.

    Parameters
    ----------
    collection : Collection
    folder : Path
        For the files of the sorting.
    """
    with ExternalSort(folder) as sort:
        for item in collection.items:
            texts = [
                (language, text)
                for language in collection.languages
                for text in item.captions.get(language, ())
            ]
            if texts:
                names = {language: _name_but(item, collection.languages, language) for language, _ in texts}
                sort.add(_bytes(item.concept), _bytes(json.dumps([texts, names], ensure_ascii=False)))
        for concept, rows in groupby(sort, key=lambda record: record[0]):
            yield from _of_concept(
                concept.decode("utf-8", "surrogatepass"),
                (json.loads(row.decode("utf-8", "surrogatepass")) for _, row in rows),
            )


def _name_but(item: CollectionItem, languages: Sequence[str], language: str) -> str:
    """Return the item's name in the first other language that has one; empty if none has."""
    return next(iter(_first_names(item, [other for other in languages if other != language])), "")


def _of_concept(
    concept: str, items: Iterable[tuple[list[tuple[str, str]], dict[str, str]]]
) -> Iterator[Entry]:
    """Yield the distinct texts of one concept's items, numbered by language."""
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    for texts, names in items:
        for language, text in texts:
            if text in seen:
                continue
            seen.add(text)
            number = numbers.get(language, 0)
            numbers[language] = number + 1
            yield Entry(
                {
                    "id": f"{concept}:{language}:{number}",
                    "concept": concept,
                    "caption": text,
                    "subtitle": names[language],
                    "language": language,
                },
                text,
                key_of(text),
            )
