"""The server of a published page: ``python -m workbench.publish.server --port=N NOTEBOOK``.

Voila's server with its own routes: the page, the page's connection to its kernel, and the files that the page
is made of. Everything else is answered with an error page. A page for the next visitor is always prepared.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import stat
from collections.abc import AsyncIterator
from typing import Any

from jupyter_client.jsonutil import json_default
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.utils import ApiPath, url_path_join
from tornado import web
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop, PeriodicCallback
from traitlets import Bool, Float, Integer, List, Unicode
from voila.app import Voila
from voila.notebook_renderer import NotebookRenderer
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.utils import get_page_config

from workbench.publish.answers import Guarded, NothingHere, log_request
from workbench.publish.kernels import LOOK_SECONDS, VisitorKernels
from workbench.publish.visitor_kernel import KERNEL_MEMORY
from workbench.publish.websocket import VisitorConnection, VisitorWebsocket
from workbench.search.searcher import PUBLISHED, SHOW_PATHS

_LOG = logging.getLogger(__name__)


#: Seconds until a connection is closed that sends no request, or not the rest of one.
SILENT_SECONDS = 20.0


#: Maximum number of connections that are not websockets.
CONNECTIONS = 256


#: Maximum size of a request's first part, and of its body, in bytes. Pictures arrive by websocket.
REQUEST_BYTES, BODY_BYTES = 16 * 2**10, 16 * 2**10


#: Maximum size of the log, in bytes; beyond it the older half is dropped.
LOG_BYTES = 2 * 2**20


#: Seconds between two looks at the size of the log.
_LOG_SECONDS = 1.0


#: Maximum number of kernels that start at the same time; more of them only slow each other down.
_STARTING = 3


#: Seconds between handing out a prepared page and preparing the next, which leaves the visitor the processor.
_PREPARE_AFTER = 1.0


#: Environment variables of a visitor's kernel beside those of the system: what the page's notebook reads.
#: A kernel may start the search service, which takes its limits from there. There are no others of the
#: workbench, such as the address of a database with its password.
KERNEL_VARIABLES = frozenset(
    {"WORKBENCH_HOME", "WORKBENCH_INDEX", PUBLISHED, SHOW_PATHS, KERNEL_MEMORY}
    | {"WORKBENCH_SEARCH_LIMITS", "WORKBENCH_MAX_MEGAPIXELS"}
)


#: A panel in a page; a page without one says what is wrong, and is not kept for the next visitor.
_PANEL = "application/vnd.jupyter.widget-view+json"


#: Those of Voila's routes that serve the files of the page: scripts, styles, and nothing of the publisher's.
_FILE_HANDLERS = (MultiStaticFileHandler, TemplateStaticFileHandler, FileFindHandler)


_TEMPLATE_FILES = r"/voila/templates/(\w+/static/.+)"


_KERNEL_ID = r"(?P<kernel_id>\w+-\w+-\w+-\w+-\w+)"


class Pages:
    """Makes pages, each with a kernel of its own, and keeps one ready for the next visitor.

    Parameters
    ----------
    app : PublishedPage
        The server.
    prepare : bool
        Whether to keep one ready.
    """

    def __init__(self, app: PublishedPage, prepare: bool) -> None:
        self._app = app
        self._prepare = prepare
        self._starting = asyncio.Semaphore(_STARTING)
        self._ready: asyncio.Task[tuple[str, str] | None] | None = None

    @property
    def kernels(self) -> VisitorKernels:
        """The kernels of all pages."""
        kernels: VisitorKernels = self._app.kernel_manager
        return kernels

    def prepare(self, after: float = 0.0) -> None:
        """Prepare a page, if there is none."""
        if self._prepare and self._ready is None:
            self._ready = asyncio.create_task(self._prepared(after))

    async def _prepared(self, after: float) -> tuple[str, str] | None:
        await asyncio.sleep(after)
        kernel_id, made = "", ""
        try:
            async with self._starting:
                kernel_id, parts = await self._start()
                made = "".join([part async for part in parts])
        except Exception as error:
            _LOG.error("no page could be prepared: %s: %.300s", type(error).__name__, error)
        if _PANEL in made:
            return kernel_id, made
        await self.kernels.end(kernel_id, "died")
        return None

    async def take(self) -> tuple[str, AsyncIterator[str]]:
        """Return a kernel, and the parts of its page: the prepared one, or a new one."""
        task, self._ready = self._ready, None
        try:
            ready = await task if task is not None else None
            if ready is not None and await self.kernels.runs(ready[0]):
                return ready[0], _one(ready[1])
            async with self._starting:
                return await self._start()
        finally:
            self.prepare(_PREPARE_AFTER)

    async def _start(self) -> tuple[str, AsyncIterator[str]]:
        app = self._app
        shared = {
            "base_url": app.base_url,
            "settings": app.app.settings,
            "log": app.log,
            "voila_configuration": app.voila_configuration,
        }
        notebook = os.path.relpath(app.notebook_path, app.root_dir)
        renderer = NotebookRenderer(
            voila_configuration=app.voila_configuration,
            traitlet_config=app.config,
            notebook_path=notebook,
            template_paths=app.template_paths,
            config_manager=app.config_manager,
            contents_manager=app.contents_manager,
            base_url=app.base_url,
            kernel_spec_manager=app.kernel_spec_manager,
            page_config=get_page_config(**shared),
            mathjax_config=app.mathjax_config,
            mathjax_url=app.mathjax_url,
        )
        await renderer.initialize()
        kernel_id = await self.kernels.start_kernel(
            kernel_name=renderer.notebook.metadata.kernelspec.name,
            path=ApiPath(""),  # the folder of the notebook
            env=kernel_environment(),
        )
        parts = renderer.generate_content_generator(kernel_id, self.kernels.get_kernel(kernel_id))
        return kernel_id, _first(parts)


def kernel_environment() -> dict[str, str]:
    """Return the environment of a visitor's kernel."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in KERNEL_VARIABLES or not name.startswith("WORKBENCH_")
    }


