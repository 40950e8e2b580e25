"""What the handlers ask: the workspace in a few threads, and the search service; never the server's loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from traitlets import Float, Integer, Unicode
from traitlets.config import LoggingConfigurable
from typing_extensions import override

from workbench.adapter.registry import adapters
from workbench.errors import Busy, WorkbenchError
from workbench.home import HOME
from workbench.results.result import Metric
from workbench.runs.heartbeats import SILENT_SECONDS, Hearing
from workbench.search.client import SearchClient
from workbench.server.uploads import FILE_BYTES, STALLED_SECONDS
from workbench.workspace import Workspace

_T = TypeVar("_T")

#: Seconds that two who watch the same job share one look at it.
_SHARED_SECONDS = 0.2


class ServedWorkspace(Workspace):
    """A workspace that asks the search service what adapters declare, so that none is loaded here."""

    def __init__(self, path: Path, search: SearchClient, silent_seconds: float = SILENT_SECONDS) -> None:
        super().__init__(path)
        self._search = search
        self.hearing = Hearing(silent_seconds)

    @override
    def family_metrics(self, families: Collection[str]) -> list[Metric]:
        declared: list[Metric] = []
        for family in sorted(set(families) & set(adapters())):
            try:
                told = self._search.ask({"op": "adapter", "adapter": family})
            except WorkbenchError:  # without its words the runs are compared all the same
                continue
            declared += [Metric(**metric) for metric in told["metrics"]]
        return declared


class WorkbenchServer(LoggingConfigurable):
    """The workspace that a Jupyter server serves, and how much of the server it may take."""

    workspace = Unicode(
        "",
        config=True,
        help="The workspace folder; $WORKBENCH_HOME, or `results` under the server's root, if not given.",
    )
    threads = Integer(4, min=1, config=True, help="How many threads ask the database.")
    most_waiting = Integer(
        64,
        min=1,
        config=True,
        help="How many requests may wait for them, or for a search, before one is refused.",
    )
    most_streams = Integer(64, min=1, config=True, help="How many progress streams may be open.")
    most_files = Integer(8, min=1, config=True, help="How many files may be on their way at once.")
    most_file_bytes = Integer(
        FILE_BYTES, min=1, config=True, help="How many bytes a file that is sent may have."
    )
    stalled_seconds = Float(
        STALLED_SECONDS,
        min=0.1,
        config=True,
        help="Seconds after which a file on its way, of which nothing more comes, is given up.",
    )
    silent_seconds = Float(
        SILENT_SECONDS,
        min=0.1,
        config=True,
        help="Seconds without a sign of life after which a run that is logged from elsewhere is lost.",
    )

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.streams = 0
        self._waiting = {"database": 0, "search": 0}
        self.files = 0
        self._opening = Lock()
        self._home: Workspace | None = None
        self._looks: dict[int, tuple[float, asyncio.Task[dict[str, Any]]]] = {}

    @cached_property
    def home_path(self) -> Path:
        """The workspace folder."""
        root = getattr(self.parent, "root_dir", None) or Path.cwd()
        given = self.workspace or os.environ.get(HOME) or Path(root) / "results"
        return Path(given).expanduser().resolve()

    @cached_property
    def search(self) -> SearchClient:
        """The search service of the workspace."""
        return SearchClient(self.home_path)

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, thread_name_prefix="workbench-api")

    @cached_property
    def _disk(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(2, thread_name_prefix="workbench-files")

    async def on_disk(self, work: Callable[[], _T]) -> _T:
        """Return what a function returns that reads or writes a part of a file, or a large body."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    def _opened(self) -> Workspace:
        with self._opening:
            if self._home is None:
                self._home = ServedWorkspace(self.home_path, self.search, self.silent_seconds)
            return self._home

    async def run(self, work: Callable[[Workspace], _T]) -> _T:
        """Return what a function of the workspace returns, from a thread.

        Raises
        ------
        Busy
            Too many wait already.
        """
        with _Place(self._waiting, "database", self.most_waiting + self.threads):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, lambda: work(self._opened()))

    async def ask(self, **question: Any) -> dict[str, Any]:
        """Return what the search service answers.

        Raises
        ------
        Busy
            Too many wait already.
        """
        with _Place(self._waiting, "search", self.most_waiting):
            if not self.home_path.is_dir():
                await self.run(lambda home: None)  # which makes the folder
            return await self.search.ask_async(question)

    async def look(self, job_id: int) -> dict[str, Any]:
        """Return a job as JSON; those who watch the same one share a look."""
        loop = asyncio.get_running_loop()
        at, task = self._looks.get(job_id, (0.0, None))
        if task is None or loop.time() - at > _SHARED_SECONDS:
            task = loop.create_task(self.run(lambda home: home.job(job_id).to_json()))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._looks = {key: old for key, old in self._looks.items() if loop.time() - old[0] < 1.0}
            self._looks[job_id] = (loop.time(), task)
        return await asyncio.shield(task)


class _Place:
    """One of so many places; who finds none is told to come back."""

    def __init__(self, taken: dict[str, int], kind: str, most: int) -> None:
        self._taken, self._kind, self._most = taken, kind, most

    def __enter__(self) -> None:
        if self._taken[self._kind] >= self._most:
            raise Busy(f"{self._most} requests wait for the {self._kind} already", retry_after=2)
        self._taken[self._kind] += 1

    def __exit__(self, *_: object) -> None:
        self._taken[self._kind] -= 1
