"""Publish the search page with a standalone Voila server and our own template and settings.

The page requests nothing from other servers. The settings suit a page that strangers may open: no sources,
no tracebacks, no files, no other templates, limits on requests, and an environment without the other
variables of the publisher's shell, such as the address of the database with its password. The page is made
once for all visitors; what they ask is answered by the workspace's search service, which holds the index
once, and keeps running for a while after the page is taken down. The server itself is
:mod:`workbench.publish.server`.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from workbench.errors import BadInput, WorkbenchError
from workbench.publish.page_kernel import KERNEL_MEMORY
from workbench.search.client import state_folder
from workbench.search.searcher import PUBLISHED, SHOW_PATHS
from workbench.search.stand_ins import PAGE_KEY, page_key

_HERE = Path(__file__).parent


#: A Jupyter data path with the page's template and a kernel of the interpreter that publishes.
SHARE = _HERE / "share"


#: An address that answers without starting anything.
HEALTH_PATH = "page/health"


#: The server's log in the workspace; each `workbench serve` begins a new one. The server limits its size.
LOG_NAME = "search-page.log"


#: Environment variables that are passed on to the server and the page's kernel.
PASSED_ON = frozenset(
    {"PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT", "VIRTUAL_ENV"}
    | {"PYTHONPATH", "PYTHONUTF8", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LD_LIBRARY_PATH"}
    | {"WORKBENCH_SEARCH_LIMITS", "WORKBENCH_MAX_MEGAPIXELS", KERNEL_MEMORY}
)


#: A name that a page can be published under.
_HOST_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.IGNORECASE)


def settings(
    *,
    preheat: bool = True,
    host_names: Sequence[str] = (),
    **server: Any,
) -> dict[str, dict[str, Any]]:
    """Return Voila's settings by class and name; ``server`` are further ones of ``PublishedPage``."""
    return {
        "PublishedPage": {
            "ip": "127.0.0.1",
            "open_browser": False,
            "port_retries": 0,
            "log_level": 30,  # warnings: a visit writes nothing
            "host_names": list(host_names),
            "prepare_page": preheat,
            **server,
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
            "preheat_kernel": False,
            "extension_allowlist": [],
        },
        "VoilaExecutor": {"cell_error_instruction": "Please try again later."},
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
    return [sys.executable, "-m", "workbench.publish.server", f"--port={port}", *flags, str(notebook)]


def environment(
    home: Path, index: str | None, variables: Mapping[str, str], *, show_paths: bool = False
) -> dict[str, str]:
    """Return the environment of the server and of the kernel that makes the page."""
    kept = {name: value for name, value in variables.items() if name in PASSED_ON}
    kept |= {"WORKBENCH_HOME": str(home), "JUPYTER_PATH": str(SHARE), "JUPYTER_NO_CONFIG": "1"}
    kept |= {"PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1", PUBLISHED: "1"}
    kept |= {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}  # or the kernel writes three lines to the log
    if index:
        kept["WORKBENCH_INDEX"] = index
    if show_paths:
        kept[SHOW_PATHS] = "1"
    return kept


def serve(
    ws_path: str | os.PathLike[str],
    index: str | None = None,
    port: int | None = 0,
    open_browser: bool = False,
    *,
    timeout: float = 180.0,
    preheat: bool = True,
    host_names: Sequence[str] = (),
    show_paths: bool = False,
    new_log: bool = True,
    **limits: Any,
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
        Whether the page is made before the first visitor comes.
    host_names : sequence of str
        Names, beside those of this machine, under which a proxy publishes the page. Requests under any other
        name are refused.
    show_paths : bool
        Whether visitors see where the files of pictures are.
    new_log : bool
        Whether to begin a new log; False to append to that of the server before.
    **limits
        Further arguments of :func:`settings`.

    Returns
    -------
    process : subprocess.Popen
        The server; ``terminate()`` ends it.
    url : str
        Where the page is.

    Raises
    ------
    BadInput
        The port is in use, or a name is not a host name.
    WorkbenchError
        The server ended, or did not answer in time; the message contains the end of its log.
    """
    home = Path(ws_path).expanduser().resolve()
    number = int(port or 0) or _free_port()
    url = f"http://127.0.0.1:{number}/"
    if _taken(number):
        raise BadInput(f"port {number} is in use", hint="Use another port, or 0 to pick a free one.")
    for name in host_names:
        if not _HOST_NAME.fullmatch(name):
            raise BadInput(
                f"{name!r} is not a host name",
                hint="Give it without scheme, port and path, such as search.example.org.",
            )
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _open_log(log_path(home), new=new_log) as log:
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and settings
            command(search_notebook(), number, preheat=preheat, host_names=host_names, **limits),
            env={
                **environment(home, index, os.environ, show_paths=show_paths),
                PAGE_KEY: page_key(state_folder(home)).hex(),
            },
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
            raise WorkbenchError(f"{error.message}. Its log ends with:\n{log_end}", hint=error.help) from None
        except BaseException:  # interrupted during startup
            process.terminate()
            process.wait(10)
            raise
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


def log_path(home: Path) -> Path:
    """Return the file that a page's server logs to; it is outside of a workspace that cannot be written."""
    return state_folder(home) / LOG_NAME


def _open_log(path: Path, *, new: bool) -> IO[bytes]:
    """Return a log that only its owner can read, and to which all processes append; empty if it is new."""
    if new:
        path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")


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
