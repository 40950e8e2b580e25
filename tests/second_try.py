"""A second try of slow tests, where the environment variable ``WORKBENCH_SECOND_TRY`` is set, as in CI.

A machine that stands still for seconds may fail a test of many processes that has nothing wrong with it, and
one of thousands is enough to fail the whole run. Each test that needed a second try is named at the end, with
what went wrong: it, or the program, depends on the machine's pace.
"""

from __future__ import annotations

import os

import pytest

VARIABLE = "WORKBENCH_SECOND_TRY"

HEADING = "needed a second try: a fault to mend, in the test or in the program"


def allow(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each test that is marked slow fail once, if the variable is set; the others get one try."""
    if not os.environ.get(VARIABLE):
        return
    if not config.pluginmanager.hasplugin("rerunfailures"):
        raise pytest.UsageError(
            f'{VARIABLE} is set, but pytest-rerunfailures is missing: pip install -e ".[test]"'
        )
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.flaky(reruns=1))


def summarize(reporter: pytest.TerminalReporter) -> None:
    """Name the tests that needed a second try, and show how each of them failed at first."""
    failures: dict[str, list[pytest.TestReport]] = {}
    for report in reporter.stats.get("rerun", ()):
        failures.setdefault(report.nodeid, []).append(report)
    if not failures:
        return
    reporter.write_sep("=", HEADING, yellow=True, bold=True)
    for name, reports in failures.items():
        for report in reports:
            reporter.write_sep("_", f"{report.when} of {name}")
            reporter.write_line(report.longreprtext)
            for title, text in report.sections:
                reporter.write_sep("-", title)
                reporter.write_line(text)
    for name in failures:
        reporter.write_line(f"SECOND TRY {name}")
