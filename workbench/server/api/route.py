"""What a route is: its verb, path, schemas and function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from workbench.server.desk import WorkbenchServer

#: A request's body may have this many bytes, unless its route says otherwise.
BODY_BYTES = 2**18


@dataclass(frozen=True)
class Call:
    """One request: its place in the path, what was asked, and what was sent, the last two checked."""

    path: Mapping[str, str]
    query: Any = None
    body: Any = None


@dataclass(frozen=True)
class Route:
    """One verb of one path.

    Attributes
    ----------
    verb, path : str
        The path is below ``workbench/api/``; what stands in braces is a parameter, an id where its name
        ends in ``id_in_path``.
    action : {"read", "write", "execute"}
        What the server's authorizer is asked about.
    does : str
        One sentence.
    call : callable
        Does it.
    answer : type
        Schema of the answer.
    query, body : type, optional
        Schema of what may be asked and of what is sent.
    status : int
        The HTTP status of an answer that is no error.
    errors : tuple of int
        Further statuses, besides those that every route of its kind can have.
    polled : bool
        Asked again and again by pages: no sign that somebody is at work.
    body_bytes : int
        How much may be sent.
    before : callable, optional
        Where a file is sent: what is looked at before any of it is read. The bytes are the body then, and
        ``Call.body`` the :class:`~workbench.server.uploads.Upload` of them.
    gives_file : bool
        Whether the answer is a file's bytes.
    """

    verb: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    action: Literal["read", "write", "execute"]
    does: str
    call: Callable[[WorkbenchServer, Call], Awaitable[Any]]
    answer: type[BaseModel]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    polled: bool = True
    body_bytes: int = BODY_BYTES
    before: Callable[[WorkbenchServer, Call], Awaitable[Any]] | None = None
    gives_file: bool = False


def id_in_path(call: Call, name: str) -> Any:
    """Return an id as it stands in the path; the workspace says what is wrong with it."""
    return call.path[name]
