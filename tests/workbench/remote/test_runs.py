"""Runs that are logged over HTTP: connections that break, servers that stop, processes that vanish.

What they share with local ones is in test_workspace_contract.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

import workbench as wb
from tests.workbench.conftest import Live, live_server, until
from workbench.remote import sending
from workbench.runs import heartbeats
from workbench.store import records
from workbench.store.points import Batch
from workbench.store.store import Store


@pytest.fixture(scope="module")
def home(live: Live) -> Iterator[wb.Workspace]:
    with wb.Workspace(live.home) as opened:
        yield opened


@pytest.fixture(scope="module")
def remote(live: Live) -> Iterator[wb.RemoteWorkspace]:
    with wb.connect(live.url, live.token) as ws:
        yield ws


@contextmanager
def proxy(live: Live, cut: Callable[[str, str], str]) -> Iterator[str]:
    """Pass everything on, but break the connection of some requests ``"before"`` or ``"after"`` they are."""

    class Pass(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            how = cut(self.command, self.path)
            if how != "before":
                headers = {"Authorization": self.headers["Authorization"]}
                url = live.url.rstrip("/") + self.path
                more = {"headers": headers, "timeout": 300, "verify": False}  # plain HTTP
                answer = httpx.request(self.command, url, content=body, **more)
            if how:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_PATCH = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Pass) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def port_of(live: Live) -> int:
    return int(live.url.split(":")[2].strip("/"))


# Broken connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["before", "after"])
def test_a_connection_that_breaks_around_a_commit_loses_and_doubles_nothing(
    live: Live, home: wb.Workspace, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(sending, "REQUEST_POINTS", 500)
    requests: list[str] = []

    def cut(verb: str, path: str) -> str:
        if verb == "GET":
            return ""
        requests.append(path)
        return how if len(requests) % 2 else ""  # every request that changes something breaks once

    with proxy(live, cut) as url, wb.connect(url, live.token) as ws, ws.start_run("cut", name=how) as run:
        for step in range(1200):
            run.log({"m": step, "n": -step}, step=step)
        run.flush()
        run.log_many({"m": list(range(1200, 2000))})
        run.annotate(notes="once")
    assert len(requests) >= 10
    (found,) = [one for one in home.runs("cut") if one.name == how]  # started once
    assert (found.status, found.notes) == ("succeeded", "once")
    assert [(step, value) for step, _, value in found.metric_points("m")] == [(at, at) for at in range(2000)]
    assert [value for _, _, value in found.metric_points("n")] == [-at for at in range(1200)]
    assert found.summary["m"]["count"] == 2000


def test_more_is_logged_while_it_is_not_known_whether_a_batch_has_come(
    live: Live, home: wb.Workspace
) -> None:
    broken = threading.Event()

    def cut(verb: str, path: str) -> str:
        if path.endswith("/points") and not broken.is_set():
            return "after"
        return ""

    with proxy(live, cut) as url, wb.connect(url, live.token) as ws, ws.start_run("behind") as run:
        run.log({"m": 0})
        until(lambda: home.run(run.id).metric_points("m"))  # it has arrived, unknown to the client
        for step in range(1, 100):
            run.log({"m": step, "new": step})
        broken.set()
    found = home.run(run.id)
    assert [value for _, _, value in found.metric_points("m")] == list(range(100))
    assert [value for _, _, value in found.metric_points("new")] == list(range(1, 100))


def test_a_server_that_is_started_anew_while_a_run_is_logged_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "results"
    with live_server(home, tmp_path / "one") as first:
        ws = wb.connect(first.url, first.token)
        run = ws.start_run("restart", better={"m": "higher"})
        for step in range(1000):
            run.log({"m": step}, step=step)
        run.flush()
        for step in range(1000, 2000):
            run.log({"m": step}, step=step)
    (tmp_path / "file").write_bytes(b"kept")
    for step in range(2000, 3000):  # the server is down; logging goes on
        run.log({"m": step}, step=step)
    with monkeypatch.context() as patch:
        patch.setattr(sending, "AWAY_SECONDS", 0.5)
        with pytest.raises(wb.ServerUnreachable, match="does not answer"):
            run.flush()
    ended = threading.Thread(target=lambda: (run.log_checkpoint("a.bin", tmp_path / "file"), run.finish()))
    ended.start()  # which waits for the server
    with live_server(home, tmp_path / "two", address=(port_of(first), first.token)):
        ended.join(300)
        assert not ended.is_alive()
        assert run.status == "succeeded"
        with run.checkpoint("a.bin").open() as file:
            assert file.read() == b"kept"
        ws.close()
    with wb.Workspace(home) as owner:
        found = owner.run(run.id)
        assert [value for _, _, value in found.metric_points("m")] == list(range(3000))
        assert (found.status, found.summary["m"]["best"]) == ("succeeded", 2999)


def test_a_token_that_is_no_longer_the_servers_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    home = tmp_path / "results"
    with live_server(home, tmp_path / "one") as first:
        ws = wb.connect(first.url, first.token)
        run = ws.start_run("token")
        run.log({"m": 0})
        run.flush()
    with live_server(home, tmp_path / "two", address=(port_of(first), "another")):
        run.log({"m": 1})
        with pytest.raises(wb.AccessDenied):
            run.flush()
    with live_server(home, tmp_path / "three", address=(port_of(first), first.token)):
        run.finish()
        assert [value for _, _, value in run.metric_points("m")] == [0, 1]
        ws.close()


# Processes -------------------------------------------------------------------------------------------

_BEGIN = """
import os, signal, sys, time
import workbench as wb
from workbench.runs import heartbeats
heartbeats.BEAT_SECONDS = 0.3
ws = wb.connect(sys.argv[1], sys.argv[2])
run = ws.start_run("e", name=sys.argv[3])
for step in range(1000):
    run.log({"m": step, "n": 0.5}, step=step)
