"""The page: made by Voila once for all visitors, and again when its index has changed."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import logging
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_server.utils import ApiPath
from voila.notebook_renderer import NotebookRenderer

from workbench.errors import WorkbenchError
from workbench.publish.page_kernel import KERNEL_MEMORY
from workbench.search.indexes import index_stamp, newest_index
from workbench.search.searcher import PUBLISHED, SHOW_PATHS
from workbench.search.stand_ins import PAGE_KEY

if TYPE_CHECKING:
    from collections.abc import Callable

    from voila.app import Voila

_LOG = logging.getLogger(__name__)


#: Seconds that a page may take to be made; opening a large index for the first time is part of it.
RENDER_SECONDS = 300.0


#: A page that says what is wrong is shown for this long before it is made again, in seconds.
PROBLEM_SECONDS = 3.0


#: Environment variables of the page's kernel beside those of the system. The kernel may start the search
#: service, which takes its limits from there. There are no others of the workbench, such as the address of a
#: database with its password.
KERNEL_VARIABLES = frozenset(
    {"WORKBENCH_HOME", "WORKBENCH_INDEX", PUBLISHED, SHOW_PATHS, KERNEL_MEMORY, PAGE_KEY}
    | {"WORKBENCH_SEARCH_LIMITS", "WORKBENCH_MAX_MEGAPIXELS"}
)


#: What only a page has that can be searched; another one says what is wrong.
_PANEL = 'id="wb-search"'


_SCRIPT = re.compile(r"<script(?P<kind>[^>]*)>(?P<text>.*?)</script>", re.DOTALL)


@dataclass(frozen=True)
class Rendered:
    """A page as it is sent.

    Attributes
    ----------
    html, compressed : bytes
        The page, and the same compressed by gzip.
    etag : str
        Changes whenever the page does.
    policy : str
        Its content security policy: only its own scripts run, and it asks its own server only.
    index : str
        The index that it searches; empty if there is none.
    stamp : object
        What the index was when the page was made.
    usable : bool
        Whether it can be searched.
    made : float
        When, on :func:`time.monotonic`'s clock.
    """

    html: bytes
    compressed: bytes
    etag: str
    policy: str
    index: str
    stamp: object
    usable: bool
    made: float


class Page:
    """Makes the page when it is asked for, and keeps it.

    Parameters
    ----------
    app : Voila
        The server.
    problem_page : callable
        Returns the error page of a status, for a page that cannot be made.
    """

    def __init__(self, app: Voila, problem_page: Callable[[int], str]) -> None:
        self._app = app
        self._problem_page = problem_page
        self._indexes = Path(os.environ.get("WORKBENCH_HOME") or "results").expanduser() / "indexes"
        self._rendered: Rendered | None = None
        self._making: asyncio.Task[Rendered] | None = None

    async def get(self) -> Rendered:
        """Return the page. While it is made again, visitors get the former one."""
        page = self._rendered
        if page is not None and not self._is_old(page):
            return page
        making = self._make()
        if page is not None and page.usable:
            return page
        return await asyncio.shield(making)

    def prepare(self) -> None:
        """Make the page before the first visitor comes."""
        self._make()

    @property
    def published(self) -> tuple[str, object]:
        """The index that visitors search, that of the page or the one it will have, and its stamp."""
        page = self._rendered
        return (page.index, page.stamp) if page is not None else self._now()

    def _is_old(self, page: Rendered) -> bool:
        if not page.usable:
            return time.monotonic() - page.made > PROBLEM_SECONDS
        return self._now() != (page.index, page.stamp)

    def _now(self) -> tuple[str, object]:
        """Return the index to search, and a stamp that changes with it."""
        name = os.environ.get("WORKBENCH_INDEX") or newest_index(self._indexes) or ""
        try:
            return name, index_stamp(self._indexes, name) if name else None
        except (OSError, WorkbenchError):
            return name, None

    def _make(self) -> asyncio.Task[Rendered]:
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._made())
        return self._making

    async def _made(self) -> Rendered:
        index, stamp = self._now()
        html = ""
        try:
            async with asyncio.timeout(RENDER_SECONDS):
                html = await self._render()
        except Exception as error:
            _LOG.error("the page could not be made: %s: %.300s", type(error).__name__, error)
        former = self._rendered
        if _PANEL not in html and former is not None and former.usable and stamp is None:
            return former  # its index is being replaced, or gone for a moment
        data = (html or self._problem_page(500)).encode()
        self._rendered = Rendered(
            html=data,
            compressed=gzip.compress(data, 6, mtime=0),
            etag=f'"{hashlib.sha256(data).hexdigest()[:32]}"',
            policy=policy(html),
            index=index,
            stamp=stamp,
            usable=_PANEL in html,
            made=time.monotonic(),
        )
        return self._rendered

    async def _render(self) -> str:
        app = self._app
        renderer = NotebookRenderer(
            voila_configuration=app.voila_configuration,
            traitlet_config=app.config,
            notebook_path=os.path.relpath(app.notebook_path, app.root_dir),
            template_paths=app.template_paths,
            config_manager=app.config_manager,
            contents_manager=app.contents_manager,
            base_url=app.base_url,
            kernel_spec_manager=app.kernel_spec_manager,
            page_config={},
            mathjax_config=app.mathjax_config,
            mathjax_url=app.mathjax_url,
        )
        await renderer.initialize()
        kernels = app.kernel_manager
        kernel_id = await kernels.start_kernel(
            kernel_name=renderer.notebook.metadata.kernelspec.name,
            path=ApiPath(""),  # the folder of the notebook
            env=kernel_environment(),
        )
        try:
            html: str = await renderer.generate_content_str(kernel_id, kernels.get_kernel(kernel_id))
        finally:
            await asyncio.shield(kernels.shutdown_kernel(kernel_id, now=True))
        return html


def kernel_environment() -> dict[str, str]:
    """Return the environment of the page's kernel."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in KERNEL_VARIABLES or not name.startswith("WORKBENCH_")
    }


def policy(html: str) -> str:
    """Return the content security policy of a page: no script runs in it but those that it was made with."""
    scripts = sorted(
        f"'sha256-{base64.b64encode(hashlib.sha256(one['text'].encode()).digest()).decode()}'"
        for one in _SCRIPT.finditer(html)
        if "json" not in one["kind"]
    )
    rules: dict[str, Any] = {
        "default-src": "'none'",
        "script-src": " ".join(scripts) or "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "connect-src": "'self' data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'self'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
