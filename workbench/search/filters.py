r"""Filters of a search as text: which items may be found, in a small language.

::

    label:animal and language:ko              both; ``and`` may be left out
    label:(cat, dog) or not style:plain       one of several values; either; the opposite
    caption:"red heart"                       quoted: with blanks, or a word such as ``and``; \" is a quote
    label:ani*   label:*                      begins with; has any value
    size>100000  date<=2024-05                numbers and dates: > >= < <=
    (label:cat or label:dog) and size>10      parentheses

``not`` binds before ``and``, and ``and`` before ``or``. What the fields are, and what an item has in them, is
the adapter's to say. Texts are in Unicode's form NFC.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from workbench.errors import BadInput, BadOptions
from workbench.text import listed, nearest

#: Maximum length of a filter in characters, of values in it, of conditions, and of levels of parentheses and
#: ``not``.
MAX_FILTER_CHARACTERS, MAX_VALUES, MAX_CONDITIONS, MAX_DEPTH = 10_000, 1_000, 50, 20


#: How a condition compares: ``:`` is for equal, or whatever else a field's values are looked up by.
Comparison = Literal[":", "<", "<=", ">", ">="]


_COMPARISONS: tuple[tuple[str, Comparison], ...] = (
    *(("<=", "<="), (">=", ">="), ("<", "<"), (">", ">")),
    *((":", ":"), ("=", ":")),
)


_WORDS = ("and", "or", "not")


_QUOTES = {'"': '"', "“": "”"}


#: What ends an unquoted value, and an unquoted name of a field.
_ENDS_VALUE = '(),"“”'
_ENDS_NAME = f"{_ENDS_VALUE}:<>=!"


#: A name or value that needs no quotes.
_PLAIN_NAME = re.compile(rf"[^\s{re.escape(_ENDS_NAME)}]+")
_PLAIN_VALUE = re.compile(rf"[^\s{re.escape(_ENDS_NAME)}*][^\s{re.escape(_ENDS_VALUE)}*]*")


#: Characters of a filter that an error shows before and behind the place that it is about.
_AROUND = 50


#: Known fields or values that an error lists.
_LISTED = 16


_CONDITION = "A condition is field:value, such as label:animal; values with blanks are quoted."


@dataclass(frozen=True)
class FilterValue:
    """One value of a condition.

    Attributes
    ----------
    text : str
        In NFC.
    prefix : bool
        Whether it ended with ``*``: what begins with the text, and with an empty text any value.
    at : int
        Where it stands in the filter, in characters from 0.
    """

    text: str
    prefix: bool = False
    at: int = dataclasses.field(default=0, compare=False)

    def __str__(self) -> str:
        plain = bool(_PLAIN_VALUE.fullmatch(self.text))
        if self.prefix:
            return f"{self.text}*" if plain or not self.text else f"{_quoted(self.text)}*"
        return self.text if plain and self.text.casefold() not in _WORDS else _quoted(self.text)


@dataclass(frozen=True)
class Condition:
    """A field compared with a value, or with several of which one is enough.

    Attributes
    ----------
    field : str
        As it was typed, in NFC.
    comparison : {":", "<", "<=", ">", ">="}
        Only ``:`` takes several values, and those with ``*``.
    values : tuple of FilterValue
        At least one.
    at : int
        Where the field stands in the filter, in characters from 0.
    """

    field: str
    comparison: Comparison
    values: tuple[FilterValue, ...]
    at: int = dataclasses.field(default=0, compare=False)

    def __str__(self) -> str:
        plain = _PLAIN_NAME.fullmatch(self.field) and self.field.casefold() not in _WORDS
        name = self.field if plain else _quoted(self.field)
        values = ", ".join(map(str, self.values))
        return f"{name}{self.comparison}{values if len(self.values) == 1 else f'({values})'}"


@dataclass(frozen=True)
class Not:
    """What a part does not match."""

    part: Part

    def __str__(self) -> str:
        return f"not {_inside(self.part, (AllOf, AnyOf))}"


@dataclass(frozen=True)
class AllOf:
    """What all of at least two parts match."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return " and ".join(_inside(part, (AnyOf,)) for part in self.parts)


