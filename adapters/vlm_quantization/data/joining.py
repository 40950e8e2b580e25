"""Lines of a collection that list one picture, joined into one item with all their captions.

Every loader that reads lines uses this, so that one line per caption means the same in each format.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import workbench as wb
from adapters.vlm_quantization.data.split_names import joined_split

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import Item


#: Number of pictures in two splits that an error names.
SHOWN_CONFLICTS = 5


class JoinedItems:
    """Items by their picture, in the order in which the pictures were first listed.

    Attributes
    ----------
    repeats : int
        Number of lines that listed a picture again.
    """

    def __init__(self) -> None:
        self.repeats = 0
        self._items: dict[str, tuple[int, Item]] = {}
        self._owner: dict[str, tuple[int, str]] = {}
        self._split_line: dict[str, int] = {}
        self._conflicts: list[str] = []

    def add(self, line: int, picture: str, item: Item) -> None:
        """Add the item of a line, or join it with the item of the same picture.

        Parameters
        ----------
        line : int
            Number of the line (or row, or annotation), for messages.
        picture : str
            What identifies the picture: its resolved path, or its member name in an archive.
        item : Item
            Its id and split are those of this line.

        Raises
        ------
        BadInput
            Another picture has the id already; nothing is added.
        """
        first, owner = self._owner.setdefault(item.id, (line, picture))
        if owner != picture:
            raise wb.BadInput(f"the id {item.id[:120]!r} is already used in line {first} for another picture")
        if picture not in self._items:
            self._items[picture] = (line, item)
            self._split_line[picture] = line
            return
        self.repeats += 1
        first, before = self._items[picture]
        try:
            split = joined_split(before.split, item.split)
        except ValueError as reason:
            split = before.split
            self._conflicts.append(f"{before.id}: {reason} (lines {self._split_line[picture]} and {line})")
        if item.split and not before.split:
            self._split_line[picture] = line
        self._items[picture] = (first, replace(joined(before, item, annotators=True), split=split))

    def numbered(self) -> list[tuple[int, Item]]:
        """Return the items, each with the line that listed it first.

        Raises
        ------
        BadInput
            Lines put one picture in two splits; the message names the pictures and the lines.
        """
        if self._conflicts:
            more = len(self._conflicts) - SHOWN_CONFLICTS
            shown = "; ".join(self._conflicts[:SHOWN_CONFLICTS])
            raise wb.BadInput(
                f"one picture is in two splits: {shown}{f'; and {more:,} more' if more > 0 else ''}",
                hint="Put all lines of a picture in one split.",
            )
        return list(self._items.values())


def joined(item: Item, other: Item, *, annotators: bool = False) -> Item:
    """Return an item with the texts and labels of another one added; a text that both have counts once.

    With ``annotators``, for one line per caption, it counts again if the other has this one caption and
    nothing new: another annotator used the same words.
    """
    texts = [text for of_language in other.captions.values() for text in of_language]
    new = not set(other.labels) <= set(item.labels) or other.keywords
    once_more = annotators and len(texts) == 1 and not new
    captions = {language: list(of_language) for language, of_language in item.captions.items()}
    for language, of_language in other.captions.items():
        kept = captions.setdefault(language, [])
        kept += of_language if once_more else _new(kept, of_language)
    keywords = {
        language: tuple(dict.fromkeys([*item.keywords.get(language, ()), *other.keywords.get(language, ())]))
        for language in dict.fromkeys([*item.keywords, *other.keywords])
    }
    return replace(
        item,
        captions={language: tuple(kept) for language, kept in captions.items()},
        keywords=keywords,
        labels=tuple(dict.fromkeys([*item.labels, *other.labels])),
    )


def _new(known: Sequence[str], texts: Iterable[str]) -> list[str]:
    """Return the texts that are not known, with their repetitions."""
    seen = set(known)
    return [text for text in texts if text not in seen]


def without_copies(items: Sequence[Item]) -> tuple[list[Item], int]:
    """Join items with equal pixels into the first of them; return them and the number of joined ones.

    Copies in different splits stay apart, since a picture in train and in test is a leak to report, not to
    repair. One that names no split is in that of its copy.
    """
    kept: list[Item] = []
    places: dict[str, dict[str, int]] = {}  # of equal pixels, by split
    for item in items:
        known = places.setdefault(item.digest or f"id {item.id}", {})
        split = item.split
        if split not in known and known:
            split = "" if "" in known else split or next(iter(known))
        if split in known:
            place = known.pop(split)
            split = split or item.split
            kept[place] = replace(joined(kept[place], item), split=split)
            known[split] = place
        else:
            known[split] = len(kept)
            kept.append(item)
    return kept, len(items) - len(kept)


def repeats_note(repeats: int) -> str:
    """Return a sentence on pictures that were listed more than once; empty if none was."""
    if not repeats:
        return ""
    lines = "1 line lists" if repeats == 1 else f"{repeats:,} lines list"
    return f"{lines} a picture again: each picture counts once, with the captions of all its lines."


def ignored_note(ignored: Mapping[str, int], used: Iterable[str]) -> str:
    """Return a sentence on fields that no one reads, each with the number of its lines; empty if none was."""
    if not ignored:
        return ""
    fields = ", ".join(
        f"{name[:120]!r} ({count:,} {'line' if count == 1 else 'lines'})"
        for name, count in sorted(ignored.items())
    )
    return f"Ignored fields: {fields}. Fields in use: {', '.join(used)}."
