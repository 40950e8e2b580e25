"""The fault suite: ``pytest tests/faults`` in its short form, ``--long`` for the long one."""

from __future__ import annotations

from collections import Counter

import pytest

_KILLS: list[str] = []


@pytest.fixture
def long_form(request: pytest.FixtureRequest) -> bool:
    """Whether ``--long`` was given."""
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture
def record_kills() -> list[str]:
    """What was killed, for the report at the end."""
    return _KILLS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how much was broken."""
    if _KILLS:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(_KILLS).items()))
        terminalreporter.write_line(f"faults: {len(_KILLS)} full-stack kills ({kinds})")
