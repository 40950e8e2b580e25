"""What may be logged, and what it becomes: numbers, steps, whole curves, and settings as plain JSON."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Mapping
from datetime import datetime
from types import NoneType
from typing import Any

from pydantic import BaseModel

from workbench.errors import BadInput

LOWEST_STEP, HIGHEST_STEP = -(2**63), 2**63 - 1


#: Lists and dictionaries may be nested this many levels. How many an interpreter could walk differs between
#: its versions.
MOST_NESTED = 100


def plain(value: Any, what: str) -> Any:
    """Return a value as plain JSON: pydantic models, paths, sets and array scalars are turned into it.

    Raises
    ------
    BadInput
        Something in it has no plain form, with the place in the message; or it is nested more than
        :data:`MOST_NESTED` levels.
    """
    return _plain(value, what, MOST_NESTED)


def _plain(value: Any, what: str, levels: int) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no NaN; a text keeps what it was
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"), what, levels)
    if not levels and isinstance(value, (Mapping, list, tuple, set, frozenset)):
        whole = re.split(r"[.\[]", what, maxsplit=1)[0]
        raise BadInput(
            f"{whole}: lists and dictionaries must be nested at most {MOST_NESTED} levels",
            hint="Use fewer levels.",
        )
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{what}.{key}", levels - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = sorted(value, key=repr) if isinstance(value, (set, frozenset)) else value
        return [_plain(item, f"{what}[{at}]", levels - 1) for at, item in enumerate(items)]
    if isinstance(value, (os.PathLike, datetime)):
        return str(value)
    if hasattr(value, "tolist"):  # numpy and torch: scalars and arrays
        return _plain(value.tolist(), what, levels)
    raise BadInput(
        f"{what} is a {type(value).__name__}, which has no plain JSON form",
        hint="Use numbers, texts, lists and dictionaries.",
    )


def as_number(name: str, value: Any) -> float:
    """Return a value as one real number; the message of what is none names the metric."""
    problem = f"is a {type(value).__name__}"
    try:
        number = value.item() if hasattr(value, "item") else value  # numpy and torch: one number, or refused
        if not isinstance(number, (str, bytes, bool, complex, NoneType)):
            return float(number)
        problem = f"is {number!r}"
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        problem += f" ({error})"
    raise BadInput(
        f"metric {name!r} {problem}: one real number is wanted", hint="Nothing of this call is logged."
    )


def as_step(step: Any) -> int:
    """Return a step as a whole number that a database can hold."""
    try:
        number = operator.index(step)
    except (TypeError, RuntimeError):
        raise BadInput(f"step {step!r}: a whole number is wanted") from None
    if isinstance(step, bool) or not LOWEST_STEP <= number <= HIGHEST_STEP:
        raise BadInput(f"step {step!r}: a whole number of a size that fits a database is wanted")
    return number


def as_column(what: str, values: Any, kind: Any) -> Any:
    """Return one number after another as an array."""
    import numpy as np

    whole = kind is np.int64
    try:
        given = np.asarray(values)
        if given.ndim != 1 or given.dtype.kind not in ("iu" if whole else "iuf"):
            raise ValueError
        column = given.astype(kind)
        if whole and not np.array_equal(column, given):
            raise ValueError  # over 63 binary digits
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise BadInput(
            f"{what}: one dimension of {'whole' if whole else 'real'} numbers is wanted",
            hint="Nothing of this call is logged.",
        ) from None
    return column
