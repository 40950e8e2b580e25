"""What the page asks of its server: ``POST page/search`` answers a question.

A question is JSON, or, with pictures, ``application/octet-stream``: the length of the JSON in four bytes (the
highest first), the JSON, and the pictures one after the other, whose sizes are in the JSON. An answer with
thumbnails has that form too; an error is JSON. What they contain: see :mod:`workbench.search.answering`.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tornado import web

from workbench.errors import BadInput, Busy, TooLarge, UnknownIndex, WorkbenchError
from workbench.publish.answers import Guarded
from workbench.publish.rendering import Page
from workbench.search.answering import KINDS, Answering, attempt, seq_of, shown
from workbench.search.client import SearchClient
from workbench.search.searcher import MAX_IMAGE_BYTES

#: Maximum size of a question without pictures, in bytes.
QUESTION_BYTES = 32 * 2**10


#: Maximum number of pictures in a question.
PICTURES = 8


#: Maximum size of a question with pictures, in bytes.
MESSAGE_BYTES = MAX_IMAGE_BYTES + 2**20


#: Maximum size of all questions with pictures that are read at the same time, in bytes.
UPLOADED_BYTES = 12 * MESSAGE_BYTES


#: Searches that run at the same time, and those that wait for their turn; the service has a queue of its own.
SEARCHING, WAITING = 16, 240


#: Seconds after which a page that found the server busy asks again.
AGAIN_SECONDS = 2


_LENGTH = struct.Struct(">I")


class Searches:
    """Answers the questions of all visitors with a few threads, which ask the search service.

    Parameters
    ----------
    home : Path
        The workspace folder.
    page : Page
        What is published.
    """

    def __init__(self, home: Path, page: Page) -> None:
        self._client = SearchClient(home)
        self._page = page
        self._threads = ThreadPoolExecutor(SEARCHING, thread_name_prefix="search")
        self._asked = 0
        self._answering: tuple[tuple[str, object], Answering] | None = None
        #: Bytes of the questions with pictures that are being read.
        self.uploaded = 0

    async def answer(
        self, content: Mapping[str, Any], pictures: Sequence[bytes]
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Return the answer to a question and its thumbnails; nothing that is sent here raises."""
        if self._asked >= SEARCHING + WAITING:
            return {**busy(), "seq": seq_of(content)}, []
        self._asked += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._answer, content, pictures)
        finally:
            self._asked -= 1

    def _answer(
        self, content: Mapping[str, Any], pictures: Sequence[bytes]
    ) -> tuple[dict[str, Any], list[bytes]]:
        answering, problem = attempt(self._opened)
        if answering is None:
            return {"type": "error", **problem, "seq": seq_of(content)}, []
        return answering.answer(content, pictures)

    def _opened(self) -> Answering:
        index, _ = published = self._page.published
        if not index:
            raise UnknownIndex("", [])
        known = self._answering
        if known is None or known[0] != published:
            searcher = self._client.open_search(index)
            names = list(searcher.schema.get("properties", {}))
            known = self._answering = published, Answering(searcher, names)
        return known[1]


def busy() -> dict[str, Any]:
    """Return the answer to a question that has to be asked again."""
    message, hint = shown(Busy("", retry_after=AGAIN_SECONDS))
    return {"type": "error", "message": message, "hint": hint, "retry_after": AGAIN_SECONDS}


