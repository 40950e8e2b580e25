"""The definition of a route: its verb, path, schemas and function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from workbench.server.desk import WorkbenchServer

#: Default maximum size of a request body, in bytes.
BODY_BYTES = 2**18


@dataclass(frozen=True)
class Call:
    """One request: path parameters, query and body; the last two are validated."""

    path: Mapping[str, str]
    query: Any = None
    body: Any = None


@dataclass(frozen=True)
class Route:
    """One verb of one path.

    Attributes
    ----------
    verb, path : str
        The path is below ``workbench/api/``; names in braces are parameters, and ids if they end in ``_id``.
    action : {"read", "write", "execute"}
        The action that the server's authorizer checks.
    does : str
        Description in one sentence.
    call : callable
        Handles the request.
    answer : type
        Schema of the answer.
    query, body : type, optional
        Schemas of the query string and of the body.
    status : int
        The HTTP status of a successful answer.
    errors : tuple of int
        Error statuses besides those that every route of its kind can have.
    polled : bool
        Whether pages poll it, so that requests do not count as user activity.
    body_bytes : int
        Maximum size of the body.
    before : callable, optional
        For uploads: a check that runs before any of the file is read. ``Call.body`` is then the
        :class:`~workbench.server.uploads.Upload`.
    gives_file : bool
        Whether the answer is a file's bytes.
    file_types : tuple of str
        The content types, or ranges of them, that such an answer can have.
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
    file_types: tuple[str, ...] = ("application/octet-stream",)


def id_in_path(call: Call, name: str) -> Any:
    """Return an id as written in the path; the workspace validates it."""
    return call.path[name]
