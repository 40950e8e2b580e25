"""The HTTP API on a live Jupyter server: every route, with any user and any request."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest

import workbench as wb
from tests.conftest import installed, python_path
from tests.workbench.conftest import Live, job_row, live_server, make_index, until
from tests.workbench.stored_times import add_bad_times
from workbench.server.api.route import BODY_BYTES, Route
from workbench.server.api.table import ROUTES

#: Names that lead elsewhere or nowhere: plain, encoded once and twice, absolute, control characters, long.
HOSTILE = (
    "../secret.txt",
    "..%2fsecret.txt",
    "..%252fsecret.txt",
    "%2e%2e%2fsecret.txt",
    "%2e%2e/secret.txt",
    "..",
    ".",
    "%2e%2e",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "..\\secret.txt",
    "..%5csecret.txt",
    "a%00.txt",
    "%00",
    "a" * 5000,
    "a%0ab",
    ".hidden",
    "con",
    "비밀/../../secret.txt",
    "비밀",
    "%EB%B9%84%EB%B0%80",
    "%ff%fe",
    "a;b",
    "~root",
    "file:///etc/passwd",
)

REAL = {"job_id": "1", "run_id": "1", "experiment_id": "1", "name": "words", "item": "dog"}


def address(route: Route, **values: str) -> str:
    return re.sub(r"{(\w+)}", lambda match: {**REAL, **values}[match[1]], route.path)


def raw(live: Live, verb: str, path: str, headers: dict[str, str], body: bytes = b"") -> tuple[int, str]:
    """Send a request without a client that normalises paths."""
    host = httpx.URL(live.url)
    lines = [f"{verb} {host.path}workbench/api/{path} HTTP/1.1", f"Host: {host.host}:{host.port}"]
    lines += [f"{name}: {value}" for name, value in {**headers, "Connection": "close"}.items()]
    lines += [f"Content-Length: {len(body)}"]
    with socket.create_connection((host.host, host.port), timeout=300) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode("utf-8", "replace")


def error_of(answer: httpx.Response) -> dict[str, Any]:
    document = answer.json()
    assert set(document) == {"error"}, document
    assert set(document["error"]) == {"type", "message", "hint", "advice", "details"}
    return dict(document["error"])


@pytest.fixture(scope="module")
def owner(live: Live) -> Iterator[wb.Workspace]:
    """The server's workspace, opened by its owner, with a job, a run and a checkpoint."""
    with wb.Workspace(live.home) as home:
        yield home


# Access ---------------------------------------------------------------------------------------------


ALL = [
    *[(route.verb, route.path) for route in ROUTES],
    ("GET", "openapi.json"),
    ("GET", "jobs/{job_id}/events"),
]


@pytest.mark.parametrize(("verb", "path"), ALL)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}, {"Cookie": "username-x=y"}])
def test_without_a_login_every_route_is_403_and_does_nothing(
    live: Live, owner: wb.Workspace, verb: str, path: str, headers: dict[str, str]
) -> None:
    before = len(owner.jobs(limit=None))
    address = re.sub(r"{(\w+)}", lambda match: REAL[match[1]], path).replace(
        "checkpoints/words", "checkpoints/one.bin"
    )
    runs = [(run.id, run.status, run.notes, run.tags) for run in owner.runs()]
    body = None if verb in ("GET", "DELETE") else {"runs": [1], "experiment": "e", "key": "k" * 32}
    answer = live.ask(verb, address, headers=headers, json=body)
    assert answer.status_code == 403
    assert error_of(answer)["type"] == "AccessDenied"
    assert len(owner.jobs(limit=None)) == before
    assert [(run.id, run.status, run.notes, run.tags) for run in owner.runs()] == runs
    assert not list((live.home / "runs").glob(".sent/*"))
    assert [file.name for file in owner.run(1).checkpoints()] == ["one.bin"]


@pytest.mark.parametrize("path", ["", "nothing", "jobs/1/nothing", "../secret", "jobs/"])
def test_an_unknown_route_is_403_without_a_login_and_404_with_one(live: Live, path: str) -> None:
    for verb in ("GET", "POST", "DELETE", "PUT"):
        assert raw(live, verb, path, {})[0] in (403, 404)
        status, body = raw(live, verb, path, live.headers)
        assert status in (404, 405), body


def test_the_table_has_the_routes_of_the_design() -> None:
    routes = {(route.verb, route.path) for route in ROUTES}
    promised = {
        ("GET", "adapters"), ("POST", "jobs/eval"), ("POST", "jobs/index-build"), ("POST", "jobs/train"),
        ("POST", "jobs/data-check"),
        ("GET", "jobs"), ("GET", "jobs/{job_id}"), ("GET", "jobs/{job_id}/progress"),
        ("GET", "jobs/{job_id}/logs"), ("POST", "jobs/{job_id}/cancel"), ("GET", "experiments"),
        ("GET", "experiments/{experiment_id}/metrics"), ("GET", "runs/{run_id}/summary"),
        ("GET", "runs/{run_id}/checkpoints"), ("DELETE", "runs/{run_id}/checkpoints/{name}"),
        ("POST", "experiments/compare"), ("GET", "indexes"), ("POST", "search/text"),
        ("POST", "search/image"),
    }  # fmt: skip
    assert promised <= routes
    starting = {route.path for route in ROUTES if route.action == "execute"}
    assert starting == {
        "jobs/eval", "jobs/index-build", "jobs/train", "jobs/data-check", "jobs/notebook",
        "jobs/{job_id}/cancel", "jobs/{job_id}/retry",
    }  # fmt: skip
    assert {route.action for route in ROUTES if route.verb in ("PUT", "PATCH")} == {"write"}
    assert {route.action for route in ROUTES if route.verb == "GET"} == {"read"}
    logging = {route.path for route in ROUTES if route.verb == "POST" and route.action == "write"}
    assert logging == {
        "runs", "runs/{run_id}/points", "runs/{run_id}/end", "runs/{run_id}/resume", "runs/{run_id}/move",
        *(
            f"{thing}/{verb}"
            for thing in ("runs/{run_id}", "experiments/{experiment_id}", "jobs/{job_id}", "indexes/{name}")
            for verb in ("rename", "archive", "restore")
        ),
    }  # fmt: skip
    assert {route.action for route in ROUTES if route.verb == "DELETE"} == {"write"}


AUTHORIZER = """
from jupyter_server.auth import Authorizer
class Reader(Authorizer):
    def is_authorized(self, handler, user, action, resource):
        return action == "read" and resource in ("workbench", "api")
"""


