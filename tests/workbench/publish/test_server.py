"""A published page as visitors and attackers meet it: places, messages, errors, and what they never learn."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websocket

from tests.conftest import installed, workspace_in
from tests.waiting import GUARD, until
from tests.workbench.conftest import make_index
from tests.workbench.publish.visitor import PROTOCOL, Visitor, framed
from workbench.host import processes
from workbench.publish import page
from workbench.publish.answers import HEADERS
from workbench.publish.server import shorten_log
from workbench.publish.visitor_kernel import KERNEL_BYTES
from workbench.publish.websocket import CONNECTIONS, WAITING_MESSAGES

#: Places of the page, and its limits: short enough to be waited for.
MOST = 3
QUICK = {"connect_seconds": 8.0, "connect_seconds_if_full": 3.0}
SILENT_SECONDS = 3.0

PASSWORD = "pass-of-the-database"  # noqa: S105  # of no database


def words(process: psutil.Process) -> list[str]:
    """Return the command of a process; empty if it is gone."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


class Site:
    """The published page, and what its publisher sees."""

    def __init__(self, home: Path, url: str, process: Any) -> None:
        self.home, self.url = home, url
        self.server = psutil.Process(process.pid)
        self.visitors: list[Visitor] = []

    def everybody_leaves(self) -> None:
        """Close the pages of all visitors."""
        while self.visitors:
            self.visitors.pop().close()

    @property
    def log(self) -> str:
        return (self.home / page.LOG_NAME).read_text(errors="replace")

    def kernels(self) -> list[psutil.Process]:
        """Return the processes of all kernels."""
        return [
            child
            for child in self.server.children()
            if processes.started(child.pid) and any("visitor_kernel" in word for word in words(child))
        ]

    def kernel_of(self, visitor: Visitor) -> psutil.Process:
        return next(one for one in self.kernels() if any(visitor.kernel in word for word in words(one)))


