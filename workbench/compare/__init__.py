"""Comparing runs and results: which settings differ, how the curves went, which is best at what.

Pure functions over plain records: nothing here reads a database, knows a metric's name, or guesses. A
metric whose direction nobody declared is shown and never crowned.

``settings``
    Which settings differ, and whose value is the odd one.
``finals``
    Final values with the best marked by the declared direction.
``comparison``
    Both, for some runs beside each other.
``writing``
    The same as CSV, Markdown and LaTeX.
``curves``, ``bootstrap``, ``results``
    Curves made fit for a chart, and results of jobs beside each other. They need numpy and are imported
    by their own names.
"""

from __future__ import annotations

from workbench.compare.comparison import Comparison
from workbench.compare.finals import (
    STATISTICS,
    Better,
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
from workbench.compare.records import ComparedRun, RunRecord
from workbench.compare.settings import MISSING, ConfigRow, config_rows, flatten, groups, setting_text

__all__ = [
    "MISSING",
    "STATISTICS",
    "Better",
    "ComparedRun",
    "Comparison",
    "ConfigRow",
    "DeclaredMetric",
    "FinalRow",
    "RunRecord",
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
