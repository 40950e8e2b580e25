"""Client-only behaviour; what it shares with local workspaces is in test_workspace_contract."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.conftest import installed
from tests.waiting import GUARD, until
from tests.workbench.conftest import Live, job_row, live_server, make_index
from workbench.jobs import job as jobs
from workbench.panels.search.page import search_page
from workbench.panels.search.panel import SearchPanel
from workbench.remote import jobs as remote_jobs
from workbench.remote.door import Door, parse_address


@pytest.fixture(scope="module")
def remote(live: Live) -> Iterator[wb.RemoteWorkspace]:
    with wb.connect(live.url, live.token) as ws:
        yield ws


@pytest.mark.parametrize(
    ("url", "base", "token"),
    [
        ("http://h:8888", "http://h:8888", ""),
        ("http://h:8888/", "http://h:8888", ""),
        ("https://h/user/na/", "https://h/user/na", ""),
        ("http://h:8888/lab?token=abc", "http://h:8888", "abc"),
        ("http://h/user/na/lab/tree/x.ipynb?reset&token=abc", "http://h/user/na", "abc"),
        ("http://h/laboratory/", "http://h/laboratory", ""),
        ("http://h/workbench/api", "http://h", ""),
        (" http://[::1]:1/tree ", "http://[::1]:1", ""),
    ],
)
def test_the_address_of_a_page_will_do(url: str, base: str, token: str) -> None:
    assert parse_address(url) == (base, token)


@pytest.mark.parametrize("url", ["", "localhost:8888", "ftp://h", "http://", "results"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(wb.BadInput, match="not a server URL"):
        wb.connect(url)


def test_a_token_may_stand_in_the_address_or_the_environment(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    with wb.connect(f"{live.url}lab?token={live.token}") as ws:
        assert "words" in ws.index_names()
    monkeypatch.setenv("JUPYTER_TOKEN", live.token)
    with wb.connect(live.url) as ws:
        assert repr(ws) == f"connect({live.url.rstrip('/')!r})"


@pytest.mark.parametrize("token", ["", "wrong"])
def test_without_its_token_a_server_is_closed(
    live: Live, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUPYTER_TOKEN", raising=False)
    with pytest.raises(wb.AccessDenied, match="token"):
        wb.connect(live.url, token)


def test_where_nothing_listens_the_error_says_so() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(wb.ServerUnreachable, match=f"127.0.0.1:{port} does not answer"):
        wb.connect(f"http://127.0.0.1:{port}", "t")


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (404, b"{}"), (500, b"oops"), (200, b""), (404, b'{"message": "x"}')],
)
def test_another_kind_of_server_is_said_to_be_one(status: int, body: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(wb.ServerUnreachable, match=f"HTTP {status}"):
            wb.connect(f"http://127.0.0.1:{server.server_port}", "t")
        server.shutdown()


def test_a_server_that_says_nothing_is_not_waited_for_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = Door(f"http://127.0.0.1:{silent.getsockname()[1]}", "t", 60)
        for ask in (lambda: door.polled("jobs", 0.1), lambda: door.post("jobs", {}, seconds=0.1)):
            with pytest.raises(wb.ServerUnreachable, match="does not answer"):
                ask()
        door.close()
        with pytest.raises(wb.ServerUnreachable, match="was closed"):
            door.get("jobs")


def test_what_has_not_changed_is_not_sent_again(live: Live) -> None:
    with wb.connect(live.url, live.token) as ws, wb.Workspace(live.home) as home:
        sizes: list[tuple[int, int]] = []
        ws.door._http.event_hooks = {
            "response": [lambda answer: sizes.append((answer.status_code, len(answer.read())))]
        }
        first = ws.door.polled("runs/marks", newest=5)
        first["marks"].clear()  # the returned object belongs to the caller
        assert ws.door.polled("runs/marks", newest=5)["marks"]
        assert ws.door.polled("runs/marks", newest=4) != first
        assert [status for status, _ in sizes] == [200, 304, 200]
        assert sizes[1][1] == 0
        with home.start_run("polled") as run:
            pass
        assert str(run.id) in ws.door.polled("runs/marks", newest=5)["marks"]
        for number in range(100, 140):
            ws.door.polled("runs/marks", newest=number)
        assert len(ws.door._answers) == 16


def test_what_needs_the_files_of_the_workspace_says_what_to_do_instead(
    remote: wb.RemoteWorkspace, live: Live
) -> None:
    with wb.Workspace(live.home) as home:
        with home.start_run("files") as made:
            made.log({"m": 1})
            (home.cache / "a").write_bytes(b"1")
            made.log_checkpoint("a.bin", home.cache / "a")
        job_id = job_row(home, "succeeded")
    run, job = remote.run(made.id), remote.job(job_id)
    for attempt in (
        lambda: remote.path,
        lambda: remote.store,
        lambda: remote.indexes,
        lambda: remote.cache,
        lambda: remote.import_mlflow("sqlite:///mlflow.db"),
        lambda: run.folder,
        lambda: run.checkpoint_dir,
        lambda: os.fspath(run.checkpoint("a.bin")),
        lambda: job.folder,
    ):
        with pytest.raises(wb.NotSupported, match="a workspace on a server") as raised:
            attempt()
        assert raised.value.hint
    for handle in (remote, run, job):
        with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
            handle.nonsense  # noqa: B018


def test_a_job_notebook_cannot_log_to_a_workspace_on_a_server(remote: wb.RemoteWorkspace) -> None:
    with pytest.raises(wb.BadInput, match=r"local workspace folder.*connect\("):
        wb.job_scope("eval", "toy", workspace=remote)


def test_a_checkpoint_is_deleted_from_here(remote: wb.RemoteWorkspace, live: Live) -> None:
    with wb.Workspace(live.home) as home, home.start_run("deleting from here") as made:
        (home.cache / "y").write_bytes(b"12")
        made.log_checkpoint("a 가.bin", home.cache / "y")
    run = remote.run(made.id)
    assert isinstance(run, wb.Run)
    with pytest.raises(wb.BadName):
        run.delete_checkpoint("../a")
    run.delete_checkpoint("a 가.bin")
    assert run.checkpoints() == []
    with pytest.raises(wb.NotFound, match="no checkpoint"):
        run.delete_checkpoint("a 가.bin")


def test_an_index_that_breaks_raises_here_what_broke(remote: wb.RemoteWorkspace) -> None:
    searcher = remote.open_search("broken")
    with pytest.raises(wb.SearchFailed, match="SIGSEGV"):
        searcher.by_text("crash")
    assert searcher.by_text("fine")[0].id.startswith("fine")
    with pytest.raises(wb.BadInput, match="not this") as raised:
        searcher.by_text("refuse")
    assert raised.value.hint == "That."


def test_a_search_there_is_filtered(remote: wb.RemoteWorkspace) -> None:
    searcher = remote.open_search("words")
    assert sorted(hit.id for hit in searcher.by_text("dog", filter="letter:d")) == ["dog", "dot"]
    assert [(one.name, one.values) for one in searcher.filter_fields()] == [("letter", [("d", 2), ("강", 2)])]
    with pytest.raises(wb.BadOptions, match="unknown field 'leter'; did you mean 'letter'") as raised:
        searcher.by_text("dog", filter="leter:d")
    assert raised.value.problems[0][0] == "filter"


def test_panels_show_a_workspace_on_a_server(remote: wb.RemoteWorkspace, live: Live) -> None:
    with wb.Workspace(live.home) as home:
        job_id = job_row(home, "succeeded", summary="measured")
        with home.start_run("shown") as run:
            run.log({"m": 1})
    panel = wb.panels.JobsPanel(remote)
    row = next(row for row in panel.state["jobs"] if row["id"] == job_id)
    assert (row["status"], row["summary"]) == ("succeeded", "measured")
    assert panel.state["problem"] is None
    panel.close()
    compared = wb.panels.ComparePanel(remote, [run.id])
    assert compared.state["comparison"]["final"][0]["texts"] == ["1"]
    assert [row["id"] for row in compared.state["runs"] if row["id"] == run.id] == [run.id]
    compared.close()
    page = search_page(remote, "words")
    assert isinstance(page, SearchPanel)
    sent: list[Any] = []
    page.send = lambda content, buffers=None: sent.append(content)
    page._on_message(
        {"type": "search", "seq": 1, "by": "text", "query": "강아지", "k": 20, "options": {}}, []
    )
    assert sent[0]["hits"][0]["id"] == "강아지"
    assert page.setup["by"] == {"text": True, "image": True, "item": False}


def test_a_wait_outlives_a_server_that_is_started_anew(
    tmp_path: Path, toy_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_jobs, "RESTART_SECONDS", 600.0)  # a busy machine takes long to start a server
    home = tmp_path / "results"
    make_index(home, "words")
    ended: list[str] = []
    with installed(toy_package), wb.Workspace(home) as owner:
        job_id = job_row(owner, "running")
        with live_server(home, tmp_path / "one") as first:
            ws = wb.connect(first.url, first.token)
            job = ws.job(job_id)
            seen = threading.Event()

            def wait() -> None:
                ended.append(job.wait(600, on_progress=lambda _: seen.set(), check=False).status)

            waiter = threading.Thread(target=wait)
            waiter.start()
            assert seen.wait(GUARD)
            port = int(first.url.split(":")[2].strip("/"))
        with live_server(home, tmp_path / "two", address=(port, first.token)):
            owner.store.move_job(job_id, expect="running", to="succeeded")
            waiter.join(GUARD)
        ws.close()
    assert ended == ["succeeded"]


def test_waiting_tells_of_every_change(remote: wb.RemoteWorkspace, live: Live) -> None:
    with wb.Workspace(live.home) as owner:
        job_id = job_row(owner, "running")
        job = remote.job(job_id)
        assert isinstance(job, jobs.Job)
        seen: list[tuple[str, float, str]] = []
        error = {"type": "E", "message": "m"}

        def report(now: wb.Job) -> None:
            seen.append((now.status, now.progress.done, now.progress.message))
            if len(seen) == 1:
                owner.store.update_job(job_id, attempt=1, progress_done=2, progress_message="둘")
            elif len(seen) == 2:
                owner.store.move_job(job_id, expect="running", to="failed", error=error)

        with pytest.raises(wb.JobFailed, match="E: m"):
            job.wait(GUARD, on_progress=report)
    assert seen == [("running", 0.0, ""), ("running", 2.0, "둘"), ("failed", 2.0, "둘")]


def test_following_a_log_ends_with_the_job(remote: wb.RemoteWorkspace, live: Live) -> None:
    with wb.Workspace(live.home) as owner:
        job_id = job_row(owner, "running")
        log = owner.job(job_id).folder / "log.txt"
        log.parent.mkdir(parents=True)
        log.write_bytes("하나\n두".encode()[:-1])  # cut within a character
        lines: list[str] = []
        follower = threading.Thread(target=lambda: lines.extend(remote.job(job_id).follow_logs(pause=0.05)))
        follower.start()
        until(lambda: remote.job(job_id).logs() != "")
        with log.open("ab") as more:  # appended: the follower must not find it empty
            more.write("하나\n두울\n셋".encode()[log.stat().st_size :])
        owner.store.move_job(job_id, expect="running", to="succeeded")
        follower.join(GUARD)
    assert lines == ["하나", "두울", "셋"]