@pytest.fixture(scope="module")
def site(toy_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("published") / "results"
    with installed(toy_package), workspace_in(home), pytest.MonkeyPatch.context() as patch:
        make_index(home, "words")
        make_index(home, "unreleased")
        patch.setenv("WORKBENCH_DATABASE_URL", f"postgresql://me:{PASSWORD}@db.example.org/x")
        patch.setenv("OTHER_SECRET", PASSWORD)
        process, url = page.serve(
            home, "words", most_kernels=MOST, tabs=MOST, server={"silent_seconds": SILENT_SECONDS}, **QUICK
        )
        patch.undo()
        served = Site(home, url, process)
        try:
            yield served
        finally:
            served.everybody_leaves()
            process.terminate()
            process.wait(GUARD)


@pytest.fixture
def empty(site: Site) -> Iterator[None]:
    """Nobody visits the page before or after this test."""
    site.everybody_leaves()
    yield
    site.everybody_leaves()


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """Somebody who asks for single addresses."""
    with httpx.Client(timeout=GUARD, verify=False) as client:  # noqa: S501  # plain HTTP
        yield client


@pytest.fixture
def visitor(site: Site) -> Visitor:
    """A visitor who is connected, the one of the test before if that one's kernel still runs."""
    for regular in site.visitors[:1]:
        if regular.client.get(f"page/kernels/{regular.kernel}").status_code == 204:
            regular.disconnect()
            with suppress(websocket.WebSocketException):
                return regular.connect()
    site.everybody_leaves()
    return joined(site)


def come(site: Site) -> Visitor:
    """Return a visitor who was served; the places of earlier ones may still be taken for a moment."""

    def served() -> bool:
        site.visitors.append(Visitor(site.url))
        assert site.visitors[-1].page.status_code in (200, 503)
        return site.visitors[-1].page.status_code == 200

    until(served, "a place becomes free")
    return site.visitors[-1]


def joined(site: Site) -> Visitor:
    """Return a visitor who was served and is connected: who takes long to connect may lose the place."""

    def connected() -> bool:
        came = come(site)
        with suppress(websocket.WebSocketException):
            came.connect()
            return True
        return False

    until(connected)
    return site.visitors[-1]


# Places ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty")
def test_after_many_loads_the_next_visitor_is_served(site: Site, request: pytest.FixtureRequest) -> None:
    """Some reload or leave, some close without a word, and most are crawlers that never connect."""
    loads = 200 if request.config.getoption("--long") else 20 * MOST
    for _ in range(6):  # as many as there are places, twice; nobody of them has to wait
        came = Visitor(site.url)
        site.visitors.append(came)
        assert came.page.status_code == 200
        assert came.leave() == 204
    connected = [joined(site) for _ in range(MOST - 1)]
    assert all(one.finds_a_dog() for one in connected)
    for one in connected:
        one.disconnect()

    def crawl(_: int) -> int:  # each is another browser, without the cookie of the one before
        connection = HTTPConnection(site.url.removeprefix("http://").rstrip("/"), timeout=GUARD)
        with closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().status

    with ThreadPoolExecutor(8) as crawlers:
        statuses = list(crawlers.map(crawl, range(loads - 6 - (MOST - 1))))
    assert set(statuses) <= {200, 503}
    last = joined(site)
    assert last.finds_a_dog()
    assert len(site.kernels()) <= MOST + 1  # one is prepared
    last.leave()


@pytest.mark.usefixtures("empty")
def test_a_full_page_says_so_and_when_to_come_back(site: Site, http: httpx.Client) -> None:
    came = [joined(site) for _ in range(MOST)]
    time.sleep(QUICK["connect_seconds_if_full"] + 0.5)  # they are connected: none of them gives way
    refused = http.get(site.url)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert "All places are taken" in refused.text
    assert http.head(site.url).status_code == 503
    assert all(one.finds_a_dog() for one in came)

    came[0].leave()
    assert http.head(site.url).status_code == 200
    taken = joined(site)
    came[1].disconnect()  # without a word
    assert came[2].finds_a_dog()
    assert taken.finds_a_dog()
    for one in (*came[1:], taken):
        one.leave()


@pytest.mark.usefixtures("empty")
def test_kernels_without_a_page_are_ended(site: Site) -> None:
    connected, crawler = joined(site), come(site)
    until(lambda: not any(crawler.kernel in word for one in site.kernels() for word in words(one)))
    assert connected.client.get(f"page/kernels/{connected.kernel}").status_code == 204
    gone = crawler.client.get(f"page/kernels/{crawler.kernel}")
    assert (gone.status_code, gone.json()) == (410, {"reason": "left"})
    connected.leave()


@pytest.mark.usefixtures("empty")
def test_dead_kernels_are_noticed_and_not_handed_out(site: Site) -> None:
    came = [joined(site) for _ in range(MOST)]
    for kernel in site.kernels():  # the prepared one too
        kernel.send_signal(signal.SIGKILL)
    address = f"page/kernels/{came[0].kernel}"
    until(lambda: came[0].client.get(address).status_code == 410)
    assert came[0].client.get(address).json() == {"reason": "died"}
    again = joined(site)
    assert again.finds_a_dog()
    again.leave()


def test_only_who_knows_the_kernel_can_end_it(site: Site, http: httpx.Client, visitor: Visitor) -> None:
    address = f"{site.url}page/kernels/{visitor.kernel}"
    assert http.post(address, headers={"Origin": "http://evil.example.net"}).status_code == 403
    assert http.post(address, headers={"Host": "evil.example.net"}).status_code == 403
    unknown = visitor.kernel[:-4] + ("0000" if visitor.kernel[-4:] != "0000" else "1111")
    assert http.post(f"{site.url}page/kernels/{unknown}").status_code == 204
    assert http.delete(f"{site.url}api/kernels/{visitor.kernel}").status_code == 405
    assert http.get(f"{site.url}api/kernels").status_code == 404
    assert visitor.finds_a_dog()


# Messages -------------------------------------------------------------------------------------------


def test_visitors_run_no_code(site: Site, visitor: Visitor, tmp_path: Path) -> None:
    written = tmp_path / "written"
    code = {"code": f"open({str(written)!r}, 'w')", "silent": False, "store_history": False}
    code |= {"user_expressions": {"a": code["code"]}, "allow_stdin": False, "stop_on_error": False}
    kinds = ["execute_request", "input_reply", "inspect_request", "complete_request", "debug_request"]
    kinds += [
        "history_request",
        "interrupt_request",
        "shutdown_request",
        "create_subshell_request",
        "nothing",
    ]
    for channel in ("shell", "control", "stdin", "iopub", "other"):
        for kind in kinds:
            visitor.send(
                kind,
                {**code, "command": "evaluate", "arguments": {"expression": code["code"]}},
                channel=channel,
            )
        visitor.send(
            "comm_open", {"comm_id": channel, "target_name": "os.system", "data": code}, channel=channel
        )
    assert visitor.finds_a_dog()
    assert not written.exists()
    assert site.kernel_of(visitor).is_running()


def test_the_older_protocol_is_refused_to_that_visitor_alone(
    site: Site, http: httpx.Client, visitor: Visitor
) -> None:
    before = site.server.memory_info().rss
    visitor.disconnect()
    for protocols in ((), ("v0.example",)):
        with pytest.raises(websocket.WebSocketBadStatusException, match="400"):
            visitor.connect(protocols)
    assert http.get(f"{site.url}{page.HEALTH_PATH}").status_code == 200
    assert site.server.memory_info().rss < before + 20 * 2**20
    assert visitor.connect((PROTOCOL, "v0.example")).finds_a_dog()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xff" * 8 + bytes(1000),  # an offset count of 2**64 - 1
        framed("comm_msg", {})[:40],
        framed("comm_msg", {}) + b"more",
        framed("comm_msg", {}, *[b"x"] * 100),
        json.dumps({"header": {"msg_type": "comm_msg"}, "channel": "shell"}),
    ],
    ids=["empty", "count", "cut", "longer", "buffers", "text"],
)
def test_a_malformed_message_ends_that_connection_alone(site: Site, visitor: Visitor, sent: Any) -> None:
    before = site.server.memory_info().rss
    other = visitor.connected_again()
    (other.socket.send_binary if isinstance(sent, bytes) else other.socket.send)(sent)
    assert is_disconnected(other)
    assert visitor.finds_a_dog()
    assert site.server.memory_info().rss < before + 20 * 2**20