@dataclass(frozen=True)
class AnyOf:
    """What one of at least two parts matches."""

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


Part = Condition | Not | AllOf | AnyOf


_Set = TypeVar("_Set")


@dataclass(frozen=True)
class Filter:
    """A filter that was read; ``str`` writes it in one form, which is read as the same filter.

    Attributes
    ----------
    part : Condition, Not, AllOf or AnyOf
        The whole of it.
    text : str
        As it was typed.
    """

    part: Part
    text: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        return str(self.part)

    def conditions(self) -> Iterator[Condition]:
        """Yield the conditions from left to right."""
        yield from _conditions(self.part)

    def combine(self, items_of: Callable[[Condition], _Set]) -> _Set:
        """Return what the filter matches, from what each condition matches.

        Parameters
        ----------
        items_of : callable
            Returns the items that a condition matches, as something with the operators ``&``, ``|`` and
            ``~``, such as an array of bool.
        """
        return _combined(self.part, items_of)

    def refused(self, problem: str, at: int, *, hint: str = "") -> BadOptions:
        """Return an error about a place in the filter, which it shows.

        Parameters
        ----------
        problem : str
            What is wrong.
        at : int
            The place, in characters from 0.
        hint : str
            What to do.
        """
        return _refusal(self.text or str(self), problem, at, hint)

    def unknown(self, problem: str, name: str, at: int, *, what: str, known: Sequence[str]) -> BadOptions:
        """Return an error about an unknown field or value, which names the one that is probably meant.

        Parameters
        ----------
        problem : str
            What is wrong.
        name : str
            What was given.
        at : int
            The place, in characters from 0.
        what : str
            What the known ones are.
        known : sequence of str
            The most important ones first; the hint lists some.
        """
        meant = f"; did you mean '{near[0]}'?" if (near := nearest(name, known)) else ""
        hint = f"{what}: {listed(known, _LISTED)}." if known else ""
        return self.refused(f"{problem}{meant}", at, hint=hint)


@dataclass(frozen=True)
class FilterField:
    """A field that an index can be filtered by, as suggestions show it.

    Attributes
    ----------
    name : str
        As it is typed.
    kind : {"text", "number", "date", "flag"}
        What is compared; numbers and dates also by ``<`` and ``>``.
    help : str
        A few words.
    values : sequence of (value, count)
        The most frequent values and how many items have each; empty if the values are too many to list.
    more : bool
        Whether there are further values.
    """

    name: str
    kind: Literal["text", "number", "date", "flag"] = "text"
    help: str = ""
    values: Sequence[tuple[str, int]] = ()
    more: bool = False


def parse_filter(text: str) -> Filter:
    """Read a filter.

    Parameters
    ----------
    text : str
        At most 10,000 characters, 50 conditions, 1,000 values and 20 levels of parentheses.

    Raises
    ------
    BadOptions
        The text is no filter; the message shows where, and the hint what is allowed.
    """
    if not isinstance(text, str):
        raise BadInput(f"the filter must be text, got {type(text).__name__}")
    if len(text) > MAX_FILTER_CHARACTERS:
        most = f"{MAX_FILTER_CHARACTERS:,}"
        problem = f"the filter must be at most {most} characters, got {len(text):,}"
        raise BadOptions(problem, [("filter", problem)], hint="Leave some conditions or values out.")
    return Filter(_Reader(text).read(), text)


