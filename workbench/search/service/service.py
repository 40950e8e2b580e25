"""The search service: request routing and concurrency limits."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import struct
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from workbench import wire
from workbench.adapter.registry import adapters, installed_as
from workbench.errors import AdapterBroken, BadInput, Busy, UnknownAdapter, WorkbenchError
from workbench.search import messages
from workbench.search.client import LOCK_NAME, state_folder
from workbench.search.indexes import index_adapter, index_stamp
from workbench.search.service.holding import Gone, Holding
from workbench.search.service.limits import Limits

_LOG = logging.getLogger(__name__)


#: Seconds between checks for memory use and idle holders.
_LOOK_SECONDS = 1.0


#: A starting service truncates a log larger than this many bytes.
_LOG_BYTES = 4 * 2**20


#: Length of the state in the lock file, in bytes; padded with spaces.
_STATE_BYTES = 512


#: Prefix of the folder that contains the socket; only its owner may access it.
_FOLDER = "wb-search-"


class Service:
    """Answers requests for one workspace's indexes until idle.

    Parameters
    ----------
    home : Path
        The workspace folder.
    lock : file
        The lock that makes it the only service of the workspace; the socket's path is written to it.
    limits : Limits
        Limits on load, memory and time.
    """

    def __init__(self, home: Path, lock: IO[bytes], limits: Limits) -> None:
        self.home = home
        self.limits = limits
        self._lock = lock
        self._holdings: dict[tuple[str, str], Holding] = {}
        self._retired: set[Holding] = set()
        self._broken: dict[tuple[str, str], deque[float]] = {}
        self._refusals: dict[tuple[str, str], tuple[object, float, bytes]] = {}
        self._connections = 0
        self._last_asked = time.monotonic()
        self._leaving = asyncio.Event()

    async def run(self) -> None:
        """Listen until idle for long enough, or told to stop."""
        logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
        if os.fstat(sys.stderr.fileno()).st_size > _LOG_BYTES:
            os.ftruncate(sys.stderr.fileno(), 0)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._leaving.set)
        _remove_folder(self._written())
        # The path of a socket may have at most about a hundred characters.
        place = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108
        folder = tempfile.mkdtemp(prefix=_FOLDER, dir=place)
        path = str(Path(folder, "socket"))
        try:
            server = await asyncio.start_unix_server(self._serve, path, backlog=self.limits.connections)
            self._write({"pid": os.getpid(), "socket": path})
            try:
                await self._until_idle()
            finally:
                # Not `async with`: from Python 3.12 on it waits for all open connections.
                server.close()
        finally:
            self._write({})
            shutil.rmtree(folder, ignore_errors=True)
            await asyncio.gather(*(held.end() for held in [*self._holdings.values(), *self._retired]))

    async def _until_idle(self) -> None:
        while not self._leaving.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._leaving.wait(), _LOOK_SECONDS)
            await self._look()
            idle = time.monotonic() - self._last_asked
            if not self._connections and idle > self.limits.idle_seconds:
                return

    def _written(self) -> Any:
        try:
            return json.loads((state_folder(self.home) / LOCK_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _write(self, state: Mapping[str, Any]) -> None:
        # In place and of one length: a service that was here before has left the space, also on a full disk.
        with (state_folder(self.home) / LOCK_NAME).open("rb+", buffering=0) as file:
            file.write(json.dumps(state).encode().ljust(_STATE_BYTES))

    # Requests ----------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        self._connections += 1
        self._last_asked = time.monotonic()
        gone = asyncio.Event()
        watcher: asyncio.Task[None] | None = None
        try:
            _check_peer(writer)
            if self._connections > self.limits.connections:
                raise Busy("too many concurrent requests to the search service", retry_after=2)
            async with asyncio.timeout(self.limits.read_seconds):
                head = await reader.readexactly(messages.HEAD_BYTES)
                data = await reader.readexactly(messages.length_of(head, messages.REQUEST_BYTES))
            watcher = asyncio.create_task(_watch(reader, gone))
            answer = await self._answer(json.loads(data), data, gone)
        except WorkbenchError as error:
            answer = wire.dumps({"error": wire.error_json(error)})
        except (OSError, EOFError, Gone):
            answer = b""
        except (ValueError, RecursionError, UnicodeError) as error:
            answer = wire.dumps({"error": wire.error_json(BadInput(f"not a valid request: {error}"))})
        except Exception as error:
            _LOG.exception("a request could not be answered")
            answer = wire.dumps({"error": {"type": "SearchFailed", "message": type(error).__name__}})
        finally:
            self._connections -= 1
            if watcher is not None:
                watcher.cancel()
        with contextlib.suppress(OSError):  # a timeout too
            try:
                if answer:
                    writer.write(messages.framed(answer))
                    async with asyncio.timeout(self.limits.read_seconds):
                        await writer.drain()
            except TimeoutError:
                writer.transport.abort()  # it does not read
            writer.close()

    async def _answer(self, question: Any, data: bytes, gone: asyncio.Event) -> bytes:
        if not isinstance(question, dict):
            raise BadInput("the request must be a JSON object")
        op = question.get("op")
        if op == "status":
            return wire.dumps({"ok": self._status()})
        if op in ("describe", "search", "explain", "file", "fields"):
            return await self._ask("index", str(question.get("index")), question, data, gone)
        if op in ("adapter", "check"):
            return await self._ask("adapter", str(question.get("adapter")), question, data, gone)
        raise BadInput(f"unknown operation {op!r} of the search service")

    async def _ask(
        self, kind: str, name: str, question: dict[str, Any], data: bytes, gone: asyncio.Event
    ) -> bytes:
        seconds = self.limits.answer_seconds if kind == "index" else self.limits.check_seconds
        if question["op"] in ("describe", "adapter"):
            question = {"op": "open"}
        while True:
            if (refusal := self._refusal((kind, name))) is not None:
                return refusal
            holding = self._holding(kind, name)
            try:
                answer = await holding.ask(question, data, seconds, gone)
                if holding.dead:
                    self._keep_refusal((kind, name), answer)
                return answer
            except Gone:
                if gone.is_set():
                    raise
            finally:
                if holding.dead:
                    self._forget((kind, name), holding)

    def _refusal(self, key: tuple[str, str]) -> bytes | None:
        """Return the cached error of an adapter that cannot be loaded, since a failing import may be slow."""
        if (known := self._refusals.get(key)) is None:
            return None
        made, until, answer = known
        if time.monotonic() < until and made == self._made_by(key):
            return answer
        del self._refusals[key]
        return None

    def _keep_refusal(self, key: tuple[str, str], answer: bytes) -> None:
        if json.loads(answer).get("error", {}).get("type") == AdapterBroken.__name__:
            until = time.monotonic() + self.limits.adapter_idle_seconds
            self._refusals[key] = self._made_by(key), until, answer

    def _made_by(self, key: tuple[str, str]) -> object:
        kind, name = key
        adapter = index_adapter(self.home / "indexes", name) if kind == "index" else name
        return adapter, installed_as(adapter)

    # Holders -----------------------------------------------------------------------------------

    def _holding(self, kind: str, name: str) -> Holding:
        key = (kind, name)
        if kind == "index":
            folder = self.home / "indexes"
            index_adapter(folder, name)
            stamp: object = index_stamp(folder, name)
            arguments = ["--index", str(folder), name]
        else:
            if name not in (known := adapters()):
                raise UnknownAdapter(name, known)
            stamp, arguments = None, ["--adapter", name]
        held = self._holdings.get(key)
        if (
            held is not None and held.stamp != stamp
        ):  # rebuilt: waiting requests get the old index, new ones the new index
            self._retire(key)
            held = None
        if held is None or held.dead:
            self._check_failures(key)
            self._make_room()
            held = self._holdings[key] = Holding(f"{kind} {name!r}", arguments, stamp, self.limits)
        return held

    def _check_failures(self, key: tuple[str, str]) -> None:
        """Refuse requests for a while after repeated failures."""
        times = self._broken.get(key, deque())
        while times and time.monotonic() - times[0] > self.limits.failure_seconds:
            times.popleft()
        if len(times) >= self.limits.failures:
            left = self.limits.failure_seconds - (time.monotonic() - times[0])
            raise Busy(
                f"{key[0]} {key[1]!r} failed {len(times)} times within {self.limits.failure_seconds:g} s "
                "and is paused for a while",
                retry_after=max(round(left), 1),
                advice="The reason is in the workspace's search-service.log.",
            )

    def _forget(self, key: tuple[str, str], holding: Holding) -> None:
        if holding.broke:
            holding.broke = False
            self._broken.setdefault(key, deque()).append(time.monotonic())
            _LOG.warning("%s failed", holding.what)
        if self._holdings.get(key) is holding:
            del self._holdings[key]

    def _make_room(self) -> None:
        while len(self._holdings) >= self.limits.open_indexes:
            self._retire(self._longest_idle())

    def _longest_idle(self) -> tuple[str, str]:
        idle = [key for key, held in self._holdings.items() if not held.waiting]
        if not idle:
            raise Busy(f"all {len(self._holdings)} open indexes are in use", retry_after=5)
        return min(idle, key=lambda key: self._holdings[key].last_asked)

    def _retire(self, key: tuple[str, str]) -> None:
        held = self._holdings.pop(key)
        self._retired.add(held)

    async def _look(self) -> None:
        """Close holders that are retired, idle or too large."""
        for held in [held for held in self._retired if not held.waiting]:
            self._retired.discard(held)
            await held.end()
        for (kind, name), held in list(self._holdings.items()):
            most = self.limits.idle_seconds if kind == "index" else self.limits.adapter_idle_seconds
            if not held.waiting and time.monotonic() - held.last_asked > most:
                self._retire((kind, name))
        sizes = {key: _resident(held.pid) for key, held in self._holdings.items()}
        for key, size in sizes.items():
            if size > self.limits.memory:
                held = self._holdings[key]
                used, most = size // 2**20, self.limits.memory // 2**20
                held.stopped_for = f"used {used:,} MiB of memory (limit: {most:,} MiB)"
                _LOG.warning("%s %s and is stopped", held.what, held.stopped_for)
                held.broke = True
                await held.end()
                self._forget(key, held)
        total = sum(size for key, size in sizes.items() if key in self._holdings)
        while total > self.limits.memory:
            try:
                key = self._longest_idle()
            except Busy:
                return
            total -= sizes[key]
            self._retire(key)

    def _status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "connections": self._connections,
            "holders": [
                {
                    "kind": kind,
                    "name": name,
                    "pid": held.pid,
                    "waiting": held.waiting,
                    "memory": _resident(held.pid),
                }
                for (kind, name), held in self._holdings.items()
            ],
        }


async def _watch(reader: asyncio.StreamReader, gone: asyncio.Event) -> None:
    with contextlib.suppress(OSError):
        await reader.read(1)  # the client sends nothing more; this returns when it hangs up
    gone.set()


def _check_peer(writer: asyncio.StreamWriter) -> None:
    """Refuse connections from other users."""
    if sys.platform != "linux":
        return
    connection = writer.get_extra_info("socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    if struct.unpack("3i", credentials)[1] != os.getuid():
        raise ConnectionRefusedError("another user")


def _resident(pid: int | None) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss) if pid is not None else 0
    except psutil.Error:
        return 0


def _remove_folder(state: Any) -> None:
    """Remove the socket folder of a service that was killed."""
    try:
        folder = Path(state["socket"]).parent
        if folder.name.startswith(_FOLDER) and folder.stat().st_uid == os.getuid():
            shutil.rmtree(folder, ignore_errors=True)
    except (OSError, KeyError, TypeError):
        return