def is_disconnected(visitor: Visitor) -> bool:
    """Read what a visitor is sent until the connection ends; it ends soon, or the test fails."""
    try:
        for _ in range(100):
            visitor.receive()
    except (TimeoutError, websocket.WebSocketTimeoutException):
        return False
    except (OSError, websocket.WebSocketException):
        visitor.disconnect()
        return True
    return False


def test_messages_have_a_size_and_a_number(site: Site, visitor: Visitor) -> None:
    before = site.server.memory_info().rss
    assert visitor.search(bytes(2**20), by="image")["type"] == "answer"
    with suppress(OSError, websocket.WebSocketException):
        visitor.send("comm_msg", {}, bytes(22 * 2**20))
    assert is_disconnected(visitor)
    assert visitor.connect().finds_a_dog()
    os.kill(site.kernel_of(visitor).pid, signal.SIGSTOP)  # it answers nothing
    try:
        with suppress(OSError, websocket.WebSocketException):
            for _ in range(WAITING_MESSAGES + 1):
                visitor.send("comm_msg", {})
        assert is_disconnected(visitor)
    finally:
        os.kill(site.kernel_of(visitor).pid, signal.SIGCONT)
    assert site.server.memory_info().rss < before + 200 * 2**20
    assert visitor.connect().finds_a_dog()


def test_connections_to_one_kernel_have_a_number(site: Site, visitor: Visitor) -> None:
    more = [visitor.connected_again() for _ in range(CONNECTIONS - 1)]
    with pytest.raises(websocket.WebSocketBadStatusException, match="429"):
        visitor.connected_again()
    assert visitor.finds_a_dog()
    for one in more:
        one.disconnect()


