"""Splits of a collection into training, validation and test parts.

There are two kinds of held-out pictures:

- *Held-out drawings*: the concept was trained on, in another drawing. Does the model recognise the thing in
  another drawing style?
- *Held-out concepts*: neither the concept nor any sibling of it was trained on. Siblings share a base word
  (man running, woman running), a picture, or a concept id; they are never separated.

All choices are made by SHA-256 of the seed and the names, so the same collection and seed give the same
splits on every machine.

A collection whose items carry a split is not drawn from: its author's splits are used, as in Karpathy's
protocol (train with restval, val, test) and in DCMH's (queries ranked against a gallery that contains the
training pictures).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

import workbench as wb
from adapters.vlm_quantization.data.split_names import SPLITS, VAL_SHARE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.data.collection import CaptionedImages, Item


#: Shares of the concepts that are held out; the rest is trained on.
VAL_CONCEPTS = 0.08


TEST_CONCEPTS = 0.17


#: Shares of the trained concepts with several drawings that hold out one drawing.
VAL_DRAWINGS = 0.10


TEST_DRAWINGS = 0.45


#: The parts of drawn splits: disjoint, and together the whole collection.
PARTS = ("train", "val_drawings", "test_drawings", "val_concepts", "test_concepts")


#: The parts of given splits. Only the gallery may overlap others: the training and the validation part.
GIVEN_PARTS = ("train", "val", "test", "query", "gallery")


#: The parts of a collection of which some pictures carry a split and others do not.
ALL_PARTS = (*GIVEN_PARTS, *PARTS[1:])


#: The most training pictures that are validated on where a collection has no validation split: more make a
#: validation slow without making it surer.
MOST_VAL = 5_000


def _no_rows() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Splits:
    """Rows of the items in the collection, by part; sorted int64 arrays.

    Attributes
    ----------
    train : ndarray of int64
        Training items.
    val_drawings, test_drawings : ndarray of int64
        Drawn splits: held-out drawings of concepts that are trained on in another drawing.
    val_concepts, test_concepts : ndarray of int64
        Drawn splits: every drawing of concepts that are not trained on at all.
    seed : int
        Seed the splits were drawn with.
    fingerprints : dict of str to str
        For each part, SHA-256 (hex) over its sorted item ids, each with its content.
    notes : tuple of str
        Remarks for the reader, such as why a part is empty.
    given : bool
        Whether these are the splits of the collection's author; drawn parts beside them are of the pictures
        that carry none.
    val, test : ndarray of int64
        Given splits: validation and test items.
    query, gallery : ndarray of int64
        Given splits: items that are asked for, and those they are ranked against; the gallery contains the
        training items.
    """

    train: NDArray[np.int64] = field(repr=False)
    val_drawings: NDArray[np.int64] = field(repr=False)
    test_drawings: NDArray[np.int64] = field(repr=False)
    val_concepts: NDArray[np.int64] = field(repr=False)
    test_concepts: NDArray[np.int64] = field(repr=False)
    seed: int = 0
    fingerprints: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    given: bool = False
    val: NDArray[np.int64] = field(default_factory=_no_rows, repr=False)
    test: NDArray[np.int64] = field(default_factory=_no_rows, repr=False)
    query: NDArray[np.int64] = field(default_factory=_no_rows, repr=False)
    gallery: NDArray[np.int64] = field(default_factory=_no_rows, repr=False)

    @property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Rows by part; beside given splits, empty parts are left out."""
        if not self.given:
            return {part: getattr(self, part) for part in PARTS}
        return {part: rows for part in ALL_PARTS if len(rows := getattr(self, part))}

    @property
    def counts(self) -> dict[str, int]:
        """Number of pictures in each part."""
        return {part: len(rows) for part, rows in self.parts.items()}

    @property
    def unseen(self) -> NDArray[np.int64]:
        """Rows of the items of which the training part shows nothing, sorted."""
        drawn = np.concatenate([self.val_concepts, self.test_concepts])
        if not self.given:
            return drawn
        held = np.concatenate([self.val, self.test, self.query, self.gallery, drawn])
        return np.setdiff1d(held, self.train)

    def without_flags(self, collection: CaptionedImages) -> Splits:
        """Return the same splits with flags left out of every part."""
        flag = np.array([item.flag for item in collection.items], dtype=bool)
        parts = {part: rows[~flag[rows]] for part, rows in self.parts.items()}
        return _splits(collection, parts, self.seed, self.notes, given=self.given)


def has_splits(collection: CaptionedImages) -> bool:
    """Return whether the collection's author made splits; one alone, as of a file of test pictures, is none.

    ``train`` and ``restval`` count as one; pictures that carry none, as of a joined collection, are another.
    """
    names = {"train" if item.split == "restval" else item.split for item in collection.items}
    return len(names) > 1


