"""What an import leaves out is counted by name, and the times of other tools become seconds."""

from __future__ import annotations

import math

import pytest

from workbench.runs.imports.report import Clock, Report, in_seconds

#: The morning of 2023-11-15, in each unit that a writer may use by mistake.
NOW = 1_700_000_000.25


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9])
def test_a_time_in_a_finer_unit_is_recognised(unit: float) -> None:
    assert in_seconds(NOW * unit) == pytest.approx(NOW)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e21, 1.7e308])
def test_what_is_no_time_in_any_unit_is_none(value: float) -> None:
    assert in_seconds(value) is None


@pytest.mark.parametrize("value", [0.0, 5.0, 1e9, 9.9e10])
def test_seconds_stay_as_they_are(value: float) -> None:
    assert in_seconds(value) == value


def test_a_clock_says_what_it_changed() -> None:
    clock, report = Clock("run/file", 7.0), Report()
    assert [clock.seconds(at) for at in (math.nan, NOW * 1000, math.inf, NOW + 1)] == pytest.approx(
        [7.0, NOW, NOW, NOW + 1]
    )
    clock.tell(report)
    converted, replaced = report.notes
    assert converted == "run/file: 1 times were in a finer unit than seconds and were converted"
    assert "run/file: 2 times are invalid (such as nan)" in replaced
    sound = Clock("x", 0.0)
    sound.seconds(NOW)
    sound.tell(report)
    assert len(report.notes) == 2


def test_a_report_counts_by_name_and_keeps_a_note_once() -> None:
    report = Report()
    for number in (1, 2, 0):
        report.leave_out("images", number)
    report.leave_out("graphs", 0)
    report.leave_out("caf\udce9")
    report.note("a")
    report.note("a")
    assert report.left_out == {"images": 3, "caf\\udce9": 1}
    assert report.notes == ("a",)
