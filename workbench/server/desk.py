"""Access for the handlers: the workspace in a few threads, and the search service, off the event loop."""

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

#: Seconds for which watchers of the same job share one read of it.
_SHARED_SECONDS = 0.2


class ServedWorkspace(Workspace):
    """A workspace that gets adapter metadata from the search service, so that no adapter is loaded here."""

    def __init__(self, path: Path, search: SearchClient, silent_seconds: float = SILENT_SECONDS) -> None:
        super().__init__(path)
        self._search = search
        self.hearing = Hearing(silent_seconds)

    @override
    def family_metrics(self, families: Collection[str]) -> dict[str, list[Metric]]:
        declared: dict[str, list[Metric]] = {}
        for family in sorted(set(families) & set(adapters())):
            try:
                metadata = self._search.ask({"op": "adapter", "adapter": family})
            except WorkbenchError:  # runs can be compared without its metadata
                continue
            declared[family] = [Metric(**metric) for metric in metadata["metrics"]]
        return declared


class WorkbenchServer(LoggingConfigurable):
    """The workspace that a Jupyter server serves, and the limits on its use of the server."""

    workspace = Unicode(
        "",
        config=True,
        help="The workspace folder (default: $WORKBENCH_HOME, or `results` under the server's root).",
    )
    threads = Integer(4, min=1, config=True, help="Number of threads for database queries.")
    most_waiting = Integer(
        64,
        min=1,
        config=True,
        help="Maximum requests waiting for the database, and for the search service; more are refused.",
    )
    most_streams = Integer(64, min=1, config=True, help="Maximum open progress streams.")
    most_files = Integer(8, min=1, config=True, help="Maximum concurrent uploads.")
    most_file_bytes = Integer(
        FILE_BYTES, min=1, config=True, help="Maximum size of an uploaded file, in bytes."
    )
    stalled_seconds = Float(
        STALLED_SECONDS,
        min=0.1,
        config=True,
        help="Seconds without data after which an upload is aborted.",
    )
    silent_seconds = Float(
        SILENT_SECONDS,
        min=0.1,
        config=True,
        help="Seconds without a heartbeat after which a remotely logged run is marked as lost.",
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
        path = self.workspace or os.environ.get(HOME) or Path(root) / "results"
        return Path(path).expanduser().resolve()

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
        """Run a function in a thread for file access or a large body, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)

    def _opened(self) -> Workspace:
        with self._opening:
            if self._home is None:
                self._home = ServedWorkspace(self.home_path, self.search, self.silent_seconds)
            return self._home

    async def run(self, work: Callable[[Workspace], _T]) -> _T:
        """Run a function of the workspace in a thread and return its result.

        Raises
        ------
        Busy
            Too many requests are waiting.
        """
        with _Place(self._waiting, "database", self.most_waiting + self.threads):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, lambda: work(self._opened()))

    async def ask(self, **question: Any) -> dict[str, Any]:
        """Send a request to the search service and return its answer.

        Raises
        ------
        Busy
            Too many requests are waiting.
        """
        with _Place(self._waiting, "search", self.most_waiting):
            if not self.home_path.is_dir():
                await self.run(lambda home: None)  # creates the folder
            return await self.search.ask_async(question)

    async def look(self, job_id: int) -> dict[str, Any]:
        """Return a job as JSON; concurrent watchers of one job share a read."""
        loop = asyncio.get_running_loop()
        at, task = self._looks.get(job_id, (0.0, None))
        if task is None or loop.time() - at > _SHARED_SECONDS:
            task = loop.create_task(self.run(lambda home: home.job(job_id).to_json()))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._looks = {key: old for key, old in self._looks.items() if loop.time() - old[0] < 1.0}
            self._looks[job_id] = (loop.time(), task)
        return await asyncio.shield(task)


class _Place:
    """One of a limited number of waiting requests; beyond the limit ``Busy`` is raised."""

    def __init__(self, taken: dict[str, int], kind: str, most: int) -> None:
        self._taken, self._kind, self._most = taken, kind, most

    def __enter__(self) -> None:
        if self._taken[self._kind] >= self._most:
            raise Busy(
                f"too many concurrent requests: {self._most} are waiting for the {self._kind}", retry_after=2
            )
        self._taken[self._kind] += 1

    def __exit__(self, *_: object) -> None:
        self._taken[self._kind] -= 1
