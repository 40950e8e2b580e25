"""The service's side of a holder: a process that answers one request at a time, within limits."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from workbench.errors import Busy, SearchFailed
from workbench.host import processes
from workbench.search import messages
from workbench.search.service.limits import Limits


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
        self._opened: bytes | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._known = processes.Process(0, "")

    @property
    def pid(self) -> int | None:
        """Id of its process; None before it is started."""
        return None if self.process is None else self.process.pid

    async def ask(self, question: Mapping[str, Any], seconds: float, gone: asyncio.Event) -> bytes:
        """Return the holder's answer, in order of arrival.

        Parameters
        ----------
        question : mapping
            The request. The answer to ``{"op": "open"}`` is cached.
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
        if self.waiting >= self.limits.waiting:
            raise Busy(
                f"too many concurrent requests for {self.what}", retry_after=2, hint="Try again shortly."
            )
        self.waiting += 1
        try:
            async with self._turn:
                if self.dead or gone.is_set():
                    raise Gone
                if self._opened is None:
                    answer = await self._exchange({"op": "open"}, self._open_seconds)
                    if answer[:8] == b'{"error"':  # cannot be opened: the next request tries again
                        await self.end()
                        return answer
                    self._opened = answer
                if question.get("op") == "open":
                    return self._opened
                return await self._exchange(question, seconds)
        finally:
            self.waiting -= 1
            self.last_asked = time.monotonic()

    async def _exchange(self, question: Mapping[str, Any], seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await self._started()
                writer.write(messages.framed(json.dumps(question).encode()))
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

    async def _started(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is not None and self._writer is not None:
            return self._reader, self._writer
        ours, theirs = socket.socketpair()
        program = [sys.executable, "-m", "workbench.search.service.holder", "--socket", str(theirs.fileno())]
        try:
            # In its own session, so that its descendants are found; the system kills it with the service.
            self.process = await asyncio.create_subprocess_exec(
                *processes.dies_with_parent([*program, *self._arguments]),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._known = processes.Process(self.process.pid, processes.started(self.process.pid))
        self._reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=2**20)
        return self._reader, self._writer

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
        if self._writer is not None:
            self._writer.close()
        if self.process is not None:
            await asyncio.to_thread(processes.kill_family, self._known)
            await self.process.wait()