def test_a_user_may_do_what_the_servers_authorizer_allows_and_no_more(
    tmp_path: Path, toy_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reader.py").write_text(AUTHORIZER)
    monkeypatch.setenv("PYTHONPATH", python_path(tmp_path, toy_package))
    home = tmp_path / "results"
    make_index(home, "words")
    flags = ["--ServerApp.authorizer_class=reader.Reader"]
    with live_server(home, tmp_path / "state", *flags) as live:
        assert live.get("jobs").status_code == 200
        assert live.post("search/text", {"index": "words", "query": "dog"}).status_code == 200
        for verb, path in (
            ("POST", "jobs/eval"),
            ("POST", "jobs/1/cancel"),
            ("DELETE", "runs/1/checkpoints/x"),
            ("POST", "runs"),
            ("PATCH", "runs/1"),
            ("POST", "runs/1/points"),
            ("POST", "runs/1/end"),
            ("PUT", "runs/1/checkpoints/x"),
            ("PUT", "runs/1/artifacts/x"),
            ("POST", "jobs/notebook"),
            ("POST", "jobs/1/retry"),
        ):
            answer = live.ask(verb, path, json=None if verb == "DELETE" else {"adapter": "toy"})
            assert answer.status_code == 403, path
            assert "not authorized" in error_of(answer)["message"]
        assert live.get("jobs").json()["total"] == 0


def test_a_page_that_is_logged_in_by_cookie_must_send_the_xsrf_token(live: Live, owner: wb.Workspace) -> None:
    with httpx.Client(base_url=live.url, timeout=300, follow_redirects=True) as browser:
        browser.get(f"api/status?token={live.token}")
        body = {"adapter": "toy", "options": {"k": 1}}
        before = len(owner.jobs(limit=None))
        refused = browser.post("workbench/api/jobs/eval", json=body)
        assert refused.status_code == 403
        assert "xsrf" in error_of(refused)["message"].lower()
        assert len(owner.jobs(limit=None)) == before
        # It was refused before its body was read: the server closes the connection, and says so.
        assert refused.headers["Connection"] == "close"
        browser.get("login")
        xsrf = browser.cookies["_xsrf"]
        done = browser.post("workbench/api/jobs/eval", json=body, headers={"X-XSRFToken": xsrf})
        assert done.status_code == 201, done.text
        owner.job(done.json()["id"]).wait(300)


def test_another_site_may_not_read_with_the_visitors_cookie(live: Live) -> None:
    with httpx.Client(base_url=live.url, timeout=300) as browser:
        browser.get(f"api/status?token={live.token}")
        own = browser.get("workbench/api/jobs", headers={"Referer": live.url})
        other = browser.get(
            "workbench/api/jobs", headers={"Origin": "http://evil.example", "Referer": "http://evil.example/"}
        )
    assert (own.status_code, other.status_code) == (200, 404)


# Requests -------------------------------------------------------------------------------------------


WITH_BODY = [route for route in ROUTES if route.body is not None]
BAD_BODIES = [
    (b"", 400),
    (b"{", 400),
    (b"\xff\xfe{}", 400),
    (b"null", 400),
    (b"[]", 400),
    (b'"text"', 400),
    (b"7", 400),
    (b"NaN", 400),
    (b'{"k": Infinity}', 400),
    (b"[" * 50_000, 400),
    (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, 400),
    (b'{"adapter": "\\ud800", "index": "\\ud800", "runs": ["\\ud800"]}', 400),
    (b'{"adapter": "a\\u0000b", "index": "a\\u0000b"}', 400),
    (b'{"unheard": 1}', 422),
    (b"x" * (BODY_BYTES + 1), 413),
]


@pytest.mark.parametrize("route", WITH_BODY, ids=lambda route: f"{route.verb} {route.path}")
@pytest.mark.parametrize(("body", "status"), BAD_BODIES, ids=lambda value: str(value)[:24])
def test_a_malformed_body_is_refused(live: Live, route: Route, body: bytes, status: int) -> None:
    answer = live.ask(route.verb, address(route), content=body)
    if status == 413 and route.body_bytes > BODY_BYTES:
        status = 400
    assert answer.status_code == status, answer.text
    assert error_of(answer)["message"]
    assert len(answer.content) < 20_000


_ONE_POINT: dict[str, Any] = {"steps": [1], "times": [1.0], "values": [1.0]}
WRONG_TYPES = [
    ("jobs/eval", {"adapter": 5}),
    ("jobs/eval", {"options": []}),
    ("jobs/eval", {"options": "k=3"}),
    ("jobs/eval", {"adapter": "toy", "options": {"k": "many"}}),
    ("jobs/eval", {"adapter": "toy", "options": {"kk": 3}}),
    ("jobs/eval", {"adapter": "toy", "fail_below": {"R@3": "high"}}),
    ("jobs/eval", {"adapter": "toy", "fail_below": [1]}),
    ("jobs/train", {"adapter": "toy", "options": {"steps": None}}),
    ("jobs/index-build", {"adapter": {"name": "toy"}}),
    ("experiments/compare", {"runs": [1], "statistic": "mode"}),
    ("experiments/compare", {"runs": [1], "baseline": "first"}),
    ("experiments/compare", {"runs": [1], "better": {"loss": "up"}}),
    ("experiments/compare", {"runs": [1], "metrics": "loss"}),
    ("experiments/compare", {"runs": [1], "points": 0}),
    ("experiments/compare", {"runs": "1"}),
    ("experiments/compare", {"runs": []}),
    ("experiments/compare", {"runs": ["1"]}),
    ("experiments/compare", {"runs": [True]}),
    ("experiments/compare", {"runs": [1.5]}),
    ("experiments/compare", {"runs": [0]}),
    ("experiments/compare", {"runs": [10**30]}),
    ("experiments/compare", {"runs": [1] * 1000}),
    ("experiments/compare", {}),
    ("runs/table", {"runs": "1"}),
    ("runs/table", {"runs": [0]}),
    ("runs/table", {"runs": [1.5]}),
    ("runs/table", {"runs": [True]}),
    ("runs/table", {"runs": [1] * 201}),
    ("runs/table", {}),
    ("runs/points", {"curves": [{"run": 1}]}),
    ("runs/points", {"curves": [{"run": 1, "name": 5}]}),
    ("runs/points", {"curves": [{"run": "1", "name": "m"}]}),
    ("runs/points", {"curves": [{"run": 1, "name": "m", "after": -2}]}),
    ("runs/points", {"curves": [{"run": 1, "name": "m", "before": 2}]}),
    ("runs/points", {"curves": [{"run": 1, "name": "m"}] * 201}),
    ("runs/points", {"curves": {"run": 1, "name": "m"}}),
    ("search/text", {"index": "words"}),
    ("search/text", {"index": "words", "query": ""}),
    ("search/text", {"index": "words", "query": 5}),
    ("search/text", {"index": "words", "query": "x" * 2001}),
    ("search/text", {"index": "words", "query": "dog", "k": 0}),
    ("search/text", {"index": "words", "query": "dog", "k": "5"}),
    ("search/text", {"index": "words", "query": "dog", "k": 10**9}),
    ("search/text", {"index": "words", "query": "dog", "k": True}),
    ("search/text", {"index": "words", "query": "dog", "options": {"sharp": 1}}),
    ("search/text", {"index": "words", "query": "dog", "options": {"k": 1}}),
    ("search/text", {"index": "words", "query": "dog", "options": {"query": "x"}}),
    ("search/text", {"index": "words", "query": "dog", "options": {"filter": "letter:"}}),
    ("search/text", {"index": "words", "query": "dog", "options": {"filter": "leter:d"}}),
    ("search/text", {"index": "words", "query": "dog", "options": {"filter": 5}}),
    ("search/text", {"index": ["words"], "query": "dog"}),
    ("search/image", {"index": "words", "image": 5}),
    ("search/image", {"index": "words", "image": ""}),
    ("search/item", {"index": "words", "item": None}),
    ("search/compose", {"index": "words", "terms": []}),
    ("search/compose", {"index": "words", "terms": [{"text": "a"}] * 17}),
    ("search/compose", {"index": "words", "terms": [{"text": "a", "weight": 0}]}),
    ("search/compose", {"index": "words", "terms": [{"text": "a", "weight": 101}]}),
    ("search/compose", {"index": "words", "terms": [{"text": "a", "weight": "1"}]}),
    ("search/compose", {"index": "words", "terms": [{"text": "a", "item": "b"}]}),
    ("search/compose", {"index": "words", "terms": ["a"]}),
    ("search/explain", {"index": "words", "left": {"text": "a"}}),
    ("search/explain", {"index": "words", "left": {"text": "a"}, "right": {}}),
    ("search/explain", {"index": "words", "left": {"text": "a"}, "right": {"text": "a", "item": "b"}}),
    ("search/explain", {"index": "words", "left": {"text": ""}, "right": {"text": "a"}}),
    ("search/explain", {"index": "words", "left": "a", "right": {"text": "a"}}),
    ("runs", {"key": "k" * 32}),
    ("runs", {"key": "k", "experiment": "e"}),
    ("runs", {"key": "../" * 8, "experiment": "e"}),
    ("runs", {"key": "k" * 32, "experiment": "e", "config": [1]}),
    ("runs", {"key": "k" * 32, "experiment": "e", "better": {"m": "up"}}),
    ("runs", {"key": "k" * 32, "experiment": "e", "seed": "x"}),
    ("runs", {"key": "k" * 32, "experiment": "e", "job_id": 0}),
    ("runs", {"key": "k" * 32, "experiment": "e", "created_at": 1e30}),
    ("runs/1/points", {"number": 1}),
    ("runs/1/points", {"key": "k" * 32, "number": -1}),
    ("runs/1/points", {"key": "k" * 32, "number": 1, "points": []}),
    ("runs/1/points", {"key": "k" * 32, "number": 1, "points": {"m": [1]}}),
    ("runs/1/points", {"key": "k" * 32, "number": 1, "points": {"m": {"steps": [1], "times": [1.0]}}}),
    ("runs/1/points", {"key": "k" * 32, "number": 1, "points": {"m" * 251: {}}}),
    *[
        ("runs/1/points", {"key": "k" * 32, "number": 1, "points": {"m": {**_ONE_POINT, **wrong}}})
        for wrong in (
            {"steps": ["1"]}, {"steps": [1.5]}, {"steps": [2**63]}, {"times": [None]}, {"times": [1e300]},
            {"values": ["NaN"]}, {"values": ["x"]}, {"values": [[1]]}, {"values": [True]},
        )
    ],
    ("runs/1/end", {}),
    ("runs/1/end", {"status": "running"}),
    ("runs/1/end", {"status": "failed", "error": "bad"}),
    ("jobs/notebook", {"name": "a.ipynb"}),
    ("jobs/notebook", {"name": "a.ipynb", "notebook": {"cells": []}}),
    ("jobs/notebook", {"name": "a.ipynb", "notebook": "{}", "parameters": [1]}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), WRONG_TYPES)
def test_a_schema_violation_is_422_with_each_problem(live: Live, path: str, body: Any) -> None:
    answer = live.post(path, body)
    assert answer.status_code == 422, answer.text
    assert error_of(answer)["details"]["problems"]


_TWO = {"left": {"text": "dog"}, "right": {"item": "no such item"}}

DEEP: dict[str, Any] = {}
for _ in range(700):
    DEEP = {"a": DEEP}


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("jobs/eval", {"adapter": "tory"}, 404, "UnknownAdapter"),
        ("jobs/eval", {}, 400, "BadInput"),  # several are installed
        ("jobs/train", {"adapter": "broken"}, 501, "NotSupported"),
        ("experiments/compare", {"runs": [10**6]}, 404, "UnknownRun"),
        ("experiments/compare", {"runs": [1, 1]}, 400, "BadInput"),
        ("experiments/compare", {"runs": [1.0]}, 200, ""),
        ("runs/table", {"runs": [10**6]}, 200, ""),
        ("runs/table", {"runs": []}, 200, ""),
        ("runs/points", {"curves": [{"run": 10**6, "name": "m"}]}, 200, ""),
        ("runs/points", {"curves": [{"run": 1, "name": "../secret", "after": 2**31 - 1}]}, 200, ""),
        ("search/text", {"index": "wrds", "query": "dog"}, 404, "UnknownIndex"),
        ("search/text", {"index": "words", "query": "  "}, 400, "BadInput"),
        ("search/image", {"index": "words", "image": "%%%"}, 400, "BadInput"),
        ("search/image", {"index": "words", "image": "A" * (28 * 2**20 - 100)}, 413, "TooLarge"),
        ("search/image", {"index": "words", "image": "A" * (29 * 2**20)}, 413, "TooLarge"),
        ("search/item", {"index": "words", "item": "dog"}, 501, "NotSupported"),
        ("search/compose", {"index": "wrds", "terms": [{"text": "dog"}]}, 404, "UnknownIndex"),
        ("search/compose", {"index": "words", "terms": [{"item": "no such item"}]}, 404, "NotFound"),
        ("search/compose", {"index": "words", "terms": [{"text": " "}]}, 400, "BadInput"),
        ("search/compose", {"index": "words", "terms": [{"text": "dog", "weight": -1}]}, 400, "BadInput"),
        ("search/compose", {"index": "words", "terms": [{"image": "ZG9n"}] * 9}, 400, "BadInput"),
        ("search/compose", {"index": "words", "terms": [{"image": "%%%"}]}, 400, "BadInput"),
        ("search/explain", {"index": "wrds", **_TWO}, 404, "UnknownIndex"),
        ("search/explain", {"index": "words", **_TWO}, 404, "NotFound"),
        ("search/explain", {"index": "words", **_TWO, "right": {"text": " "}}, 400, "BadInput"),
        ("search/explain", {"index": "words", **_TWO, "right": {"image": "%%%"}}, 400, "BadInput"),
        ("jobs/99/cancel", None, 404, "UnknownJob"),
        ("jobs/x/cancel", None, 404, "UnknownJob"),
        ("jobs/99/retry", None, 404, "UnknownJob"),
        ("runs", {"key": "k" * 32, "experiment": " "}, 400, "BadInput"),
        ("runs", {"key": "k" * 32, "experiment": "e", "config": {"a\0": 1}}, 400, "BadInput"),
        ("runs", {"key": "k" * 32, "experiment": "e", "config": DEEP}, 400, "BadInput"),
        ("runs/99999/points", {"key": "k" * 32, "number": 1}, 404, "UnknownRun"),
        ("runs/99999/end", {"status": "failed"}, 404, "UnknownRun"),
        ("runs/1/points", {"key": "k" * 32, "number": 1, "points": {"m": _ONE_POINT}}, 409, "WrongState"),
        ("runs/1/points", {"key": "k" * 32, "number": 0}, 409, "WrongState"),
        ("runs/1/points", {"key": "k" * 32, "number": 1, "points": {" ": _ONE_POINT}}, 400, "BadInput"),
        (
            "runs/1/points",
            {"key": "k" * 32, "number": 1, "points": {"m": {**_ONE_POINT, "steps": [1, 2]}}},
            400,
            "BadInput",
        ),
        ("jobs/notebook", {"name": "../a.ipynb", "notebook": "{}"}, 400, "BadName"),
        ("jobs/notebook", {"name": "a.txt", "notebook": "{}"}, 400, "BadName"),
        ("jobs/notebook", {"name": "a.ipynb", "notebook": "{}"}, 400, "BadInput"),
        ("jobs/notebook", {"name": "a.ipynb", "notebook": "[" * 50_000}, 400, "BadInput"),
        ("jobs/notebook", {"name": "a.ipynb", "notebook": "x" * (2**24 + 1)}, 413, "TooLarge"),
    ],
)
def test_other_errors_have_their_own_status(
    live: Live, owner: wb.Workspace, path: str, body: Any, status: int, kind: str
) -> None:
    answer = live.post(path, body)
    assert answer.status_code == status, answer.text
    if kind:
        assert error_of(answer)["type"] == kind


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("jobs?limit=0", 422),
        ("jobs?limit=1001", 422),
        ("jobs?limit=x", 422),
        ("jobs?limit=1.5", 422),
        ("jobs?limit=", 422),
        ("jobs?offset=-1", 422),
        ("jobs?offset=99999999999999999999", 422),
        ("jobs?status=done", 422),
        ("jobs?statuss=queued", 422),
        ("jobs?type=%00", 400),
        ("jobs?type=%ff", 400),
        ("jobs?type=%ED%A0%80", 400),
        ("jobs?type=dance", 200),
        ("jobs?type=강", 200),
        ("jobs?limit=1&_=123&no_track_activity=1", 200),
        ("jobs/1/logs?tail=0", 422),
        ("jobs/1/logs?after=-1", 422),
        ("jobs/1?x=1", 400),
        ("runs?experiment=nothing", 404),
        ("runs?experiment=../e", 404),
        ("runs/marks", 200),
        ("runs/marks?newest=0&also=1,9999999999", 200),
        ("runs/marks?newest=1001", 422),
        ("runs/marks?newest=-1", 422),
        ("runs/marks?newest=x", 422),
        ("runs/marks?also=x", 422),
        ("runs/marks?also=1,", 422),
        ("runs/marks?also=0", 422),
        ("runs/marks?also=1%0a", 422),
        ("runs/marks?also=" + ",".join(["1000000000"] * 101), 422),
        ("runs/marks?since=1", 422),
        ("adapters/toy", 200),
        ("adapters/tory", 404),
        ("adapters/raises", 501),
        ("runs/1/metrics", 422),
        ("runs/1/metrics?name=never", 200),
        ("runs/1/metrics?name=m&after=-2", 422),
        ("experiments/1/metrics?limit=5", 200),
        ("experiments/99/metrics", 404),
        ("experiments/e/metrics", 404),
    ],
)
def test_the_query_string_is_checked(live: Live, owner: wb.Workspace, path: str, status: int) -> None:
    answer = live.get(path)
    assert answer.status_code == status, answer.text
    if status != 200:
        error_of(answer)