class _Reader:
    """Reads one filter from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._conditions = 0
        self._values = 0

    def read(self) -> Part:
        if (half := re.search("[\ud800-\udfff]", self._text)) is not None:
            raise self._refused("the text contains an unpaired surrogate", half.start())
        part = self._any_of()
        if self._next():
            raise self._refused(f"unexpected {self._found()}", hint="Join conditions by and, or and not.")
        return part

    def _any_of(self) -> Part:
        parts = [self._all_of()]
        while self._word("or"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else AnyOf(_flat(parts, AnyOf))

    def _all_of(self) -> Part:
        parts = [self._one()]
        while self._word("and") or self._begins_condition():
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else AllOf(_flat(parts, AllOf))

    def _begins_condition(self) -> bool:
        """Return whether a further condition follows without ``and``."""
        one = self._next()
        return bool(one) and (one == "(" or one in _QUOTES or one not in _ENDS_NAME) and not self._is("or")

    def _one(self) -> Part:
        start = self._skipped()
        if self._word("not"):
            with_not = self._deeper(start, self._one)
            return Not(with_not)
        if self._next() == "(":
            self._at += 1
            part = self._deeper(start, self._any_of)
            if self._next() != ")":
                raise self._refused(f"expected ')' for the '(' at column {start + 1}, found {self._found()}")
            self._at += 1
            return part
        return self._condition()

    def _deeper(self, start: int, read: Callable[[], Part]) -> Part:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._refused(f"more than {MAX_DEPTH} levels of parentheses and not", start)
        part = read()
        self._depth -= 1
        return part

    def _condition(self) -> Condition:
        start = self._skipped()
        one = self._next()
        if one and one in _QUOTES:
            name = self._quoted()
        elif match := _PLAIN_NAME.match(self._text, start):
            name = match[0]
            if name.casefold() in _WORDS:
                raise self._refused(f"expected a condition, found '{name}'", hint=_CONDITION)
            self._at = match.end()
        else:
            raise self._refused(f"expected a condition, found {self._found()}", hint=_CONDITION)
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            raise self._refused(
                f"more than {MAX_CONDITIONS} conditions",
                start,
                hint="Several values of a field are one condition: label:(cat, dog).",
            )
        comparison = self._comparison(name, start)
        name = unicodedata.normalize("NFC", name)
        if self._next() != "(":
            return Condition(name, comparison, (self._value(name, comparison),), start)
        if comparison != ":":
            raise self._refused(f"'{comparison}' takes one value, not several")
        opened = self._at
        self._at += 1
        values = [self._value(name, comparison)]
        while self._next() == ",":
            self._at += 1
            values.append(self._value(name, comparison))
        if self._next() != ")":
            raise self._refused(
                f"expected ',' or ')' for the '(' at column {opened + 1}, found {self._found()}",
                hint=f'Several values: {name}:(one, "the other").',
            )
        self._at += 1
        return Condition(name, comparison, tuple(values), start)

    def _comparison(self, name: str, start: int) -> Comparison:
        self._skipped()
        for text, comparison in _COMPARISONS:
            if self._text.startswith(text, self._at):
                self._at += len(text)
                return comparison
        if self._text.startswith("!", self._at):
            raise self._refused(f"'!' is not known after '{name}'", hint=f"not {name}:value is the opposite.")
        raise self._refused(f"'{_cut(name)}' is no condition: ':' is missing", start, hint=_CONDITION)

    def _value(self, name: str, comparison: Comparison) -> FilterValue:
        start = self._skipped()
        one = self._next()
        before = f"{_cut(name)}{comparison}"
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._refused(f"more than {MAX_VALUES:,} values")
        if one and one in _QUOTES:
            text = self._quoted()
            prefix = self._text.startswith("*", self._at)
            self._at += prefix
        else:
            end = start
            while end < len(self._text) and not (self._text[end].isspace() or self._text[end] in _ENDS_VALUE):
                end += 1
            text = self._text[start:end]
            if not text:
                raise self._refused(
                    f"expected a value after '{before}', found {self._found()}", hint=_CONDITION
                )
            if text[0] in _ENDS_NAME:
                raise self._refused(
                    f"expected a value after '{before}', found '{text[0]}'",
                    hint="A value that begins with such a character is quoted.",
                )
            if text.casefold() in _WORDS:
                raise self._refused(
                    f"expected a value after '{before}', found '{text}'",
                    hint=f'If it is the value: {before}"{text}".',
                )
            prefix = text.endswith("*")
            text = text.removesuffix("*")
            if "*" in text:
                raise self._refused(
                    "'*' is allowed only at the end of a value",
                    start + text.index("*"),
                    hint='A "*" inside quotes stands for itself.',
                )
            self._at = end
        if prefix and comparison != ":":
            raise self._refused(f"'{comparison}' takes a value without '*'", start)
        return FilterValue(unicodedata.normalize("NFC", text), prefix, start)

    def _quoted(self) -> str:
        start = self._at
        closing = _QUOTES[self._text[start]]
        out = []
        at = start + 1
        while at < len(self._text) and self._text[at] != closing:
            if self._text[at] == "\\" and self._text[at + 1 : at + 2] in (closing, "\\"):
                at += 1
            out.append(self._text[at : at + 1])
            at += 1
        if at >= len(self._text):
            raise self._refused(f"the quote is not closed by {closing}", start)
        self._at = at + 1
        return "".join(out)

    def _skipped(self) -> int:
        """Go to the next character that is not white space, and return its place."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._at

    def _next(self) -> str:
        """Return the next character that is not white space; empty at the end."""
        self._skipped()
        return self._text[self._at : self._at + 1]

    def _is(self, word: str) -> bool:
        """Return whether a word of the language comes next, and not a field of that name."""
        match = _PLAIN_NAME.match(self._text, self._skipped())
        return match is not None and match[0].casefold() == word

    def _word(self, word: str) -> bool:
        if self._is(word):
            self._at += len(word)
            return True
        return False

    def _found(self) -> str:
        one = self._next()
        if not one:
            return "the end"
        match = _PLAIN_NAME.match(self._text, self._at)
        return f"'{_cut(match[0] if match else one)}'"

    def _refused(self, problem: str, at: int | None = None, *, hint: str = "") -> BadOptions:
        return _refusal(self._text, problem, self._skipped() if at is None else at, hint)


