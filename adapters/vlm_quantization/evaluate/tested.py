"""What an evaluation measures on: the parts of a collection, and which of its pictures were trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

import workbench as wb
from adapters.vlm_quantization.data.split_names import SPLITS
from adapters.vlm_quantization.data.splits import Splits, fingerprint, has_splits, rows_of_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages
    from adapters.vlm_quantization.evaluate.subject import Origin
    from adapters.vlm_quantization.options import FamilyEvalOptions


#: Parts of drawn splits that an evaluation may measure: display name, and name in metrics. The first two are
#: measured by default.
DRAWN = {
    "test_drawings": ("held-out drawings", "drawings"),
    "test_concepts": ("held-out concepts", "concepts"),
    "val_drawings": ("validation drawings", "val_drawings"),
    "val_concepts": ("validation concepts", "val_concepts"),
    "train": ("training pictures", "train"),
}


#: The same for given splits; "all" is every picture of a collection.
GIVEN = {
    "test": ("test split", "test"),
    "query": ("queries against the gallery", "query"),
    "val": ("validation split", "val"),
    "train": ("training split", "train"),
    "restval": ("restval split", "restval"),
    "gallery": ("gallery alone", "gallery"),
    "all": ("all pictures", "all"),
}


#: Names in metrics of every part that there can be; the headline is of the first that was measured.
NAMES = tuple(
    dict.fromkeys(["test", "query", *(name for table in (DRAWN, GIVEN) for _, name in table.values())])
)


@dataclass(frozen=True)
class Part:
    """Pictures that are measured together.

    Attributes
    ----------
    name : str
        Name in metrics: ``"drawings"``, ``"test"``.
    words : str
        Display name.
    queries, gallery : ndarray of int64
        Rows of the collection; the same unless queries are ranked against other pictures.
    fingerprint : str
        SHA-256 (hex) over the items of both.
    each_item : bool
        Whether each picture's captions are queries of its own, as the field counts; else a text counts once
        per concept, since drawings of one concept share their captions.
    """

    name: str
    words: str
    queries: NDArray[np.int64] = field(repr=False)
    gallery: NDArray[np.int64] = field(repr=False)
    fingerprint: str = ""
    each_item: bool = False

    @property
    def is_apart(self) -> bool:
        """Whether queries are ranked against other pictures than themselves."""
        return not np.array_equal(self.queries, self.gallery)


@dataclass(frozen=True)
class MeasuredOn:
    """The collection that is measured on, and its parts.

    Attributes
    ----------
    collection : CaptionedImages
    parts : sequence of Part
    """

    collection: CaptionedImages
    parts: Sequence[Part]


def held_out_parts(splits: Splits) -> list[Part]:
    """Return the parts of the run's own splits that are measured by default, without empty ones."""
    out = []
    for key in ("test", "query", "test_drawings", "test_concepts"):
        rows = splits.parts.get(key)
        if rows is not None and len(rows):
            words, name = (DRAWN if key in DRAWN else GIVEN)[key]
            mark, gallery = splits.fingerprints[key], rows
            if key == "query":
                gallery = splits.gallery
                mark = _together(mark, splits.fingerprints["gallery"])
            out.append(Part(name, words, rows, gallery, mark, key in GIVEN))
    return out


def chosen_parts(
    collection: CaptionedImages, splits: Splits | None, options: FamilyEvalOptions
) -> list[Part]:
    """Return the parts to measure on.

    Parameters
    ----------
    collection : CaptionedImages
        The run's, or another one.
    splits : Splits or None
        The run's splits of its own collection; None for another collection.
    options : FamilyEvalOptions
        ``split``: the name of a split; "all"; or empty for the run's test parts, or for the test split of
        another collection, which as a whole is a test if it has no splits. Also ``train_in_gallery`` and
        ``flags``.

    Raises
    ------
    BadInput
        The collection has no such split; the message names those it has.
    """
    wanted = options.split
    if not wanted:
        if splits is not None:
            kept = splits if options.flags else splits.without_flags(collection)
            found = held_out_parts(kept)
            if splits.given and len(splits.query) and not options.train_in_gallery:
                found = [_query(collection, options) if one.name == "query" else one for one in found]
            if not found:
                raise wb.BadInput(_nothing(collection, splits), hint=_hint(collection))
            return found
        if not has_splits(collection):
            return [_part("all", collection, np.arange(len(collection)), options)]
        found = [part for name in ("test", "query") for part in _of_split(name, collection, None, options)]
    else:
        found = _of_split(wanted, collection, splits, options)
    if not found:
        raise wb.BadInput(
            f"collection {collection.name!r} has no pictures in the split {wanted or 'test'!r}. "
            f"Its splits: {_splits_of(collection, splits)}",
            hint="Choose one of them, or split=all for every picture.",
        )
    return found