def head_only(live: Live, verb: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    """Send a request's head and nothing of its body; return the answer's status and head."""
    host = httpx.URL(live.url)
    lines = [f"{verb} {host.path}workbench/api/{path} HTTP/1.1", f"Host: {host.host}:{host.port}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection((host.host, host.port), timeout=300) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while part := connection.recv(65536):  # until the server closes
            answer += part
    return int(answer.split()[1]), answer.partition(b"\r\n\r\n")[0].decode()


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "search/image"),
        ("POST", "jobs/notebook"),
        ("POST", "runs/1/points"),
        ("POST", "jobs/eval"),
        ("PUT", "runs/1/artifacts/x.bin?sha256=" + "0" * 64),
        ("PUT", "runs/1/checkpoints/x.bin?sha256=" + "0" * 64),
        ("POST", "no/such/route"),
    ],
)
@pytest.mark.parametrize("how", [{"Content-Length": "30000000"}, {"Transfer-Encoding": "chunked"}])
def test_without_a_login_nothing_of_a_body_is_awaited(
    live: Live, verb: str, path: str, how: dict[str, str]
) -> None:
    # The answer comes although nothing of the body does, so none of it can be held either.
    status, head = head_only(live, verb, path, how)
    assert status == 403
    assert "Connection: close" in head