def _refusal(text: str, problem: str, at: int, hint: str) -> BadOptions:
    """Return an error that shows the filter with a caret below the place."""
    start, end = max(0, at - _AROUND), min(len(text), at + _AROUND)
    line = "".join(" " if one.isspace() else one for one in text[start:end])
    # Korean letters are as wide as two others.
    wide = sum(1 + (unicodedata.east_asian_width(one) in "WF") for one in line[: at - start])
    left, right = "…" if start else "", "…" if end < len(text) else ""
    message = f"filter, column {at + 1}: {problem}"
    shown = f"{message}\n  {left}{line}{right}\n  {' ' * (wide + len(left))}^"
    return BadOptions(shown, [("filter", message)], hint=hint)


def _flat(parts: Sequence[Part], kind: type[AllOf] | type[AnyOf]) -> tuple[Part, ...]:
    """Return parts with the parts of those of the same kind in their place."""
    return tuple(inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,)))


def _conditions(part: Part) -> Iterator[Condition]:
    if isinstance(part, Condition):
        yield part
    else:
        for inner in (part.part,) if isinstance(part, Not) else part.parts:
            yield from _conditions(inner)


def _combined(part: Part, items_of: Callable[[Condition], _Set]) -> _Set:
    if isinstance(part, Condition):
        return items_of(part)
    if isinstance(part, Not):
        return ~_combined(part.part, items_of)  # type: ignore[operator, no-any-return]
    total = _combined(part.parts[0], items_of)
    for other in part.parts[1:]:
        if isinstance(part, AllOf):
            total = total & _combined(other, items_of)  # type: ignore[operator]
        else:
            total = total | _combined(other, items_of)  # type: ignore[operator]
    return total


def _inside(part: Part, kinds: tuple[type, ...]) -> str:
    return f"({part})" if isinstance(part, kinds) else str(part)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _cut(text: str, most: int = 40) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