def _of_split(
    wanted: str, collection: CaptionedImages, splits: Splits | None, options: FamilyEvalOptions
) -> list[Part]:
    """Return the parts of a split by name; none if it is empty."""
    if wanted == "all":
        return [_part("all", collection, np.arange(len(collection)), options)]
    drawn = []
    if splits is not None:
        rows = {part: kept for part, kept in splits.parts.items() if part.partition("_")[0] == wanted}
        drawn = [
            _part(part, collection, rows[part], options, drawn=True)
            for part in DRAWN
            if part in rows and len(rows[part]) and not (splits.given and part == "train")
        ]
        if not splits.given:
            return drawn
    if wanted == "query" and len(rows_of_split(collection, "query")):
        return [_query(collection, options)]
    own = splits.parts.get(wanted) if splits is not None and wanted in ("train", "val") else None
    rows_of = rows_of_split(collection, wanted) if own is None else own
    return [_part(wanted, collection, rows_of, options), *drawn] if len(rows_of) else drawn


def _part(
    key: str,
    collection: CaptionedImages,
    rows: NDArray[np.int64],
    options: FamilyEvalOptions,
    *,
    gallery: NDArray[np.int64] | None = None,
    drawn: bool = False,
) -> Part:
    def kept(some: NDArray[np.int64]) -> NDArray[np.int64]:
        if options.flags:
            return some
        return some[[not collection.items[row].flag for row in some.tolist()]]

    words, name = (DRAWN if drawn else GIVEN)[key]
    rows = kept(rows)
    beside = rows if gallery is None else kept(gallery)
    mark = fingerprint(collection, rows)
    if gallery is not None:
        mark = _together(mark, fingerprint(collection, beside))
    each_item = not drawn and any(item.split for item in collection.items)
    return Part(name, words, rows, beside, mark, each_item)


def _query(collection: CaptionedImages, options: FamilyEvalOptions) -> Part:
    """Return the queries with the gallery they are ranked against."""
    names = ("gallery", "train", "restval") if options.train_in_gallery else ("gallery",)
    gallery = np.unique(np.concatenate([rows_of_split(collection, name) for name in names]))
    if not len(gallery):
        raise wb.BadInput(
            f"the gallery of {collection.name!r} is empty without its training pictures",
            hint="Set train_in_gallery=true.",
        )
    return _part("query", collection, rows_of_split(collection, "query"), options, gallery=gallery)


def _together(one: str, other: str) -> str:
    return hashlib.sha256(f"{one} {other}".encode()).hexdigest()


def _splits_of(collection: CaptionedImages, splits: Splits | None) -> str:
    """Return the splits of a collection with their sizes, for a message."""
    if splits is not None and not splits.given:
        return "train, val and test, drawn by the split seed"
    counts = {name: len(rows_of_split(collection, name)) for name in SPLITS}
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items() if count) or "none"


def _nothing(collection: CaptionedImages, splits: Splits) -> str:
    if splits.given:
        return f"{collection.name!r} has no test split. Its splits: {_splits_of(collection, splits)}"
    return f"{collection.name!r} is too small: no held-out pictures to evaluate on"


def _hint(collection: CaptionedImages) -> str:
    return "Choose a split, such as split=val, or another collection." if has_splits(collection) else ""


def trained_rows(origin: Origin, collection: CaptionedImages, splits: Splits) -> NDArray[np.int64]:
    """Return the rows of the run's collection that a checkpoint was trained on: all of them for a refit."""
    if origin.taken_from:  # nobody knows, which the evaluation says
        return np.empty(0, np.int64)
    return np.arange(len(collection)) if is_refit(origin, collection) else splits.train


def is_refit(origin: Origin, collection: CaptionedImages) -> bool:
    """Return whether a checkpoint was trained on the whole collection as it is now."""
    return origin.split == f"all of {collection.fingerprint}"
