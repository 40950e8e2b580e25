"""Checks of a request's content, before anything uses it."""

from __future__ import annotations

from typing import Any

from workbench.adapter.options import fit
from workbench.errors import BadInput
from workbench.server.api.route import Route

#: Query arguments that a page may add to any request; they are for the server itself.
SERVER_ARGUMENTS = frozenset({"token", "_xsrf", "no_track_activity", "_"})


def json_object(body: Any, route: Route) -> Any:
    """Return a request body, validated by its route's schema."""
    if not isinstance(body, dict):
        raise BadInput(
            f"the request body must be a JSON object, got {type(body).__name__}", hint="Send a JSON object."
        )
    assert route.body is not None  # noqa: S101  # checked by the caller
    return fit(route.body, body, "the body")


def check_text(text: str) -> None:
    """Refuse a text that a database or a file name cannot hold.

    Raises
    ------
    BadInput
        The text contains a NUL character or an unpaired surrogate.
    """
    if "\0" in text:
        raise BadInput("text contains a NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput("text contains an unpaired surrogate") from None


def check_texts(value: Any) -> None:
    """Apply :func:`check_text` to every string in a JSON value."""
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        check_texts(list(value))
        check_texts(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            check_texts(item)


def refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which are not valid JSON."""
    raise ValueError(f"{name} is not valid JSON")
