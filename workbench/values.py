"""Validate and convert logged values: numbers, steps, whole curves, and settings as plain JSON."""

from __future__ import annotations

import dataclasses
import math
import operator
import os
import re
import warnings
from argparse import Namespace
from collections import deque
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from decimal import Decimal
from enum import Enum
from types import NoneType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from pydantic import BaseModel

from workbench.errors import BadInput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

#: What describes a run: its settings, and its tags.
Settings: TypeAlias = "Mapping[str, Any] | BaseModel | Namespace | SimpleNamespace | DataclassInstance"
Tags: TypeAlias = Mapping[str, Any] | Collection[str]

LOWEST_STEP, HIGHEST_STEP = -(2**63), 2**63 - 1


#: The key of a number that JSON does not have, and its texts.
NUMBER = "$number"
_NOT_FINITE = ("nan", "inf", "-inf")

#: Maximum number of characters of a value that is kept as text, and of one in an error message.
_TEXT_CHARACTERS = 1000

#: Maximum number of places that a warning names, and of characters of each.
_PLACES, _PLACE_CHARACTERS = 5, 80

#: Maximum number of elements of an array in a description; a larger one is described by shape and type.
_ARRAY_NUMBERS = 1000

#: Packages, and kinds of their objects, whose text is all there is to say: ``float32``, ``cuda:0``.
_FAMILIES = frozenset({"numpy", "torch", "jax", "jaxlib", "ml_dtypes"})
_NAMED_KINDS = frozenset({"dtype", "device", "layout", "memory_format", "Size"})

#: Where the warning points at: the caller of ``start_run``.
_CALLER = 5


#: Seconds from 1970 to the end of the year 9999, the last that dates can show.
END_OF_TIME = 253_402_300_800


#: Maximum nesting depth of lists and dictionaries. The recursion limit differs between Python versions.
MOST_NESTED = 100


def known_time(seconds: float | None) -> float | None:
    """Return a time in seconds since 1970, or None if it is no time that a date can show.

    Other tools record times in milliseconds, or NaN, and a missing start as 0. Such a time is unknown: the
    run that has it is still a run.
    """
    if seconds is None or not 0 < seconds < END_OF_TIME:  # False for NaN
        return None
    return seconds


def as_moment(seconds: float | None) -> datetime | None:
    """Return a time in seconds since 1970 as a date, or None if it is unknown; see :func:`known_time`."""
    known = known_time(seconds)
    return None if known is None else datetime.fromtimestamp(known, UTC)


def storable(value: Any) -> Any:
    """Return a value whose strings any database accepts.

    File names that are not UTF-8 put unpaired surrogates into error messages, and process output may contain
    NUL characters. Neither can be stored, and neither may prevent a job's end from being written.
    """
    if isinstance(value, str):
        if "\0" in value:
            value = value.replace("\0", "\N{REPLACEMENT CHARACTER}")
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {storable(key): storable(item) for key, item in value.items()}
    return [storable(item) for item in value] if isinstance(value, (list, tuple)) else value


def plain(value: Any, what: str) -> Any:
    """Return a value as plain JSON; pydantic models, paths, sets and arrays are converted.

    JSON has no NaN and no infinities: they become text. Where they must stay numbers, use :func:`exact`.

    Raises
    ------
    BadInput
        Part of it has no plain JSON form (the message names the place), or it is nested more than
        :data:`MOST_NESTED` levels.
    """
    return _plain(value, what, MOST_NESTED)


def exact(value: Any, what: str) -> Any:
    """Return a value as plain JSON from which :func:`restored` makes the same numbers again.

    NaN and infinities are written as ``{"$number": "nan"}``.

    Raises
    ------
    BadInput
        As for :func:`plain`, and for text that no database stores, which :func:`storable` would change.
    """
    return _plain(value, what, MOST_NESTED, tag=True)


def restored(value: Any) -> Any:
    """Return the value that :func:`exact` wrote."""
    if isinstance(value, dict):
        if value.keys() == {NUMBER} and value[NUMBER] in _NOT_FINITE:
            return float(value[NUMBER])
        return {key: restored(item) for key, item in value.items()}
    return [restored(item) for item in value] if isinstance(value, list) else value