def ready():
    print("ready", run.id, flush=True)
def wait():
    ready()
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.01)
"""


@contextmanager
def program(live: Live, body: str, name: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a program that logs to a server; yield it and its run id when it is ready."""
    command = [sys.executable, "-c", _BEGIN + textwrap.dedent(body), live.url, live.token, name]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None
            output = process.stdout.readline()
            assert output.startswith("ready "), output + (process.stderr.read() if process.stderr else "")
            yield process, int(output.split()[1])
        finally:
            process.kill()


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with a short heartbeat timeout."""
    folder = tmp_path_factory.mktemp("listening")
    flags = ["--WorkbenchServer.silent_seconds=6"]
    with live_server(folder / "results", folder / "state", *flags) as served:
        yield served


def row(live: Live, run_id: int) -> records.RunRecord:
    """A run as stored, not read through the server."""
    with wb.Workspace(live.home) as opened:
        found = opened.store.run(run_id)
        assert found is not None
        return found


@pytest.mark.parametrize(
    ("ending", "status", "kind"),
    [
        ("ready(); run.finish()", "succeeded", None),
        ("ready()", "lost", "Lost"),
        ("ready(); raise SystemExit(3)", "lost", "Lost"),
        ("ready(); 1 / 0", "failed", "ZeroDivisionError"),
        ("ready(); raise KeyboardInterrupt", "cancelled", "KeyboardInterrupt"),
        ("ready(); ws.close()", "lost", "Lost"),
        ("ready(); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", "failed", "Terminated"),
    ],
)
def test_whatever_way_a_process_takes_leave_nothing_is_lost(
    live: Live, home: wb.Workspace, ending: str, status: str, kind: str | None
) -> None:
    with program(live, ending) as (process, run_id):
        process.wait(300)
    found = row(live, run_id)  # as stored, before it is settled
    assert (found.status, (found.error or {}).get("type")) == (status, kind)
    assert [one["count"] for one in home.run(run_id).summary.values()] == [1000, 1000]


def test_a_run_whose_process_vanished_is_lost_and_one_that_only_says_nothing_is_not(listening: Live) -> None:
    with program(listening, "wait()", "quiet") as (_, quiet), program(listening, "wait()") as (gone, lost):
        gone.kill()
        until(lambda: listening.get(f"runs/{lost}").json()["status"] == "lost")
        assert listening.get(f"runs/{quiet}").json()["status"] == "running"
    error = listening.get(f"runs/{lost}").json()["error"]
    assert error["type"] == "Lost"
    assert "no heartbeat for 6 s" in error["message"]
    summary = listening.get(f"runs/{lost}/summary").json()["summary"]
    assert set(summary) <= {"m", "n"}


def test_who_comes_back_to_a_run_that_was_taken_for_lost_is_told(listening: Live) -> None:
    body = """
    run.flush()
    ready()
    sys.stdin.readline()
    try:
        while True:
            run.log({"m": 7.0})
            time.sleep(0.01)
    except wb.WrongState as error:
        print(error.message, flush=True)
    try:
        run.finish()
    except wb.WrongState:
        print(run.status, flush=True)
    """
    command = [sys.executable, "-c", _BEGIN + textwrap.dedent(body), listening.url, listening.token, ""]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        run_id = int(process.stdout.readline().split()[1])
        process.send_signal(signal.SIGSTOP)
        until(lambda: listening.get(f"runs/{run_id}").json()["status"] == "lost")
        process.send_signal(signal.SIGCONT)
        output, _ = process.communicate("\n", timeout=300)
    assert output == f"run {run_id} is lost: no more values can be logged\nlost\n"
    assert listening.get(f"runs/{run_id}/summary").json()["summary"]["m"]["count"] == 1000


def test_a_forked_child_sends_nothing_of_its_parents(live: Live, home: wb.Workspace) -> None:
    body = """
    child = os.fork()
    if not child:
        ws = wb.connect(sys.argv[1], sys.argv[2])
        run.log({"child": 1.0}, step=0)
        run.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert run.status == "running"
    ready()
    run.finish()
    """
    with program(live, body) as (process, run_id):
        assert process.wait(300) == 0
    counts = {name: one["count"] for name, one in home.run(run_id).summary.items()}
    assert counts == {"m": 1000, "n": 1000, "child": 1}


def test_an_open_run_is_heard_of_while_nothing_is_logged(
    remote: wb.RemoteWorkspace, home: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.05)
    with remote.start_run("beating") as run:
        for _ in range(3):
            before = home.store.heard_of([run.id])[run.id]
            until(lambda before=before: home.store.heard_of([run.id])[run.id] > before)  # type: ignore[misc]
    assert run.status == "succeeded"


# Batches ----------------------------------------------------------------------------------------------

ONE = {"m": Batch([1], [1.0], [0.5])}


def test_a_batch_is_kept_once_and_in_its_turn(database: str) -> None:
    store = Store(database)
    run_id = store.add_sent_run(records.RunRecord(experiment_id=0), "e", "k").id or 0
    assert store.add_sent_run(records.RunRecord(experiment_id=0), "e", "k").id == run_id
    other = store.add_sent_run(records.RunRecord(experiment_id=0), "e", "other").id or 0
    assert store.take_batch(run_id, "k", 0, {}, {}) == 0
    for _ in range(3):
        assert store.take_batch(run_id, "k", 1, ONE, {(run_id, "m"): "higher"}) == 1
    assert store.take_batch(run_id, "k", 2, ONE, {}) == 2
    assert store.take_batch(run_id, "k", 1, ONE, {}) == 2
    assert store.take_batch(run_id, "k", 2, {}, {}) == 2
    assert store.take_batch(run_id, "guest", 1, ONE, {}) == 1  # batches are numbered per sender
    assert store.summary_table([run_id])[run_id]["m"]["count"] == 3
    for wrong, key, says in (
        (run_id, "k", "batch 4 .* before batch 3"),
        (other, "k", f"logging run {run_id}, not run {other}"),
    ):
        with pytest.raises(wb.WrongState, match=says):
            store.take_batch(wrong, key, 4, ONE, {})
    assert store.take_batch(10**6, "k", 3, ONE, {}) is None
    assert store.end_run(run_id, "failed")
    assert store.take_batch(run_id, "k", 2, ONE, {}) == 2  # a resent batch is accepted
    for number, batch in ((3, ONE), (2, {})):
        with pytest.raises(wb.WrongState, match=f"run {run_id} is failed"):
            store.take_batch(run_id, "k", number, batch, {})
    assert store.summary_table([run_id])[run_id]["m"]["count"] == 3
    store.close()


def test_a_request_takes_a_bounded_part_of_what_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "REQUEST_POINTS", 100)
    many = Batch(list(range(250)), [0.0] * 250, [1.0] * 250)
    portion = sending._portion({"a": Batch([1], [0.0], [1.0]), "none": Batch([], [], []), "m": many})
    assert list(portion) == ["a", "m"]
    assert portion["m"].steps == list(range(97))
    long = {f"{at}" + "x" * 249: Batch([1], [0.0], [1.0]) for at in range(100)}
    assert 1 <= len(sending._portion(long)) < 10  # names take room as well
    assert sending._portion({"none": Batch([], [], [])}) == {}


# Files ------------------------------------------------------------------------------------------------


def leftovers(live: Live) -> list[Path]:
    return list((live.home / "runs" / ".sent").glob("*"))


@pytest.fixture
def run(remote: wb.RemoteWorkspace) -> wb.Run:
    started = remote.start_run("files")
    started.finish()
    return started


def test_an_upload_that_is_cut_off_half_way_leaves_nothing(
    live: Live, home: wb.Workspace, run: wb.Run
) -> None:
    data = os.urandom(4 * 2**20)
    query = f"sha256={hashlib.sha256(data).hexdigest()}"
    head = [
        f"PUT /workbench/api/runs/{run.id}/checkpoints/cut.bin?{query} HTTP/1.1",
        f"Host: 127.0.0.1:{port_of(live)}",
        f"Authorization: token {live.token}",
        f"Content-Length: {len(data)}",
    ]
    for _ in range(10):  # more than the maximum of concurrent uploads
        with socket.create_connection(("127.0.0.1", port_of(live)), timeout=300) as connection:
            connection.sendall("\r\n".join([*head, "", ""]).encode() + data[: 3 * 2**20])
            until(lambda: leftovers(live) and leftovers(live)[0].stat().st_size >= 2 * 2**20)
        until(lambda: not leftovers(live))
    assert home.run(run.id).checkpoints() == []
    assert not (home.runs_dir / str(run.id) / "checkpoints").exists()
    assert live.ask("PUT", f"runs/{run.id}/checkpoints/cut.bin?{query}", content=data).status_code == 200
    assert home.run(run.id).checkpoint("cut.bin").path.read_bytes() == data
    assert live.alive()


def test_a_connection_that_breaks_after_a_file_has_come_keeps_it_once(
    live: Live, home: wb.Workspace, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    broken: list[str] = []

    def cut(verb: str, path: str) -> str:
        if verb == "PUT" and path not in broken:
            broken.append(path)
            return "after"
        return ""

    with proxy(live, cut) as url, wb.connect(url, live.token) as ws, ws.start_run("cut files") as run:
        run.log_checkpoint("a.bin", tmp_path / "file", step=1)
        run.log_artifact("b.bin", tmp_path / "file")
    assert len(broken) == 2
    found = home.run(run.id)
    assert [(one.name, one.size, one.step) for one in found.checkpoints()] == [("a.bin", 5, 1)]
    assert [(one.name, one.size) for one in found.artifacts()] == [("b.bin", 5)]
    assert leftovers(live) == []


def test_what_arrives_otherwise_than_it_was_sent_is_not_kept(
    live: Live, home: wb.Workspace, run: wb.Run
) -> None:
    path = f"runs/{run.id}/checkpoints/a.bin"
    wrong = live.ask("PUT", f"{path}?sha256={hashlib.sha256(b'meant').hexdigest()}", content=b"came")
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "BadInput")
    assert live.ask("PUT", path, content=b"came").status_code == 422  # without its checksum
    assert live.ask("PUT", f"{path}?sha256=x", content=b"came").status_code == 422
    assert home.run(run.id).checkpoints() == []
    until(lambda: not leftovers(live))


def test_a_file_is_not_kept_where_a_link_leads(live: Live, home: wb.Workspace, run: wb.Run) -> None:
    elsewhere = live.home / f"elsewhere-{run.id}"
    elsewhere.mkdir()
    folder = home.runs_dir / str(run.id)
    folder.mkdir(exist_ok=True)
    for kind in ("checkpoints", "artifacts"):
        (folder / kind).symlink_to(elsewhere)
        query = f"sha256={hashlib.sha256(b'x').hexdigest()}"
        answer = live.ask("PUT", f"runs/{run.id}/{kind}/a.bin?{query}", content=b"x")
        assert answer.status_code == 409, answer.text
    assert list(elsewhere.iterdir()) == []
    (elsewhere / "a.bin").write_bytes(b"secret")
    home.store.add_artifact(records.Artifact(run_id=run.id, name="a.bin", size=6))
    answer = live.get(f"runs/{run.id}/artifacts/a.bin")
    assert answer.status_code == 409
    assert "secret" not in answer.text


def test_files_and_notebooks_have_limits(tmp_path: Path) -> None:
    flags = ["--WorkbenchServer.most_file_bytes=1000", "--WorkbenchServer.stalled_seconds=3"]
    with live_server(tmp_path / "results", tmp_path / "state", *flags) as live:
        with wb.connect(live.url, live.token) as ws, ws.start_run("e") as run:
            (tmp_path / "small").write_bytes(b"x" * 1000)
            run.log_checkpoint("small.bin", tmp_path / "small")
            for size in (1001, 5 * 2**20):
                (tmp_path / "big").write_bytes(b"x" * size)
                with pytest.raises(wb.TooLarge, match="at most 1,000 bytes"):
                    run.log_checkpoint("big.bin", tmp_path / "big")

            def endless() -> Iterator[bytes]:
                for _ in range(64):
                    yield b"x" * 100

            path = f"{live.api}/runs/{run.id}/artifacts/big.bin?sha256={'0' * 64}"
            with suppress(httpx.TransportError):  # rejected, or cut off
                answer = httpx.put(path, content=endless(), headers=live.headers, timeout=300)
                assert answer.status_code in (400, 413)
            assert [one.name for one in run.checkpoints()] == ["small.bin"]
            assert run.artifacts() == []
            with socket.create_connection(("127.0.0.1", port_of(live)), timeout=300) as connection:
                head = (
                    f"PUT {path.removeprefix(live.url[:-1])} HTTP/1.1\r\nHost: 127.0.0.1:{port_of(live)}\r\n"
                )
                head += f"Authorization: token {live.token}\r\nContent-Length: 900\r\n\r\n"
                connection.sendall(head.encode() + b"x" * 100)  # and then nothing more
                until(lambda: leftovers(live))
                assert connection.recv(1) == b""  # cut off
        until(lambda: not leftovers(live))
        assert live.alive()


def test_a_download_that_breaks_is_no_whole_file(live: Live, home: wb.Workspace, tmp_path: Path) -> None:
    with home.start_run("breaking") as made:
        (tmp_path / "file").write_bytes(os.urandom(3 * 2**20))
        made.log_checkpoint("a.bin", tmp_path / "file")

    class Half(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = httpx.get(live.url.rstrip("/") + self.path, headers=live.headers, timeout=300)
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            half = self.path.endswith("/a.bin")
            self.wfile.write(answer.content[: len(answer.content) // 2] if half else answer.content)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Half) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with wb.connect(f"http://127.0.0.1:{server.server_port}", "t") as ws:
            kept = ws.run(made.id).checkpoint("a.bin")
            with pytest.raises(wb.ServerUnreachable):
                kept.save(tmp_path / "half")
        server.shutdown()
    assert not (tmp_path / "half").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_what_a_killed_server_left_half_way_is_removed_after_a_day(tmp_path: Path) -> None:
    from workbench.server.uploads import Upload

    old, young = tmp_path / "old.part", tmp_path / "young.part"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 100_000,) * 2)
    upload = Upload(tmp_path)
    assert not old.exists()
    assert young.exists()
    upload.discard()
    upload.write(b"too late")
    assert list(tmp_path.iterdir()) == [young]


def test_a_notebook_that_was_sent_runs_where_the_server_runs_and_leaves_no_copy_behind(
    remote: wb.RemoteWorkspace, home: wb.Workspace, tmp_path: Path
) -> None:
    (tmp_path / "here.ipynb").write_text(
        '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', encoding="utf-8"
    )
    job = remote.submit_notebook(tmp_path / "here.ipynb")
    kept = home.store.job(job.id)
    assert kept is not None
    assert kept.source == "here.ipynb"
    assert kept.cwd != str(tmp_path)
    assert list(home.jobs_dir.glob(".sent-*")) == []
    job.cancel()


def test_a_notebook_that_is_too_large_is_told_so(remote: wb.RemoteWorkspace, tmp_path: Path) -> None:
    (tmp_path / "big.ipynb").write_text("x" * (2**24 + 1))
    with pytest.raises(wb.TooLarge, match="over 16 MiB"):
        remote.submit_notebook(tmp_path / "big.ipynb")
