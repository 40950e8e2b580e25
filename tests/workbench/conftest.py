"""A broken adapter, and a live server over a workspace, for the tests of the doors."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

import workbench as wb
from tests.conftest import with_database
from tests.waiting import GUARD, until
from workbench.host import processes
from workbench.search.client import LOCK_NAME, SearchClient, state_folder
from workbench.store import records
from workbench.store.store import Store

T = TypeVar("T")

BROKEN = Path(__file__).parents[1] / "adapters" / "broken.py"

#: Adapters that break while they are imported.
AT_IMPORT = {
    "crashes": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
    "raises": "raise RuntimeError('not today')\n",
}


def install(folder: Path, name: str, source: str) -> None:
    """Put an adapter into a folder as an installed package."""
    (folder / f"{name}_adapter.py").write_text(source, encoding="utf-8")
    info = folder / f"{name}_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-adapter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[workbench.adapters]\n{name} = {name}_adapter:adapter\n")


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    """A store of each kind; both must pass the same tests."""
    store = Store(database)
    yield store
    store.close()


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    """Let this process, and those it starts, find the packages of a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
        yield


@pytest.fixture(scope="session")
def broken_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the adapter that breaks when it is asked, and those that break at import."""
    folder = tmp_path_factory.mktemp("broken-package")
    install(folder, "broken", BROKEN.read_text(encoding="utf-8"))
    for name, source in AT_IMPORT.items():
        install(folder, name, source)
    return folder


@pytest.fixture
def broken(broken_package: Path) -> Iterator[None]:
    """The broken adapters are installed."""
    with on_path(broken_package):
        yield


#: The file of the first word of an index that :func:`make_index` writes.
DOG = b"\xff\xd8 a dog"


def make_index(home: Path, name: str, **manifest: object) -> None:
    """Write an index, by default of the toy adapter, whose first word has a file."""
    folder = home / "indexes" / name
    (folder / "files").mkdir(parents=True, exist_ok=True)
    (folder / "files" / "dog.jpg").write_bytes(DOG)
    said = {"adapter": "toy", "words": ["dog", "dot", "pizza", "강아지", "강"], **manifest}
    (folder / "manifest.json").write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")


def in_a_loop(steps: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a thread of its own: a browser of other tests keeps a loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, steps).result()


def job_row(home: wb.Workspace, status: str, **columns: Any) -> int:
    """Add a job that is in a state already, and that no worker touches."""
    row = records.JobRecord(**{"type": "eval", "adapter": "toy", "status": status, "attempt": 1, **columns})
    if status == "running":
        row.lease_until = row.heartbeat_at = time.time() + 1e6
    added = home.store.add_job(row)
    assert added.id is not None
    return added.id


def end_search_service(home: Path) -> None:
    """End a workspace's search service, if one was started."""
    with suppress(OSError, ValueError, KeyError):
        pid = json.loads((state_folder(home) / LOCK_NAME).read_text())["pid"]
        os.kill(pid, signal.SIGTERM)
        until(lambda: not processes.started(pid))


@pytest.fixture
def searched(workspace: wb.Workspace) -> Iterator[Path]:
    """The folder of a workspace whose search service leaves with it."""
    yield workspace.path
    end_search_service(workspace.path)