def rows_of_split(collection: CaptionedImages, split: str) -> NDArray[np.int64]:
    """Return the rows of the items that carry a split, sorted."""
    rows = [row for row, item in enumerate(collection.items) if item.split == split]
    return np.array(rows, dtype=np.int64)


def make_splits(
    collection: CaptionedImages,
    seed: int = 0,
    *,
    restval: bool = True,
    val_share: float = VAL_SHARE,
    alike: Iterable[tuple[int, int]] = (),
) -> Splits:
    """Split a collection into training and held-out parts.

    Where items carry a split, these splits are used. Else, whole groups of siblings go to one side: about
    17 % of the concepts are held out for the test and 8 % for validation, in the same proportion for flags
    and other pictures. Of the trained concepts with several drawings, 45 % hold out one drawing for the test
    and 10 % for validation.

    Parameters
    ----------
    collection : CaptionedImages
        Any collection; without base words each item is its own group, but equal pictures stay together.
    seed : int
        Seed of the random choices.
    restval : bool
        Given splits: whether the split ``restval`` is trained on, as in most work on Karpathy's splits.
    val_share : float
        Given splits: share of the training items to validate on if there is no split ``val``, 0 to 1; with 0,
        nothing is validated on.
    alike : iterable of (int, int)
        Drawn splits: rows of pictures that are kept on one side, such as near duplicates.

    Returns
    -------
    Splits
        Drawn splits are disjoint and together the whole collection.

    Raises
    ------
    BadInput
        The collection is empty, or its splits leave nothing to train on.
    """
    items = collection.items
    if not items:
        raise wb.BadInput("an empty collection cannot be split")
    if has_splits(collection):
        return _given(collection, seed, alike, restval=restval, val_share=val_share)
    looks = _looks(items, alike)
    family = _united((item.concept, item.base, look) for item, look in zip(items, looks, strict=True))
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
    drawings = _hold_out_drawings(collection, looks, trained, seed)
    for row in trained:
        parts[drawings.get(row, "train")].append(row)
    notes = []
    if not drawings:
        notes.append("No concept has a second picture to train on, so no drawings are held out.")
    if not parts["test_concepts"]:
        notes.append("The collection is too small to hold out concepts.")
    if alone := next((item.split for item in items if item.split), ""):
        notes.append(f"Every picture is in the split {alone}: what is held out is drawn.")
    arrays = {part: np.array(rows, dtype=np.int64) for part, rows in parts.items()}
    return _splits(collection, arrays, seed, tuple(notes))


def _draw(seed: int, what: str, name: str) -> bytes:
    """Return the random sort key of a name, the same on every machine."""
    return hashlib.sha256(f"{seed}\0{what}\0{name}".encode()).digest()


def _looks(items: Sequence[Item], alike: Iterable[tuple[int, int]]) -> list[str]:
    """Return for each item what it looks like: equal for equal pictures and for those that are alike."""
    pairs = list(alike)
    if not pairs:
        return [item.digest for item in items]
    return [f"row {first}" for first in _united(([item.digest] for item in items), pairs)]


def _united(keys: Iterable[Iterable[str]], pairs: Iterable[tuple[int, int]] = ()) -> list[int]:
    """Return for each row the first row it is connected to, directly or through others.

    Rows are connected by shared keys, and by being a pair.
    """
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
    for one, other in pairs:
        own, other = root(one), root(other)
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


def _hold_out_drawings(
    collection: CaptionedImages, looks: Sequence[str], trained: Sequence[int], seed: int
) -> dict[int, str]:
    """Choose which trained concepts hold out one drawing, and which drawing."""
    items = collection.items
    # Concepts that share a picture (flags do) must hold out the same drawing.
    twins = _united((items[row].concept, looks[row]) for row in trained)
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
        kept = {looks[row] for row in rest}
        covered = {items[row].concept for row in rest} >= {items[row].concept for row in back}
        if covered and not any(looks[row] in kept for row in back):
            choices.append((_draw(seed, "drawing", name), back))
    choices.sort()
    first, second = round(len(choices) * TEST_DRAWINGS), round(len(choices) * (TEST_DRAWINGS + VAL_DRAWINGS))
    out: dict[int, str] = {}
    for part, chosen in (("test_drawings", choices[:first]), ("val_drawings", choices[first:second])):
        out |= {row: part for _, back in chosen for row in back}
    return out