def described(value: Any, what: str) -> dict[str, Any]:
    """Return the description of a run, its settings or tags, as plain JSON that any database stores.

    No value in a description keeps a training from starting. What has no plain JSON form (a function, an
    object of one's own), what is nested too deeply and what holds itself are kept as text, and one warning
    names the places.

    Parameters
    ----------
    value : mapping, pydantic model, dataclass or argparse.Namespace; None for an empty description
        The description.
    what : str
        Its name in messages.

    Raises
    ------
    BadInput
        It is something else, such as a list.
    """
    value = {} if value is None else _fields(value)
    if not isinstance(value, (Mapping, BaseModel)):
        raise BadInput(
            f"{what} must be a dictionary, a dataclass, a pydantic model or an argparse.Namespace, "
            f"got {_shortened(repr(value))}"
        )
    texts: list[str] = []
    document: dict[str, Any] = storable(_plain(value, what, MOST_NESTED, texts=texts))
    if texts:
        more = f" and {len(texts) - _PLACES} more" if len(texts) > _PLACES else ""
        warnings.warn(
            f"kept as text, since there is no plain JSON form: {', '.join(texts[:_PLACES])}{more}",
            UserWarning,
            stacklevel=_CALLER,
        )
    return document


def _fields(value: Any) -> Any:
    """Return a dataclass or a namespace as a dictionary of its fields; anything else as it is."""
    if isinstance(value, type):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return vars(value) if isinstance(value, (Namespace, SimpleNamespace)) else value


def _shortened(text: str, characters: int = _TEXT_CHARACTERS) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"


def _text_of(value: Any) -> str:
    """Return readable text of a value that has no plain JSON form."""
    if isinstance(name := getattr(value, "__qualname__", None), str):  # a class, a function, a generator
        module = getattr(value, "__module__", None)
        return f"{module}.{name}" if isinstance(module, str) else name
    try:
        return _shortened(str(value))
    except Exception:  # the description of an object of the user's own
        return f"<{type(value).__name__}>"


def _plain(value: Any, what: str, levels: int, *, texts: list[str] | None = None, tag: bool = False) -> Any:
    """Return a value as plain JSON; with ``texts``, anything else becomes text, and its place is added."""
    if isinstance(value, Enum):
        value = value.value
    if tag and isinstance(value, str) and storable(value) != value:
        raise BadInput(
            f"{what} must be text without NUL or unpaired surrogates, got {_shortened(repr(value))}",
            hint="Rename a file whose name is not UTF-8, or give its folder.",
        )
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {NUMBER: str(value)} if tag else str(value)
    if isinstance(value, BaseModel):
        return _plain(_dumped(value, texts), what, levels, texts=texts, tag=tag)
    value = _fields(value)
    if not levels and isinstance(value, (Mapping, list, tuple, set, frozenset, deque)):
        if texts is not None:
            texts.append(_shortened(what, _PLACE_CHARACTERS))
            return _shortened(_text_of(value))
        whole = re.split(r"[.\[]", what, maxsplit=1)[0]
        raise BadInput(
            f"{whole}: lists and dictionaries must be nested at most {MOST_NESTED} levels",
            hint="Use fewer levels.",
        )
    if isinstance(value, Mapping):
        return _plain_mapping(value, what, levels, texts, tag)
    if isinstance(value, (list, tuple, set, frozenset, deque, range)):
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [
            _plain(item, f"{what}[{at}]", levels - 1, texts=texts, tag=tag) for at, item in enumerate(items)
        ]
    if isinstance(value, (os.PathLike, date, clock_time, timedelta, Decimal, UUID)):  # a datetime is a date
        return str(value)
    if texts is not None:
        return _plain_array(value, what, levels, texts)
    if hasattr(value, "tolist") and not isinstance(value, type):  # numpy and torch: scalars and arrays
        return _plain(value.tolist(), what, levels, tag=tag)
    raise BadInput(
        f"{what} is a {type(value).__name__}, which has no plain JSON form",
        hint="Use numbers, strings, lists and dictionaries.",
    )


