"""Collections of captioned pictures: the packaged emoji, and a user's own.

Training, evaluation and indexing take a :class:`CaptionedImages` and, where parts are held out, its
:class:`~adapters.vlm_quantization.data.splits.Splits`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adapters.vlm_quantization.data.parquet_rows import ParquetPicture
from adapters.vlm_quantization.data.pictures import decode_picture
from adapters.vlm_quantization.data.stored import Picture

if TYPE_CHECKING:
    from PIL.Image import Image


#: Number of skipped lines that a summary names.
SHOWN_PROBLEMS = 3

#: ``progress(done, total, message)``, as a job's progress callback takes it.
OnProgress = Callable[[float, float | None, str], None]


@dataclass(frozen=True)
class Item:
    """One picture with its texts.

    Attributes
    ----------
    id : str
        Unique in its collection.
    concept : str
        What it shows; pictures of one concept have the same captions, and each is a correct result for them.
    captions : mapping of str to tuple of str
        Language to captions; the first one is the display name.
    image : bytes, Path or StoredPicture
        The encoded picture, the file that holds it, or its place within a file.
    digest : str
        SHA-256 (hex) of the decoded pixels, see :func:`picture_digest`.
    keywords : mapping of str to tuple of str
        Language to further descriptive words.
    labels : tuple of str
        Items that share a label are relevant to each other when relevance is by labels.
    style : str
        Drawing style, where a concept has several pictures.
    group : str
        A broad heading for display.
    base : str
        The word it shares with its siblings (man running, woman running), which are never split.
    flag : bool
        A country or region flag; an evaluation can include or exclude these.
    split : str
        The part that the collection's author put it in, such as "train" or "test"; empty if there is none.
    """

    id: str
    concept: str
    captions: Mapping[str, tuple[str, ...]]
    image: Picture = field(repr=False)
    digest: str = field(default="", repr=False)
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    style: str = ""
    group: str = ""
    base: str = ""
    flag: bool = False
    split: str = ""

    def caption(self, language: str = "") -> str:
        """Return the name in a language, or in the first available language; without captions, the id."""
        names = self.captions.get(language) or next(iter(self.captions.values()), ())
        return names[0] if names else self.id

    @property
    def path(self) -> str:
        """The file that holds the picture, for one inside an archive followed by its name there; or empty."""
        if isinstance(self.image, (bytes, ParquetPicture)):
            return ""
        return str(self.image)

    @cached_property
    def content(self) -> str:
        """SHA-256 (hex) of the whole item, texts and pixels."""
        row = [
            self.id,
            self.concept,
            sorted((language, list(texts)) for language, texts in self.captions.items()),
            sorted((language, list(texts)) for language, texts in self.keywords.items()),
            list(self.labels),
            self.style,
            self.group,
            self.base,
            self.flag,
            self.digest,
        ]
        if self.split:  # only then, so that collections without one keep their fingerprint
            row.append(self.split)
        return hashlib.sha256(json.dumps(row, ensure_ascii=False).encode()).hexdigest()


class Caption(NamedTuple):
    """One caption of a concept, and the row of the first item that has it."""

    concept: str
    text: str
    row: int


@dataclass(frozen=True)
class UnusableLine:
    """A skipped line of a collection, with the reason; lines are numbered from 1."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


class CaptionedImages:
    """Pictures with captions in one or more languages.

    Parameters
    ----------
    name : str
        Display name of the collection.
    items : sequence of Item
        In a stable order.
    credits : sequence of str
        Attributions that must be shown with the pictures.
    problems : sequence of UnusableLine
        Skipped lines, with the reason.
    notes : sequence of str
        Sentences for the reader on what was read differently than written.
    """

    def __init__(
        self,
        name: str,
        items: Sequence[Item],
        *,
        credits: Sequence[str] = (),  # noqa: A002 - named after the public attribute
        problems: Sequence[UnusableLine] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.items: Sequence[Item] = tuple(items)
        self.credits = list(credits)
        self.problems: Sequence[UnusableLine] = list(problems)
        self.notes = list(notes)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<CaptionedImages {self.name!r}: {len(self)} pictures, {'/'.join(self.languages)}>"

    def open(self, index: int) -> Image:
        """Decode the picture of an item to RGB.

        Raises
        ------
        BadInput
            The picture was removed or damaged after the collection was opened.
        """
        item = self.items[index]
        return decode_picture(item.image, name="" if isinstance(item.image, Path) else item.id)

    def stored(self, index: int) -> Picture:
        """Return where the picture of an item is kept, for another process to decode."""
        return self.items[index].image

    def digest(self, index: int) -> str:
        """Return the digest of an item's pixels, decoding the picture if the item has no digest."""
        return self.items[index].digest or picture_digest(self.open(index))

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Language tags of the captions, most frequent first."""
        counts: dict[str, int] = {}
        for item in self.items:
            for language in item.captions:
                counts[language] = counts.get(language, 0) + 1
        return tuple(sorted(counts, key=lambda language: (-counts[language], language)))

    def captions(self, rows: Iterable[int], language: str, *, each_item: bool = False) -> list[Caption]:
        """Return every caption in a language of some items, in their order.

        A text occurs once per concept, at its first item: pictures of one concept share their captions. With
        ``each_item``, every caption of each item is returned, as often as it is written, as the field counts
        queries.
        """
        if each_item:
            return [
                Caption(self.items[row].concept, text, int(row))
                for row in rows
                for text in self.items[row].captions.get(language, ())
            ]
        out: dict[tuple[str, str], Caption] = {}
        for row in rows:
            item = self.items[row]
            for text in item.captions.get(language, ()):
                out.setdefault((item.concept, text), Caption(item.concept, text, int(row)))
        return list(out.values())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of every item's texts and pixels: equal only for equal collections."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(item.content.encode())
        return digest.hexdigest()

    @cached_property
    def concepts(self) -> int:
        """Number of concepts."""
        return len({item.concept for item in self.items})

    @property
    def problem_summary(self) -> str:
        """One sentence about the skipped lines; empty if no line was skipped."""
        if not self.problems:
            return ""
        first = "; ".join(str(problem) for problem in self.problems[:SHOWN_PROBLEMS])
        left = len(self.problems) - SHOWN_PROBLEMS
        more = f"; and {left:,} more" if left > 0 else ""
        lines = "1 line was" if len(self.problems) == 1 else f"{len(self.problems)} lines were"
        return f"{lines} left out of {self.name}: {first}{more}"


def picture_digest(picture: Image) -> str:
    """Return the SHA-256 (hex) of a decoded picture: its size and its RGB pixels."""
    size = f"{picture.width}x{picture.height}:".encode()
    return hashlib.sha256(size + picture.convert("RGB").tobytes()).hexdigest()