async def _one(part: str) -> AsyncIterator[str]:
    yield part


async def _first(parts: Any) -> AsyncIterator[str]:
    async for part, _ in parts:
        yield part


class PageHandler(Guarded):
    """The page itself."""

    @property
    def pages(self) -> Pages:
        """Where pages are made."""
        pages: Pages = self.settings["pages"]
        return pages

    async def get(self) -> None:
        """Take a place, and send the page with its kernel."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        kernels = self.pages.kernels
        async with kernels.reserved(self._visitor()) as give:
            kernel_id, parts = await self.pages.take()
            give(kernel_id)
        try:
            with kernels.being_sent(kernel_id):
                async for part in parts:
                    self.write(part)
                    await self.flush()
        except BaseException:  # no page came of it, or nobody waits for it
            await kernels.end(kernel_id, "left")
            raise

    def head(self) -> None:
        """Say whether there is a place, without taking one."""
        if not self.pages.kernels.has_room():
            raise web.HTTPError(503)

    def _visitor(self) -> str:
        """Return the browser, which a cookie tells from others: its tabs share a few places."""
        name = "workbench-visitor"
        visitor = self.get_cookie(name, "")
        if not visitor or len(visitor) > 64:
            visitor = secrets.token_urlsafe(16)
            self.set_cookie(name, visitor, path=self.settings["base_url"], httponly=True, samesite="Lax")
        return visitor


class PlaceHandler(Guarded):
    """The place of one page: it asks whether its kernel runs, and says goodbye.

    Nobody else knows the kernel's id, which is random, so that a goodbye needs no further secret; and one of
    another site's page is refused by its origin.
    """

    async def get(self, kernel_id: str) -> None:
        """Answer 204 if the kernel runs, 410 and the reason if it does not."""
        kernels: VisitorKernels = self.settings["kernel_manager"]
        self.set_header("Cache-Control", "no-store")
        if await kernels.heard_from(kernel_id):
            self.set_status(204)
        else:
            self.set_status(410)
            self.write({"reason": kernels.why_ended(kernel_id)})

    async def post(self, kernel_id: str) -> None:
        """End the kernel of a page that is left."""
        kernels: VisitorKernels = self.settings["kernel_manager"]
        if kernel_id in kernels.places:
            await kernels.end(kernel_id, "left")
        self.set_status(204)

    def check_xsrf_cookie(self) -> None:
        """Ask for no further secret: the browser sends the goodbye when the page is gone already."""


class KernelHandler(Guarded):
    """What the widgets' script asks of a kernel before it connects."""

    async def get(self, kernel_id: str) -> None:
        """Return the kernel's name and state."""
        kernels: VisitorKernels = self.settings["kernel_manager"]
        if not await kernels.heard_from(kernel_id):
            raise web.HTTPError(404)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Type", "application/json")
        model = kernels.kernel_model(kernel_id)  # type: ignore[no-untyped-call]
        self.finish(json.dumps(model, default=json_default))


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
    prepare_page = Bool(True, config=True, help="Keep a page ready for the next visitor.")

    def init_settings(self) -> dict[str, Any]:
        """Return the application's settings."""
        settings: dict[str, Any] = super().init_settings()
        # It warns once per page that the notebook is not signed; its code is the publisher's own.
        self.contents_manager.log = logging.getLogger(f"{__name__}.notebook")
        self.contents_manager.log.setLevel(logging.ERROR)
        return settings | {
            "host_names": tuple(name.lower() for name in self.host_names),
            "kernel_websocket_connection_class": VisitorConnection,
            "pages": Pages(self, self.prepare_page),
            "default_handler_class": NothingHere,
            "log_function": log_request,
            "ws_ping_interval": 20_000,
            "ws_ping_timeout": 60_000,
        }

    def init_handlers(self) -> list[Any]:
        """Return the routes: Voila's for the files of the page, and our own."""
        files = [
            (route[0], type(route[1].__name__, (Guarded, route[1]), {}), *route[2:])
            for route in super().init_handlers()
            if issubclass(route[1], _FILE_HANDLERS)
        ]

        def at(path: str) -> str:
            return url_path_join(self.server_url, path)

        # Voila takes any address here, and fails if it is not of this form.
        files = [(at(_TEMPLATE_FILES), *one[1:]) if "/templates/" in one[0] else one for one in files]

        return [
            (at("/"), PageHandler),
            (at(rf"/page/kernels/{_KERNEL_ID}"), PlaceHandler),
            (at(rf"/voila/api/shutdown/{_KERNEL_ID}"), PlaceHandler),
            (at(rf"/api/kernels/{_KERNEL_ID}"), KernelHandler),
            (at(rf"/api/kernels/{_KERNEL_ID}/channels"), VisitorWebsocket),
            *files,
        ]

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
        self.ioloop.add_callback(self.app.settings["pages"].prepare)
        looks = [
            PeriodicCallback(self.kernel_manager.look, 1000 * LOOK_SECONDS),
            PeriodicCallback(lambda: shorten_log(most=self.log_bytes), 1000 * _LOG_SECONDS),
        ]
        for look in looks:
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
