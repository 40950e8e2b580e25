"""Publish the search page with a standalone Voila server and our own template and settings.

The page requests nothing from other servers. The settings suit a page that strangers may open: no sources,
no tracebacks, no files, no other templates, a limit on kernels, and an environment without the other
variables of the publisher's shell. A visitor's kernel is a thin client: the workspace's search service holds
the index once for all visitors, and keeps running for a while after the page is taken down.
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


#: A Jupyter data path with the page's template and a kernel of the interpreter that publishes.
SHARE = _HERE / "share"


#: A file that every Voila serves without starting a kernel; requesting the page would start one.
HEALTH_PATH = "voila/static/voila-style.js"


#: The server's log in the workspace; each start overwrites it.
LOG_NAME = "search-page.log"


#: Environment variables that are passed on to a visitor's kernel.
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
                # A picture arrives in one message with the other fields of its query.
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
            # Only what the panels need; visitors would load any other extension for nothing.
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
    """Return whether kernels can use Unix sockets, which no other user of the machine can open.

    The path of such a socket has at most about a hundred characters, and the parts that Voila and the kernel
    add take seventy of them.
    """
    return os.name == "posix" and len(tempfile.gettempdir()) < 30


def command(notebook: Path, port: int, **changes: Any) -> list[str]:
    """Return the command that serves a notebook; ``changes`` are passed to :func:`settings`."""
    flags = [
        f"--{owner}.{name}={value!r}" if not isinstance(value, str) else f"--{owner}.{name}={value}"
        for owner, values in settings(**changes).items()
        for name, value in values.items()
    ]
    return [sys.executable, "-m", "voila", f"--port={port}", *flags, str(notebook)]


def environment(home: Path, index: str | None, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server and its visitors' kernels."""
    kept = {
        name: value for name, value in variables.items() if name in PASSED_ON or name.startswith("WORKBENCH_")
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
    """Start the search page of a workspace and return when it responds.

    Parameters
    ----------
    ws_path : path
        The workspace folder.
    index : str, optional
        Name of the index; default: the newest.
    port : int or None
        A port of this machine; 0 or None picks a free one.
    open_browser : bool
        Whether to open the page.
    timeout : float
        Seconds to wait for the server to respond.
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
        The server ended, or did not answer in time; the message contains the end of its log.
    """
    home = Path(ws_path).expanduser().resolve()
    number = int(port or 0) or _free_port()
    url = f"http://127.0.0.1:{number}/"
    if _taken(number):
        raise BadInput(f"port {number} is in use", hint="Use another port, or 0 to pick a free one.")
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
            log_end = log.read()[-2000:].decode("utf-8", "replace").strip()
            raise WorkbenchError(f"{error.message}. Its log ends with:\n{log_end}", hint=error.hint) from None
    if open_browser:
        webbrowser.open(url)
    return process, url


def search_notebook() -> Path:
    """Return the published notebook, from the checkout or from an installed wheel."""
    package = _HERE.parent
    places = (package.parent / "notebooks", package / "_notebooks")
    for place in places:
        if (place / "search_demo.ipynb").is_file():
            return place / "search_demo.ipynb"
    raise WorkbenchError(f"search_demo.ipynb not found in {', '.join(map(str, places))}")


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
