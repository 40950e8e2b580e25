"""A published page as visitors and attackers meet it: visits, questions, errors, what they never learn."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import installed, workspace_in
from tests.waiting import GUARD, until
from tests.workbench.conftest import end_search_service, make_index
from tests.workbench.publish.visitor import Visitor, framed
from workbench.host import processes
from workbench.publish import page
from workbench.publish.answers import HEADERS
from workbench.publish.door import MESSAGE_BYTES, PICTURES, QUESTION_BYTES, UPLOADED_BYTES
from workbench.publish.server import shorten_log
from workbench.search.stand_ins import KEY_FILE

SILENT_SECONDS = 3.0

PASSWORD = "pass-of-the-database"  # noqa: S105  # of no database


class Site:
    """The published page, and what its publisher sees."""

    def __init__(self, home: Path, url: str, process: Any) -> None:
        self.home, self.url = home, url
        self.server = psutil.Process(process.pid)

    @property
    def log(self) -> str:
        return (self.home / page.LOG_NAME).read_text(errors="replace")

    def kernels(self) -> list[psutil.Process]:
        """Return the kernels that make a page at this moment."""
        return [child for child in self.server.children() if processes.started(child.pid)]


@pytest.fixture(scope="module")
def site(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("published") / "results"
    with installed(toy_package), workspace_in(home), pytest.MonkeyPatch.context() as patch:
        make_index(home, "words")
        make_index(home, "unreleased")
        patch.setenv("WORKBENCH_DATABASE_URL", f"postgresql://me:{PASSWORD}@db.example.org/x")
        patch.setenv("OTHER_SECRET", PASSWORD)
        process, url = page.serve(home, "words", silent_seconds=SILENT_SECONDS)
        patch.undo()
        try:
            yield Site(home, url, process)
        finally:
            process.terminate()
            process.wait(GUARD)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """Somebody who asks for single addresses."""
    with httpx.Client(timeout=GUARD, verify=False) as client:  # noqa: S501  # plain HTTP
        yield client


@pytest.fixture(scope="module")
def visitor(site: Site) -> Iterator[Visitor]:
    with Visitor(site.url) as one:
        yield one


def load(site: Site) -> httpx.Response:
    """Return the page, as somebody new gets it."""
    with Visitor(site.url) as came:
        return came.page


# Many visits ----------------------------------------------------------------------------------------


def test_loads_leave_nothing_behind(site: Site, visitor: Visitor, request: pytest.FixtureRequest) -> None:
    """Browsers that load the page and leave; the next visitor is served at once."""
    loads = 1000 if request.config.getoption("--long") else 100
    assert visitor.finds_a_dog()
    until(lambda: site.kernels() == [])
    files = sorted(path.name for path in site.home.rglob("*"))
    before = site.server.memory_info().rss

    def crawl(_: int) -> int:  # each is another browser
        connection = HTTPConnection(site.url.removeprefix("http://").rstrip("/"), timeout=GUARD)
        connection.request("GET", "/")
        status = connection.getresponse().status
        connection.close()
        return status

    with ThreadPoolExecutor(8) as crawlers:
        assert set(crawlers.map(crawl, range(loads))) == {200}
    assert visitor.finds_a_dog()
    assert site.kernels() == []
    assert sorted(path.name for path in site.home.rglob("*")) == files
    until(lambda: len(site.server.net_connections()) <= 3)  # the server's own, and this visitor's
    assert site.server.memory_info().rss < before + 30 * 2**20


def test_visitors_search_at_the_same_time(site: Site) -> None:
    def visit(number: int) -> bool:
        with Visitor(site.url) as came:
            return came.page.status_code == 200 and all(came.finds_a_dog() for _ in range(3))

    with ThreadPoolExecutor(40) as visitors:
        assert all(visitors.map(visit, range(40)))


def test_a_page_that_has_not_changed_is_not_sent_again(
    site: Site, http: httpx.Client, visitor: Visitor
) -> None:
    first = http.get(site.url)
    assert first.headers["Content-Encoding"] == "gzip"
    again = http.get(site.url, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    plain = http.get(site.url, headers={"Accept-Encoding": "identity"})
    assert plain.text == first.text == visitor.page.text
    assert "Content-Encoding" not in plain.headers
    assert http.head(site.url).status_code == 200


def test_the_page_follows_its_index_and_searches_go_on(site: Site, visitor: Visitor) -> None:
    before = load(site).headers["ETag"]
    manifest = site.home / "indexes" / "words" / "manifest.json"
    known = json.loads(manifest.read_text())
    made = manifest.with_name("made")
    made.write_text(json.dumps({**known, "rebuilt": True}))
    made.replace(manifest)
    assert load(site).status_code == 200  # the former page, while the next one is made
    assert visitor.finds_a_dog()
    until(lambda: site.kernels() == [])
    assert load(site).headers["ETag"] == before  # nothing that a visitor sees is different


def test_a_search_service_that_was_killed_is_started_again(site: Site, visitor: Visitor) -> None:
    end_search_service(site.home)
    assert visitor.finds_a_dog()


# Questions ------------------------------------------------------------------------------------------


def test_an_answer_has_its_thumbnails(visitor: Visitor) -> None:
    answer = visitor.search(by="text", query="dog", seq=7)
    assert (answer["type"], answer["seq"]) == ("answer", 7)
    assert answer["hits"][0]["path"] == ""
    assert visitor.search(bytes(2**20), by="image")["type"] == "answer"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (b"", "cut off"),
        (b"\xff\xff\xff\xff{}", "cut off"),
        (framed({"type": "search"})[:10], "cut off"),
        (framed(b"{"), "not JSON"),
        (framed(b"[" * 10_000), "not JSON"),
        (framed([]), "search or fields"),
        (framed({"type": "explain"}), "search or fields"),
        (framed({"type": "search", "sizes": [3]}, b"12"), "2 bytes, and 3"),
        (framed({"type": "search"}, b"12"), "2 bytes, and 0"),
        (framed({"type": "search", "sizes": [-1, 3]}, b"12"), "whole numbers"),
        (framed({"type": "search", "sizes": "2"}, b"12"), "whole numbers"),
        (framed({"type": "search", "sizes": [0] * (PICTURES + 1)}), "pictures"),
    ],
)
def test_what_is_no_question_is_refused_in_words(visitor: Visitor, sent: bytes, words: str) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    answer = visitor.client.post("page/search", content=sent, headers=headers)
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert visitor.finds_a_dog()


def test_questions_have_a_size(site: Site, visitor: Visitor) -> None:
    before = site.server.memory_info().rss
    answer = visitor.search(by="text", query="x" * (QUESTION_BYTES - 500))
    assert "2,000 characters" in answer["message"]
    for content, kind, most in (
        (bytes(QUESTION_BYTES + 1), "application/json", QUESTION_BYTES),
        (bytes(MESSAGE_BYTES + 1), "application/octet-stream", MESSAGE_BYTES),
    ):
        assert len(content) > most
        with httpx.Client(base_url=site.url, timeout=GUARD) as other:
            try:
                status = other.post(
                    "page/search", content=content, headers={"Content-Type": kind}
                ).status_code
            except httpx.TransportError:  # it is told while it still sends
                status = 413
        assert status == 413
    chunked = visitor.client.post("page/search", content=iter([b"{}"]))
    assert chunked.status_code == 411
    assert site.server.memory_info().rss < before + 80 * 2**20
    assert visitor.finds_a_dog()


def test_pictures_that_are_sent_at_the_same_time_have_a_size(site: Site, visitor: Visitor) -> None:
    """Senders who announce pictures and never send them hold up other pictures for seconds, and no words."""
    address = site.url.removeprefix("http://").rstrip("/").split(":")
    held = []
    head = "POST /page/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
    head += f"Content-Length: {MESSAGE_BYTES}\r\n\r\n"
    for _ in range(UPLOADED_BYTES // MESSAGE_BYTES):
        one = socket.create_connection((address[0], int(address[1])))
        one.sendall(head.encode() + b"1")
        held.append(one)
    until(lambda: visitor.search(bytes(1000), by="image").get("retry_after", 0) > 0)
    assert visitor.finds_a_dog()
    for one in held:
        one.close()
    until(lambda: visitor.search(bytes(1000), by="image")["type"] == "answer")


def test_the_server_never_runs_what_it_is_sent(site: Site, visitor: Visitor, tmp_path: Path) -> None:
    written = tmp_path / "written"
    code = f"open({str(written)!r}, 'w')"
    for options in ({"__class__": code}, {"exact": code}, code, [code]):
        assert visitor.search(by="text", query="dog", options=options)["type"] == "error"
    assert visitor.search(by=code, query=code)["type"] == "error"
    for path in ("api/kernels", "api/sessions", "api/terminals", "voila/static/voila.js"):
        for method in ("GET", "POST"):
            assert visitor.client.request(method, path, json={"code": code}).status_code in (404, 405)
    assert not written.exists()


# Names and origins ----------------------------------------------------------------------------------


def test_another_name_or_origin_reaches_nothing(site: Site, http: httpx.Client) -> None:
    port = site.url.rstrip("/").rpartition(":")[2]
    asked = {"type": "search", "seq": 1, "by": "text", "query": "dog", "k": 20, "options": {}}
    for path in ("", page.HEALTH_PATH, "page/search", "none"):
        host = {"Host": f"evil.example.net:{port}"}
        assert http.get(f"{site.url}{path}", headers=host).status_code == 403
    for more in (
        {"Origin": "http://evil.example.net"},
        {"Origin": "null"},
        {"Origin": f"http://evil.example.net:{port}", "Host": f"evil.example.net:{port}"},
        {"Origin": f"http://127.0.0.1:{int(port) - 1}"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty"},
    ):
        assert http.post(f"{site.url}page/search", json=asked, headers=more).status_code == 403
    assert http.get(site.url.replace("127.0.0.1", "localhost") + page.HEALTH_PATH).status_code == 200


# Errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing", 404),
        ("GET", "logout", 404),
        ("GET", "login?next=/", 404),
        ("GET", "voila/files/search_demo.ipynb", 404),
        ("GET", "voila/static/../../../etc/passwd", 404),
        ("GET", "voila/static/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "voila/templates/workbench/static/%2e%2e/conf.json", 404),
        ("GET", "voila/templates/x", 404),
        ("GET", "voila/labextensions/..%2f..%2fetc/passwd", 404),
        ("GET", "voila/static/a%00b", 404),
        ("GET", "api/contents", 404),
        ("GET", "api/kernels/11111111-1111-1111-1111-111111111111", 404),
        ("GET", "page/search", 405),
        ("POST", "page/health", 405),
        ("GET", "voila/query/11111111-1111-1111-1111-111111111111", 404),
        ("POST", "", 405),
        ("PUT", "", 405),
        ("PATCH", "nothing", 404),
        ("DELETE", "page/search", 405),
    ],
)
def test_an_error_page_is_plain_and_asks_no_other_server(
    site: Site, http: httpx.Client, method: str, path: str, status: int
) -> None:
    answer = http.request(method, site.url + path)
    assert answer.status_code == status
    assert "<title>" in answer.text
    for word in ("http:", "https:", "//", str(site.home), "workbench serve", "Traceback", "words", "passwd"):
        assert word not in answer.text.replace("<!DOCTYPE html>", "")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert {name for name in HEADERS if name not in answer.headers} == set()


def test_an_error_is_one_short_line_of_log(site: Site, http: httpx.Client) -> None:
    before = len(site.log)
    for _ in range(20):
        assert http.get(f"{site.url}logout?{'x' * 5_000}").status_code == 404
    until(lambda: site.log[before:].count("GET /logout") == 20)  # a line is written after its answer
    written = site.log[before:]
    assert "Traceback" not in written
    lines = [line for line in written.splitlines() if "logout" in line]  # others are of the test before
    assert len(lines) == 20
    assert max(map(len, lines)) < 250


def test_the_log_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "page.log"
    with page._open_log(path, new=True) as log:
        for number in range(1000):
            log.write(b"line %d\n" % number)
        log.flush()
        shorten_log(log.fileno(), 100_000)
        assert path.stat().st_size == sum(len(f"line {n}\n") for n in range(1000))
        shorten_log(log.fileno(), 1_000)
        log.write(b"the next line\n")
    lines = path.read_text().splitlines()
    assert lines[0] == "(earlier lines were dropped)"
    assert lines[-2:] == ["line 999", "the next line"]
    assert path.stat().st_size < 1_100
    assert all(line.startswith("line ") for line in lines[1:-1])


def test_a_silent_connection_is_closed(site: Site) -> None:
    address = site.url.removeprefix("http://").rstrip("/").split(":")
    begun = [
        b"",
        b"GET / HTTP/1.1\r\nHost: ",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n12",
    ]
    opened = []
    for first in begun * 20:
        one = socket.create_connection((address[0], int(address[1])))
        one.sendall(first)
        opened.append(one)
    for one in opened:
        one.settimeout(GUARD)
        while one.recv(65536):
            pass
        one.close()


# What a visitor never learns ------------------------------------------------------------------------


def test_the_server_has_no_secrets(site: Site) -> None:
    said = site.server.environ()
    assert PASSWORD not in str(said)
    assert said["WORKBENCH_INDEX"] == "words"
    assert (site.home / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_only_the_pages_own_scripts_run_in_it(visitor: Visitor) -> None:
    policy = dict(one.split(" ", 1) for one in visitor.page.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert "unsafe" not in policy["script-src"]
    for word in (str(Path.home()), "unreleased", PASSWORD, "kernel"):
        shown = visitor.page.text.partition("<body")[2].partition('<script type="module"')[0]
        assert word not in shown


def test_a_damaged_index_says_nothing_of_the_machine(site: Site, visitor: Visitor) -> None:
    manifest = site.home / "indexes" / "words" / "manifest.json"
    good = manifest.read_text()
    secrets = (str(site.home), "unreleased", "manifest", "workbench ", PASSWORD, "log")
    damages: list[Callable[[], object]] = [
        lambda: manifest.write_text("not json"),
        lambda: manifest.write_text('{"adapter": "unknown"}'),
        lambda: manifest.write_text('{"adapter": "toy"}'),
        lambda: manifest.rename(manifest.with_name("away")),
    ]
    try:
        for damage in damages:
            damage()
            answer = visitor.search(by="text", query="dog")
            assert answer["type"] == "error"
            assert [word for word in secrets if word in json.dumps(answer)] == []
            assert answer["message"].endswith(".")
        shown = load(site).text.partition("<main")[2].partition('<script type="module"')[0]
        assert [word for word in secrets[:3] if word in shown] == []
    finally:
        manifest.with_name("away").unlink(missing_ok=True)
        manifest.write_text(good)
    assert visitor.finds_a_dog()
    until(lambda: 'id="wb-search"' in load(site).text)
