"""Search results."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, overload


@dataclass(frozen=True)
class Hit:
    """One result of a search.

    Attributes
    ----------
    id : str
        Item id, unique within the index.
    score : float
        Higher is better; its range depends on the adapter.
    distance : float or None
        Lower is better; None if the method has none.
    caption, subtitle : str
        First and second line of text under a picture (two languages, say).
    thumbnail : bytes or None
        An encoded picture (PNG, JPEG or WebP); None for an item that is text.
    label : str
        The score as text, such as ``"3/64"``.
    meter : float
        Length of the bar next to the label, 0 to 1.
    path : str
        Where the item's file is on the machine that has the index; empty if it has none or that is not
        known. A published page leaves it out, unless its publisher wants it shown.
    """

    id: str
    score: float
    distance: float | None = None
    caption: str = ""
    subtitle: str = ""
    thumbnail: bytes | None = field(default=None, repr=False)
    label: str = ""
    meter: float = 0.0
    path: str = ""

    def to_json(self, *, thumbnails: bool = True) -> dict[str, Any]:
        """Return the hit as plain JSON; the thumbnail, if included, as base64 text."""
        out: dict[str, Any] = {
            "id": self.id,
            "score": self.score,
            "distance": self.distance,
            "caption": self.caption,
            "subtitle": self.subtitle,
            "label": self.label,
            "meter": self.meter,
            "path": self.path,
        }
        if thumbnails and self.thumbnail is not None:
            out["thumbnail"] = base64.b64encode(self.thumbnail).decode("ascii")
        return out


class SearchResult(Sequence[Hit]):
    """Hits, best first, with the time that each part took.

    Parameters
    ----------
    hits : sequence of Hit
        Best first.
    took_ms : mapping of str to float
        Milliseconds per part, such as ``{"encode": 3.2, "search": 0.4}``.
    note : str
        A sentence for the reader, such as "the index holds 12 items, so 12 are shown".
    cutoff : int or None
        Number of leading hits that are nearer than unrelated items usually are; None if unknown.
    """

    def __init__(
        self,
        hits: Sequence[Hit],
        took_ms: Mapping[str, float] | None = None,
        *,
        note: str = "",
        cutoff: int | None = None,
    ) -> None:
        self.hits = tuple(hits)
        self.took_ms = dict(took_ms or {})
        self.note = note
        self.cutoff = cutoff

    @property
    def verdict(self) -> str:
        """A sentence on how near the hits are, from the cutoff; empty if all are near, or it is unknown."""
        if self.cutoff is None or self.cutoff >= len(self.hits):
            return ""
        if not self.cutoff:
            return "No good match. These are the closest."
        which = "first is" if self.cutoff == 1 else f"first {self.cutoff:,} are"
        return f"Only the {which} nearer than unrelated items usually are."

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def __repr__(self) -> str:
        lines = [f"{hit.label or format(hit.score, '.3f'):>10}  {hit.caption}" for hit in self.hits[:20]]
        more = [f"           … {len(self) - 20} more"] if len(self) > 20 else []
        said = [text for text in (self.note, self.verdict) if text]
        return "\n".join([f"{len(self)} hits", *lines, *more, *said])

    def to_json(self, *, thumbnails: bool = True) -> dict[str, Any]:
        """Return ``{"hits": [...], "took_ms": {...}, "note", "cutoff"}``."""
        return {
            "hits": [hit.to_json(thumbnails=thumbnails) for hit in self.hits],
            "took_ms": self.took_ms,
            "note": self.note,
            "cutoff": self.cutoff,
        }


@dataclass(frozen=True)
class SampleQuery:
    """A query worth trying: its text and its language tag (``"en"``, ``"ko"``)."""

    text: str
    language: str = ""
