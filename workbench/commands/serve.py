"""``workbench serve``."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from workbench.commands.arguments import command, in_workspace, takes_index, takes_port
from workbench.commands.exit_codes import DONE, FAILED
from workbench.commands.output import print_document, say
from workbench.errors import UnknownIndex, WorkbenchError

if TYPE_CHECKING:
    from workbench.workspace import Workspace

#: Maximum number of restarts of the server, the seconds within which they count, and the first pause; each
#: further pause is twice as long.
RESTARTS, WITHIN_SECONDS, FIRST_PAUSE_SECONDS = 5, 600.0, 1.0


def add(commands: Any) -> None:
    """Add the command."""
    serve = command(commands, "serve", in_workspace(_serve), "Publish the search page on this machine.")
    takes_index(serve, "the index to open first (default: the newest)")
    takes_port(serve)
    takes_paths(serve)
    serve.add_argument(
        "--host-name",
        metavar="NAME",
        action="append",
        default=[],
        help="a name under which a proxy publishes the page, such as search.example.org; repeatable",
    )


def _serve(home: Workspace, args: argparse.Namespace) -> int:
    names = home.index_names()
    if args.index and args.index not in names:
        raise UnknownIndex(args.index, names)
    return serve_index(
        home,
        args.index,
        args.port,
        args.open,
        as_json=args.json,
        host_names=args.host_name,
        show_paths=args.show_paths,
    )


def takes_paths(parser: argparse.ArgumentParser) -> None:
    """Add ``--show-paths``, for a page that is served."""
    parser.add_argument(
        "--show-paths", action="store_true", help="let visitors see where the files of pictures are"
    )


def serve_index(
    home: Workspace,
    index: str | None,
    port: int,
    open_browser: bool,
    *,
    as_json: bool = False,
    host_names: Sequence[str] = (),
    show_paths: bool = False,
) -> int:
    """Publish a search page until the process is stopped.

    If its server ends by itself it is started again at the same address, after a pause that grows; if it ends
    too often, the command fails.
    """
    from workbench.publish import page

    # SIGTERM acts like Ctrl-C, so that the server is stopped too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    process, url = page.serve(
        home.path, index, port, open_browser, host_names=host_names, show_paths=show_paths
    )
    try:
        if as_json:
            print_document({"url": url, "workspace": str(home.path), "index": index})
        say(f"The search page is at {url}\nStop it with Ctrl-C.")
        log = f"See its log: {page.log_path(home.path)}"
        ends: list[float] = []
        ended = _ended(process.wait())
        while True:
            now = time.monotonic()
            ends = [*(at for at in ends if now - at < WITHIN_SECONDS), now]
            if len(ends) > RESTARTS:
                times = f"{len(ends)} times within {WITHIN_SECONDS / 60:g} min"
                say(f"error: the page's server {ended}; it ended {times} and is not started again. {log}")
                return FAILED
            pause = FIRST_PAUSE_SECONDS * 2 ** (len(ends) - 1)
            say(f"The page's server {ended}. It is started again in {pause:g} s. {log}")
            time.sleep(pause)
            try:
                process, _ = page.serve(
                    home.path,
                    index,
                    int(urlsplit(url).port or 0),
                    host_names=host_names,
                    show_paths=show_paths,
                    new_log=False,
                )
            except WorkbenchError as error:
                reason = error.message.partition(". Its log ends with:")[0]
                ended = f"could not be started again ({reason})"
            else:
                say(f"The search page is at {url} again")
                ended = _ended(process.wait())
    except KeyboardInterrupt:
        return DONE
    finally:
        process.terminate()
        process.wait()


def _ended(code: int) -> str:
    return f"ended with code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
