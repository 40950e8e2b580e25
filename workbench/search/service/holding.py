"""The service's side of a holder: a process that answers one request at a time, within limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.errors import Busy, SearchFailed
from workbench.host import processes
from workbench.search import messages
from workbench.search.service.limits import Limits

_Lane = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Gone(Exception):  # not an error: retry with the next holder
    """The holder ended before the request was sent to it."""


class Holding:
    """One holder: its process, its queue, and its answer to opening.

    Parameters
    ----------
    what : str
        Name of the index or adapter that it holds, for messages.
    arguments : sequence of str
        Arguments of the holder's program.
    stamp : object
        Stamp of the index when it was opened.
    limits : Limits
        Timeouts and the length of the queue.
    """

    def __init__(self, what: str, arguments: list[str], stamp: object, limits: Limits) -> None:
        self.what = what
        self.stamp = stamp
        self.limits = limits
        self.waiting = 0
        self.last_asked = time.monotonic()
        self.dead = False
        self.broke = False
        self.stopped_for = ""  # why the service stopped it, if it did
        self.process: asyncio.subprocess.Process | None = None
        self._open_seconds = limits.check_seconds if stamp is None else limits.open_seconds
        self._arguments = arguments
        self._turn = asyncio.Lock()
        self._picture_turn = asyncio.Lock()
        self._pictures = 0
        self._opened: bytes | None = None
        self._searches: _Lane | None = None
        self._decoding: _Lane | None = None
        self._known = processes.Process(0, "")

    @property
    def pid(self) -> int | None:
        """Id of its process; None before it is started."""
        return None if self.process is None else self.process.pid

    async def ask(
        self, question: Mapping[str, Any], data: bytes, seconds: float, gone: asyncio.Event
    ) -> bytes:
        """Return the holder's answer, in order of arrival.

        Parameters
        ----------
        question : mapping
            The request. The answer to ``{"op": "open"}`` is cached.
        data : bytes
            The request as it came: one with a picture is passed on as it is, since it may be large.
        seconds : float
            Timeout for the answer, from the start of the request's turn.
        gone : asyncio.Event
            Set when the client no longer waits for the answer.

        Raises
        ------
        Busy
            Too many requests are waiting.
        SearchFailed
            The holder crashed or timed out; it is dead now.
        Gone
            The holder died before the request's turn, or the client is gone.
        """
        picture = question.get("by") == "image" or bool(messages.pictured(question))
        with self._waiting_for(picture):
            if picture:
                async with self._picture_turn:
                    opened = await self._decoded(data, seconds, gone)
                if _is_error(opened):
                    return opened
                without = {name: value for name, value in question.items() if name != "image"}
                question = {**without, **json.loads(opened)["ok"]}
            async with self._turn:
                opened = await self._open(gone)
                if question.get("op") == "open" or _is_error(opened):
                    return opened
                return await self._exchange(question, seconds)

    @contextlib.contextmanager
    def _waiting_for(self, picture: bool) -> Iterator[None]:
        """Count a request among those that wait; pictures are counted apart, and hold up no others.

        Raises
        ------
        Busy
            Too many requests are waiting.
        """
        waiting = self._pictures if picture else self.waiting - self._pictures
        if waiting >= (self.limits.pictures if picture else self.limits.waiting):
            what = "searches with a picture in" if picture else "requests for"
            raise Busy(f"too many concurrent {what} {self.what}", retry_after=2, hint="Try again shortly.")
        self.waiting += 1
        self._pictures += picture
        try:
            yield
        finally:
            self.waiting -= 1
            self._pictures -= picture
            self.last_asked = time.monotonic()

    async def _open(self, gone: asyncio.Event) -> bytes:
        """Return the holder's answer to opening; call it in turn."""
        if self.dead or gone.is_set():
            raise Gone
        if self._opened is None:
            answer = await self._exchange({"op": "open"}, self._open_seconds)
            if _is_error(answer):  # cannot be opened: the next request tries again
                await self.end()
                return answer
            self._opened = answer
        return self._opened

    async def _decoded(self, data: bytes, seconds: float, gone: asyncio.Event) -> bytes:
        """Have a picture decoded, while other searches are answered."""
        async with self._turn:
            opened = await self._open(gone)
        if _is_error(opened):
            return opened
        if self.dead or gone.is_set():
            raise Gone
        return await self._exchange(data, seconds, picture=True)

    async def _exchange(
        self, question: Mapping[str, Any] | bytes, seconds: float, *, picture: bool = False
    ) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                searches, decoding = await self._started()
                reader, writer = decoding if picture else searches
                data = question if isinstance(question, bytes) else json.dumps(question).encode()
                writer.write(messages.framed(data))
                await writer.drain()
                head = await reader.readexactly(messages.HEAD_BYTES)
                return await reader.readexactly(messages.length_of(head, messages.ANSWER_BYTES))
        except TimeoutError:
            self.broke = True
            await self.end()
            raise SearchFailed(
                f"{self.what} did not answer within {seconds:g} s and was stopped",
                hint="The next request restarts it.",
            ) from None
        except (OSError, EOFError):
            self.broke = not self.dead  # if the service stopped it, that is counted already
            problem = await self._how_it_ended()
            await self.end()
            raise SearchFailed(f"{self.what} {problem}", hint="The next request restarts it.") from None

    async def _started(self) -> tuple[_Lane, _Lane]:
        if self._searches is not None and self._decoding is not None:
            return self._searches, self._decoding
        ours, theirs = zip(socket.socketpair(), socket.socketpair(), strict=True)
        numbers = [str(one.fileno()) for one in theirs]
        program = [sys.executable, "-m", "workbench.search.service.holder"]
        sockets = ["--socket", numbers[0], "--pictures", numbers[1]]
        try:
            # In its own session, so that its descendants are found; the system kills it with the service.
            self.process = await asyncio.create_subprocess_exec(
                *processes.dies_with_parent([*program, *sockets, *self._arguments]),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=tuple(one.fileno() for one in theirs),
                start_new_session=True,
            )
        except BaseException:
            for one in ours:
                one.close()
            raise
        finally:
            for one in theirs:
                one.close()
        self._known = processes.Process(self.process.pid, processes.started(self.process.pid))
        searches, decoding = [await asyncio.open_unix_connection(sock=one, limit=2**20) for one in ours]
        self._searches, self._decoding = searches, decoding
        return searches, decoding

    async def _how_it_ended(self) -> str:
        if self.stopped_for:
            return f"{self.stopped_for} and was stopped"
        if self.process is None:
            return "could not be started"
        try:
            code = await asyncio.wait_for(self.process.wait(), 2.0)
        except TimeoutError:
            return "closed its connection and was stopped"
        if code >= 0:
            return f"ended with code {code} during a request"
        return f"crashed during a request ({signal.Signals(-code).name})"

    async def end(self) -> None:
        """End the process and its descendants."""
        self.dead = True
        for lane in (self._searches, self._decoding):
            if lane is not None:
                lane[1].close()
        if self.process is not None:
            await asyncio.to_thread(processes.kill_family, self._known)
            await self.process.wait()


def _is_error(answer: bytes) -> bool:
    return answer[:8] == b'{"error"'
