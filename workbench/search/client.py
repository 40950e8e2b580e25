"""Client of a workspace's search service, which holds the opened indexes; starts the service if needed.

The client is light: it loads no index, model or adapter, so none of them can crash it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import socket
import stat
import sys
import tempfile
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
from workbench.search.searcher import PUBLISHED

#: The file that a running service keeps locked; it contains the path of the service's socket.
LOCK_NAME = ".search.lock"


#: Log of the service and its holders, in the workspace.
LOG_NAME = "search-service.log"


#: Timeouts in seconds for starting the service, and for one request, which includes opening the index.
START_SECONDS, PATIENCE_SECONDS = 90.0, 300.0


#: Maximum attempts at a request if the service ends before it answers; searching has no side effects.
_TRIES = 3


def state_folder(home: Path) -> Path:
    """Return the folder of the service's lock and log: the workspace, or a private one if that is read-only.

    Raises
    ------
    Busy
        Another user has taken the private folder's name.
    """
    if os.access(home, os.W_OK) or not home.is_dir():
        return home
    name = hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"workbench-{os.getuid()}-{name}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise Busy(f"{folder} belongs to another user", advice="Set $TMPDIR to a folder of your own.")
    return folder


#: A request that is refused for at most this many seconds has met a full queue, and is sent again.
BRIEF_SECONDS = 2.0


#: Seconds for which it is sent again, and the first and the longest pause in between.
BUSY_SECONDS, _FIRST_PAUSE, _LONGEST_PAUSE = 10.0, 0.05, 0.5


class SearchClient:
    """Client of one workspace's search service; safe to share between threads.

    Parameters
    ----------
    home : Path
        The workspace folder.
    patience : float
        Timeout of one request, in seconds.
    """

    def __init__(self, home: Path, *, patience: float = PATIENCE_SECONDS) -> None:
        self.home = home
        self.patience = patience

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the service's answer; blocks.

        Raises
        ------
        WorkbenchError
            The error that the service reported, with its class; ``Busy`` if it does not answer in time.
        """
        data = _request(request)
        deadline = time.monotonic() + self.patience
        pauses = _Pauses()
        while True:
            try:
                return self._ask_once(data, deadline)
            except Busy as error:
                time.sleep(pauses.after(error))

    def _ask_once(self, data: bytes, deadline: float) -> dict[str, Any]:
        for _ in range(_TRIES):
            try:
                with self._connection(deadline) as connection:
                    # A service that has too many connections answers, and closes, before it reads.
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        connection.sendall(messages.framed(data))
                    return _answer(messages.receive(connection, messages.ANSWER_BYTES))
            except TimeoutError:
                raise _no_answer(self.patience) from None
            except (OSError, EOFError):
                continue
        raise _gone()

    async def ask_async(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the service's answer, without blocking the loop or a thread."""
        data = _request(request)
        pauses = _Pauses()
        try:
            async with asyncio.timeout(self.patience):
                while True:
                    try:
                        return await self._ask_once_async(data)
                    except Busy as error:
                        await asyncio.sleep(pauses.after(error))
        except TimeoutError:
            raise _no_answer(self.patience) from None

    async def _ask_once_async(self, data: bytes) -> dict[str, Any]:
        for _ in range(_TRIES):
            with contextlib.suppress(OSError, EOFError):
                return _answer(await self._exchange(data))
        raise _gone()

    async def _exchange(self, data: bytes) -> bytes:
        path = self._listening() or await asyncio.to_thread(self.start)
        try:
            reader, writer = await asyncio.open_unix_connection(path)
        except OSError:  # the service that wrote this path is dead
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
        """Return the socket's path as the service wrote it; empty if no service has."""
        try:
            state = json.loads((state_folder(self.home) / LOCK_NAME).read_text(encoding="utf-8"))
            return str(state["socket"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def start(self) -> str:
        """Make sure that a service is running, and return the path of its socket.

        Raises
        ------
        Busy
            It does not start in time.
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
            advice=f"See its log: {state_folder(self.home) / LOG_NAME}",
        )

    def _ensure(self) -> None:
        place = state_folder(self.home)
        path = place / LOCK_NAME
        if is_locked(path):
            return
        lock = take_lock(path, seconds=0.003)
        if lock is None:
            return
        # A service outlives the job or kernel that starts it, so it does not inherit their variables.
        private = {keeper.DEATHS, processes.TOKEN, PUBLISHED}
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in private and not name.startswith("WORKBENCH_JOB")
        }
        command = [sys.executable, "-m", "workbench.search.service", "--workspace", str(self.home)]
        with lock:
            start_with_lock(command, lock, place / LOG_NAME, environment)

    def open_search(self, name: str) -> RemoteSearcher:
        """Return a searcher whose index the service holds.

        Raises
        ------
        UnknownIndex, CorruptFile, SearchFailed
            The index is missing or cannot be opened.
        """
        return RemoteSearcher(self.ask({"op": "describe", "index": name}), self.ask)


class _Pauses:
    """How long a request waits before it is sent again to a service whose queue is full.

    Searching has no side effects, and a queue that is full now has room in a moment.
    """

    def __init__(self) -> None:
        self._until = time.monotonic() + BUSY_SECONDS
        self._next = _FIRST_PAUSE

    def after(self, error: Busy) -> float:
        """Return the next pause in seconds, or raise the error if waiting is no use."""
        pause = self._next * random.uniform(0.5, 1.0)
        if error.retry_after > BRIEF_SECONDS or time.monotonic() + pause > self._until:
            raise error
        self._next = min(self._next * 2, _LONGEST_PAUSE)
        return pause


def _request(request: Mapping[str, Any]) -> bytes:
    if request.get("op") == "check":  # relative paths in options are relative to the client's folder
        request = {"cwd": str(Path.cwd()), **request}
    try:
        data = json.dumps(request).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"search options must be plain JSON values: {error}") from None
    if len(data) > messages.REQUEST_BYTES:
        raise TooLarge(f"the request must be at most {messages.REQUEST_BYTES:,} bytes, got {len(data):,}")
    return data


def _answer(data: bytes) -> dict[str, Any]:
    answer = json.loads(data)
    if "error" in answer:
        raise wire.error_from(answer["error"])
    value: dict[str, Any] = answer["ok"]
    return value


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(path) == 0


def _no_answer(seconds: float) -> Busy:
    return Busy(f"the search service did not answer within {seconds:g} s", retry_after=10)


def _gone() -> SearchFailed:
    return SearchFailed("the search service ended before it answered", hint="Try again.")
