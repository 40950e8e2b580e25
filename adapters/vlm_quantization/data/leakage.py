"""The check that training and held-out data do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import workbench as wb
from adapters.vlm_quantization.data.splits import PARTS, Splits

if TYPE_CHECKING:
    from adapters.vlm_quantization.data.collection import CaptionedImages


class LeakageError(wb.WorkbenchError):
    """Held-out data is also in the training part; any score would be meaningless.

    Parameters
    ----------
    message : str
        What leaks, with examples.
    examples : sequence of str
        The same examples, as a list.
    """

    def __init__(
        self, message: str, examples: Sequence[str] = (), *, hint: str = "", advice: str = ""
    ) -> None:
        super().__init__(message, hint=hint, advice=advice)
        self.examples = tuple(examples)


def check_leakage(
    collection: CaptionedImages, splits: Splits, *, accept_duplicates: bool = False
) -> dict[str, int]:
    """Check that training and held-out data do not overlap.

    Drawn splits: every item must be in exactly one part; no picture (equal pixels) in two parts; no base word
    and no concept on both sides of the concept split; and the concept of every held-out drawing in the
    training part.

    Given splits: every item must be in one part and no picture in two, except that the gallery may contain
    training and validation pictures, as its protocol says. Concepts may be in several parts, as the author of
    the splits chose.

    Parameters
    ----------
    collection : CaptionedImages
    splits : Splits
    accept_duplicates : bool
        Given splits: count pictures that are in two parts instead of refusing them.

    Returns
    -------
    dict of str to int
        Numbers of checked ``items`` and ``pictures``; of drawn splits also ``base_words``, ``concepts`` and
        ``held_out_drawings``; ``duplicates`` where any were accepted.

    Raises
    ------
    LeakageError
        On the first kind of leak, with examples.
    """
    items = collection.items
    if splits.given:
        return _check_given(collection, splits, accept_duplicates)
    side = {"val_concepts": "val_concepts", "test_concepts": "test_concepts"}
    where: dict[int, str] = {}
    twice: list[str] = []
    for part in PARTS:
        for row in getattr(splits, part).tolist():
            if row in where:
                twice.append(f"{items[row].id} in {where[row]} and {part}")
            where[row] = part
    _refuse("an item is in two parts", twice)
    pictures = _seen((collection.digest(row), part, items[row].id) for row, part in where.items())
    _refuse("the same picture is in two parts", _both(pictures))
    sides = [(row, side.get(part, "train")) for row, part in where.items()]
    concepts = _seen((items[row].concept, part, items[row].id) for row, part in sides)
    _refuse("a concept is on both sides of the concept split", _both(concepts))
    bases = _seen((items[row].base, part, items[row].id) for row, part in sides if items[row].base)
    _refuse("siblings with one base word are on both sides of the concept split", _both(bases))
    trained = {items[row].concept for row in splits.train.tolist()}
    drawings = [*splits.val_drawings.tolist(), *splits.test_drawings.tolist()]
    alone = [f"{items[row].id} ({where[row]})" for row in drawings if items[row].concept not in trained]
    _refuse("a held-out drawing's concept is not in the training part", alone)
    return {
        "items": len(where),
        "pictures": len(pictures),
        "concepts": len(concepts),
        "base_words": len(bases),
        "held_out_drawings": len(drawings),
    }


def _check_given(collection: CaptionedImages, splits: Splits, accept_duplicates: bool) -> dict[str, int]:
    """Check the splits of a collection's author."""
    items = collection.items
    parts = {part: rows.tolist() for part, rows in splits.parts.items() if part != "gallery"}
    # the rest of the gallery is on the side of the training pictures: only queries must not be in it
    known = set(parts.get("train", [])) | set(parts.get("val", []))
    parts["gallery"] = [row for row in splits.gallery.tolist() if row not in known]
    where: dict[int, str] = {}
    twice: list[str] = []
    for part, rows in parts.items():
        for row in rows:
            if row in where:
                twice.append(f"{items[row].id} in {where[row]} and {part}")
            where[row] = part
    _refuse("an item is in two parts", twice)
    pictures = _seen((collection.digest(row), part, items[row].id) for row, part in where.items())
    beside = {"train", "val", "gallery"} if len(splits.gallery) else set()
    both = _both({key: seen for key, seen in pictures.items() if not set(seen) <= beside or len(seen) == 1})
    if not accept_duplicates:
        _refuse("the same picture is in two parts", both, ACCEPT)
    checked = {"items": len(where), "pictures": len(pictures)}
    return checked | ({"duplicates": len(both)} if both else {})


#: What to do about pictures that are in training and in the test.
ACCEPT = (
    "Remove them from one side. If you want the scores all the same, set "
    "accept_training_pictures_in_test=true: the report then says so."
)


def shared_pictures(
    collection: CaptionedImages,
    rows: Iterable[int],
    other: CaptionedImages,
    other_rows: Iterable[int],
) -> list[tuple[int, int]]:
    """Return the pictures that two collections (or two parts of one) share, by their pixels.

    Parameters
    ----------
    collection, other : CaptionedImages
        May be the same.
    rows, other_rows : iterable of int
        Items that are compared.

    Returns
    -------
    list of (int, int)
        For each shared picture of ``other``, its first row in ``collection`` and its row in ``other``.
    """
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(collection.digest(int(row)), int(row))
    return [(first[digest], int(row)) for row in other_rows if (digest := other.digest(int(row))) in first]


def refuse_shared(
    collection: CaptionedImages, other: CaptionedImages, pairs: Sequence[tuple[int, int]]
) -> None:
    """Refuse a test of pictures that the model was trained on.

    Raises
    ------
    LeakageError
        There are such pictures; the message names the first ones by their ids on both sides.
    """
    examples = [f"{other.items[row].id} (training: {collection.items[own].id})" for own, row in pairs]
    _refuse(f"test pictures of {other.name!r} are also training pictures", examples, ACCEPT)


def _seen(triples: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    """Return for each key the parts it was seen in, each with one item id."""
    out: dict[str, dict[str, str]] = {}
    for key, part, item_id in triples:
        out.setdefault(key, {}).setdefault(part, item_id)
    return out


def _both(seen: Mapping[str, Mapping[str, str]]) -> list[str]:
    return [
        " and ".join(f"{item_id} ({part})" for part, item_id in parts.items())
        for parts in seen.values()
        if len(parts) > 1
    ]


def _refuse(
    what: str,
    examples: Sequence[str],
    hint: str = "Create new splits with make_splits; do not report scores from these.",
) -> None:
    if examples:
        more = f" and {len(examples) - 5} more" if len(examples) > 5 else ""
        raise LeakageError(
            f"leakage: {what}: {'; '.join(examples[:5])}{more}",
            examples,
            hint=hint,
        )