def test_a_kernel_has_a_limit_of_memory(site: Site, visitor: Visitor) -> None:
    kernel = site.kernel_of(visitor)
    assert kernel.rlimit(psutil.RLIMIT_DATA)[0] == KERNEL_BYTES
    assert kernel.rlimit(psutil.RLIMIT_CORE)[0] == 0
    most = 0
    lists = "[]," * (6 * 2**20)  # in the kernel they are twenty times as large
    state = f'{{"method": "update", "state": {{"setup": {{"a": [{lists}[]]}}}}}}'
    update = f'{{"comm_id": "{visitor.model}", "data": {state}}}'.encode()
    with suppress(OSError, websocket.WebSocketException, psutil.Error):
        for _ in range(3):
            visitor.send("comm_msg", update)
            visitor.send("comm_info_request", {})
            while visitor.receive()[1] != "comm_info_reply":
                most = max(most, kernel.memory_info().rss)
    assert most < KERNEL_BYTES + 100 * 2**20
    assert joined(site).finds_a_dog()


# Names and origins ----------------------------------------------------------------------------------


def test_another_name_or_origin_reaches_nothing(site: Site, http: httpx.Client, visitor: Visitor) -> None:
    port = site.url.rstrip("/").rpartition(":")[2]
    for path in (
        "/",
        page.HEALTH_PATH,
        f"page/kernels/{visitor.kernel}",
        f"api/kernels/{visitor.kernel}",
        "none",
    ):
        assert (
            http.get(
                f"{site.url.rstrip('/')}/{path.lstrip('/')}", headers={"Host": f"evil.example.net:{port}"}
            ).status_code
            == 403
        )
        assert visitor.kernel not in http.get(site.url, headers={"Host": "evil.example.net"}).text
    visitor.disconnect()
    for more in (
        {"origin": "http://evil.example.net"},
        {"origin": "null"},
        {"origin": f"http://evil.example.net:{port}", "host": f"evil.example.net:{port}"},
        {"origin": f"http://127.0.0.1:{int(port) - 1}"},
    ):
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            visitor.connect(**more)
    assert visitor.connect().finds_a_dog()
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
        ("GET", "voila/query/11111111-1111-1111-1111-111111111111", 404),
        ("POST", "", 405),
        ("PUT", "", 405),
        ("PATCH", "nothing", 404),
        ("DELETE", "page/kernels/11111111-1111-1111-1111-111111111111", 405),
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


def test_the_kernel_has_no_secrets(site: Site, visitor: Visitor) -> None:
    for process in (site.kernel_of(visitor), site.server):
        said = process.environ()
        assert PASSWORD not in str(said)
        assert said["WORKBENCH_INDEX"] == "words"


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
        other = come(site)  # the prepared page, or one that says what is wrong
        later = come(site)
        for one in (other, later):
            shown = one.page.text.partition("<main")[2]
            assert [word for word in secrets[:3] if word in shown] == []
            one.leave()
    finally:
        manifest.with_name("away").unlink(missing_ok=True)
        manifest.write_text(good)
    assert visitor.finds_a_dog()


def test_a_bad_comm_says_nothing_of_the_machine(site: Site, visitor: Visitor) -> None:
    opened = {"comm_id": "new", "target_name": "jupyter.widget.control"}
    for content in ({}, opened, {**opened, "data": 3}, {**opened, "comm_id": ["new"]}, None, [[[]]]):
        visitor.send("comm_open", content)
    for target in ("jupyter.widget", "os.system", ["jupyter.widget.control"], None):
        visitor.send("comm_open", {**opened, "target_name": target, "data": {"state": {}}})
    for data in (
        {},
        {"method": 3},
        {"method": "update", "state": {"setup": None, "layout": 3, "_esm": 1}},
        None,
    ):
        visitor.send("comm_msg", {"comm_id": visitor.model, "data": data})
        visitor.send("comm_msg", {"comm_id": "new", "data": data})
    visitor.send("comm_msg", b"[" * 10_000)
    visitor.send("comm_info_request", {"target_name": 3})
    visitor.send("comm_info_request", {})
    received: list[tuple[str, str, Any]] = []
    while not received or received[-1][1] != "comm_info_reply" or "comms" not in received[-1][2]:
        received.append(visitor.receive())
    kinds = {kind for _, kind, _ in received}
    assert kinds <= {"status", "comm_msg", "comm_close", "comm_open", "comm_info_reply"}
    said = json.dumps(received)
    secrets = ("Traceback", "site-packages", ".py", str(site.home), "/tmp")  # noqa: S108  # looked for
    assert [word for word in secrets if word in said] == []
    assert visitor.finds_a_dog()
