"""``workbench serve``."""

from __future__ import annotations

import argparse
import signal
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, in_workspace, takes_index, takes_port
from workbench.commands.exit_codes import DONE, FAILED
from workbench.commands.output import print_document, say
from workbench.errors import UnknownIndex

if TYPE_CHECKING:
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the command."""
    serve = command(commands, "serve", in_workspace(_serve), "Publish the search page, on this machine.")
    takes_index(serve, "the index it opens with; the newest if not given")
    takes_port(serve)


def _serve(home: Workspace, given: argparse.Namespace) -> int:
    names = home.index_names()
    if given.index and given.index not in names:
        raise UnknownIndex(given.index, names)
    return serve_index(home, given.index, given.port, given.open, as_json=given.json)


def serve_index(
    home: Workspace, index: str | None, port: int, open_browser: bool, *, as_json: bool = False
) -> int:
    """Publish a search page until somebody stops it."""
    from workbench.publish import page

    # Being told to end is as good as Ctrl-C: the server and its kernels must not stay behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process, url = page.serve(home.path, index, port, open_browser)
    try:
        if as_json:
            print_document({"url": url, "workspace": str(home.path), "index": index})
        say(f"The search page is at {url}\nStop it with Ctrl-C.")
        return FAILED if process.wait() else DONE
    except KeyboardInterrupt:
        return DONE
    finally:
        process.terminate()
        process.wait()