@dataclass(frozen=True)
class Live:
    """A Jupyter server that runs, with the API of one workspace."""

    url: str
    token: str
    home: Path
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def api(self) -> str:
        return f"{self.url}workbench/api"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    def ask(self, verb: str, path: str, **more: Any) -> httpx.Response:
        """Ask with the token, unless other headers are given."""
        more.setdefault("headers", self.headers)
        more = {"timeout": GUARD, "verify": False, **more}  # plain HTTP: certificates take long to load
        return httpx.request(verb, f"{self.api}/{path}", **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.ask("GET", path, **more)

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.ask("POST", path, json=body, **more)

    def alive(self) -> bool:
        """Whether the server, the very one that was started, answers."""
        return self.process.poll() is None and self.get("jobs?limit=1").status_code == 200


@contextmanager
def live_server(
    home: Path,
    state: Path,
    *flags: str,
    base: str = "/",
    environment: Mapping[str, str] | None = None,
    address: tuple[int, str] | None = None,
    has_workspace: bool = True,
) -> Iterator[Live]:
    """Run a Jupyter server with our extension and no other; its port and token may be given."""
    if has_workspace:
        with_database(home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port, token = address or (probe.getsockname()[1], secrets.token_hex(16))
    state.mkdir(parents=True, exist_ok=True)
    short = tempfile.mkdtemp(prefix="api-")
    own = {"JUPYTER_CONFIG_DIR": str(state), "JUPYTER_DATA_DIR": str(state), "JUPYTER_RUNTIME_DIR": short}
    more = {"JUPYTER_NO_CONFIG": "1", "WORKBENCH_HOME": str(home), "WORKBENCH_WORKER_IDLE": "20"}
    command = [
        *(sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"),
        *(f"--ServerApp.root_dir={state}", f"--ServerApp.base_url={base}"),
        *("--ServerApp.jpserver_extensions={'workbench.server': True}", *flags),
    ]
    with (state / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **own, **more, **(environment or {})}, stdout=log, stderr=log
        )
    served = Live(f"http://127.0.0.1:{port}{base}", token, home, process, state / "server.log")

    def up() -> bool:
        assert process.poll() is None, served.log.read_text()[-3000:]
        with suppress(httpx.TransportError):
            return httpx.get(f"{served.url}api", timeout=GUARD, verify=False).status_code == 200  # noqa: S501
        return False

    try:
        until(up, "the server answers")
        yield served
    finally:
        process.terminate()
        process.wait(GUARD)
        shutil.rmtree(short, ignore_errors=True)
        end_search_service(home)
        with suppress(OSError, ValueError, StopIteration):
            os.kill(int(next(home.glob(".worker-*.lock")).read_text()), signal.SIGTERM)


#: Longer than any busy machine needs, and patient with those that break often.
SERVED_LIMITS = {"answer_seconds": GUARD, "open_seconds": GUARD, "check_seconds": GUARD, "failures": 1000}

#: Short enough for a test that waits for a hanging adapter.
HASTY_LIMITS = {**SERVED_LIMITS, "answer_seconds": 3, "check_seconds": 4}


@pytest.fixture(scope="session")
def live(toy_package: Path, broken_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One server for all tests that leave it as they found it, with sound and broken adapters."""
    folder = tmp_path_factory.mktemp("live")
    home = folder / "results"
    make_index(home, "words")
    make_index(home, "broken", adapter="broken")
    # The first job and the first run, whichever test comes first: they are asked for by number.
    with wb.Workspace(home) as owner:
        with owner.start_run("the first", config={"lr": 1}, better={"m": "higher"}) as run:
            run.log({"m": 0.5}, step=0)
            (owner.cache / "x").write_bytes(b"1234")
            run.log_checkpoint("one.bin", owner.cache / "x")
        job_row(owner, "cancelled", options={"k": 1}, finished_at=time.time())
    # In the server's environment only: this process goes on to tests without broken adapters.
    environment = served_environment(SERVED_LIMITS, toy_package, broken_package)
    with live_server(home, folder / "state", environment=environment) as served:
        yield served


def served_environment(limits: Mapping[str, float], *packages: Path) -> dict[str, str]:
    """Return the variables with which a search service has these limits and finds these packages."""
    paths = [*map(str, packages), os.environ.get("PYTHONPATH", "")]
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "WORKBENCH_SEARCH_LIMITS": json.dumps(limits),
    }


@pytest.fixture
def hasty(live: Live, toy_package: Path, broken_package: Path) -> Iterator[None]:
    """The live server asks a search service with short limits, as long as one test runs."""
    end_search_service(live.home)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in served_environment(HASTY_LIMITS, toy_package, broken_package).items():
            patch.setenv(name, value)
        SearchClient(live.home).start()
    yield
    end_search_service(live.home)
