"""Validate and convert logged values: numbers, steps, whole curves, and settings as plain JSON."""

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


#: Maximum nesting depth of lists and dictionaries. The recursion limit differs between Python versions.
MOST_NESTED = 100


def plain(value: Any, what: str) -> Any:
    """Return a value as plain JSON; pydantic models, paths, sets and arrays are converted.

    Raises
    ------
    BadInput
        Part of it has no plain JSON form (the message names the place), or it is nested more than
        :data:`MOST_NESTED` levels.
    """
    return _plain(value, what, MOST_NESTED)


def _plain(value: Any, what: str, levels: int) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)  # JSON has no NaN; keep it as text
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
        hint="Use numbers, strings, lists and dictionaries.",
    )


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
