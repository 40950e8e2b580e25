"""The fault suite: ``pytest tests/faults`` in its short form, ``--long`` for the long one."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.faults.report import Report

_REPORT = Report()


@pytest.fixture
def long_form(request: pytest.FixtureRequest) -> bool:
    """Whether ``--long`` was given."""
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture(scope="session")
def report() -> Report:
    """What was broken, for the lines at the end."""
    return _REPORT


@pytest.fixture(scope="session")
def unshare() -> list[str]:
    """The command that gives a process its own mounts and host name, and makes it root there.

    Where the system does not allow that, a test that needs it is skipped; with
    ``WORKBENCH_REQUIRE_UNSHARE=1``, which CI sets, it fails instead.
    """
    command = ["unshare", "--user", "--map-root-user", "--mount", "--uts"]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=20, check=False)
        message = tried.stderr.strip() if tried.returncode else ""
    except OSError as error:
        message = str(error)
    if message:
        message = f"no namespaces of a user's own here: {message}"
        if os.environ.get("WORKBENCH_REQUIRE_UNSHARE") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return command


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was broken, and what came of it."""
    for line in _REPORT.lines():
        terminalreporter.write_line(line)
