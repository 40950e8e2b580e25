"""``workbench serve`` keeps its server running: it starts one that ended again, and gives up in the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

import workbench as wb
from tests.workbench.conftest import until
from workbench.commands import serve
from workbench.publish import page

URL = "http://127.0.0.1:8123/"


class Server:
    """A server that has ended already, with a code; with None, the user presses Ctrl-C."""

    def __init__(self, code: int | None) -> None:
        self.code, self.terminated = code, False

    def wait(self, _seconds: float = 0) -> int:
        if self.code is None and not self.terminated:
            raise KeyboardInterrupt
        return self.code or 0

    def terminate(self) -> None:
        self.terminated = True


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; the clock stands still except for them."""
    made: list[float] = []
    monkeypatch.setattr(serve.time, "sleep", made.append)
    monkeypatch.setattr(serve.time, "monotonic", lambda: sum(made))
    monkeypatch.setattr(serve.signal, "signal", lambda *_: None)
    return made


def served(
    monkeypatch: pytest.MonkeyPatch, workspace: wb.Workspace, *servers: Server | Exception
) -> tuple[int, list[dict[str, Any]]]:
    """Serve with these servers, one after the other; return the exit code and what each was started with."""
    calls: list[dict[str, Any]] = []
    left = list(servers)

    def start(
        _home: Path, index: str, port: int, open_browser: bool = False, **more: Any
    ) -> tuple[Server, str]:
        calls.append({"index": index, "port": port, "open": open_browser, **more})
        server = left.pop(0)
        if isinstance(server, Exception):
            raise server
        return server, URL

    monkeypatch.setattr(page, "serve", start)
    return serve.serve_index(workspace, "words", 0, True, host_names=["a.example"]), calls


def test_a_server_that_ends_is_started_again_at_its_address(
    workspace: wb.Workspace,
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    last = Server(None)
    failure = wb.WorkbenchError("the page's server did not answer within 60 s. Its log ends with:\nx")
    code, calls = served(monkeypatch, workspace, Server(-9), failure, last)
    assert code == 0
    assert pauses == [1, 2]
    assert last.terminated
    again = {"index": "words", "port": 8123, "open": False, "host_names": ["a.example"]}
    again |= {"show_paths": False, "new_log": False}
    assert calls[1:] == [again, again]
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "started again in" in line] == [
        f"The page's server was killed by SIGKILL. It is started again in 1 s. "
        f"See its log: {page.log_path(workspace.path)}",
        "The page's server could not be started again (the page's server did not answer within 60 s). "
        f"It is started again in 2 s. See its log: {page.log_path(workspace.path)}",
    ]
    assert lines[-1] == f"The search page is at {URL} again"


def test_it_gives_up_after_some_tries(
    workspace: wb.Workspace,
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, calls = served(monkeypatch, workspace, *(Server(3) for _ in range(serve.RESTARTS + 1)))
    assert code == 1
    assert pauses == [1, 2, 4, 8, 16]
    assert len(calls) == serve.RESTARTS + 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: the page's server ended with code 3; it ended 6 times within 10 min")


def test_servers_that_ran_long_are_started_again_for_ever(
    workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    class Long(Server):
        def wait(self, seconds: float = 0) -> int:
            pauses.append(serve.WITHIN_SECONDS)
            return super().wait(seconds)

    code, _ = served(monkeypatch, workspace, *(Long(-9) for _ in range(20)), Server(None))
    assert code == 0
    assert {pause for pause in pauses if pause != serve.WITHIN_SECONDS} == {1}


def test_the_page_of_a_killed_server_is_back_and_a_signal_ends_all(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workbench.cli", "--workspace", str(tmp_path / "home"), "serve"]
    wb.Workspace(tmp_path / "home").close()
    with (tmp_path / "said").open("w") as out:
        process = subprocess.Popen(command, stderr=out)
    with process:

        def said() -> str:
            assert process.poll() is None
            return (tmp_path / "said").read_text()

        until(lambda: "Ctrl-C" in said())
        (server,) = psutil.Process(process.pid).children()
        os.kill(server.pid, signal.SIGKILL)
        until(lambda: " again\n" in said())
        url = re.findall(r"page is at (\S+) again", said())[0]
        assert f"page is at {url}\n" in said()
        with urllib.request.urlopen(url + page.HEALTH_PATH, timeout=300) as answer:  # noqa: S310  # our own server
            assert answer.status == 200
        (server,) = psutil.Process(process.pid).children()
        process.terminate()
        assert process.wait(300) == 0
        assert not server.is_running()
    assert "was killed by SIGKILL. It is started again in 1 s." in (tmp_path / "said").read_text()
