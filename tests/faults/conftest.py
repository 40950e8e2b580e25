"""The fault suite: ``pytest tests/faults`` in its short form, ``--long`` for the long one."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.faults.report import REPORT, Report


@pytest.fixture
def long_form(request: pytest.FixtureRequest) -> bool:
    """Whether ``--long`` was given."""
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture(scope="session")
def report() -> Report:
    """What was broken, for the lines at the end."""
    return REPORT


def _namespaces(*given: str) -> list[str]:
    """Return a command that runs another one in namespaces of its own.

    Where the system does not allow that, a test that needs it is skipped; with
    ``WORKBENCH_REQUIRE_UNSHARE=1``, which CI sets, it fails instead.
    """
    command = ["unshare", *given]
    try:
        tried = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=300, check=False)
        message = tried.stderr.strip() if tried.returncode else ""
    except OSError as error:
        message = str(error)
    if message:
        message = f"no namespaces of a test's own here: {message}"
        if os.environ.get("WORKBENCH_REQUIRE_UNSHARE") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return command


@pytest.fixture(scope="session")
def own_mounts() -> list[str]:
    """The command under which a process may mount a file system that nobody else sees."""
    return _namespaces("--user", "--map-root-user", "--mount")


@pytest.fixture(scope="session")
def other_host() -> list[str]:
    """The command under which a process believes to be on another host."""
    # Root in a user namespace of its own would be a stranger to the server's socket.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [*_namespaces(*user, "--uts"), "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
