"""Publish the search page: Voila, standalone, with a page and settings of our own.

The page asks nothing outside of its own server. The settings are those of a page that strangers may open:
no source, no traceback, no file, no other template, a limit on kernels, and an environment without what
the publisher's shell happens to hold. The kernel of a visitor is a thin client: the workspace's search
service holds the index, once for all of them, and goes on for a while after the page is taken down.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import BadInput, WorkbenchError
from workbench.search.searcher import MAX_IMAGE_BYTES, PUBLISHED

_HERE = Path(__file__).parent


#: What a Jupyter data path holds: the page's template, and a kernel of the interpreter that publishes.
SHARE = _HERE / "share"


#: A file that every Voila serves without starting a kernel; asking for the page would start one.
HEALTH_PATH = "voila/static/voila-style.js"


#: The server's log, in the workspace; each start begins it anew.
LOG_NAME = "search-page.log"


#: Environment variables that a visitor's kernel gets to see.
PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV"}
    | {"PYTHONPATH", "PYTHONUTF8", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LD_LIBRARY_PATH"}
)


_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "frame-ancestors 'self'",
}


def settings(*, preheat: bool = True, most_kernels: int = 12) -> dict[str, dict[str, Any]]:
    """Return Voila's settings by class and name."""
    return {
        "Voila": {
            "ip": "127.0.0.1",
            "open_browser": False,
            "port_retries": 0,
            "tornado_settings": {
                # A picture arrives as one message, with some words about it.
                "websocket_max_message_size": MAX_IMAGE_BYTES + 2**20,
                "headers": _HEADERS,
            },
        },
        "VoilaConfiguration": {
            "template": "workbench",
            "strip_sources": True,
            "show_tracebacks": False,
            "allow_template_override": "NO",
            "allow_theme_override": "NO",
            "file_allowlist": [],
            "file_denylist": [".*"],
            "http_header_envs": [],
            "preheat_kernel": preheat,
            "default_pool_size": 1,
            "multi_kernel_manager_class": "workbench.publish.kernels.VisitorKernels",
            # What the panels need; every other extension is code a visitor would load for nothing.
            "extension_allowlist": [
                "@voila-dashboards/widgets-manager8",
                "@jupyter-widgets/jupyterlab-manager",
                "anywidget",
            ],
        },
        "VisitorKernels": {
            "most": most_kernels,
            "cull_idle_timeout": 1800,
            "cull_interval": 60,
            "cull_connected": True,
            "allow_tracebacks": False,
            "buffer_offline_messages": False,
        },
        "KernelManager": {"autorestart": False},
        "ConnectionFileMixin": {"transport": "ipc" if _sockets_fit() else "tcp"},
    }


def _sockets_fit() -> bool:
    """Say whether kernels can be reached through files, which no other user of the machine can open.

    The path of such a socket may hold about a hundred characters, of which Voila's and the kernel's own
    part take seventy.
    """
    return os.name == "posix" and len(tempfile.gettempdir()) < 30


def command(notebook: Path, port: int, **changes: Any) -> list[str]:
    """Return the command that serves a notebook; ``changes`` are those of :func:`settings`."""
    flags = [
        f"--{owner}.{name}={value!r}" if not isinstance(value, str) else f"--{owner}.{name}={value}"
        for owner, values in settings(**changes).items()
        for name, value in values.items()
    ]
    return [sys.executable, "-m", "voila", f"--port={port}", *flags, str(notebook)]


def environment(home: Path, index: str | None, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server, and so of its visitors' kernels."""
    kept = {
        name: value for name, value in given.items() if name in PASSED_ON or name.startswith("WORKBENCH_")
    }
    kept |= {"WORKBENCH_HOME": str(home), "JUPYTER_PATH": str(SHARE), "JUPYTER_NO_CONFIG": "1"}
    kept |= {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1", PUBLISHED: "1"}
    if index:
        kept["WORKBENCH_INDEX"] = index
    return kept


def serve(
    ws_path: str | os.PathLike[str],
    index: str | None = None,
    port: int | None = 0,
    open_browser: bool = False,
    *,
    timeout: float = 60.0,
    preheat: bool = True,
) -> tuple[subprocess.Popen[bytes], str]:
    """Start the search page of a workspace and return once it answers.

    Parameters
    ----------
    ws_path : path
        The workspace folder.
    index : str, optional
        Name of the index; the newest one otherwise.
    port : int or None
        A port of this machine; 0 or None for a free one.
    open_browser : bool
        Whether to open the page.
    timeout : float
        Seconds the server may take until it answers.
    preheat : bool
        Whether one kernel is always ready for the next visitor.

    Returns
    -------
    process : subprocess.Popen
        The server; ``terminate()`` ends it and its kernels.
    url : str
        Where the page is.

    Raises
    ------
    WorkbenchError
        The server ended, or did not answer in time; the message holds the end of its log.
    """
    home = Path(ws_path).expanduser().resolve()
    number = int(port or 0) or _free_port()
    url = f"http://127.0.0.1:{number}/"
    if _taken(number):
        raise BadInput(f"port {number} is in use", hint="Give another one, or 0 for any that is free.")
    home.mkdir(parents=True, exist_ok=True)
    with (home / LOG_NAME).open("w+b") as log:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and settings
            command(search_notebook(), number, preheat=preheat),
            env=environment(home, index, os.environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_until_it_answers(process, url + HEALTH_PATH, timeout)
        except WorkbenchError as error:
            process.terminate()
            process.wait(10)
            log.seek(0)
            said = log.read()[-2000:].decode("utf-8", "replace").strip()
            raise WorkbenchError(f"{error.message}. It said:\n{said}", hint=error.hint) from None
    if open_browser:
        webbrowser.open(url)
    return process, url


def search_notebook() -> Path:
    """Return the notebook that is published, from the checkout or from an installed wheel."""
    package = _HERE.parent
    places = (package.parent / "notebooks", package / "_notebooks")
    for place in places:
        if (place / "search_demo.ipynb").is_file():
            return place / "search_demo.ipynb"
    raise WorkbenchError(f"search_demo.ipynb is in none of {', '.join(map(str, places))}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait_until_it_answers(process: subprocess.Popen[bytes], url: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        if process.poll() is not None:
            raise WorkbenchError(f"the page's server ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  # a URL of our own
                return
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise WorkbenchError(f"the page's server did not answer within {timeout:g} s") from None
        time.sleep(0.05)
