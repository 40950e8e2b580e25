"""The server of a published page: ``python -m workbench.publish.server --port=N NOTEBOOK``.

Voila makes the page, once for all visitors; see :mod:`workbench.publish.rendering`. What the page then asks
is answered by :mod:`workbench.publish.door`. A visitor holds nothing here: there is no kernel, no session and
no cookie. Every other address is answered with an error page.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from pathlib import Path
from typing import Any

from jupyter_server.utils import url_path_join
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from traitlets import Bool, Float, Integer, List, Unicode
from voila.app import Voila

from workbench.publish.answers import Guarded, NothingHere, log_request, problem_page
from workbench.publish.door import HealthHandler, Searches, SearchHandler
from workbench.publish.rendering import Page

#: Seconds until a connection is closed that sends no request, or not the rest of one.
SILENT_SECONDS = 20.0


#: Maximum number of open connections. A browser has up to six.
CONNECTIONS = 2048


#: Maximum size of a request's first part, and of a body unless its route says otherwise, in bytes.
REQUEST_BYTES, BODY_BYTES = 16 * 2**10, 16 * 2**10


#: Maximum size of the log, in bytes; beyond it the older half is dropped.
LOG_BYTES = 2 * 2**20


#: Seconds between two looks at the size of the log.
_LOG_SECONDS = 1.0


class PageHandler(Guarded):
    """The page itself."""

    async def get(self) -> None:
        """Send the page, or that it has not changed."""
        made: Page = self.settings["page"]
        page = await made.get()
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")
        self.set_header("Vary", "Accept-Encoding")
        self.set_header("Content-Security-Policy", page.policy)
        self.set_header("ETag", page.etag)
        if self.check_etag_header():
            self.set_status(304)
            return
        if "gzip" in self.request.headers.get("Accept-Encoding", ""):
            self.set_header("Content-Encoding", "gzip")
            self.write(page.compressed)
        else:
            self.write(page.html)

    head = get


class VisitorServer(HTTPServer):
    """A server with a limit on open connections."""

    def handle_stream(self, stream: Any, address: Any) -> None:
        """Serve a connection, or close it."""
        if len(self._connections) >= CONNECTIONS:
            stream.close()
        else:
            super().handle_stream(stream, address)


class PublishedPage(Voila):  # type: ignore[misc]
    """Voila's server for one page, with routes, limits and errors of its own."""

    host_names = List(Unicode(), config=True, help="Names under which a proxy publishes the page.")
    silent_seconds = Float(SILENT_SECONDS, config=True, help="Seconds until a silent connection is closed.")
    log_bytes = Integer(LOG_BYTES, config=True, help="Maximum size of the log.")
    prepare_page = Bool(True, config=True, help="Make the page before the first visitor comes.")

    def init_settings(self) -> dict[str, Any]:
        """Return the application's settings."""
        settings: dict[str, Any] = super().init_settings()
        # It warns once per page that the notebook is not signed; its code is the publisher's own.
        self.contents_manager.log = logging.getLogger(f"{__name__}.notebook")
        self.contents_manager.log.setLevel(logging.ERROR)
        page = Page(self, self.problem_page)
        home = Path(os.environ.get("WORKBENCH_HOME") or "results").expanduser()
        return settings | {
            "host_names": tuple(name.lower() for name in self.host_names),
            "page": page,
            "searches": Searches(home, page),
            "default_handler_class": NothingHere,
            "log_function": log_request,
        }

    def init_handlers(self) -> list[Any]:
        """Return the routes; Voila's own are not among them, since the page is whole in itself."""

        def at(path: str) -> str:
            return url_path_join(self.server_url, path)

        return [
            (at("/"), PageHandler),
            (at("/page/search"), SearchHandler),
            (at("/page/health"), HealthHandler),
        ]

    def problem_page(self, status: int) -> str:
        """Return the error page of a status."""
        return problem_page(self.app.settings, status)

    def listen(self) -> None:
        """Serve until told to stop."""
        server = VisitorServer(
            self.app,
            idle_connection_timeout=self.silent_seconds,
            body_timeout=self.silent_seconds,
            max_header_size=REQUEST_BYTES,
            max_body_size=BODY_BYTES,
        )
        server.listen(self.port, self.ip)
        self.ioloop = IOLoop.current()
        if self.prepare_page:
            self.ioloop.add_callback(self.app.settings["page"].prepare)
        look = PeriodicCallback(lambda: shorten_log(most=self.log_bytes), 1000 * _LOG_SECONDS)
        look.start()
        try:
            self.ioloop.start()
        finally:
            self.stop()


def shorten_log(descriptor: int = 2, most: int = LOG_BYTES) -> None:
    """Drop the older half of a log that has become larger than ``most`` bytes.

    The log is what this process and the kernels print, so it is the file with that descriptor; a terminal or
    a pipe is left alone.
    """
    with contextlib.suppress(OSError):
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size <= most:
            return
        kept = os.pread(descriptor, most // 2, found.st_size - most // 2).partition(b"\n")[2]
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b"(earlier lines were dropped)\n" + kept)


main = PublishedPage.launch_instance


if __name__ == "__main__":
    main()
