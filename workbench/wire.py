"""JSON format of errors, numbers and search results, shared by sockets and HTTP.

A socket message is a four-byte big-endian length, then that many bytes of JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from workbench import errors
from workbench.errors import WorkbenchError

# Errors ----------------------------------------------------------------------------------------

#: Maximum length of an error's message, hint and details, in characters; the rest is cut.
MESSAGE_CHARACTERS = 2_000


#: The HTTP status of each error class; a class not listed inherits that of its nearest parent.
STATUS: Mapping[type[WorkbenchError], int] = {
    errors.WorkbenchError: 400,
    errors.BadOptions: 422,
    errors.AccessDenied: 403,
    errors.NotFound: 404,
    errors.WrongState: 409,
    errors.ReadOnly: 409,
    errors.CorruptFile: 409,
    errors.JobError: 409,
    errors.TaskFailed: 409,
    errors.TooLarge: 413,
    errors.AdapterBroken: 501,
    errors.NotSupported: 501,
    errors.MissingExtra: 501,
    errors.Busy: 503,
    errors.EngineLost: 503,
    errors.SearchFailed: 503,
    errors.ServerUnreachable: 503,
    errors.StoreError: 503,
}


#: Attributes that an error carries besides its message and hint.
_DETAILS: Mapping[type[WorkbenchError], tuple[str, ...]] = {
    errors.AdapterBroken: ("adapter", "cause"),
    errors.BadOptions: ("problems",),
    errors.Busy: ("retry_after",),
    errors.CorruptFile: ("path", "reason"),
    errors.JobError: ("job_id", "cell"),
    errors.MissingExtra: ("extra",),
    errors.NotSupported: ("adapter", "method"),
}


_BY_NAME: Mapping[str, type[WorkbenchError]] = {
    name: thing
    for name, thing in vars(errors).items()
    if isinstance(thing, type) and issubclass(thing, WorkbenchError)
}


def status_of(error: WorkbenchError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_json(error: WorkbenchError) -> dict[str, Any]:
    """Return ``{"type", "message", "hint", "advice", "details"}``.

    The details are the class's further attributes.
    """
    known = (kind for kind in type(error).__mro__ if kind.__name__ in _BY_NAME)
    names = next((_DETAILS[kind] for kind in type(error).__mro__ if kind in _DETAILS), ())
    details = {name: _plain(getattr(error, name, None)) for name in names}
    return {
        "type": next(known).__name__,
        "message": _cut(error.message),
        "hint": _cut(error.hint),
        "advice": _cut(error.advice),
        "details": details,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float)) else _cut(str(value))


def _cut(text: str) -> str:
    """Return a text cut to :data:`MESSAGE_CHARACTERS`; an error may quote what a client sent."""
    if len(text) <= MESSAGE_CHARACTERS:
        return text
    return f"{text[:MESSAGE_CHARACTERS]}… ({len(text):,} characters)"


def error_from(data: Any) -> WorkbenchError:
    """Return the error that :func:`error_json` described, of the same class."""
    fields: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    kind = _BY_NAME.get(str(fields.get("type")), WorkbenchError)
    error = kind.__new__(kind)
    WorkbenchError.__init__(
        error,
        str(fields.get("message", "no message")),
        hint=str(fields.get("hint", "")),
        advice=str(fields.get("advice", "")),
    )
    details = fields.get("details")
    details = details if isinstance(details, Mapping) else {}
    names = next((_DETAILS[above] for above in kind.__mro__ if above in _DETAILS), ())
    for name in names:
        setattr(error, name, details.get(name))
    if isinstance(error, errors.BadOptions):
        error.problems = tuple((str(field), str(problem)) for field, problem in details.get("problems") or ())
    if isinstance(error, errors.Busy):
        error.retry_after = float(details.get("retry_after") or 1.0)
    return error


# Numbers ---------------------------------------------------------------------------------------


def number_json(value: float | None) -> float | str | None:
    """Return a number as JSON: NaN becomes null, infinities become strings."""
    if value is None or math.isfinite(value):
        return value
    return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def number_from(value: Any) -> float:
    """Return the number that :func:`number_json` wrote."""
    return math.nan if value is None else float(value)


def dumps(value: Any) -> bytes:
    """Return strict JSON; NaN and infinities are converted by :func:`number_json`."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        return json.dumps(strict(value), ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def strict(value: Any) -> Any:
    """Return plain data with NaN and infinities converted by :func:`number_json`."""
    if isinstance(value, float):
        return number_json(value)
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, (list, tuple)) else value
