"""Fields of an index's items: which there are, what values they have, and which items match a condition.

Items are rows of an Arrow table, which may be memory-mapped. A condition reads one column, a record batch at
a time, so memory is bounded by that and by one bool per item.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

import workbench as wb

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.vlm_quantization.index.items import Items

#: Rows whose values are counted for suggestions; of more, record batches at equal distances are.
ROWS_COUNTED = 1_000_000

#: A field with more values than this in the rows that are counted is searched and not listed.
MOST_LISTED = 1_000

Kind = Literal["text", "words", "number", "date", "flag"]

#: Fields that are called otherwise than the column, by column; None: not a field.
_NAMES: Mapping[str, str | None] = {
    "labels": "label",
    "subtitle": None,
    "other": None,
    "file_size": "size",
    "file_mtime": "modified",
}

#: The column of JSON objects with the fields that have no column of their own, and how many of them are read.
_OTHER, _MOST_OTHERS = "other", 100

#: Fields that tell where the files of pictures are. So does ``concept``: of a picture without captions it is
#: the id, and that a path.
PRIVATE = frozenset({"id", "concept", "path", "size", "modified"})

#: Fields whose values are never listed: there are about as many as items.
_UNLISTED = frozenset({"id", "concept", "path", "caption"})

_HELP = {
    "caption": "words in a caption",
    "concept": "what a picture shows, as the collection calls it",
    "flag": "flags of countries and regions",
    "group": "heading in the collection",
    "id": "ids of items",
    "label": "labels of pictures",
    "language": "languages of captions",
    "modified": "when a file was changed (UTC)",
    "path": "files, relative to their common folder",
    "size": "size of a file in bytes",
    "split": "part of the collection",
    "style": "drawing styles",
}

_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")

_DATE = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?)?)?)?Z?"
)

#: How a date in a text begins, as a regular expression of Arrow.
_ISO = r"^[0-9]{4}(-[0-9]{2}|$)"

_FLAGS = {"true": True, "yes": True, "false": False, "no": False}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class ItemField:
    """A field of one side's items.

    Attributes
    ----------
    name : str
        As it is typed.
    column : str
        The column that holds it.
    kind : {"text", "words", "number", "date", "flag"}
        Text is compared as a whole, words are looked for within it.
    part : {"", "keys", "values", "json"}
        Which part of a column of mappings; or the value of this name in a column of JSON objects.
    values : DataType or None
        The Arrow type of values that are read from JSON.
    """

    name: str
    column: str
    kind: Kind
    part: Literal["", "keys", "values", "json"] = ""
    values: Any = None

    @property
    def help(self) -> str:
        """A few words about it."""
        return _HELP.get(self.name, "")

    @property
    def listed(self) -> bool:
        """Whether its values can be few enough to list."""
        return self.kind == "flag" or (self.kind == "text" and self.name not in _UNLISTED)


class Listing(NamedTuple):
    """The values of a field, by how many values of items they are, and whether these are all there are."""

    counts: Mapping[str, int]
    complete: bool


def fields_of(items: Items) -> dict[str, ItemField]:
    """Return the fields of items that have a column, by name."""
    out: dict[str, ItemField] = {}
    columns = {one.name: one.type for one in items.schema}
    if _is_mapping(columns.get("captions")):
        out["caption"] = ItemField("caption", "captions", "words", "values")
        out["language"] = ItemField("language", "captions", "text", "keys")
    for column, kind in columns.items():
        name = _NAMES.get(column, column)
        if name is None or name in out or column == "captions":
            continue
        found = "words" if name == "caption" else "date" if name == "modified" else _kind_of(kind)
        if found is not None:
            out[name] = ItemField(name, column, found)
    return out


def other_fields(items: Items) -> dict[str, ItemField]:
    """Return the fields of items that have no column, by name; this reads their JSON.

    Values of several types, and those that are no text, number or list of such, are compared as texts.
    """
    import pyarrow as pa

    if _OTHER not in items.schema.names:
        return {}
    kinds: dict[str, set[type]] = {}
    lists: set[str] = set()
    for batch in items.batches([_OTHER]):
        for text in batch.column(0).drop_null().to_pylist():
            for name, value in json.loads(text).items():
                if name not in kinds and len(kinds) >= _MOST_OTHERS:
                    continue
                kinds.setdefault(name, set()).update(map(type, value if isinstance(value, list) else [value]))
                if isinstance(value, list):
                    lists.add(name)
    out = {}
    for name, found in kinds.items():
        found.discard(type(None))
        numbers = found <= {int, float}
        kind: Kind = "flag" if found == {bool} else "number" if found and numbers else "text"
        values = {"flag": pa.bool_(), "number": pa.float64(), "text": pa.string()}[kind]
        out[name] = ItemField(name, _OTHER, kind, "json", pa.list_(values) if name in lists else values)
    return out


def _from_json(array: Any, of: ItemField) -> Any:
    """Return the values of a field from an array of JSON objects."""
    import pyarrow as pa

    listed = pa.types.is_list(of.values)

    def value_of(one: Any) -> Any:
        return one if one is None or of.kind != "text" or isinstance(one, str) else json.dumps(one)

    out = []
    for text in array.to_pylist():
        value = None if text is None else json.loads(text).get(of.name)
        if listed and value is not None:
            out.append([value_of(one) for one in (value if isinstance(value, list) else [value])])
        else:
            out.append(value_of(value))
    return pa.array(out, of.values)


def _is_mapping(kind: Any) -> bool:
    import pyarrow.types as types

    return kind is not None and types.is_map(kind)


def _kind_of(kind: Any) -> Kind | None:
    """Return how values of an Arrow type are compared; None if they are not."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return _kind_of(kind.value_type)
    if types.is_dictionary(kind):
        return _kind_of(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_boolean(kind):
        return "flag"
    if types.is_integer(kind) or types.is_floating(kind):
        return "number"
    return "date" if types.is_timestamp(kind) or types.is_date(kind) else None


# --- reading ------------------------------------------------------------------------------------------------


class _Part(NamedTuple):
    """Values of some rows: the first row, how many rows, the values, and the row of each value from there."""

    start: int
    rows: int
    values: Any
    parents: NDArray[np.int64] | None

    def of_rows(self, matched: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return whether any value of each row is matched."""
        if self.parents is None:
            return matched
        out = np.zeros(self.rows, bool)
        out[self.parents[matched]] = True
        return out


def _parts(items: Items, of: ItemField, every: int = 1) -> Iterator[_Part]:
    """Yield the values of a field, a record batch at a time."""
    start = 0
    for batch in items.batches([of.column], every):
        array = batch.column(0)
        values, parents = _leaves(_from_json(array, of) if of.part == "json" else array, of.part)
        yield _Part(start, len(array), values, parents)
        start += len(array)


def _leaves(array: Any, part: str) -> tuple[Any, NDArray[np.int64] | None]:
    """Return the values of an array of lists or mappings, and the row of each; of others the array itself."""
    import pyarrow.types as types

    parents: NDArray[np.int64] | None = None
    while types.is_list(array.type) or types.is_large_list(array.type) or types.is_map(array.type):
        ends = np.asarray(array.offsets, np.int64)
        rows = np.repeat(np.arange(len(array)), np.diff(ends))
        of_map = types.is_map(array.type)
        inner = (array.keys if part == "keys" else array.items) if of_map else array.values
        inner = inner.slice(int(ends[0]), int(ends[-1] - ends[0]))
        if array.null_count:  # what lies below a missing list counts as missing
            there = np.asarray(array.is_valid())[rows]
            inner, rows = inner.filter(there), rows[there]
        parents = rows if parents is None else parents[rows]
        array = inner
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array, parents


def is_used(items: Items, of: ItemField) -> bool:
    """Return whether any item has a value, among those that :func:`listing` counts."""
    every = -(-len(items) // ROWS_COUNTED) or 1
    return any(part.values.null_count < len(part.values) for part in _parts(items, of, every))


def listing(items: Items, of: ItemField) -> Listing:
    """Count the values of a field, in about :data:`ROWS_COUNTED` rows."""
    import pyarrow.compute as pc

    every = -(-len(items) // ROWS_COUNTED) or 1
    counts: Counter[str] = Counter()
    for part in _parts(items, of, every):
        found = pc.value_counts(part.values.drop_null())
        for one in found if len(found) <= MOST_LISTED else ():
            value = one["values"].as_py()
            counts[str(value).lower() if of.kind == "flag" else value] += one["counts"].as_py()
        if max(len(found), len(counts)) > MOST_LISTED:
            return Listing({}, complete=False)
    counts.pop("", None)
    return Listing(counts, complete=every == 1)


# --- conditions ---------------------------------------------------------------------------------------------


@dataclass
class Matched:
    """The items that a condition matches, bool (n,), and the values of it that no item has."""

    mask: NDArray[np.bool_]
    absent: list[wb.FilterValue] = field(default_factory=list)


def match(items: Items, of: ItemField, condition: wb.Condition, tree: wb.Filter) -> Matched:
    """Return which items match a condition.

    Raises
    ------
    workbench.BadOptions
        The field cannot be compared in that way, or a value is not a number, date or flag.
    """
    test: _Test
    if of.kind == "flag":
        test = _Flags(of, condition, tree)
    elif of.kind in ("number", "date") or condition.comparison != ":":
        test = _Ranges(of, condition, tree)
    else:
        test = _Texts(of, condition)
    out = np.zeros(len(items), bool)
    for part in _parts(items, of):
        out[part.start : part.start + part.rows] = test.rows(part)
    return Matched(out, test.absent())


class _Test:
    """Finds the rows that match the values of a condition."""

    def __init__(self, condition: wb.Condition) -> None:
        # An empty text in quotes is what an item without a value has, and a star alone is any value.
        self._empty = any(not one.text and not one.prefix for one in condition.values)
        self._any = any(not one.text and one.prefix for one in condition.values)
        self._values = [one for one in condition.values if one.text]

    def rows(self, part: _Part) -> NDArray[np.bool_]:
        matched = part.of_rows(self._matched(part.values)) if self._values else np.zeros(part.rows, bool)
        if self._empty or self._any:
            there = part.of_rows(self._there(part.values))
            matched |= (there if self._any else False) | (~there if self._empty else False)
        return matched

    def absent(self) -> list[wb.FilterValue]:
        return []

    def _matched(self, values: Any) -> NDArray[np.bool_]:
        raise NotImplementedError

    def _there(self, values: Any) -> NDArray[np.bool_]:
        return np.asarray(values.is_valid())


class _Texts(_Test):
    """Whole texts, beginnings of texts, or words within them."""

    def __init__(self, of: ItemField, condition: wb.Condition) -> None:
        super().__init__(condition)
        self._words = of.kind == "words"
        self._whole = {
            form: one
            for one in self._values
            if not one.prefix and not self._words
            for form in _forms(one.text)
        }
        self._others = [one for one in self._values if one.prefix or self._words]
        self._seen: set[wb.FilterValue] = set()

    def absent(self) -> list[wb.FilterValue]:
        return [] if self._words else [one for one in self._values if one not in self._seen]

    def _there(self, values: Any) -> NDArray[np.bool_]:
        import pyarrow.compute as pc

        return _bools(pc.not_equal(values, ""))

    def _matched(self, values: Any) -> NDArray[np.bool_]:
        import pyarrow as pa
        import pyarrow.compute as pc

        out = np.zeros(len(values), bool)
        if self._whole:
            forms = list(self._whole)
            places = pc.index_in(values, value_set=pa.array(forms, values.type))
            out |= np.asarray(places.is_valid())
            found = pc.unique(places.drop_null()).to_pylist()
            self._seen.update(self._whole[forms[place]] for place in found)
        for one in self._others:
            find = pc.starts_with if one.prefix else pc.match_substring
            for form in _forms(one.text):
                hits = _bools(find(values, form, ignore_case=self._words))
                if hits.any():
                    self._seen.add(one)
                    out |= hits
        return out


class _Flags(_Test):
    def __init__(self, of: ItemField, condition: wb.Condition, tree: wb.Filter) -> None:
        super().__init__(condition)
        if condition.comparison != ":":
            raise tree.refused(
                f"'{of.name}' is true or false and has no order", condition.at, hint=f"{of.name}:true"
            )
        self._wanted = set()
        for one in self._values:
            flag = None if one.prefix else _FLAGS.get(one.text.casefold())
            if flag is None:
                problem = f"'{of.name}' is true or false, got {one.text!r}"
                raise tree.refused(problem, one.at, hint=f"{of.name}:true or {of.name}:false")
            self._wanted.add(flag)

    def _matched(self, values: Any) -> NDArray[np.bool_]:
        import pyarrow.compute as pc

        out = np.zeros(len(values), bool)
        for one in self._wanted:
            out |= _bools(pc.equal(values, one))
        return out


class _Range(NamedTuple):
    """Numbers from ``low`` to below ``high``; None: without end."""

    low: Fraction | int | None
    high: Fraction | int | None


class _Ranges(_Test):
    """Numbers and dates: equal to a value, or on one side of it; dates in texts too."""

    def __init__(self, of: ItemField, condition: wb.Condition, tree: wb.Filter) -> None:
        super().__init__(condition)
        if of.kind == "words":
            raise tree.refused(
                f"'{of.name}' is text and has no order", condition.at, hint=f'{of.name}:"some words"'
            )
        self._kind = of.kind
        self._comparison = condition.comparison
        self._numbers: list[Fraction] = []
        self._dates: list[tuple[datetime, datetime]] = []
        self._texts: list[str] = []
        for one in condition.values:
            if not one.text and condition.comparison == ":":
                continue
            self._take(of, one, tree)

    def _take(self, of: ItemField, one: wb.FilterValue, tree: wb.Filter) -> None:
        if one.prefix:
            raise tree.refused(f"'{of.name}' is a {of.kind}, and '*' is for texts", one.at)
        if of.kind == "number":
            if not _NUMBER.fullmatch(one.text):
                hint = f"Such as {of.name}>=1000."
                raise tree.refused(f"'{of.name}' is a number, got {one.text[:60]!r}", one.at, hint=hint)
            self._numbers.append(Fraction(one.text))
            return
        period = _period(one.text)
        if period is None:
            what = "a date" if of.kind == "date" else "text, which has an order only as dates"
            hint = f"A date is 2024, 2024-05, 2024-05-31 or 2024-05-31T12:30: {of.name}>=2024-05."
            raise tree.refused(f"'{of.name}' is {what}, got {one.text[:60]!r}", one.at, hint=hint)
        self._dates.append(period)
        self._texts.append(one.text.removesuffix("Z").replace(" ", "T"))

    def _matched(self, values: Any) -> NDArray[np.bool_]:
        import pyarrow as pa
        import pyarrow.types as types

        out = np.zeros(len(values), bool)
        if self._kind == "text":
            for text in self._texts:
                out |= self._in_texts(values, text)
            return out
        if types.is_floating(values.type):
            for number in self._numbers:
                out |= _compare(values, self._comparison, float(number))
            return out
        unit, step = 1, 1
        if types.is_timestamp(values.type):
            unit, values = _PER_SECOND[values.type.unit], values.cast(pa.int64())
        elif types.is_date32(values.type):
            step, values = 86_400, values.cast(pa.int32())
        elif types.is_date64(values.type):
            unit, values = 1_000, values.cast(pa.int64())
        elif self._kind == "date":
            unit = 10**9  # times of files are in nanoseconds
        for low, high in self._ranges(unit, step):
            out |= _within(values, low, high)
        return out

    def _ranges(self, unit: int, step: int) -> Iterator[tuple[int | None, int | None]]:
        """Yield ranges of whole numbers: from the first to below the second."""
        for number in self._numbers:
            above, at_least = number.__floor__() + 1, number.__ceil__()
            yield _ends(self._comparison, at_least, above)
        for begin, end in self._dates:
            seconds = [(one - _EPOCH) // timedelta(seconds=1) for one in (begin, end)]
            first, after = (-(-one * unit // step) for one in seconds)  # rounded up
            yield _ends(self._comparison, first, after)

    def _in_texts(self, values: Any, text: str) -> NDArray[np.bool_]:
        """Compare dates in texts: they are in the order of their letters."""
        import pyarrow.compute as pc

        begins = _bools(pc.starts_with(values, text))
        if self._comparison in ("<", "<="):
            before = _bools(pc.less(values, text)) & _bools(pc.match_substring_regex(values, _ISO))
            return before | begins if self._comparison == "<=" else before & ~begins
        after = _bools(pc.greater(values, text)) & _bools(pc.match_substring_regex(values, _ISO))
        return after | begins if self._comparison == ">=" else after & ~begins


def _ends(comparison: str, first: int, after: int) -> tuple[int | None, int | None]:
    """Return the range of whole numbers on one side of those from ``first`` to below ``after``."""
    return {
        ":": (first, after),
        ">": (after, None),
        ">=": (first, None),
        "<": (None, first),
        "<=": (None, after),
    }[comparison]


def _within(values: Any, low: int | None, high: int | None) -> NDArray[np.bool_]:
    """Return which whole numbers are from ``low`` to below ``high``, whatever fits their type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    limits = np.iinfo(values.type.to_pandas_dtype())
    out = np.asarray(values.is_valid())
    if (low is not None and low > limits.max) or (high is not None and high <= limits.min):
        return np.zeros(len(values), bool)
    if low is not None and low > limits.min:
        out = out & _bools(pc.greater_equal(values, pa.scalar(low, values.type)))
    if high is not None and high <= limits.max:
        out = out & _bools(pc.less(values, pa.scalar(high, values.type)))
    return out


def _compare(values: Any, comparison: str, number: float) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    compare = {
        ":": pc.equal,
        ">": pc.greater,
        ">=": pc.greater_equal,
        "<": pc.less,
        "<=": pc.less_equal,
    }[comparison]
    return _bools(compare(values, number))


def _bools(values: Any) -> NDArray[np.bool_]:
    """Return an Arrow array of bool as numpy's; missing values are False."""
    return np.asarray(values.fill_null(False))


def _forms(text: str) -> tuple[str, ...]:
    """Return the forms in which a text may be stored: collections made on a Mac decompose letters."""
    return tuple(dict.fromkeys((text, unicodedata.normalize("NFD", text))))


def _period(text: str) -> tuple[datetime, datetime] | None:
    """Return the begin and the end, UTC, of a year, month, day, minute or second; None if it is none."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    numbers = [int(one) for one in match.groups() if one is not None]
    try:
        begin = datetime(*[*numbers, *(1, 1)[len(numbers) - 1 :]], tzinfo=UTC)  # type: ignore[misc,arg-type]
        if len(numbers) == 1:
            return begin, begin.replace(year=begin.year + 1)
        if len(numbers) == 2:
            return begin, (begin + timedelta(days=31)).replace(day=1)
        length = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}[len(numbers)]
        return begin, begin + length
    except (ValueError, OverflowError):
        return None
