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


def check_leakage(collection: CaptionedImages, splits: Splits) -> dict[str, int]:
    """Check that training and held-out data do not overlap.

    Every item must be in exactly one part; no picture (equal pixels) in two parts; no base word and no
    concept on both sides of the concept split; and the concept of every held-out drawing in the training
    part.

    Returns
    -------
    dict of str to int
        Numbers of checked ``items``, ``pictures``, ``base_words``, ``concepts`` and
        ``held_out_drawings``.

    Raises
    ------
    LeakageError
        On the first kind of leak, with examples.
    """
    items = collection.items
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


def _refuse(what: str, examples: Sequence[str]) -> None:
    if examples:
        more = f" and {len(examples) - 5} more" if len(examples) > 5 else ""
        raise LeakageError(
            f"leakage: {what}: {'; '.join(examples[:5])}{more}",
            examples,
            hint="Create new splits with make_splits; do not report scores from these.",
        )
