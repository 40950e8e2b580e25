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
        #: Pictures that lines put in two splits, in words, each with the line that did.
        self.conflicts: list[tuple[int, str]] = []

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
            both = f"(lines {self._split_line[picture]} and {line})"
            self.conflicts.append((line, f"{before.id}: {reason} {both}"))
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
        refuse_conflicts([words for _, words in self.conflicts[:SHOWN_CONFLICTS]], len(self.conflicts))
        return list(self._items.values())


def refuse_conflicts(shown: Sequence[str], count: int) -> None:
    """Raise if lines put pictures in two splits.

    Parameters
    ----------
    shown : sequence of str
        The first of them in words, at most :data:`SHOWN_CONFLICTS`.
    count : int
        Number of all.
    """
    if count:
        more = count - len(shown)
        raise wb.BadInput(
            f"one picture is in two splits: {'; '.join(shown)}{f'; and {more:,} more' if more > 0 else ''}",
            hint="Put all lines of a picture in one split.",
        )


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
    kept: dict[int, Item] = {}
    same: dict[str, Copies] = {}  # of equal pixels
    for place, item in enumerate(items):
        same.setdefault(copy_key(item), Copies()).add(place, item)
    for copies in same.values():
        kept.update(copies.kept)
    return [kept[place] for place in sorted(kept)], len(items) - len(kept)


def copy_key(item: Item) -> str:
    """Return what items with equal pixels have in common; without a digest each is by itself."""
    return item.digest or f"id {item.id}"


class Copies:
    """Items with equal pixels, joined into the first of each split.

    Attributes
    ----------
    kept : dict of int to Item
        The joined items by the place of the first of them.
    """

    def __init__(self) -> None:
        self.kept: dict[int, Item] = {}
        self._places: dict[str, int] = {}  # by split

    def add(self, place: int, item: Item) -> None:
        """Take the next item; places ascend."""
        known = self._places
        split = item.split
        if split not in known and known:
            split = "" if "" in known else split or next(iter(known))
        if split in known:
            place = known.pop(split)
            split = split or item.split
            self.kept[place] = replace(joined(self.kept[place], item), split=split)
            known[split] = place
        else:
            known[split] = place
            self.kept[place] = item


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
