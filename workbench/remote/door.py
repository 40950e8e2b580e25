"""The HTTP client of one server, used by the other modules of this package."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar
from urllib.parse import parse_qs, urlsplit

import httpx

from workbench import wire
from workbench.errors import BadInput, Busy, ServerUnreachable, WorkbenchError

#: Timeout of a request in seconds; a search that first opens its index takes longest.
ANSWER_SECONDS = 180.0

#: Number of tries of a read request if the connection breaks.
_TRIES = 3

#: A read request that the server is too busy for is sent again if the server says so, for at most so many
#: seconds in all and after at most so many.
BUSY_SECONDS, BRIEF_SECONDS = 20.0, 5.0

#: Number of answers to polled requests that are cached for unchanged (304) answers.
_KEPT_ANSWERS = 16


def parse_address(url: str) -> tuple[str, str]:
    """Return the server's base URL and the token in the URL of one of its pages."""
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadInput(f"{url!r} is not a server URL", hint="For example http://localhost:8888.")
    path = parts.path
    for page in ("/lab", "/tree", "/notebooks", "/workbench/api"):
        cut = path.find(page)
        if cut >= 0 and path[cut + len(page) : cut + len(page) + 1] in ("", "/"):
            path = path[:cut]
    base = f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"
    return base, parse_qs(parts.query).get("token", [""])[0]


class Door:
    """The HTTP API of one server; safe to share between threads."""

    def __init__(self, base: str, token: str, timeout: float) -> None:
        self.base = base
        self._token = token
        headers = {"Authorization": f"token {token}"} if token else {}
        self._http = httpx.Client(
            base_url=f"{base}/workbench/api/",
            headers=headers,
            timeout=timeout,
            # Loading the certificates takes longer than many requests, and plain HTTP checks none.
            verify=not base.startswith("http://"),
        )
        self._answers: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._answering = threading.Lock()

    def again(self, timeout: float) -> Door:
        """Return another client of the same server, with its own connections."""
        return Door(self.base, self._token, timeout)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Send a GET request and return its JSON."""
        return self._ask(
            "GET", path, params={key: value for key, value in query.items() if value is not None}
        )

    def polled(self, path: str, seconds: float | None = None, /, **query: Any) -> Any:
        """Like :meth:`get`, but the server sends an empty answer if nothing has changed."""
        params = httpx.QueryParams({key: value for key, value in query.items() if value is not None})
        key = f"{path}?{params}"
        with self._answering:
            tag, kept = self._answers.get(key, ("", b""))
        headers = {"If-None-Match": tag} if tag else {}
        answer = self._send("GET", path, seconds=seconds, params=params, headers=headers)
        if answer.status_code == httpx.codes.NOT_MODIFIED and tag:
            return json.loads(kept)
        reply = self._read(answer)
        with self._answering:
            self._answers[key] = (answer.headers.get("ETag", ""), answer.content)
            self._answers.move_to_end(key)
            while len(self._answers) > _KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return reply

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        again: bool = False,
        seconds: float | None = None,
    ) -> Any:
        """Send a POST request; ``again``: it is idempotent and may be retried."""
        data = b"" if body is None else wire.dumps(body)
        return self._ask("POST", path, again=again, seconds=seconds, content=data)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a PATCH request; it is idempotent and is retried."""
        return self._ask("PATCH", path, again=True, content=wire.dumps(body))

    def delete(self, path: str) -> Any:
        """Send a DELETE request."""
        return self._ask("DELETE", path)

    def send_file(self, path: str, file: BinaryIO, query: Mapping[str, Any]) -> Any:
        """Stream a file from its current position."""
        params = {key: value for key, value in query.items() if value is not None}
        return self._ask("PUT", path, params=params, content=file)

    def file_parts(self, path: str, size: int) -> Generator[bytes]:
        """Yield the bytes of a file in parts.

        Raises
        ------
        ServerUnreachable
            The connection broke before the end of the file.
        """
        try:
            with self._http.stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    self._read(answer)
                yield from answer.iter_bytes(size)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _ask(self, verb: str, path: str, *, again: bool = False, **more: Any) -> Any:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return self._read(self._send(verb, path, again=again, **more))
            except Busy as error:  # the server says when to come back
                idempotent = verb == "GET" or again
                pause = max(error.retry_after, 0.1)
                if not idempotent or pause > BRIEF_SECONDS or time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)

    def _send(
        self, verb: str, path: str, *, again: bool = False, seconds: float | None = None, **more: Any
    ) -> httpx.Response:
        if self._http.is_closed:
            raise ServerUnreachable(f"the connection to {self.base} was closed", hint="Connect again.")
        tries = _TRIES if verb == "GET" or again else 1
        if seconds is not None:
            more["timeout"] = seconds
        for left in reversed(range(tries)):
            try:
                return self._http.request(verb, path, **more)
            except httpx.TransportError as error:
                if not left or isinstance(error, httpx.TimeoutException):
                    raise self._unreachable(error) from None
                time.sleep(0.2)
        raise AssertionError  # the last try returns or raises

    def _read(self, answer: httpx.Response) -> Any:
        try:
            reply = answer.json()
        except ValueError:
            reply = None
        if answer.is_success and reply is not None:
            return reply
        error = reply.get("error") if isinstance(reply, dict) else None
        if isinstance(error, dict):
            raise wire.error_from(error)
        raise ServerUnreachable(
            f"{self.base} does not serve a workspace (HTTP {answer.status_code} for {answer.url.path})",
            hint="Check that notebook-workbench is installed on the server and that the base URL is right.",
        )

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        return ServerUnreachable(
            f"{self.base} does not answer: {error or type(error).__name__}",
            hint="Check that the server is running.",
        )

    def events(self, path: str, seconds: float) -> Generator[tuple[str, Any]]:
        """Yield (name, data) of server-sent events, and ("", None) for keep-alive lines.

        Raises
        ------
        TimeoutError
            Nothing was received for ``seconds``.
        """
        timeout = httpx.Timeout(ANSWER_SECONDS, read=seconds)
        try:
            with self._http.stream("GET", path, timeout=timeout) as answer:
                if not answer.is_success:
                    answer.read()
                    self._read(answer)
                name = ""
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        name = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        yield name, json.loads(line.removeprefix("data: "))
                    else:
                        yield "", None
        except httpx.TimeoutException:
            raise TimeoutError from None
        except httpx.TransportError as error:
            raise self._unreachable(error) from None


def not_here(what: str, hint: str) -> WorkbenchError:
    """Return the error for an operation that needs the workspace's files."""
    details = {"adapter": "", "method": what}
    message = f"{what} is not available for a workspace on a server"
    return wire.error_from({"type": "NotSupported", "message": message, "hint": hint, "details": details})


def seconds_of(text: str | None) -> float | None:
    """Return an ISO timestamp as seconds since 1970."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


class OnServer:
    """Base of remote handles: attributes that only local handles have raise ``NotSupported`` with a hint.

    Type checkers do not see this and report such an attribute as missing.
    """

    #: By attribute: what is unavailable, in words, and what to do instead.
    _only_local: ClassVar[Mapping[str, tuple[str, str]]] = {}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in self._only_local:
                raise not_here(*self._only_local[name])
            kind = type(self).__name__
            raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)
