"""Ask the search service of a workspace, which holds the opened indexes; start it where none is alive.

What asks stays light: no index, no model and no adapter is loaded here, and none can break here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench import wire
from workbench.errors import BadInput, Busy, SearchFailed, TooLarge
from workbench.host import processes
from workbench.host import processes as keeper
from workbench.host.locks import is_locked, start_with_lock, take_lock
from workbench.search import messages
from workbench.search.elsewhere import RemoteSearcher

#: The file that a living service holds locked; it says where the service listens.
LOCK_NAME = ".search.lock"


#: What the service and those that hold its indexes print, in the workspace.
LOG_NAME = "search-service.log"


#: Seconds a service may take until it listens, and a question until it is answered; an index that is opened
#: for the first time is part of that.
START_SECONDS, PATIENCE_SECONDS = 30.0, 240.0


#: So often a question is asked again when the service is gone before it answered: searching changes nothing.
_TRIES = 3


class SearchClient:
    """The search service of one workspace, seen from outside; safe to share between threads.

    Parameters
    ----------
    home : Path
        The workspace folder.
    patience : float
        Seconds that one question may take.
    """

    def __init__(self, home: Path, *, patience: float = PATIENCE_SECONDS) -> None:
        self.home = home
        self.patience = patience

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the service answers; blocks.

        Raises
        ------
        WorkbenchError
            What the service said, as the class it said. ``Busy`` too where it does not answer in time.
        """
        data = _request(request)
        deadline = time.monotonic() + self.patience
        for _ in range(_TRIES):
            try:
                with self._connection(deadline) as connection:
                    connection.sendall(messages.framed(data))
                    return _answer(messages.receive(connection, messages.ANSWER_BYTES))
            except TimeoutError:
                raise _no_answer(self.patience) from None
            except (OSError, EOFError):
                continue
        raise _gone()

    async def ask_async(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the service answers, without keeping the loop or a thread waiting."""
        data = _request(request)
        try:
            async with asyncio.timeout(self.patience):
                for _ in range(_TRIES):
                    with contextlib.suppress(OSError, EOFError):
                        return _answer(await self._exchange(data))
        except TimeoutError:
            raise _no_answer(self.patience) from None
        raise _gone()

    async def _exchange(self, data: bytes) -> bytes:
        path = self._listening() or await asyncio.to_thread(self.start)
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError:  # it said where it listened, and is dead
            reader, writer = await asyncio.open_unix_connection(await asyncio.to_thread(self.start))
        try:
            writer.write(messages.framed(data))
            await writer.drain()
            head = await reader.readexactly(messages.HEAD_BYTES)
            return await reader.readexactly(messages.length_of(head, messages.ANSWER_BYTES))
        finally:
            writer.close()

    def _connection(self, deadline: float) -> socket.socket:
        path = self._listening() or self.start()
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                connection.connect(path)
            except OSError:
                connection.connect(self.start())
        except BaseException:
            connection.close()
            raise
        return connection

    def _listening(self) -> str:
        """Return where the service says that it listens; empty where none ever said."""
        try:
            said = json.loads((self.home / LOCK_NAME).read_text(encoding="utf-8"))
            return str(said["socket"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def start(self) -> str:
        """See to it that a service is alive, and return where it listens.

        Raises
        ------
        Busy
            It does not come up in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self._ensure()
            path = self._listening()
            if path and _accepts(path):
                return path
            time.sleep(0.02)
        raise Busy(
            f"the search service did not start within {START_SECONDS:g} s",
            retry_after=5,
            hint=f"What it said is in {self.home / LOG_NAME}.",
        )

    def _ensure(self) -> None:
        path = self.home / LOCK_NAME
        if is_locked(path):
            return
        lock = take_lock(path, seconds=0.003)
        if lock is None:
            return
        # A service outlives the job or the kernel it was started from, so it carries no mark of them.
        private = {keeper.DEATHS, processes.TOKEN}
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in private and not name.startswith("WORKBENCH_JOB")
        }
        command = [sys.executable, "-m", "workbench.search.service", "--workspace", str(self.home)]
        with lock:
            start_with_lock(command, lock, self.home / LOG_NAME, environment)

    def open_search(self, name: str) -> RemoteSearcher:
        """Return a searcher whose index is held by the service.

        Raises
        ------
        UnknownIndex, CorruptFile, SearchFailed
            There is no such index, or it cannot be opened.
        """
        return RemoteSearcher(self.ask({"op": "describe", "index": name}), self.ask)


def _request(request: Mapping[str, Any]) -> bytes:
    try:
        data = json.dumps(request).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"a search takes plain values: {error}") from None
    if len(data) > messages.REQUEST_BYTES:
        raise TooLarge(f"the question has {len(data):,} bytes; at most {messages.REQUEST_BYTES:,} are taken")
    return data


def _answer(data: bytes) -> dict[str, Any]:
    answer = json.loads(data)
    if "error" in answer:
        raise wire.error_from(answer["error"])
    told: dict[str, Any] = answer["ok"]
    return told


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(path) == 0


def _no_answer(seconds: float) -> Busy:
    return Busy(f"the search service did not answer within {seconds:g} s", retry_after=10)


def _gone() -> SearchFailed:
    return SearchFailed("the search service ended before it answered", hint="Ask again.")
