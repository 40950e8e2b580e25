"""A real Chromium against real servers on this machine; no request leaves it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

import workbench as wb
from tests.browser.shapes import make_index
from tests.conftest import workspace_in
from tests.waiting import GUARD
from workbench.commands.examination import BROWSERS
from workbench.publish import page as voila

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parents[1] / "notebooks"

#: Maximum milliseconds for anything in a page; two cores are shared with kernels that are starting.
PATIENCE = 180_000

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A page, with its network requests and its errors."""

    page: Page
    requested: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def strangers(self) -> list[str]:
        """Return the requests that left this machine."""
        own = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:")
        return [url for url in self.requested if not url.startswith(own)]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        message = "no Chromium found; install one, for example with: apt-get install chromium-headless-shell"
        if os.environ.get("WORKBENCH_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(
    chromium: Browser, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Visit]]:
    """Open pages, which are photographed and closed at the end."""
    opened: list[Visit] = []

    def open_page(url: str, **context: object) -> Visit:
        page = chromium.new_page(**{"viewport": {"width": 1180, "height": 900}, **context})
        page.set_default_timeout(PATIENCE)
        visit = Visit(page)
        page.on("request", lambda request: visit.requested.append(_url(request)))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        opened.append(visit)
        page.goto(url, wait_until="commit")
        return visit

    yield open_page
    for number, visit in enumerate(opened):
        visit.page.screenshot(path=tmp_path / f"page-{number}.png")
        visit.page.close()


def _url(request: Request) -> str:
    return request.url


@pytest.fixture(scope="session")
def shapes_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the adapter of shapes as an installed package."""
    folder = tmp_path_factory.mktemp("shapes-package")
    (folder / "shapes_adapter.py").write_text(
        (HERE / "shapes.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    info = folder / "shapes_adapter-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shapes-adapter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[workbench.adapters]\nshapes = shapes_adapter:adapter\n")
    return folder


@contextmanager
def on_path(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))
        yield


@pytest.fixture(scope="module")
def shapes_workspace(
    shapes_package: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[wb.Workspace]:
    with on_path(shapes_package), workspace_in(tmp_path_factory.mktemp("shapes") / "results") as home:
        make_index(home.indexes / "shapes")
        yield home


@contextmanager
def published(folder: Path, **how: object) -> Iterator[str]:
    process, url = voila.serve(folder, timeout=PATIENCE / 1000, **how)
    try:
        yield url
    finally:
        process.terminate()
        process.wait(GUARD)


@pytest.fixture(scope="module")
def search_url(shapes_workspace: wb.Workspace) -> Iterator[str]:
    """The published search page over an index of pictures."""
    with published(shapes_workspace.path) as url:
        yield url


#: Parts of JupyterLab that neither a panel nor a card touches. Without them a page loads in two thirds of the
#: time; what is about JupyterLab itself asks for everything.
OTHER_PARTS = (
    *("audio", "celltags", "console", "csvviewer", "debugger", "extensionmanager", "help", "htmlviewer"),
    *("hub", "imageviewer", "inspector", "logconsole", "lsp", "markdownviewer", "mermaid", "metadataform"),
    *("pluginmanager", "settingeditor", "terminal", "toc", "tooltip", "video"),
)


def _leave_out(state: Path) -> None:
    parts = {f"@jupyterlab/{name}-extension": True for name in OTHER_PARTS}
    pages = {"disabledExtensions": {**parts, "@voila-dashboards/jupyterlab-preview": True}}
    (state / "labconfig").mkdir()
    (state / "labconfig" / "page_config.json").write_text(json.dumps(pages))


@contextmanager
def jupyter_lab(
    root: Path, home: Path, state: Path, *, notebooks: bool = True, everything: bool = False
) -> Iterator[Callable[[str], str]]:
    """Run JupyterLab on a copy of the notebooks, or on none; yields a function from notebook name to URL.

    ``state`` holds its configuration, and its data, which take precedence over those of this environment.
    ``everything``: with all its parts, as it is installed; else with those that the tests need.
    """
    if notebooks:
        shutil.copytree(NOTEBOOKS, root / "notebooks")
    if not everything:
        _leave_out(state)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    # A kernel's sockets are files here, whose paths have at most about a hundred characters.
    short = tempfile.mkdtemp(prefix="lab-")
    own = {"JUPYTER_CONFIG_DIR": str(state), "JUPYTER_DATA_DIR": str(state), "JUPYTER_RUNTIME_DIR": short}
    # The worker that a panel starts outlives the server; it ends soon after its last job.
    env = {
        **os.environ,
        **own,
        "JUPYTER_PATH": os.pathsep.join([str(state), str(voila.SHARE)]),
        "WORKBENCH_HOME": str(home),
        "WORKBENCH_WORKER_IDLE": "20",
    }
    flags = [
        f"--port={port}",
        "--ip=127.0.0.1",
        "--no-browser",
        "--allow-root",
        f"--ServerApp.root_dir={root}",
    ]
    flags += [
        f"--IdentityProvider.token={token}",
        "--ServerApp.port_retries=0",
        "--ConnectionFileMixin.transport=ipc",
    ]
    with (state / "lab.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *flags], env=env, stdout=log, stderr=log
        )
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={token}", process, state / "lab.log")
            yield lambda name: f"http://127.0.0.1:{port}/lab/tree/notebooks/{name}?token={token}&reset"
        finally:
            process.terminate()
            process.wait(GUARD)
            shutil.rmtree(short, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=60):  # noqa: S310  # a server of this test
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()[-2000:]}")


def run_all(page: Page) -> None:
    """Run every cell of the open notebook, and wait until the last one has run."""
    # The execution indicator is idle even without a kernel; the status bar waits for a real one.
    expect(page.locator("#jp-main-statusbar")).to_contain_text("Python 3 | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text(re.compile(r"\[\d+\]"))
