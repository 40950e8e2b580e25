"""Comparing runs and results: differences in settings, curves, and the best final values.

Pure functions over plain records: nothing here reads a database, depends on a metric's name, or guesses. A
metric without a declared direction is shown, but no value is marked as best.

``settings``
    Which settings differ, and which values are the odd ones.
``finals``
    Final values, with the best marked by the declared direction.
``comparison``
    Both, side by side for several runs.
``writing``
    The same as CSV, Markdown and LaTeX.
``curves``, ``bootstrap``, ``results``
    Curves prepared for a chart, and results of jobs side by side. They need numpy and must be imported as
    submodules.
"""

from __future__ import annotations

from workbench.compare.comparison import Comparison
from workbench.compare.finals import (
    STATISTICS,
    DeclaredMetric,
    FinalRow,
    best_marks,
    cell_number,
    declared,
    delta_text,
    final_rows,
    metric_order,
    number_text,
)
from workbench.compare.records import ComparedRun, RunSnapshot
from workbench.compare.settings import MISSING, ConfigRow, config_rows, flatten, groups, setting_text
from workbench.results.result import Better

__all__ = [
    "MISSING",
    "STATISTICS",
    "Better",
    "ComparedRun",
    "Comparison",
    "ConfigRow",
    "DeclaredMetric",
    "FinalRow",
    "RunSnapshot",
    "best_marks",
    "cell_number",
    "config_rows",
    "declared",
    "delta_text",
    "final_rows",
    "flatten",
    "groups",
    "metric_order",
    "number_text",
    "setting_text",
]
