"""Notebook panels for jobs, runs and search, and the rendering of results.

Each panel is a widget class with plain JavaScript and CSS files in the same folder; there is no build step.
Classes are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.panels.compare.panel import ComparePanel
    from workbench.panels.data.panel import DataPanel
    from workbench.panels.jobs.panel import JobsPanel
    from workbench.panels.results.html import figure
    from workbench.panels.results.live import LiveCurves
    from workbench.panels.results.panel import ResultsComparePanel
    from workbench.panels.results.plots import save_figures
    from workbench.panels.results.show import render_html, show
    from workbench.panels.search.page import search_page
    from workbench.panels.search.panel import SearchPanel

_MODULES = {
    "ComparePanel": "compare.panel",
    "DataPanel": "data.panel",
    "JobsPanel": "jobs.panel",
    "LiveCurves": "results.live",
    "ResultsComparePanel": "results.panel",
    "SearchPanel": "search.panel",
    "figure": "results.html",
    "render_html": "results.show",
    "save_figures": "results.plots",
    "search_page": "search.page",
    "show": "results.show",
}

__all__ = [
    "ComparePanel",
    "DataPanel",
    "JobsPanel",
    "LiveCurves",
    "ResultsComparePanel",
    "SearchPanel",
    "figure",
    "render_html",
    "save_figures",
    "search_page",
    "show",
]


if not TYPE_CHECKING:  # for a type checker the names above are all there are, so a slip is seen

    def __getattr__(name: str) -> Any:
        try:
            module = _MODULES[name]
        except KeyError:
            raise AttributeError(f"module 'workbench.panels' has no attribute {name!r}") from None
        value = getattr(importlib.import_module(f"workbench.panels.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