@pytest.mark.parametrize("length", ["3,4", "abc", "-1", "99999999999999999999999"])
def test_a_malformed_length_is_400(live: Live, length: str) -> None:
    for path in ("jobs/eval", "runs/1/artifacts/x.bin?sha256=" + "0" * 64):
        verb = "POST" if path == "jobs/eval" else "PUT"
        assert head_only(live, verb, path, {"Content-Length": length})[0] in (400, 403)
        assert head_only(live, verb, path, {**live.headers, "Content-Length": length})[0] == 400
    two = "1\r\nContent-Length: 2"
    assert head_only(live, "POST", "jobs/eval", {**live.headers, "Content-Length": two})[0] == 400
    assert "Traceback" not in live.log.read_text()[-2000:]


def test_points_are_read_in_parts(live: Live, owner: wb.Workspace) -> None:
    with owner.start_run("parts") as run:
        for step in range(5):
            run.log({"m": step}, step=step)
    first = live.get(f"runs/{run.id}/metrics?name=m&limit=3").json()
    assert ([point[2] for point in first["points"]], first["more"], first["next"]) == ([0, 1, 2], True, 2)
    rest = live.get(f"runs/{run.id}/metrics?name=m&limit=3&after=2").json()
    assert ([point[2] for point in rest["points"]], rest["more"], rest["next"]) == ([3, 4], False, 4)
    assert live.get(f"runs/{run.id}/metrics?name=m&limit=1000000").status_code == 422


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        ("eval", {"options": {"run": 99999}}, "run"),
        ("eval", {"options": {"run": 1, "checkpoint": "../../etc/passwd"}}, "checkpoint"),
        ("eval", {"options": {"run": 1}, "fail_below": {"R@10": 0.35}}, "fail_below"),
        ("index-build", {"options": {"name": "../../x"}}, "name"),
        ("index-build", {"options": {"name": ".hidden"}}, "name"),
        ("train", {"options": {"collection": "/no/such/file.jsonl"}}, "collection"),
        ("data-check", {"options": {"source": "/no/such/file.jsonl"}}, "source"),
        ("data-check", {"options": {"source": "emoji?size=3"}}, "source"),
        ("data-check", {}, "source"),
    ],
)
def test_a_job_that_cannot_begin_is_422_and_not_queued(
    live: Live, owner: wb.Workspace, route: str, body: dict[str, Any], field: str
) -> None:
    before = owner.count_jobs()
    answer = live.post(f"jobs/{route}", {"adapter": "vlm_quantization", **body})
    assert answer.status_code == 422, answer.text
    error = error_of(answer)
    assert field in [name for name, _ in error["details"]["problems"]]
    assert len(answer.text) < 4_000
    assert owner.count_jobs() == before


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("GET", "jobs/99999", None),
        ("GET", "runs/99999", None),
        ("GET", "indexes/nothing", None),
        ("POST", "search/text", {"index": "nothing", "query": "dog"}),
        ("POST", "experiments/compare", {"runs": [99999]}),
    ],
)
def test_what_is_missing_is_said_without_commands_of_a_shell(
    live: Live, verb: str, path: str, body: Any
) -> None:
    answer = live.ask(verb, path, json=body)
    assert answer.status_code == 404
    assert "workbench " not in answer.text