@web.stream_request_body
class SearchHandler(Guarded):
    """Answers a question; it is read piece by piece, and refused before it is read if it is too large."""

    @property
    def searches(self) -> Searches:
        """Who answers."""
        searches: Searches = self.settings["searches"]
        return searches

    def prepare(self) -> None:
        """Look who asks, and how much is going to be sent.

        Who is refused is told so after the question was read, and dropped: a connection that is closed while
        somebody still sends may lose what it was told.
        """
        self._body = bytearray()
        self._counted = 0
        self._is_dropped = False
        self._refused: web.HTTPError | None = None
        try:
            super().prepare()
        except web.HTTPError as error:
            self._refused = error
        if self.request.method != "POST":
            if self._refused is not None:
                raise self._refused
            return  # it is answered with an error page
        said = self.request.headers.get("Content-Length", "")
        size = int(said) if said.isascii() and said.isdigit() else -1
        if size < 0:
            raise web.HTTPError(411)
        most = MESSAGE_BYTES if self._has_pictures() and self._refused is None else QUESTION_BYTES
        if size > most:
            raise self._refused or web.HTTPError(413)
        if (connection := self.request.connection) is not None:
            connection.set_max_body_size(size)  # type: ignore[attr-defined]  # of HTTP/1
        full = self._has_pictures() and self.searches.uploaded + size > UPLOADED_BYTES
        self._is_dropped = full or self._refused is not None
        if self._has_pictures() and not self._is_dropped:
            self._counted = size
            self.searches.uploaded += size

    def data_received(self, chunk: bytes) -> None:
        """Take a piece of the question, or drop it: there is no room for it, or who asks is refused."""
        if not self._is_dropped:
            self._body += chunk

    async def post(self) -> None:
        """Answer."""
        if self._refused is not None:
            raise self._refused
        if self._is_dropped:
            self._send(busy(), [])
            return
        try:
            content, pictures = question_from(bytes(self._body), self._has_pictures())
        except WorkbenchError as error:
            message, hint = shown(error)
            self.set_status(400)
            self._send({"type": "error", "message": message, "hint": hint, "seq": 0}, [])
            return
        finally:
            self._body.clear()
        self._send(*await self.searches.answer(content, pictures))

    def write_error(self, status_code: int, **more: Any) -> None:
        """Write the error page; tornado closes the connection after it, so nobody should send more on it."""
        self.set_header("Connection", "close")
        super().write_error(status_code, **more)

    def on_finish(self) -> None:
        """Give the room of the question to others."""
        self.searches.uploaded -= self._counted
        self._counted = 0

    def on_connection_close(self) -> None:
        """Do the same when the visitor is gone before the question was read."""
        self.on_finish()

    def _has_pictures(self) -> bool:
        return self.request.headers.get("Content-Type", "").startswith("application/octet-stream")

    def _send(self, answer: dict[str, Any], thumbnails: Sequence[bytes]) -> None:
        self.set_header("Cache-Control", "no-store")
        if not thumbnails:
            if "retry_after" in answer:
                self.set_status(503)
                self.set_header("Retry-After", str(answer["retry_after"]))
            self.set_header("Content-Type", "application/json; charset=utf-8")
            self.finish(json.dumps({**answer, "sizes": []}, ensure_ascii=False))
            return
        text = json.dumps({**answer, "sizes": [len(one) for one in thumbnails]}, ensure_ascii=False).encode()
        self.set_header("Content-Type", "application/octet-stream")
        self.finish(b"".join([_LENGTH.pack(len(text)), text, *thumbnails]))

    def check_xsrf_cookie(self) -> None:
        """Ask for no further secret: a search changes nothing, and its origin is checked."""


def question_from(body: bytes, has_pictures: bool) -> tuple[dict[str, Any], list[bytes]]:
    """Return a question and its pictures.

    Raises
    ------
    BadInput
        The body has not the form that this module describes.
    TooLarge
        It has too many pictures.
    """
    text, rest = body, b""
    if has_pictures:
        size = _LENGTH.unpack_from(body)[0] if len(body) >= _LENGTH.size else len(body)
        if size > QUESTION_BYTES or _LENGTH.size + size > len(body):
            raise BadInput("the question is cut off")
        text, rest = body[_LENGTH.size : _LENGTH.size + size], body[_LENGTH.size + size :]
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput("the question is not JSON") from None
    kind = content.get("type") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadInput(f"the question must be of type {' or '.join(KINDS)}")
    sizes = content.pop("sizes", []) if has_pictures else []
    if not isinstance(sizes, list) or not all(type(one) is int and one >= 0 for one in sizes):
        raise BadInput("the sizes of the pictures are not whole numbers")
    if len(sizes) > PICTURES:
        raise TooLarge(f"a question has at most {PICTURES} pictures, not {len(sizes)}")
    if sum(sizes) != len(rest):
        raise BadInput(f"the pictures have {len(rest):,} bytes, and {sum(sizes):,} are announced")
    pictures, at = [], 0
    for size in sizes:
        pictures.append(rest[at : at + size])
        at += size
    return content, pictures


class HealthHandler(Guarded):
    """Says that the server runs; it starts nothing."""

    def get(self) -> None:
        """Answer 200."""
        self.set_header("Cache-Control", "no-store")
        self.finish({"status": "ok"})
