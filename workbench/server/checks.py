"""Checks of what a request brings, before anything reads it."""

from __future__ import annotations

from typing import Any

from workbench.adapter.options import fit
from workbench.errors import BadInput
from workbench.server.api.route import Route

#: What a page may add to any request; the server itself takes it.
SERVER_ARGUMENTS = frozenset({"token", "_xsrf", "no_track_activity", "_"})


def json_object(sent: Any, route: Route) -> Any:
    """Return a body as its route's schema takes it."""
    if not isinstance(sent, dict):
        raise BadInput(
            f"the request's body is {type(sent).__name__}, not an object", hint="Send a JSON object."
        )
    assert route.body is not None  # noqa: S101  # whoever calls has looked
    return fit(route.body, sent, "the body")


def check_text(text: str) -> None:
    """Refuse a text that no database or file name can hold.

    Raises
    ------
    BadInput
        A NUL character, or half a character.
    """
    if "\0" in text:
        raise BadInput("a text holds a NUL character")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadInput("a text holds half a character (a lone surrogate)") from None


def check_texts(value: Any) -> None:
    """Refuse JSON that holds such a text anywhere."""
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        check_texts(list(value))
        check_texts(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            check_texts(item)


def refuse_constant(name: str) -> None:
    """Refuse NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is no JSON")