def test_putting_and_deleting_one_checkpoint_at_once_is_no_fault_of_the_disk(
    live: Live, owner: wb.Workspace
) -> None:
    with owner.start_run("race") as run:
        pass
    path = f"runs/{run.id}/checkpoints/w.bin"
    data = b"weights" * 1000
    query = f"?sha256={hashlib.sha256(data).hexdigest()}"

    def put() -> int:
        return live.ask("PUT", path + query, content=data).status_code

    def delete() -> int:
        return live.ask("DELETE", path).status_code

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(put if number % 2 else delete) for number in range(60)]
        statuses = [future.result(300) for future in futures]
    assert set(statuses) <= {200, 404}, statuses


def test_a_body_without_a_length_is_bounded_too(live: Live) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield b"[" * 2**16

    assert live.ask("POST", "jobs/eval", content=endless()).status_code == 413


def test_another_verb_is_405_and_lists_the_allowed_ones(live: Live) -> None:
    for verb in ("PUT", "PATCH", "DELETE"):
        answer = live.ask(verb, "jobs")
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "GET"
        error_of(answer)
    assert live.ask("POST", "runs/1/checkpoints/x").headers["Allow"] == "GET, PUT, DELETE"


# Names ----------------------------------------------------------------------------------------------


_SENT = b"what was sent"
NAMED = [route for route in ROUTES if "{" in route.path]


@pytest.mark.parametrize("route", NAMED, ids=lambda route: f"{route.verb} {route.path}")
def test_a_hostile_name_in_a_path_reads_writes_and_deletes_nothing(
    live: Live, owner: wb.Workspace, route: Route
) -> None:
    secrets = [
        live.home / "secret.txt",
        live.home / "runs" / "secret.txt",
        live.home / "runs" / "1" / "secret.txt",
    ]
    for secret in secrets:
        secret.write_text("secret")
    before = sorted(path for path in live.home.rglob("*") if path.is_file() and "cache" not in path.parts)
    names = re.findall(r"{(\w+)}", route.path)
    for hostile in HOSTILE:
        for name in names:
            path = address(route, **{name: hostile})
            sent = _SENT if route.before is not None else b"{}" if route.body is not None else b""
            path += f"?sha256={hashlib.sha256(sent).hexdigest()}" if route.before is not None else ""
            if route.before is not None and unquote(hostile) == "비밀":
                continue  # a valid name for an upload
            status, body = raw(live, route.verb, path, live.headers, sent)
            assert 400 <= status < 500, (path, body)
            assert "secret" not in body.replace(hostile, "").replace("secret.txt", "")
    kept = ("worker", "search", "workbench.db")
    after = sorted(path for path in live.home.rglob("*") if path.is_file() and "cache" not in path.parts)
    assert [path for path in before if not path.name.lstrip(".").startswith(kept)] == [
        path for path in after if not path.name.lstrip(".").startswith(kept)
    ]
    assert all(secret.read_text() == "secret" for secret in secrets)


@pytest.mark.parametrize(
    "hostile", [*HOSTILE, "words/../words", "words\0", "../indexes/words", {"name": "x"}]
)
def test_a_hostile_name_in_a_body_opens_nothing(live: Live, hostile: Any) -> None:
    for path, body in (
        ("search/text", {"index": hostile, "query": "dog"}),
        ("search/image", {"index": hostile, "image": "QUJD"}),
        ("jobs/eval", {"adapter": hostile}),
    ):
        assert live.post(path, body).status_code in (400, 404, 422)


def test_one_checkpoint_is_deleted_and_nothing_else(live: Live, owner: wb.Workspace) -> None:
    with owner.start_run("deleting") as run:
        for name in ("a.bin", "b 가+@=.bin"):
            run.log_checkpoint(name, owner.cache / "x")
    outside = live.home / "outside.bin"
    outside.write_bytes(b"kept")
    (run.checkpoint_dir / "link.bin").symlink_to(outside)
    (run.checkpoint_dir / "stray.bin").write_bytes(b"nobody's")
    path = f"runs/{run.id}/checkpoints"
    for name, status in (
        ("link.bin", 409),
        ("stray.bin", 404),
        ("a.bin", 200),
        ("a.bin", 404),
        ("A.bin", 404),
    ):
        assert live.ask("DELETE", f"{path}/{name}").status_code == status, name
    assert outside.read_bytes() == b"kept"
    assert (run.checkpoint_dir / "stray.bin").is_file()
    assert [file["name"] for file in live.get(path).json()["checkpoints"]] == ["b 가+@=.bin"]
    gone = live.ask("DELETE", f"{path}/{quote('b 가+@=.bin', safe='')}")
    assert gone.json() == {"run_id": run.id, "deleted": "b 가+@=.bin"}
    assert live.get(path).json() == {"checkpoints": []}


