"""Collections that need not fit in memory: lines are joined and sorted in files, and items are read by row.

The result is the same, item by item, as that of the reading in memory; see
:func:`adapters.vlm_quantization.data.jsonl.read_lines`. Each step sorts by what it joins (ids, pictures,
pixels, captions) outside of memory, and holds one group of it at a time.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.vlm_quantization.data.collection import CaptionedImages, Item, UnusableLine
from adapters.vlm_quantization.data.digests import each_decoded
from adapters.vlm_quantization.data.external_sort import ExternalSort
from adapters.vlm_quantization.data.item_rows import ItemCodec, StoredRows, decode_problem, encode_problem
from adapters.vlm_quantization.data.joining import (
    SHOWN_CONFLICTS,
    Copies,
    JoinedItems,
    copy_key,
    refuse_conflicts,
)

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import OnProgress
    from adapters.vlm_quantization.data.loader import Onlooker


@dataclass(frozen=True)
class ReadLine:
    """A line that is valid.

    Attributes
    ----------
    number : int
        Its number, for messages.
    picture : str
        What identifies its picture, as :class:`~adapters.vlm_quantization.data.joining.JoinedItems` takes it.
    item : Item
    """

    number: int
    picture: str
    item: Item


class StreamedItems(CaptionedImages):
    """A collection whose items and problems are in files; memory does not grow with their number.

    Parameters
    ----------
    name : str
        Display name of the collection.
    items, problems : StoredRows
    concepts : int
        Number of concepts.
    repeats : int
        Number of lines that list a picture again.
    """

    def __init__(
        self,
        name: str,
        items: StoredRows[Item],
        problems: StoredRows[UnusableLine],
        concepts: int,
        repeats: int,
    ) -> None:
        super().__init__(name, ())
        self.items, self.problems = items, problems
        self._concepts = concepts
        self.repeats = repeats

    @cached_property
    def concepts(self) -> int:
        """Number of concepts."""
        return self._concepts


#: Where an item is in the order of a collection: its line, or its place.
_PLACE = struct.Struct(">Q")


class Streaming:
    """The steps of reading a collection in bounded memory.

    Parameters
    ----------
    folder : Path
        An existing folder for the files; they have no name, and are gone with the result.
    path, cache_dir, progress, decode
        As in :func:`~adapters.vlm_quantization.data.digests.decoded`.
    concept_key : callable
        Returns what the captions of one concept have in common.
    """

    def __init__(
        self,
        folder: Path,
        path: Path,
        cache_dir: Path | None,
        progress: OnProgress | None,
        *,
        decode: bool | Onlooker,
        concept_key: Callable[[Item], object],
    ) -> None:
        self._folder = folder
        self._opening = (path, cache_dir, progress)
        self._decode = decode
        self._concept_key = concept_key
        self._codec = ItemCodec()
        self._problems = ExternalSort(folder)
        self._repeats = 0

    def problem(self, problem: UnusableLine) -> None:
        """Keep a problem."""
        self._problems.add(_PLACE.pack(problem.line), encode_problem(problem))

    def read(
        self, name: str, lines: Iterable[ReadLine | UnusableLine], *, joined: bool = True
    ) -> StreamedItems:
        """Return the collection of some lines.

        Parameters
        ----------
        name : str
            Display name of the collection.
        lines : iterable of ReadLine or UnusableLine
            Their numbers ascend.
        joined : bool
            Whether lines of one picture are joined, and copies.

        Raises
        ------
        BadInput
            Lines put one picture in two splits.
        """
        with self._problems, ExternalSort(self._folder) as kept:
            with ExternalSort(self._folder) as ordered:
                if joined:
                    captions = self._one_per_picture(lines, ordered)
                else:
                    captions = self._one_per_line(lines, ordered)
                for place, item in enumerate(self._decoded(ordered, captions)):
                    key = copy_key(item) if joined else ""
                    kept.add(_bytes(key), _PLACE.pack(place) + self._codec.encode(item))
            with ExternalSort(self._folder) as single:
                self._without_copies(kept, single, joined=joined)
                items, concepts = self._with_concepts(single)
            problems = StoredRows(self._folder, encode_problem, decode_problem)
            for _, value in self._problems:
                problems.append(decode_problem(value))
            problems.flush()
        return StreamedItems(name, items, problems, concepts, self._repeats)

    # --- lines to items ---------------------------------------------------------------------------------

    def _valid(self, lines: Iterable[ReadLine | UnusableLine]) -> Iterator[ReadLine]:
        for line in lines:
            if isinstance(line, UnusableLine):
                self.problem(line)
            else:
                yield line

    def _one_per_line(self, lines: Iterable[ReadLine | UnusableLine], ordered: ExternalSort) -> int:
        """Add each line by its number; return how many have captions."""
        captions = 0
        for line in self._valid(lines):
            ordered.add(_PLACE.pack(line.number), self._codec.encode(line.item))
            captions += bool(line.item.captions)
        return captions

    def _one_per_picture(self, lines: Iterable[ReadLine | UnusableLine], ordered: ExternalSort) -> int:
        """Join the lines of each picture and add it by its first line; return how many have captions."""
        captions = conflicts = 0
        shown: list[tuple[int, str]] = []
        with ExternalSort(self._folder) as by_picture:
            with ExternalSort(self._folder) as by_id:
                for line in self._valid(lines):
                    picture = _bytes(line.picture)
                    head = _PLACE.pack(line.number) + _PLACE.pack(len(picture)) + picture
                    by_id.add(_bytes(line.item.id), head + self._codec.encode(line.item))
                self._by_picture(by_id, by_picture)
            for picture, group in itertools.groupby(by_picture, key=lambda record: record[0][:-9]):
                one = JoinedItems()
                for key, value in group:
                    one.add(_place(key[-8:]), _text(picture), self._codec.decode(value))
                self._repeats += one.repeats
                conflicts += len(one.conflicts)
                shown = heapq.nsmallest(SHOWN_CONFLICTS, [*shown, *one.conflicts])
                if one.conflicts:
                    continue
                for number, item in one.numbered():
                    ordered.add(_PLACE.pack(number), self._codec.encode(item))
                    captions += bool(item.captions)
        refuse_conflicts([words for _, words in shown], conflicts)
        return captions

    def _by_picture(self, by_id: ExternalSort, by_picture: ExternalSort) -> None:
        """Sort lines by picture, then number; one whose id another picture has already is a problem."""
        for item_id, group in itertools.groupby(by_id, key=lambda record: record[0]):
            first: int | None = None
            owner = b""
            for _, value in group:
                number, end = _place(value), 16 + _place(value[8:])
                picture, item = value[16:end], value[end:]
                if first is None:
                    first, owner = number, picture
                if picture == owner:
                    by_picture.add(picture + b"\0" + _PLACE.pack(number), item)
                else:
                    used = f"the id {_text(item_id)[:120]!r} is already used in line {first}"
                    self.problem(UnusableLine(number, f"{used} for another picture"))

    # --- pixels and concepts ----------------------------------------------------------------------------

    def _decoded(self, ordered: ExternalSort, captions: int) -> Iterator[Item]:
        """Yield the items whose pictures can be read, in order."""
        items = ((_place(key), self._codec.decode(value)) for key, value in ordered)
        looked = each_decoded(
            items, captions or len(ordered), *self._opening, decode=self._decode, captions=captions > 0
        )
        for _, one in looked:
            if isinstance(one, UnusableLine):
                self.problem(one)
            else:
                yield one

    def _without_copies(self, kept: ExternalSort, single: ExternalSort, *, joined: bool) -> None:
        """Join items with equal pixels, and sort them by what their captions have in common."""
        for _, group in itertools.groupby(kept, key=lambda record: record[0]):
            copies = Copies()
            before = 0
            for _, value in group:
                before += 1
                if joined:
                    copies.add(_place(value), self._codec.decode(value[8:]))
                else:
                    copies.kept = {_place(value): self._codec.decode(value[8:])}
                    self._add_by_concept(copies, single)
            if joined:
                self._repeats += before - len(copies.kept)
                self._add_by_concept(copies, single)

    def _add_by_concept(self, copies: Copies, single: ExternalSort) -> None:
        for place, item in copies.kept.items():
            key = b"" if not item.captions else _digest(self._concept_key(item))
            single.add(key + _PLACE.pack(place), self._codec.encode(item))

    def _with_concepts(self, single: ExternalSort) -> tuple[StoredRows[Item], int]:
        """Give each item its concept, the id of the first with its captions, and put them in order; count."""
        rows = StoredRows(self._folder, self._codec.encode, self._codec.decode)
        concepts = 0
        with ExternalSort(self._folder) as ordered:
            for key, group in itertools.groupby(single, key=lambda record: record[0][:-8]):
                concept = ""
                for place, value in group:
                    item = self._codec.decode(value)
                    if not key or not concept:
                        concept = item.id
                        concepts += 1
                    ordered.add(place[-8:], self._codec.encode(replace(item, concept=concept)))
            for _, value in ordered:
                rows.append_encoded(value)
        rows.flush()
        return rows, concepts


def _digest(value: object) -> bytes:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).digest()


def _place(data: bytes) -> int:
    place: int = _PLACE.unpack_from(data)[0]
    return place


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
