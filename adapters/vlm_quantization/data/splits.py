"""Splits of a collection into training, validation and test parts.

There are two kinds of held-out pictures:

- *Held-out drawings*: the concept was trained on, in another drawing. Does the model recognise the thing in
  another drawing style?
- *Held-out concepts*: neither the concept nor any sibling of it was trained on. Siblings share a base word
  (man running, woman running), a picture, or a concept id; they are never separated.

All choices are made by SHA-256 of the seed and the names, so the same collection and seed give the same
splits on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

import workbench as wb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages, Item


#: Shares of the concepts that are held out; the rest is trained on.
VAL_CONCEPTS = 0.08


TEST_CONCEPTS = 0.17


#: Shares of the trained concepts with several drawings that hold out one drawing.
VAL_DRAWINGS = 0.10


TEST_DRAWINGS = 0.45


#: The parts of a split: disjoint, and together the whole collection.
PARTS = ("train", "val_drawings", "test_drawings", "val_concepts", "test_concepts")


@dataclass(frozen=True)
class Splits:
    """Rows of the items in the collection, by part; sorted int64 arrays.

    Attributes
    ----------
    train : ndarray of int64
        Training items.
    val_drawings, test_drawings : ndarray of int64
        Held-out drawings of concepts that are trained on in another drawing.
    val_concepts, test_concepts : ndarray of int64
        Every drawing of concepts that are not trained on at all.
    seed : int
        Seed the splits were drawn with.
    fingerprints : dict of str to str
        For each part, SHA-256 (hex) over its sorted item ids, each with its content.
    notes : tuple of str
        Remarks for the reader, such as why a part is empty.
    """

    train: NDArray[np.int64] = field(repr=False)
    val_drawings: NDArray[np.int64] = field(repr=False)
    test_drawings: NDArray[np.int64] = field(repr=False)
    val_concepts: NDArray[np.int64] = field(repr=False)
    test_concepts: NDArray[np.int64] = field(repr=False)
    seed: int = 0
    fingerprints: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Number of pictures in each part."""
        return {part: len(getattr(self, part)) for part in PARTS}

    def without_flags(self, collection: CaptionedImages) -> Splits:
        """Return the same splits with flags left out of every part."""
        flag = np.array([item.flag for item in collection.items], dtype=bool)
        parts = {part: (rows := getattr(self, part))[~flag[rows]] for part in PARTS}
        return _splits(collection, parts, self.seed, self.notes)


def make_splits(collection: CaptionedImages, seed: int = 0) -> Splits:
    """Split a collection into training and held-out parts.

    Whole groups of siblings go to one side: about 17 % of the concepts are held out for the test and 8 % for
    validation, in the same proportion for flags and other pictures. Of the trained concepts with several
    drawings, 45 % hold out one drawing for the test and 10 % for validation.

    Parameters
    ----------
    collection : CaptionedImages
        Any collection; without base words each item is its own group, but equal pictures stay together.
    seed : int
        Seed of the random choices.

    Returns
    -------
    Splits
        Disjoint parts that together are the whole collection.

    Raises
    ------
    BadInput
        The collection is empty.
    """
    items = collection.items
    if not items:
        raise wb.BadInput("an empty collection cannot be split")
    family = _united((item.concept, item.base, item.digest) for item in items)
    held: dict[int, str] = {}  # family -> val_concepts | test_concepts
    for flag in (False, True):
        sizes: dict[int, set[str]] = {}
        for item, number in zip(items, family, strict=True):
            if items[number].flag is flag:
                sizes.setdefault(number, set()).add(item.concept)
        order = sorted(sizes, key=lambda number: _draw(seed, "concept", items[number].id))
        held |= _hold_out(order, {number: len(concepts) for number, concepts in sizes.items()})
    _leave_enough(held, items, family)
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    trained = [row for row, number in enumerate(family) if number not in held]
    for row, number in enumerate(family):
        if number in held:
            parts[held[number]].append(row)
    drawings = _hold_out_drawings(collection, trained, seed)
    for row in trained:
        parts[drawings.get(row, "train")].append(row)
    notes = []
    if not drawings:
        notes.append("No concept has a second picture to train on, so no drawings are held out.")
    if not parts["test_concepts"]:
        notes.append("The collection is too small to hold out concepts.")
    arrays = {part: np.array(rows, dtype=np.int64) for part, rows in parts.items()}
    return _splits(collection, arrays, seed, tuple(notes))