def test_a_symlinked_checkpoint_folder_is_left_alone(live: Live, owner: wb.Workspace) -> None:
    with owner.start_run("leading elsewhere") as run:
        run.log_checkpoint("a.bin", owner.cache / "x")
    elsewhere = live.home / "elsewhere"
    run.checkpoint_dir.rename(elsewhere)
    (run.folder / "checkpoints").symlink_to(elsewhere)
    assert live.ask("DELETE", f"runs/{run.id}/checkpoints/a.bin").status_code in (400, 404, 409)
    assert (elsewhere / "a.bin").is_file()


# Answers --------------------------------------------------------------------------------------------


def test_a_job_from_its_submission_to_its_result(live: Live, owner: wb.Workspace) -> None:
    submitted = live.post("jobs/train", {"adapter": "toy", "options": {"steps": 4}})
    assert submitted.status_code == 201
    job = submitted.json()
    assert (job["status"], job["options"]["steps"], job["result"]) == ("queued", 4, None)
    until(lambda: live.get(f"jobs/{job['id']}/progress").json()["status"] == "succeeded")
    done = live.get(f"jobs/{job['id']}").json()
    assert done["result"]["summary"] == "counted to 4"
    assert live.get(f"jobs/{job['id']}/progress").json()["progress"]["fraction"] == 1.0
    log = live.get(f"jobs/{job['id']}/logs").json()
    assert any("셋까지 counted" in line for line in log["lines"])
    assert not log["open_line"]
    assert live.get(f"jobs/{job['id']}/logs?after={log['next']}").json()["lines"] == []
    printed = live.get(f"jobs/{job['id']}/output")
    assert (printed.status_code, "셋까지 counted\n" in printed.text) == (200, True)
    assert printed.headers["Content-Disposition"] == "attachment; filename*=UTF-8''output.txt"
    assert (done["output"]["size"], done["output_note"]) == (len(printed.content), "")
    silent = live.get(f"jobs/{job_row(owner, 'failed')}/output")
    assert (silent.status_code, error_of(silent)["message"].endswith("has not printed anything")) == (
        404,
        True,
    )
    assert Path(done["output"]["path"]) == Path(done["notebook"]).with_name("output.txt")
    assert "result" not in live.get("jobs?limit=1").json()["jobs"][0]
    summary = live.get(f"runs/{done['run_id']}/summary").json()["summary"]
    assert (summary["loss"]["best"], summary["loss"]["best_step"]) == (0.25, 3)
    again = live.post(f"jobs/{job['id']}/cancel", None)
    assert (again.status_code, again.json()["status"]) == (200, "succeeded")


def test_lists_have_pages_and_filters(live: Live, owner: wb.Workspace) -> None:
    made = [job_row(owner, "cancelled") for _ in range(5)]
    page = live.get("jobs?limit=2&offset=1&type=eval&status=cancelled").json()
    assert [job["id"] for job in page["jobs"]] == [made[3], made[2]]
    assert page["total"] >= 5
    runs = live.get("runs?limit=1&experiment=the%20first").json()
    assert (len(runs["runs"]), runs["more"], runs["runs"][0]["config"]) == (1, False, {"lr": 1})


def test_an_unchanged_answer_is_304(live: Live, owner: wb.Workspace) -> None:
    until(lambda: not owner.jobs(status="running") and not owner.jobs(status="queued"))
    job = owner.job(job_row(owner, "running", started_at=time.time() - 5))
    paths = ["jobs", f"jobs/{job.id}", f"jobs/{job.id}/progress", f"jobs/{job.id}/logs", "experiments",
             "runs", "runs/marks", "runs/1/summary", "runs/1/checkpoints", "indexes",
             "openapi.json"]  # fmt: skip
    tags = {path: live.get(path).headers["ETag"] for path in paths}
    for path, tag in tags.items():
        again = live.get(path, headers={**live.headers, "If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b""), path
    first = live.get(f"jobs/{job.id}")  # a longer running time is not a change
    assert first.headers["ETag"] == tags[f"jobs/{job.id}"]
    assert owner.store.update_job(job.id, attempt=1, progress_done=0.5, expect="running")
    moved = live.get(f"jobs/{job.id}", headers={**live.headers, "If-None-Match": first.headers["ETag"]})
    assert (moved.status_code, moved.json()["progress"]["done"]) == (200, 0.5)
    assert owner.store.move_job(job.id, expect="running", to="failed", error={"type": "X", "message": "y"})


def test_polling_does_not_keep_a_server_awake(live: Live) -> None:
    def last() -> str:
        return str(
            httpx.get(f"{live.url}api/status?no_track_activity=1", headers=live.headers).json()[
                "last_activity"
            ]
        )

    before = last()
    for path in (
        "jobs",
        "jobs/1",
        "jobs/1/progress",
        "jobs/1/logs",
        "experiments",
        "adapters",
        "openapi.json",
    ):
        live.get(path)
    assert last() == before
    live.post("jobs/1/cancel", None)
    assert last() > before


def test_times_that_are_none_break_no_answer(live: Live, owner: wb.Workspace) -> None:
    ids = add_bad_times(owner)

    def strict(answer: httpx.Response) -> Any:
        assert answer.status_code == 200, answer.text
        return json.loads(answer.text, parse_constant=pytest.fail)

    listed = {run["id"]: run for run in strict(live.get("runs"))["runs"]}
    assert [(listed[run_id]["created_at"], listed[run_id]["finished_at"]) for run_id in ids] == [
        (None, None)
    ] * 5
    (experiment,) = [
        one for one in strict(live.get("experiments"))["experiments"] if one["name"] == "bad times"
    ]
    assert strict(live.get(f"experiments/{experiment['id']}/metrics"))["runs"]
    first = ids[0]
    assert strict(live.get(f"runs/{first}"))["created_at"] is None
    assert strict(live.get(f"runs/{first}/outcome"))["outcome"]["points"] == 1500
    points = strict(live.get(f"runs/{first}/metrics?name=m"))["points"]
    assert [at for _, at, _ in points[2:6]] == [1.7e9 + 2, None, "Infinity", 1.7e12]
    table = strict(live.post("runs/table", {"runs": ids}))["runs"]
    assert [row["created_at"] for row in table] == [None] * 5
    (series, *_) = strict(live.post("experiments/compare", {"runs": ids, "metrics": ["m"]}))["series"]
    assert len(series["time"]) == len(series["step"])
    assert strict(live.get("runs/marks"))["marks"]
    with wb.connect(live.url, live.token) as remote:
        run = remote.run(first)
        assert (run.created_at, run.finished_at, run.seconds) == (None, None, None)
        assert math.isnan(run.metric_points("m")[3][1])
        assert [one.id for one in remote.runs("bad times")] == ids[::-1]


def test_nan_and_infinity_have_json_values(live: Live, owner: wb.Workspace) -> None:
    with owner.start_run("numbers") as run:
        for value in (float("nan"), float("inf"), float("-inf")):
            run.log({"m": value})
    text = live.get(f"runs/{run.id}/metrics?name=m").text
    assert [point[2] for point in json.loads(text, parse_constant=pytest.fail)["points"]] == [
        None,
        "Infinity",
        "-Infinity",
    ]
    assert live.get(f"runs/{run.id}/summary").json()["summary"]["m"]["last"] == "-Infinity"
    hits = live.post("search/text", {"index": "broken", "query": "nan"}).text
    assert json.loads(hits, parse_constant=pytest.fail)["hits"][0]["score"] is None


def events(live: Live, job_id: int) -> Iterator[tuple[str, Any]]:
    with httpx.stream("GET", f"{live.api}/jobs/{job_id}/events", headers=live.headers, timeout=300) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])