def _given(
    collection: CaptionedImages,
    seed: int,
    alike: Iterable[tuple[int, int]],
    *,
    restval: bool,
    val_share: float,
) -> Splits:
    """Return the splits that the items carry, and drawn ones of those that carry none."""
    rows = {name: rows_of_split(collection, name) for name in SPLITS}
    notes = [
        f"Splits of the collection: {', '.join(f'{len(r):,} {name}' for name, r in rows.items() if len(r))}."
    ]
    train = rows["train"]
    if len(rows["restval"]):
        train = np.union1d(train, rows["restval"]) if restval else train
        notes.append(
            f"The {len(rows['restval']):,} pictures of restval are {'' if restval else 'not '}trained on."
        )
    gallery = _no_rows()
    if len(rows["query"]):
        if not len(train):
            train = rows["gallery"]
            notes.append("No split is named train: the model trains on the whole gallery.")
        gallery = np.union1d(rows["gallery"], train)
        notes.append(
            f"Queries are ranked against the gallery of {len(gallery):,} pictures, "
            f"which contains the {len(train):,} training pictures."
        )
    elif len(rows["gallery"]):
        raise wb.BadInput(
            f"{collection.name!r} has a split gallery but no split query",
            hint="Name the pictures that are asked for: split=query.",
        )
    val = rows["val"]
    loose = _loose(collection, seed, alike)
    train = np.union1d(train, loose["train"])
    notes += _loose_notes(loose)
    if not len(val) and not (len(loose["val_drawings"]) or len(loose["val_concepts"])) and val_share:
        val = _val_of(collection, train, seed, val_share)
        train = np.setdiff1d(train, val)
        if len(val):
            notes.append(f"There is no split val: {len(val):,} training pictures are validated on instead.")
    if not len(train):
        raise wb.BadInput(
            f"the splits of {collection.name!r} leave no pictures to train on: it has "
            f"{', '.join(name for name in SPLITS if len(rows[name]))}",
            hint="Put pictures in the split train.",
        )
    parts = {**loose, "train": train, "val": val, "gallery": gallery}
    parts |= {name: rows[name] for name in ("test", "query")}
    return _splits(collection, parts, seed, tuple(notes), given=True)


def _loose(
    collection: CaptionedImages, seed: int, alike: Iterable[tuple[int, int]]
) -> dict[str, NDArray[np.int64]]:
    """Return drawn parts of the items that carry no split, as rows of the whole collection."""
    from adapters.vlm_quantization.data.collection import CaptionedImages

    rows = rows_of_split(collection, "")
    if not len(rows):
        return dict.fromkeys(PARTS, rows)
    place = {row: at for at, row in enumerate(rows.tolist())}
    drawn = make_splits(
        CaptionedImages(collection.name, [collection.items[row] for row in rows.tolist()]),
        seed,
        alike=[(place[one], place[other]) for one, other in alike if one in place and other in place],
    )
    return {part: rows[places] for part, places in drawn.parts.items()}


def _loose_notes(parts: Mapping[str, NDArray[np.int64]]) -> list[str]:
    total = sum(map(len, parts.values()))
    shown = ", ".join(f"{len(rows):,} {part.replace('_', ' ')}" for part, rows in parts.items() if len(rows))
    if not total:
        return []
    some = (
        "1 picture carries no split; its part is"
        if total == 1
        else f"{total:,} pictures carry no split; theirs are"
    )
    return [f"{some} drawn: {shown}."]


def _val_of(
    collection: CaptionedImages, train: NDArray[np.int64], seed: int, share: float
) -> NDArray[np.int64]:
    """Choose training items to validate on, without separating siblings and equal pictures."""
    items = [collection.items[row] for row in train.tolist()]
    family = _united((item.concept, item.base, item.digest) for item in items)
    members: dict[int, list[int]] = {}
    for place, number in enumerate(family):
        members.setdefault(number, []).append(place)
    room = min(round(len(items) * share), MOST_VAL)
    out: list[int] = []
    for number in sorted(members, key=lambda number: _draw(seed, "val", items[number].id)):
        if len(out) + len(members[number]) <= room:
            out += members[number]
    return np.sort(train[out])


def _splits(
    collection: CaptionedImages,
    parts: Mapping[str, NDArray[np.int64]],
    seed: int,
    notes: tuple[str, ...],
    *,
    given: bool = False,
) -> Splits:
    rows = {part: np.sort(parts.get(part, _no_rows())) for part in dict.fromkeys([*PARTS, *GIVEN_PARTS])}
    named = [part for part in ALL_PARTS if len(rows[part])] if given else PARTS
    fingerprints = {part: fingerprint(collection, rows[part]) for part in named}
    return Splits(**rows, seed=seed, fingerprints=fingerprints, notes=notes, given=given)


def fingerprint(collection: CaptionedImages, rows: NDArray[np.int64]) -> str:
    """Return the SHA-256 (hex) of a part: sorted item ids, each with captions and pixels."""
    digest = hashlib.sha256()
    for item in sorted((collection.items[row] for row in rows), key=lambda item: item.id):
        digest.update(f"{item.id} {item.content}\n".encode())
    return digest.hexdigest()
