"""Who may ask a published page, and what is logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import HTTPError

from workbench.publish import answers


def request(method: str = "GET", path: str = "/", host: str = "127.0.0.1:8866", **headers: str) -> Any:
    sent = HTTPHeaders({name.replace("_", "-"): value for name, value in headers.items()})
    sent["Host"] = host
    connection: Any = SimpleNamespace(set_close_callback=lambda _: None, context=None)
    line = RequestStartLine(method, path, "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=sent, connection=connection)


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1:8866", True),
        ("127.0.0.1", True),
        ("localhost:8866", True),
        ("LOCALHOST", True),
        ("[::1]:8866", True),
        ("127.8.9.1", True),
        ("search.example.org", True),
        ("Search.Example.org:443", True),
        ("rebound.example.net:8866", False),
        ("localhost.example.net", False),
        ("127.0.0.1.example.net", False),
        ("search.example.org.example.net", False),
        ("169.254.169.254", False),
        ("0.0.0.0:8866", False),
        ("192.168.0.4:8866", False),
        ("", False),
        ("[", False),
    ],
)
def test_a_request_under_another_name_is_refused(host: str, own: bool) -> None:
    assert answers.own_host(host, ("search.example.org",)) is own


@pytest.mark.parametrize(
    ("origin", "own"),
    [
        (None, True),
        ("http://127.0.0.1:8866", True),
        ("https://search.example.org", True),  # a proxy passes our own host on
        ("http://127.0.0.1:8867", False),
        ("http://localhost:8866", False),
        ("http://evil.example.net", False),
        ("http://search.example.org.example.net", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("http://[", False),
    ],
)
def test_a_request_of_another_sites_page_is_refused(origin: str | None, own: bool) -> None:
    assert answers.own_origin(origin, "127.0.0.1:8866", ("search.example.org",)) is own


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (request(), 0),
        (request(Origin="http://evil.example.net"), 0),  # a link; the answer cannot be read there
        (request(host="evil.example.net"), 403),
        (request("POST", Origin="http://evil.example.net"), 403),
        (request("POST", Origin="null"), 403),
        (request("POST", Origin="http://127.0.0.1:8866"), 0),
        (request("POST", Origin="https://search.example.org", Sec_Fetch_Site="same-origin"), 0),
        (request("POST", Origin="https://search.example.org", Sec_Fetch_Site="same-site"), 403),
        (request(Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="document"), 0),
        (request(Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="image"), 403),
        (request(Sec_Fetch_Site="cross-site", Sec_Fetch_Dest="iframe"), 403),
        (request(Sec_Fetch_Site="same-origin", Sec_Fetch_Dest="script"), 0),
        (request(path="/a\x00b"), 404),
        (request(path="/a%00b"), 404),
        (request(path="/" + 600 * "a"), 404),
    ],
)
def test_requests_that_no_visitor_makes_are_refused(asked: Any, status: int) -> None:
    if not status:
        answers.check_request(asked, ())
        return
    with pytest.raises(HTTPError) as refused:
        answers.check_request(asked, ())
    assert refused.value.status_code == status


def test_a_request_is_logged_on_one_short_line() -> None:
    assert answers.shortened(request(path="/logout")) == "GET /logout"
    long = answers.shortened(request(path="/" + 50_000 * "a\n\x1b[2J한"))
    assert len(long) < 400
    assert long.isascii()
    assert long.isprintable()
    assert "characters)" in long