def test_progress_comes_as_events_until_the_end(live: Live, owner: wb.Workspace) -> None:
    job = owner.job(job_row(owner, "running"))
    stream = events(live, job.id)
    assert next(stream)[1]["status"] == "running"
    owner.store.update_job(job.id, attempt=1, progress_done=1, progress_total=4, progress_message="셋")
    name, data = next(stream)
    assert (name, data["progress"]["fraction"], data["progress"]["message"]) == ("progress", 0.25, "셋")
    owner.store.move_job(job.id, expect="running", to="failed", error={"type": "X", "message": "y"})
    assert [name for name, _ in stream] == ["progress", "end"]
    assert [name for name, _ in events(live, job.id)] == ["progress", "end"]
    assert live.get("jobs/10000/events").status_code == 404
    assert live.get("jobs/x/events").status_code == 404


def test_a_stream_ends_when_its_reader_disconnects(live: Live, owner: wb.Workspace) -> None:
    job_id = job_row(owner, "running")
    for _ in range(70):  # more than may be open at once
        stream = events(live, job_id)
        assert next(stream)[1]["status"] == "running"
        stream.close()
    owner.store.move_job(job_id, expect="running", to="cancelled")


# Search and failures --------------------------------------------------------------------------------


def test_an_index_is_described_and_searched(live: Live) -> None:
    assert {"name": "words", "adapter": "toy"} in live.get("indexes").json()["indexes"]
    about = live.get("indexes/words").json()
    assert (about["adapter"], about["offers"]) == (
        "toy",
        ["search_by_text", "search_by_image", "explain", "compose", "item_file", "filter_fields"],
    )
    assert about["samples"][1] == {"text": "강아지", "language": "ko"}
    answer = live.post("search/text", {"index": "words", "query": "강아지", "k": 2}).json()
    assert [hit["id"] for hit in answer["hits"]] == ["강아지", "강"]
    assert [hit["path"] for hit in answer["hits"]] == ["/words/강아지.txt", "/words/강.txt"]
    assert answer["took_ms"]["total"] >= 0
    picture = base64.b64encode(b"pizza").decode()
    answer = live.post("search/image", {"index": "words", "image": picture, "k": 1}).json()
    assert answer["hits"][0]["id"] == "pizza"
    terms = [{"text": "dot"}, {"image": picture, "weight": -0.5, "name": "a.png"}, {"item": "dog"}]
    answer = live.post("search/compose", {"index": "words", "terms": terms, "k": 2}).json()
    assert [hit["id"] for hit in answer["hits"]] == ["dot", "강"]
    sides = {"left": {"image": picture, "name": "a.png"}, "right": {"item": "dog"}}
    why = live.post("search/explain", {"index": "words", **sides}).json()
    assert (why["left"]["by"], why["right"]["id"]) == ("image", "dog")
    assert why["views"][0]["kind"] == "cells"


def test_the_file_of_an_item_is_downloaded_as_what_it_is(live: Live) -> None:
    answer = live.get("indexes/words/items/dog/file")
    assert (answer.status_code, answer.content) == (200, b"\xff\xd8 a dog")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''dog.jpg"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Length"] == str(len(answer.content))
    about = live.get("indexes/words").json()
    assert [one["caption"] for one in about["items"]] == ["dog", "dot"]


@pytest.mark.parametrize("item", ["cat", "dot", "강", *HOSTILE])
def test_items_that_are_unknown_or_lead_elsewhere_have_no_file(live: Live, item: str) -> None:
    status, body = raw(live, "GET", f"indexes/words/items/{item}/file", live.headers)
    assert status in (400, 404, 422), (item, status, body)
    assert "root:" not in body
    assert live.alive()


def test_adapters_are_listed_broken_ones_with_their_problem(live: Live) -> None:
    listed = {one["name"]: one for one in live.get("adapters").json()["adapters"]}
    assert listed["toy"]["options"]["eval"]["properties"]["k"]["type"] == "integer"
    assert set(listed["toy"]["options"]) == {"train", "eval", "index_build", "data_check", "search"}
    assert listed["toy"]["problem"] == ""
    assert "SIGSEGV" in listed["crashes"]["problem"]
    assert listed["raises"]["problem"] == "adapter 'raises' cannot be loaded: RuntimeError: not today"
    assert "raises-adapter" in listed["raises"]["hint"]
    assert listed["raises"]["job_types"] == []
    assert listed["vlm_quantization"]["job_types"] == ["train", "eval", "index_build", "data_check"]


@pytest.mark.parametrize("how", ["raise", "crash", "exit", "quit", "hang", "flood bytes"])
def test_an_index_that_breaks_is_503_and_the_server_goes_on(
    live: Live, request: pytest.FixtureRequest, how: str
) -> None:
    if how == "hang":
        request.getfixturevalue("hasty")
    with ThreadPoolExecutor(1) as pool:
        broken = pool.submit(live.post, "search/text", {"index": "broken", "query": how})
        while not broken.done():  # meanwhile other requests are served
            assert live.get("jobs?limit=1").status_code == 200
            assert live.post("search/text", {"index": "words", "query": "dog"}).status_code == 200
        answer = broken.result()
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    assert "secret" not in answer.text
    assert error_of(answer)["type"] == "SearchFailed"
    assert live.post("search/text", {"index": "broken", "query": "fine"}).status_code == 200
    assert live.alive()


