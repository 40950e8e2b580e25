"""Filters over an index's items: which pictures or captions a search may find.

The language is :mod:`workbench.search.filters`. The fields are those that an index's items have:

==================================== =====================================================================
field                                matches
==================================== =====================================================================
``label``, ``style``, ``group``,     pictures with one of the values, and the captions of such pictures
``split``, ``concept``, ``path``
``language``                         captions in a language, and pictures that have such captions
``caption``                          captions that contain a text, in upper or lower case, and their pictures
``flag``                             ``true`` or ``false``
``id``                               items of the side that is searched
``size``, ``modified``               files of pictures: bytes, and a date in UTC
any other field of an item           by its type: text, number, date or true and false
==================================== =====================================================================

``field:""`` matches items without a value. A field that only the other side has is looked up there: a caption
has the labels of all pictures of its concept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import workbench as wb
from adapters.vlm_quantization.search import item_fields
from adapters.vlm_quantization.search.item_fields import ItemField, Listing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.index.items import Items

#: Bytes of the chosen items that are kept per index, for the next query with the same filter.
KEPT_BYTES = 1 << 26

#: If at most one item in this many is chosen, their rows are kept instead of a mask; the search of codes
#: fetches them one by one then.
_SPARSE = 64

#: Concepts that are looked up on the other side at once.
_CONCEPTS_AT_ONCE = 1 << 20

#: Values that a field suggests.
SUGGESTED = 12

#: Characters of a filter that a note quotes.
_QUOTED = 200

_SIDES = {"images": "captions", "captions": "images"}

_NOUN = {"images": ("picture", "pictures"), "captions": ("caption", "captions")}


@dataclass(frozen=True, eq=False)
class Chosen:
    """The items that a filter leaves.

    Attributes
    ----------
    among : ndarray
        A mask, bool (n,), or if they are few their rows, int64 (m,), ascending.
    count : int
        How many they are.
    text : str
        The filter.
    """

    among: NDArray[np.bool_] | NDArray[np.int64]
    count: int
    text: str

    def holds(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some rows are among the items."""
        kept: NDArray[np.bool_]
        kept = self.among[rows] if self.among.dtype == bool else np.isin(rows, self.among)  # type: ignore[assignment]
        return kept