def _plain_mapping(
    value: Mapping[Any, Any], what: str, levels: int, texts: list[str] | None, tag: bool
) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, item in value.items():
        if (name := str(key)) in out:
            if texts is None:
                raise BadInput(f"{what} has two keys with the text {name!r}", hint="Use strings as keys.")
            texts.append(_shortened(f"{what}.{key!r}", _PLACE_CHARACTERS))
            name = f"{name} ({type(key).__name__})"
        out[name] = _plain(item, f"{what}.{name}", levels - 1, texts=texts, tag=tag)
    return out


def _plain_array(value: Any, what: str, levels: int, texts: list[str]) -> Any:
    """Return a scalar or a small array as plain JSON, and anything else as text."""
    kind = type(value)
    try:
        # Scalars and arrays of numpy and torch. Large ones, and those without data, are only described.
        if not isinstance(value, type) and getattr(value, "size", None) is not None:
            count = math.prod(value.shape)
            if count <= _ARRAY_NUMBERS:
                return _plain(value.tolist(), what, levels, texts=texts)
            return f"{kind.__name__} of shape {tuple(value.shape)}, {value.dtype}"
    except Exception:  # noqa: S110  # an object of the user's own may raise anything: it is kept as text
        pass
    # A data type or a device is its name; for anything else its text is only the best there is.
    family = (value if isinstance(value, type) else kind).__module__.partition(".")[0]
    named = isinstance(value, type) or any(base.__name__ in _NAMED_KINDS for base in kind.__mro__)
    if family not in _FAMILIES or not named:
        texts.append(_shortened(what, _PLACE_CHARACTERS))
    return _text_of(value)


def _dumped(value: BaseModel, texts: list[str] | None) -> Any:
    """Return the fields of a pydantic model; in a description, values without a JSON form stay objects."""
    try:
        return value.model_dump(mode="json")
    except Exception:  # pydantic's, or that of a field's own serializer
        if texts is None:
            raise
        return dict(value)


def as_number(name: str, value: Any) -> float:
    """Return a value as one real number; the error message names the metric."""
    problem = f"is a {type(value).__name__}"
    try:
        number = value.item() if hasattr(value, "item") else value  # numpy and torch; raises if not scalar
        if not isinstance(number, (str, bytes, bool, complex, NoneType)):
            return float(number)
        problem = f"is {number!r}"
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        problem += f" ({error})"
    raise BadInput(
        f"metric {name!r} {problem}, but must be a real number", hint="No value of this call was logged."
    )


def as_step(step: Any) -> int:
    """Return a step as a whole number that fits an eight-byte column."""
    try:
        number = operator.index(step)
    except (TypeError, RuntimeError):
        raise BadInput(f"step must be a whole number, got {step!r}") from None
    if isinstance(step, bool) or not LOWEST_STEP <= number <= HIGHEST_STEP:
        raise BadInput(f"step must be a whole number from -2**63 to 2**63 - 1, got {step!r}")
    return number


def as_column(what: str, values: Any, kind: Any) -> Any:
    """Return a sequence of numbers as a one-dimensional array."""
    import numpy as np

    whole = kind is np.int64
    try:
        array = np.asarray(values)
        if array.ndim != 1 or array.dtype.kind not in ("iu" if whole else "iuf"):
            raise ValueError
        column = array.astype(kind)
        if whole and not np.array_equal(column, array):
            raise ValueError  # does not fit int64
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise BadInput(
            f"{what} must be one-dimensional, of {'whole' if whole else 'real'} numbers",
            hint="No value of this call was logged.",
        ) from None
    return column


def as_times(values: Any) -> Any:
    """Return a sequence of times as an array of seconds since 1970, each before the year 10000."""
    import numpy as np

    column = as_column("times", values, np.float64)
    wrong = column[~((column >= 0) & (column < END_OF_TIME))]
    if len(wrong):
        raise BadInput(
            f"times must be seconds since 1970, got {wrong[0]:g}",
            hint="Divide milliseconds by 1000.",
        )
    return column
