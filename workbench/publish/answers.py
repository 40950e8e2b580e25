"""Who may ask a published page; its error pages, and one short line of log for each."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tornado import httputil, web

_LOG = logging.getLogger(__name__)


#: Seconds after which somebody who found the server busy may ask again.
RETRY_SECONDS = 15


#: Headers of every answer.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'self'",
}


#: An error page runs its own few lines, asks its own server, and nothing else.
_ERROR_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; frame-ancestors 'self'"
)


#: What an error page says, by status: a title and a sentence. Nothing of the request or the machine.
WORDS = {
    400: ("This request was not understood", "Please go back to the page and try again."),
    403: ("This is not allowed", "The page does not answer requests from elsewhere or under another name."),
    404: ("There is nothing here", "Please go to the search page."),
    405: ("This is not possible here", "Please go to the search page."),
    411: ("This request was not understood", "Please go back to the page and try again."),
    413: ("This is too large", "Please go back to the page and use a smaller picture."),
    503: ("This page is busy", "Many people use it right now. It opens here in a moment."),
    500: ("This page cannot be shown right now", "Please try again in a moment."),
}


#: Characters of an address that are logged.
_LOGGED = 100


#: Paths that anything here has; others are not looked up on the disk.
_PATH = re.compile(r"[\w/.@+~ -]{1,500}")


class Guarded(web.RequestHandler):
    """Base of every handler of the page: checks who asks, and says what is wrong in plain words.

    Its error pages replace Voila's, which name paths and ask other servers, and its log their tracebacks.
    """

    def prepare(self) -> None:
        """Refuse requests under a foreign name, and those that another site's page makes."""
        check_request(self.request, self.settings.get("host_names", ()))

    def set_default_headers(self) -> None:
        """Set the headers of every answer."""
        super().set_default_headers()
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def write_error(self, status_code: int, **_: Any) -> None:
        """Write the error page of a status."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", _ERROR_POLICY)
        if status_code == 503:
            self.set_header("Retry-After", str(RETRY_SECONDS))
        self.finish(problem_page(self.settings, status_code))

    def log_exception(self, kind: Any, value: Any, traceback: Any) -> None:
        """Log what went wrong in one line; with a traceback only if it is a mistake of this program."""
        if isinstance(value, web.HTTPError):
            return  # it has its line in the log of requests
        _LOG.error("%s could not be answered: %s", shortened(self.request), kind.__name__, exc_info=value)


def problem_page(settings: Mapping[str, Any], status: int) -> str:
    """Return the error page of a status."""
    title, text = WORDS.get(status) or WORDS[400 if status < 500 else 500]
    page: str = (
        settings["voila_jinja2_env"]
        .get_template("problem.html")
        .render(base_url=settings["base_url"], status=status, title=title, text=text, seconds=RETRY_SECONDS)
    )
    return page


class NothingHere(Guarded):
    """Answers every address that nothing else answers."""

    def prepare(self) -> None:
        """Refuse."""
        super().prepare()
        raise web.HTTPError(404)

    def check_xsrf_cookie(self) -> None:
        """Nothing is done here, so nothing has to be protected."""


def log_request(handler: web.RequestHandler) -> None:
    """Log one line for a request that was refused or failed; nothing for others."""
    status = handler.get_status()
    if status >= 400:
        _LOG.warning("%d %s", status, shortened(handler.request))


def shortened(request: httputil.HTTPServerRequest) -> str:
    """Return the method and the address of a request on one line of limited length."""
    address = f"{request.method} {request.uri}"
    cut = ascii(address[:_LOGGED])[1:-1]
    return cut if len(address) <= _LOGGED else f"{cut}... ({len(address):,} characters)"


def check_request(request: httputil.HTTPServerRequest, names: Iterable[str]) -> None:
    """Refuse a request that no visitor's browser makes for this page.

    The server listens on this machine only, yet any site may resolve its own name to this machine, and then
    read what it answers. So it answers to the names of this machine, and to those it is published under.

    Raises
    ------
    tornado.web.HTTPError
        The host is another name, the origin is another site, or the path is none.
    """
    names = tuple(names)
    if not own_host(request.host, names):
        _LOG.warning("a request for host %.80a was refused; see: workbench serve --host-name", request.host)
        raise web.HTTPError(403)
    headers = request.headers
    changes = request.method not in ("GET", "HEAD")
    # A browser says that a request is of the page's own site, whatever name a proxy gave it; no script can.
    own = headers.get("Sec-Fetch-Site") == "same-origin"
    if changes and not own and not own_origin(headers.get("Origin"), request.host, names):
        raise web.HTTPError(403)
    # Another site may link to the page, but not load it as a picture or a frame.
    if headers.get("Sec-Fetch-Site") == "cross-site" and headers.get("Sec-Fetch-Dest") != "document":
        raise web.HTTPError(403)
    if not _PATH.fullmatch(request.path):
        raise web.HTTPError(404)


def own_host(host: str, names: Iterable[str]) -> bool:
    """Return whether a ``Host`` header names this machine, or a name that the page is published under."""
    name = host_name(host)
    if name in {"localhost", *names}:
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def own_origin(origin: str | None, host: str, names: Iterable[str]) -> bool:
    """Return whether an ``Origin`` header is this page's: same host and port, or a published name.

    A proxy in front may pass its own name on as the origin, and this machine's as the host.
    """
    if origin is None:  # not a browser, or one that sends it only to other sites
        return True
    try:
        place = urlsplit(origin.lower()).netloc
    except ValueError:
        return False
    return bool(place) and (place == host.lower() or host_name(place) in set(names))


def host_name(host: str) -> str:
    """Return a host without its port and brackets, in lower case."""
    name = host.strip().lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.rpartition(":")[0] if name.count(":") == 1 else name
