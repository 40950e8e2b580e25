"""Composed queries: weighted texts, pictures and items, from Python values or from a line of text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from workbench.errors import BadInput
from workbench.results.explanation import Term

#: Maximum number of terms, and of pictures among them, each of which is decoded.
MAX_TERMS, MAX_PICTURES = 16, 8


#: Largest weight, with either sign.
MAX_WEIGHT = 100.0


#: The line of text that a composed query may be given as, for messages.
SYNTAX = '+dog -cat, 0.5*dog, +"police car" -red, +dog -item:ID'


_BLANKS = re.compile(r"\s*")
_SIGN = re.compile(r"[+\-−]\s*")
_FACTOR = re.compile(r"([+\-−]?(?:\d+(?:\.\d*)?|\.\d+))[*×·]\s*")
_QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”')
_WORD = re.compile(r"\S+")
_QUOTES = ('"', "“")


def parse_terms(text: str) -> list[tuple[float, Term]]:
    """Return the terms of a line such as ``+dog -cat``, ``0.5*dog -"police car"`` or ``dog -item:ID``.

    A sign begins a term where a blank or nothing is before it, so ``ice-cream`` is one word; a number and a
    star in front are its weight. Words without a sign belong to the term before them, ``+police car`` is one
    text, and words in quotes are a term of their own. ``item:`` names an item by its id, in quotes if that
    has blanks.

    Raises
    ------
    BadInput
        The line is empty, a sign or weight has nothing behind it, or a quote is not closed.
    """
    out: list[tuple[float, Term]] = []
    at = end_of(_BLANKS, text, 0)
    joins = False  # whether a word without a sign continues the last term
    while at < len(text):
        sign = _SIGN.match(text, at)
        at = sign.end() if sign else at
        factor = _FACTOR.match(text, at)
        at = factor.end() if factor else at
        weight = float(factor[1].replace("−", "-")) if factor else 1.0
        if sign and sign[0][0] != "+":
            weight = -weight
        named = text.startswith("item:", at)
        at += 5 * named
        if at >= len(text) or text[at].isspace():
            begun = text[:at].rstrip().rpartition(" ")[2]
            raise BadInput(f"nothing is behind {begun!r} in {text!r}", hint=f"For example: {SYNTAX}")
        value, at, quoted = _value(text, at)
        if not (sign or factor or named or quoted) and joins:
            before, term = out[-1]
            out[-1] = before, Term("text", f"{term.value} {value}")
        else:
            out.append((weight, Term("item" if named else "text", value)))
            joins = not (named or quoted)
        at = end_of(_BLANKS, text, at)
    if not out:
        raise BadInput("the composed query is empty", hint=f"For example: {SYNTAX}")
    return out


def end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Return where a pattern ends that matches at a place of a text, or the place itself."""
    found = pattern.match(text, at)
    return found.end() if found else at


def _value(text: str, at: int) -> tuple[str, int, bool]:
    """Return the word or the quoted words at a place, where they end, and whether they are quoted."""
    if text[at] in _QUOTES:
        quoted = _QUOTED.match(text, at)
        if quoted is None:
            raise BadInput(f"a quote is not closed: {text[at : at + 60]}", hint=f"For example: {SYNTAX}")
        return quoted[1] or quoted[2] or "", quoted.end(), True
    word = _WORD.match(text, at)
    assert word is not None  # noqa: S101 (a blank or the end was seen before)
    return word[0], word.end(), False


def weighted_terms(terms: Any, term_of: Callable[[Any], Term]) -> list[tuple[float, Term]]:
    """Return the weighted terms of a composed query from what Python programs hold; see ``Searcher.compose``.

    Parameters
    ----------
    terms : str or sequence
        A line as for :func:`parse_terms`, or values and pairs of a weight and a value; a value alone has the
        weight 1.
    term_of : callable
        Makes a term of a value.

    Raises
    ------
    BadInput
        See :func:`check_terms`; and what ``term_of`` raises.
    """
    if isinstance(terms, str):
        return check_terms([(weight, term_of(term)) for weight, term in parse_terms(terms)])
    if isinstance(terms, bytes | bytearray) or not isinstance(terms, Sequence):
        raise BadInput(
            f"the terms must be a list or a text, got {type(terms).__name__}",
            hint='Such as [(1, "dog"), (-1, "cat")], or "+dog -cat".',
        )
    _check_count(len(terms))
    pairs = [one if _is_pair(one) else (1.0, one) for one in terms]
    return check_terms([(weight, term_of(value)) for weight, value in pairs])


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and _is_number(value[0])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (hasattr(value, "__float__") and hasattr(value, "dtype"))


def check_terms(terms: Sequence[tuple[Any, Term]]) -> list[tuple[float, Term]]:
    """Return weighted terms that can be composed.

    Raises
    ------
    BadInput
        There are none or more than :data:`MAX_TERMS`, or :data:`MAX_PICTURES` of them pictures; a weight is
        not a finite number other than 0 of at most :data:`MAX_WEIGHT`; or no weight is positive.
    """
    _check_count(len(terms))
    out = []
    for place, (weight, term) in enumerate(terms, 1):
        try:
            number = math.nan if isinstance(weight, bool | str) else float(weight)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not abs(number) <= MAX_WEIGHT:
            raise BadInput(
                f"the weight of term {place} must be a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, "
                f"got {weight!r}"
            )
        if not number:
            raise BadInput(f"the weight of term {place} must not be 0", hint="Leave the term out.")
        out.append((number, term))
    pictures = sum(term.by == "image" for _, term in out)
    if pictures > MAX_PICTURES:
        raise BadInput(f"a composed query may have at most {MAX_PICTURES} pictures, got {pictures}")
    if all(weight < 0 for weight, _ in out):
        raise BadInput(
            "every term is taken away, so nothing is left to search for",
            hint="Give at least one term with plus.",
        )
    return out


def _check_count(count: int) -> None:
    if not 1 <= count <= MAX_TERMS:
        raise BadInput(f"a composed query must have 1 to {MAX_TERMS} terms, got {count:,}")