class ItemFilters:
    """Filters over the two sides of one index; safe to share between threads.

    Parameters
    ----------
    sides : mapping of str to Items
        The items of ``"images"`` and of ``"captions"``.
    """

    def __init__(self, sides: Mapping[str, Items]) -> None:
        self._items = sides
        self._fields: dict[str, dict[str, ItemField]] = {}
        self._others: set[str] = set()
        self._listings: dict[tuple[str, str], Listing] = {}
        self._kept: OrderedDict[tuple[str, str], Chosen] = OrderedDict()
        self._lock = threading.Lock()

    def chosen(self, text: str, side: str) -> Chosen | None:
        """Return the items of a side that a filter leaves; None if the filter is blank.

        The second time it costs nothing.

        Raises
        ------
        workbench.BadOptions
            The text is no filter, or names a field or value that the index does not have.
        """
        if not text.strip():
            return None
        tree = wb.parse_filter(text)
        key = side, str(tree)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            mask = tree.combine(lambda condition: self._mask(condition, side, tree))
            count = int(np.count_nonzero(mask))
            few = count * _SPARSE <= len(mask)
            self._kept[key] = found = Chosen(np.flatnonzero(mask) if few else mask, count, key[1])
            while len(self._kept) > 1 and sum(one.among.nbytes for one in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
            return found

    def describe(self) -> list[wb.FilterField]:
        """Return the fields of both sides with their most frequent values."""
        with self._lock:
            self._read_others()
            out = {}
            for side in ("images", "captions"):
                for one in self._fields_of(side).values():
                    if (name := one.name) in out or not item_fields.is_used(self._items[side], one):
                        continue
                    known = self._listing(side, one) if one.listed else Listing({}, complete=False)
                    values = sorted(known.counts.items(), key=lambda pair: (-pair[1], pair[0]))
                    if one.listed and known.complete and not values:
                        continue  # no item has a value
                    out[name] = wb.FilterField(
                        name,
                        "text" if one.kind == "words" else one.kind,
                        one.help,
                        values[:SUGGESTED],
                        more=len(values) > SUGGESTED or not known.complete,
                    )
            return sorted(out.values(), key=lambda one: (not one.values, one.kind == "flag", one.name))

    # --- one condition --------------------------------------------------------------------------------------

    def _mask(self, condition: wb.Condition, side: str, tree: wb.Filter) -> NDArray[np.bool_]:
        """Return which items of a side match a condition."""
        name = condition.field.casefold()
        own, other = self._fields_of(side), self._fields_of(_SIDES[side])
        if name in own:
            return self._matched(side, own[name], condition, tree)
        if name in other and name != "id" and "concept" in own and "concept" in other:
            there = self._matched(_SIDES[side], other[name], condition, tree)
            return self._of_concepts(there, _SIDES[side], side)
        if self._read_others():
            return self._mask(condition, side, tree)
        known = sorted({one.name for one in (*own.values(), *other.values())})
        problem = f"unknown field {condition.field[:60]!r}"
        raise tree.unknown(problem, name, condition.at, what="Fields", known=known)

    def _matched(
        self, side: str, of: ItemField, condition: wb.Condition, tree: wb.Filter
    ) -> NDArray[np.bool_]:
        matched = item_fields.match(self._items[side], of, condition, tree)
        if matched.absent:
            raise self._unknown(side, of, matched.absent[0], tree)
        return matched.mask

    def _unknown(self, side: str, of: ItemField, value: wb.FilterValue, tree: wb.Filter) -> wb.BadOptions:
        """Return the error about a value that no item has."""
        known = self._listing(side, of) if of.listed else Listing({}, complete=False)
        names = sorted(known.counts, key=lambda one: (-known.counts[one], one))
        text = repr(value.text[:60])
        problem = f"no {_NOUN[side][0]} has the {of.name} {text}"
        if value.prefix:
            problem = f"the {of.name} of no {_NOUN[side][0]} begins with {text}"
        return tree.unknown(problem, value.text, value.at, what=f"Values of {of.name}", known=names)

    def _of_concepts(self, mask: NDArray[np.bool_], there: str, side: str) -> NDArray[np.bool_]:
        """Return which items of a side have a concept of the chosen items of the other side."""
        import pyarrow as pa
        import pyarrow.compute as pc

        out = np.zeros(len(self._items[side]), bool)
        wanted: list[Any] = []

        def look_up() -> None:
            # In one call, which makes its table of the concepts once; the parts are views of the file.
            parts = (batch.column(0) for batch in self._items[side].batches(["concept"]))
            column = pa.chunked_array(parts, pa.string())
            out[:] |= np.asarray(pc.is_in(column, value_set=pc.unique(pa.chunked_array(wanted, pa.string()))))

        row = 0
        for batch in self._items[there].batches(["concept"]):
            chosen = mask[row : row + batch.num_rows]
            row += batch.num_rows
            if chosen.any():
                wanted.append(batch.column(0).filter(pa.array(chosen)).drop_null().cast(pa.string()))
            if sum(map(len, wanted)) >= _CONCEPTS_AT_ONCE:
                look_up()
                wanted.clear()
        if wanted:
            look_up()
        return out

    # --- what the index has ---------------------------------------------------------------------------------

    def _fields_of(self, side: str) -> dict[str, ItemField]:
        """Return the fields of a side by their names in lower case."""
        if side not in self._fields:
            found = item_fields.fields_of(self._items[side])
            self._fields[side] = {name.casefold(): one for name, one in found.items()}
        return self._fields[side]

    def _read_others(self) -> bool:
        """Read the fields that have no column; return whether there are any that were not known."""
        before = sum(map(len, self._fields.values()))
        for side in self._items.keys() - self._others:
            fields = self._fields_of(side)
            for name, one in item_fields.other_fields(self._items[side]).items():
                fields.setdefault(name.casefold(), one)
            self._others.add(side)
        return sum(map(len, self._fields.values())) > before

    def _listing(self, side: str, of: ItemField) -> Listing:
        key = side, of.name
        if key not in self._listings:
            self._listings[key] = item_fields.listing(self._items[side], of)
        return self._listings[key]


def words_of_choice(chosen: Chosen, side: str, items: int, itself: bool = False) -> str:
    """Return a note about how many items of a side a filter leaves.

    Parameters
    ----------
    chosen : Chosen
    side : {"images", "captions"}
    items : int
        How many items the side has.
    itself : bool
        Whether the item that is searched with is one of those left, and not shown.
    """
    text = chosen.text if len(chosen.text) <= _QUOTED else f"{chosen.text[:_QUOTED]}…"
    one, many = _NOUN[side]
    if chosen.count == itself:
        return f"no {'other ' if itself else ''}{one} matches the filter {text}"
    verb = "matches" if chosen.count == 1 else "match"
    return f"{chosen.count:,} of {items:,} {many} {verb} the filter"