def _draw(seed: int, what: str, name: str) -> bytes:
    """Return the random sort key of a name, the same on every machine."""
    return hashlib.sha256(f"{seed}\0{what}\0{name}".encode()).digest()


def _united(keys: Iterable[Iterable[str]]) -> list[int]:
    """Return for each row the first row it is connected to by shared keys, directly or through others."""
    parent: list[int] = []
    owner: dict[tuple[int, str], int] = {}

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for row, row_keys in enumerate(keys):
        parent.append(row)
        for kind, key in enumerate(row_keys):
            if key:
                own, other = root(row), root(owner.setdefault((kind, key), row))
                parent[max(own, other)] = min(own, other)
    return [root(row) for row in range(len(parent))]


def _hold_out(order: Sequence[int], sizes: Mapping[int, int]) -> dict[int, str]:
    """Fill the test share, then the validation share, with whole groups in the given order."""
    total = sum(sizes.values())
    quotas = {"test_concepts": round(total * TEST_CONCEPTS), "val_concepts": round(total * VAL_CONCEPTS)}
    if len(order) >= 3:
        quotas = {part: max(1, count) for part, count in quotas.items()}
    out: dict[int, str] = {}
    for part, room in quotas.items():
        for group in order:
            # Skipping a group that does not fit keeps one huge family from filling the whole test part.
            if group not in out and sizes[group] <= room:
                out[group] = part
                room -= sizes[group]
    return out


def _leave_enough(held: dict[int, str], items: Sequence[Item], family: Sequence[int]) -> None:
    """Hold out less where fewer than two concepts are left to train on; the test is kept longest."""
    for part in ("val_concepts", "test_concepts"):
        left = {item.concept for item, number in zip(items, family, strict=True) if number not in held}
        if len(left) >= 2:
            return
        for number in [number for number, name in held.items() if name == part]:
            del held[number]


def _hold_out_drawings(collection: CaptionedImages, trained: Sequence[int], seed: int) -> dict[int, str]:
    """Choose which trained concepts hold out one drawing, and which drawing."""
    items = collection.items
    # Concepts that share a picture (flags do) must hold out the same drawing.
    twins = _united((items[row].concept, items[row].digest) for row in trained)
    members: dict[int, list[int]] = {}
    for row, twin in zip(trained, twins, strict=True):
        members.setdefault(twin, []).append(row)
    choices: list[tuple[bytes, list[int]]] = []
    for rows in members.values():
        name = items[rows[0]].concept
        styles = sorted({items[row].style for row in rows})
        style = min(styles, key=lambda style: _draw(seed, "style", f"{name} {style}"))
        back = [row for row in rows if items[row].style == style]
        rest = [row for row in rows if items[row].style != style]
        kept = {items[row].digest for row in rest}
        covered = {items[row].concept for row in rest} >= {items[row].concept for row in back}
        if covered and not any(items[row].digest in kept for row in back):
            choices.append((_draw(seed, "drawing", name), back))
    choices.sort()
    first, second = round(len(choices) * TEST_DRAWINGS), round(len(choices) * (TEST_DRAWINGS + VAL_DRAWINGS))
    out: dict[int, str] = {}
    for part, chosen in (("test_drawings", choices[:first]), ("val_drawings", choices[first:second])):
        out |= {row: part for _, back in chosen for row in back}
    return out


def _splits(
    collection: CaptionedImages, parts: Mapping[str, NDArray[np.int64]], seed: int, notes: tuple[str, ...]
) -> Splits:
    fingerprints = {part: _fingerprint(collection, parts[part]) for part in PARTS}
    return Splits(
        **{part: np.sort(parts[part]) for part in PARTS}, seed=seed, fingerprints=fingerprints, notes=notes
    )


def _fingerprint(collection: CaptionedImages, rows: NDArray[np.int64]) -> str:
    """Return the SHA-256 (hex) of a part: sorted item ids, each with captions and pixels."""
    digest = hashlib.sha256()
    for item in sorted((collection.items[row] for row in rows), key=lambda item: item.id):
        digest.update(f"{item.id} {item.content}\n".encode())
    return digest.hexdigest()