@pytest.mark.parametrize("how", ["raise", "crash", "hang"])
def test_an_adapter_that_breaks_while_options_are_checked(
    live: Live, owner: wb.Workspace, request: pytest.FixtureRequest, how: str
) -> None:
    if how == "hang":
        request.getfixturevalue("hasty")
    before = len(owner.jobs(limit=None))
    answer = live.post("jobs/eval", {"adapter": "broken", "options": {"check": how}})
    assert answer.status_code == 503, answer.text
    assert len(owner.jobs(limit=None)) == before
    assert live.alive()


@pytest.mark.parametrize(("name", "status"), [("crashes", 503), ("raises", 501)])
def test_an_adapter_that_breaks_at_import_starts_no_job(live: Live, name: str, status: int) -> None:
    assert live.post("jobs/eval", {"adapter": name}).status_code == status
    assert live.alive()


def test_runs_of_a_broken_adapter_can_still_be_compared(live: Live, owner: wb.Workspace) -> None:
    job_id = job_row(owner, "cancelled", adapter="crashes")
    made = []
    for value in (0.1, 0.2):
        with owner.start_run("compared", job_id=job_id, better={"m": "higher"}) as run:
            run.log({"m": value})
        made.append(run.id)
    answer = live.post("experiments/compare", {"runs": made})
    assert answer.status_code == 200
    assert next(row for row in answer.json()["final"] if row["name"] == "m")["best"] == [False, True]
    assert live.alive()


def test_too_many_concurrent_requests_are_503(
    tmp_path: Path, broken_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path(broken_package))
    make_index(tmp_path / "results", "broken", adapter="broken")
    flags = ["--WorkbenchServer.most_waiting=2"]
    with live_server(tmp_path / "results", tmp_path / "state", *flags) as live, ThreadPoolExecutor(8) as pool:
        live.get("indexes/broken")
        slow = {"index": "broken", "query": f"hold {tmp_path / 'released'}"}
        asked = [pool.submit(live.post, "search/text", slow) for _ in range(6)]
        until(lambda: sum(one.done() for one in asked) == 4)
        (tmp_path / "released").touch()
        assert sorted(one.result().status_code for one in asked) == [200, 200, 503, 503, 503, 503]
        assert live.get("jobs").status_code == 200


def test_an_unusable_workspace_is_an_error_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with live_server(tmp_path / "file", tmp_path / "state", has_workspace=False) as live:
        for path in ("jobs", "indexes", "adapters"):
            answer = live.get(path)
            assert answer.status_code in (200, 400, 503), answer.text
        assert live.get("jobs").json()["error"]["type"] == "BadInput"
        assert live.process.poll() is None


# Installation ---------------------------------------------------------------------------------------


def test_installing_the_package_enables_it() -> None:
    command = [sys.executable, "-m", "jupyter", "server", "extension", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    output = done.stdout + done.stderr
    assert re.search(r"workbench\.server\S* (\x1b\[\S*)?\s*enabled", output), output
    assert "workbench.server is not importable" not in output


def test_the_workspace_is_the_one_set_or_the_environments_or_under_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from workbench.server.desk import WorkbenchServer

    def path(**settings: str) -> Path:
        desk = WorkbenchServer(**settings)
        desk.__dict__["parent"] = None
        return desk.home_path

    assert path(workspace=str(tmp_path / "set")) == tmp_path / "set"
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "environment"))
    assert path() == tmp_path / "environment"
    assert path(workspace=str(tmp_path / "set")) == tmp_path / "set"


def test_it_works_under_a_base_url_and_starts_no_search_service_without_need(
    tmp_path: Path, toy_package: Path
) -> None:
    # It also makes the workspace.
    served = live_server(tmp_path / "r", tmp_path / "state", base="/user/na/", has_workspace=False)
    with installed(toy_package), served as live:
        assert live.get("openapi.json").json()["servers"][0]["url"].endswith("/workbench/api")
        assert live.get("jobs").json()["jobs"] == []
        assert not (live.home / ".search.lock").exists()


def test_a_comparison_has_downsampled_curves(live: Live) -> None:
    with wb.Workspace(live.home) as home, home.start_run("curves", config={"lr": 1}) as run:
        for step in range(5000):
            run.log({"loss": 9.0 if step == 1234 else math.sin(step / 50), "other": math.nan}, step=step)
    compared = live.post("experiments/compare", {"runs": [run.id], "points": 20}).json()
    loss, other = (
        next(one for one in compared["series"] if one["name"] == name) for name in ("loss", "other")
    )
    assert (loss["run"], loss["step"][-1]) == (run.id, 4999)
    assert len(loss["step"]) == len(loss["time"]) == len(loss["value"]) < 200
    assert loss["value"][loss["step"].index(1234)] == 9.0  # peaks survive downsampling
    assert set(other["value"]) == {None}
    compared = live.post("experiments/compare", {"runs": [run.id], "metrics": ["other", "none"]}).json()
    assert [one["name"] for one in compared["series"]] == ["other"]


def test_a_workspace_that_is_deleted_or_replaced_is_not_written_to(tmp_path: Path) -> None:
    """Everything was acknowledged, and lost: SQLite goes on with the deleted file."""
    home = tmp_path / "results"
    wb.Workspace(home).close()
    with live_server(home, tmp_path / "state") as served:
        run = served.post("runs", {"key": "k" * 32, "experiment": "e"}).json()["id"]
        point = {"steps": [1], "times": [1.0], "values": [1.0]}
        calls = {
            "start": ("POST", "runs", {"key": "l" * 32, "experiment": "e"}),
            "points": ("POST", f"runs/{run}/points", {"key": "k" * 32, "number": 1, "points": {"m": point}}),
            "end": ("POST", f"runs/{run}/end", {"status": "succeeded"}),
            "annotate": ("PATCH", f"runs/{run}", {"notes": "x"}),
            "list": ("GET", "runs", None),
        }
        shutil.rmtree(home)
        for replaced in (False, True):
            if replaced:
                wb.Workspace(home).close()
            for name, (verb, path, body) in calls.items():
                reply = served.ask(verb, path, json=body) if body else served.ask(verb, path)
                error = reply.json()["error"]
                assert (reply.status_code, error["type"]) == (503, "StoreError"), f"{name}: {reply.text}"
                assert "deleted" in error["message"]
                assert "restart" in error["hint"]
            assert home.exists() == replaced
        with wb.Workspace(home) as other:
            assert other.runs() == []
