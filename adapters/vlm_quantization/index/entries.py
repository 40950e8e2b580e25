"""The entries of an index: pictures and captions of a collection, in the order of their ids."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import workbench as wb

if TYPE_CHECKING:
    from PIL.Image import Image


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
        """The items, each a :class:`CollectionItem`."""

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
    """An item to index: the stored data, and what is encoded (a picture's number, or a text)."""

    item: dict[str, Any]
    source: Any


def _sorted_by_id(entries: list[Entry]) -> list[Entry]:
    entries.sort(key=lambda entry: entry.item["id"])
    for one, other in itertools.pairwise(entries):
        if one.item["id"] == other.item["id"]:
            raise wb.BadInput(f"two items have the id {one.item['id']!r}; ids must be unique")
    return entries


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
    folders = {os.path.dirname(path) for item in collection.items if (path := _path_of(item))}  # noqa: PTH120
    return os.path.commonpath(folders) if folders else ""


def picture_entries(collection: Collection) -> list[Entry]:
    """Return the pictures of a collection, sorted by id; paths are relative to :func:`common_root`."""
    entries = []
    root = common_root(collection)
    for i, item in enumerate(collection.items):
        names = _first_names(item, collection.languages)
        # Without captions a picture is shown with its file's name.
        caption, subtitle, *_ = [*(names or [item.id.rpartition("/")[2]]), "", ""]
        path = _path_of(item)
        entries.append(
            Entry(
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
                },
                i,
            )
        )
    return _sorted_by_id(entries)


def caption_entries(collection: Collection) -> list[Entry]:
    """Return one entry per distinct text of a concept, regardless of the number of its drawings."""
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
                    Entry(
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
