"""What remains of a run when its process is terminated or killed, with real processes and signals."""

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import workbench as wb
from tests.conftest import with_database
from tests.waiting import until

#: What the documentation says may be missing after SIGKILL, in seconds.
LOST_SECONDS = 0.5

_BEGIN = """
import os, signal, sys, threading, time
import workbench as wb

def log_thousand(run):
    for step in range(1000):
        run.log({"m": step, "n": 0.5}, step=step)

def ready():
    # Not print: the signal may arrive during it, and then the handler cannot print.
    os.write(1, b"ready\\n")

def wait():
    ready()
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        time.sleep(0.01)
"""

PLAIN = """
run = wb.Workspace(sys.argv[1]).start_run("e")
log_thousand(run)
wait()
"""


@contextmanager
def program(body: str, home: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a program and yield it when it reports that it is ready."""
    command = [sys.executable, "-c", _BEGIN + textwrap.dedent(body), str(with_database(home))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            assert process.stdout is not None
            output = process.stdout.readline()
            assert output == "ready\n", output + (process.stderr.read() if process.stderr else "")
            yield process
        finally:
            process.kill()


def terminated(body: str, home: Path) -> tuple[int, str]:
    """Run a program until it is ready, send SIGTERM at once; return its exit code and later output."""
    with program(body, home) as process:
        process.send_signal(signal.SIGTERM)
        output, complaints = process.communicate(timeout=300)
        assert "Traceback" not in complaints, complaints
        return process.returncode, output


def outcome(home: Path) -> dict[str, Any]:
    with wb.Workspace(home) as space:
        return space.run(1).outcome


def counts(home: Path) -> list[int]:
    return [row["count"] for row in outcome(home)["metrics"].values()]


def test_a_process_told_to_end_writes_everything_and_ends_by_the_signal(tmp_path: Path) -> None:
    code, _ = terminated(PLAIN, tmp_path)
    assert code == -signal.SIGTERM  # as without the workbench
    assert counts(tmp_path) == [1000, 1000]
    found = outcome(tmp_path)
    assert found["status"] == "failed"
    assert found["error"]["type"] == "Terminated"


@pytest.mark.parametrize(
    ("body", "code", "says", "status"),
    [
        pytest.param(
            """
            def mine(number, frame):
                os.write(1, b"mine\\n")
                sys.exit(7)
            signal.signal(signal.SIGTERM, mine)
            run = wb.Workspace(sys.argv[1]).start_run("e")
            log_thousand(run)
            wait()
            """,
            7,
            "mine\n",
            "lost",
            id="exits",
        ),
        pytest.param(
            """
            def mine(number, frame):
                os.write(1, b"mine\\n")
                os._exit(7)
            signal.signal(signal.SIGTERM, mine)
            run = wb.Workspace(sys.argv[1]).start_run("e")
            log_thousand(run)
            wait()
            """,
            7,
            "mine\n",
            "lost",
            id="exits without a word",
        ),
        pytest.param(
            """
            received = threading.Event()
            signal.signal(signal.SIGTERM, lambda number, frame: received.set())
            with wb.Workspace(sys.argv[1]).start_run("e") as run:
                log_thousand(run)
                ready()
                assert received.wait(300)
                run.log({"m": 1.0})
            print("went on", flush=True)
            """,
            0,
            "went on\n",
            "succeeded",
            id="lets it go on",
        ),
        pytest.param(
            """
            home = wb.Workspace(sys.argv[1])
            before = signal.getsignal(signal.SIGTERM)
            def mine(number, frame):
                os.write(1, b"mine\\n")
                before(number, frame)
            signal.signal(signal.SIGTERM, mine)
            run = home.start_run("e")
            log_thousand(run)
            wait()
            """,
            -signal.SIGTERM,
            "mine\n",
            "failed",
            id="was set after ours and calls it",
        ),
        pytest.param(
            """
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with wb.Workspace(sys.argv[1]).start_run("e") as run:
                log_thousand(run)
                ready()
                time.sleep(0.2)
            print("ignored", flush=True)
            """,
            0,
            "ignored\n",
            "succeeded",
            id="ignores it",
        ),
    ],
)
def test_a_handler_of_the_users_own_is_called_and_nothing_is_lost(
    tmp_path: Path, body: str, code: int, says: str, status: str
) -> None:
    assert terminated(body, tmp_path) == (code, says)
    found = outcome(tmp_path)
    assert found["metrics"]["n"]["count"] == 1000
    assert found["status"] == status


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            """
            home = wb.Workspace(sys.argv[1])
            thread = threading.Thread(target=lambda: (log_thousand(home.start_run("e")), wait()))
            thread.start()
            thread.join()
            """,
            id="a thread logs while the main one waits for it",
        ),
        pytest.param(
            """
            home = wb.Workspace(sys.argv[1])
            run = home.start_run("e")
            def loop():
                log_thousand(run)
                ready()
                while True: run.log({"other": 1.0})
            threading.Thread(target=loop, daemon=True).start()
            while True: time.sleep(60)
            """,
            id="a thread goes on logging",
        ),
    ],
)
def test_what_threads_logged_is_written(tmp_path: Path, body: str) -> None:
    code, _ = terminated(body, tmp_path)
    assert code == -signal.SIGTERM
    assert counts(tmp_path)[:2] == [1000, 1000]
    assert outcome(tmp_path)["status"] == "failed"


def test_where_only_a_thread_knows_of_the_workspace_nothing_stays_in_the_queue(tmp_path: Path) -> None:
    # A thread cannot catch signals, so the points are written before a signal could be sent.
    body = """
    def work():
        run = wb.Workspace(sys.argv[1]).start_run("e")
        log_thousand(run)
        ready()
        time.sleep(600)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    """
    with program(body, tmp_path) as process, wb.Workspace(tmp_path) as home:
        until(lambda: (home.store.summary_table([1])[1].get("n") or {}).get("count") == 1000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == -signal.SIGTERM
        assert home.run(1).status == "lost"


def test_a_signal_in_the_middle_of_a_transaction_waits_for_its_end(tmp_path: Path) -> None:
    body = """
    from sqlalchemy import event
    home = wb.Workspace(sys.argv[1])
    run = home.start_run("e")
    log_thousand(run)
    ready()
    def kill(*_):
        if threading.current_thread() is threading.main_thread():
            os.kill(os.getpid(), signal.SIGTERM)
    event.listen(home.store._engine, "after_cursor_execute", kill)
    home.store.change_run(1, notes="written")
    wait()
    """
    with program(body, tmp_path) as process:
        assert process.wait(300) == -signal.SIGTERM
    with wb.Workspace(tmp_path) as home:
        assert home.run(1).notes == "written"
    assert counts(tmp_path) == [1000, 1000]
    assert outcome(tmp_path)["status"] == "failed"


def test_a_forked_child_writes_nothing_of_its_parents(tmp_path: Path) -> None:
    body = """
    home = wb.Workspace(sys.argv[1])
    run = home.start_run("e")
    log_thousand(run)
    child = os.fork()
    if not child:
        run.log({"child": 1.0}, step=0)
        sys.exit(0)
    os.waitpid(child, 0)
    assert run.status == "running"
    wait()
    """
    terminated(body, tmp_path)
    found = outcome(tmp_path)["metrics"]
    assert {name: row["count"] for name, row in found.items()} == {"m": 1000, "n": 1000, "child": 1}


def test_a_run_left_open_in_a_workspace_that_was_closed_does_not_stay_running(tmp_path: Path) -> None:
    body = """
    with wb.Workspace(sys.argv[1]) as home:
        log_thousand(home.start_run("e"))
    ready()
    """
    with program(body, tmp_path) as process:
        process.wait(300)
    with wb.Workspace(tmp_path) as home:
        assert home.store.runs()[0].status == "lost"
    assert counts(tmp_path) == [1000, 1000]


@pytest.mark.parametrize(
    ("ending", "status", "kind"),
    [
        ("", "lost", "Lost"),
        ("raise SystemExit(3)", "lost", "Lost"),
        ("1 / 0", "failed", "ZeroDivisionError"),
        ("raise KeyboardInterrupt", "cancelled", "KeyboardInterrupt"),
    ],
)
def test_a_run_left_open_by_a_process_that_exits_does_not_stay_running(
    tmp_path: Path, ending: str, status: str, kind: str
) -> None:
    body = f"run = wb.Workspace(sys.argv[1]).start_run('e')\nlog_thousand(run)\nready()\n{ending}\n"
    with program(body, tmp_path) as process:
        process.wait(300)
    with wb.Workspace(tmp_path) as home:
        (row,) = home.store.runs()  # as stored, before it is settled
        assert row.status == status
        assert row.error is not None
        assert row.error["type"] == kind
    assert counts(tmp_path) == [1000, 1000]


def killed(home: Path, after: float) -> float:
    """Kill a process that logs continuously; return how many seconds of its values are missing."""
    body = """
    run = wb.Workspace(sys.argv[1]).start_run("e")
    run.log({"m": 0.0})
    run.flush()
    ready()
    while True:
        run.log({"m": time.time()})
        print(time.time(), flush=True)
        time.sleep(0.001)
    """
    with program(body, home) as process:
        assert process.stdout is not None
        first = last = float(process.stdout.readline())
        while last - first < after:  # long enough for some batches
            last = float(process.stdout.readline())
        process.kill()
        *whole, _ = process.stdout.read().split("\n")  # the last line may be cut
        last = float(whole[-1]) if whole else last
    with wb.Workspace(home) as space:
        run = space.run(1)
        assert run.status == "lost"
        assert run.outcome["error"]["type"] == "Lost"
        points = run.metric_points("m")
    # The logged points are in order and without a gap, up to the last one.
    assert [step for step, _, _ in points] == list(range(len(points)))
    return last - points[-1][2] if len(points) > 1 else float("inf")


def test_a_killed_process_loses_half_a_second_at_most_and_its_run_is_lost(tmp_path: Path) -> None:
    # On a busy machine a single commit may take longer, so there are several kills.
    missing = []
    for number in range(6):
        missing.append(killed(tmp_path / str(number), 0.4 + 0.3 * number))
        if missing[-1] <= LOST_SECONDS:
            return
    pytest.fail(f"seconds that were missing after each kill: {missing}")


def test_the_handler_that_was_there_is_there_again_when_the_workspace_is_closed(tmp_path: Path) -> None:
    def mine(number: int, frame: object) -> None:
        """Never called."""

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with wb.Workspace(tmp_path / "a"), wb.Workspace(tmp_path / "b"):
            assert signal.getsignal(signal.SIGTERM) is not mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("busy", [False, True])
def test_a_kernel_that_is_told_to_end_loses_nothing(tmp_path: Path, busy: bool) -> None:
    from jupyter_client.manager import KernelManager

    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.blocking_client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=300)
        cell = (
            f"import time, workbench as wb\nrun = wb.Workspace({json.dumps(str(tmp_path))}).start_run('e')\n"
            "for step in range(1000): run.log({'m': step, 'n': 0.5}, step=step)\nprint('ready')\n"
        )
        client.execute(cell + ("while True: time.sleep(0.01)\n" if busy else ""))
        while True:
            message = client.get_iopub_msg(timeout=300)
            assert message["msg_type"] != "error", message["content"]
            if "ready" in str(message["content"].get("text", "")):
                break
        process: Any = manager.provisioner.process  # type: ignore[union-attr]
        process.send_signal(signal.SIGTERM)
        process.wait(300)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert counts(tmp_path) == [1000, 1000]
    assert outcome(tmp_path)["status"] == "failed"
