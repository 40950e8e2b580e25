"""A Jupyter-native workbench: launch jobs, watch and compare runs, search the indexes they build.

The public API is one flat, sorted list of names. Each is imported on first use, so ``import workbench`` is
cheap and loads no array library, web server or widgets.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench import panels
    from workbench.adapter.contract import BaseAdapter, JobContext, WorkspaceView
    from workbench.adapter.options import Options
    from workbench.adapter.registry import adapters, get_adapter
    from workbench.base_workspace import BaseWorkspace
    from workbench.errors import (
        AccessDenied,
        AdapterBroken,
        BadInput,
        BadName,
        BadOptions,
        BelowFloor,
        Busy,
        CorruptFile,
        JobCancelled,
        JobError,
        JobFailed,
        MissingExtra,
        NewerDatabase,
        NotFound,
        NotSupported,
        ReadOnly,
        SearchFailed,
        ServerUnreachable,
        StoreError,
        StoreUnavailable,
        TooLarge,
        UnknownAdapter,
        UnknownArtifact,
        UnknownCheckpoint,
        UnknownExperiment,
        UnknownIndex,
        UnknownJob,
        UnknownRun,
        WorkbenchError,
        WrongState,
    )
    from workbench.host.files import write_whole
    from workbench.host.processes import crash_point
    from workbench.jobs.job import Job
    from workbench.panels.results.show import show
    from workbench.remote.workspace import RemoteWorkspace, connect
    from workbench.results.explanation import Explanation, Side, Term
    from workbench.results.hits import Hit, SampleQuery, SearchResult
    from workbench.results.result import Metric, Result, Samples, View
    from workbench.runs.run import Run
    from workbench.scope import JobScope, job_scope, start_job
    from workbench.search.filters import Condition, Filter, FilterField, FilterValue, parse_filter
    from workbench.search.searcher import Searcher
    from workbench.workspace import Workspace

_HOMES = {
    "AccessDenied": "errors",
    "AdapterBroken": "errors",
    "BadInput": "errors",
    "BadName": "errors",
    "BadOptions": "errors",
    "BaseAdapter": "adapter.contract",
    "BaseWorkspace": "base_workspace",
    "BelowFloor": "errors",
    "Busy": "errors",
    "Condition": "search.filters",
    "CorruptFile": "errors",
    "Explanation": "results.explanation",
    "Filter": "search.filters",
    "FilterField": "search.filters",
    "FilterValue": "search.filters",
    "Hit": "results.hits",
    "Job": "jobs.job",
    "JobCancelled": "errors",
    "JobContext": "adapter.contract",
    "JobError": "errors",
    "JobFailed": "errors",
    "JobScope": "scope",
    "Metric": "results.result",
    "MissingExtra": "errors",
    "NewerDatabase": "errors",
    "NotFound": "errors",
    "NotSupported": "errors",
    "ReadOnly": "errors",
    "Options": "adapter.options",
    "RemoteWorkspace": "remote.workspace",
    "Result": "results.result",
    "Run": "runs.run",
    "SampleQuery": "results.hits",
    "Samples": "results.result",
    "SearchFailed": "errors",
    "SearchResult": "results.hits",
    "Searcher": "search.searcher",
    "ServerUnreachable": "errors",
    "Side": "results.explanation",
    "StoreError": "errors",
    "StoreUnavailable": "errors",
    "Term": "results.explanation",
    "TooLarge": "errors",
    "UnknownAdapter": "errors",
    "UnknownArtifact": "errors",
    "UnknownCheckpoint": "errors",
    "UnknownExperiment": "errors",
    "UnknownIndex": "errors",
    "UnknownJob": "errors",
    "UnknownRun": "errors",
    "View": "results.result",
    "WorkbenchError": "errors",
    "Workspace": "workspace",
    "WorkspaceView": "adapter.contract",
    "WrongState": "errors",
    "adapters": "adapter.registry",
    "connect": "remote.workspace",
    "crash_point": "host.processes",
    "get_adapter": "adapter.registry",
    "job_scope": "scope",
    "panels": "",
    "parse_filter": "search.filters",
    "show": "panels.results.show",
    "start_job": "scope",
    "write_whole": "host.files",
}

__all__ = [
    "AccessDenied",
    "AdapterBroken",
    "BadInput",
    "BadName",
    "BadOptions",
    "BaseAdapter",
    "BaseWorkspace",
    "BelowFloor",
    "Busy",
    "Condition",
    "CorruptFile",
    "Explanation",
    "Filter",
    "FilterField",
    "FilterValue",
    "Hit",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobError",
    "JobFailed",
    "JobScope",
    "Metric",
    "MissingExtra",
    "NewerDatabase",
    "NotFound",
    "NotSupported",
    "Options",
    "ReadOnly",
    "RemoteWorkspace",
    "Result",
    "Run",
    "SampleQuery",
    "Samples",
    "SearchFailed",
    "SearchResult",
    "Searcher",
    "ServerUnreachable",
    "Side",
    "StoreError",
    "StoreUnavailable",
    "Term",
    "TooLarge",
    "UnknownAdapter",
    "UnknownArtifact",
    "UnknownCheckpoint",
    "UnknownExperiment",
    "UnknownIndex",
    "UnknownJob",
    "UnknownRun",
    "View",
    "WorkbenchError",
    "Workspace",
    "WorkspaceView",
    "WrongState",
    "adapters",
    "connect",
    "crash_point",
    "get_adapter",
    "job_scope",
    "panels",
    "parse_filter",
    "show",
    "start_job",
    "write_whole",
]

__version__ = "0.2.0"

# Processes of older versions start their helpers by the names of that time.
__path__.append(f"{__path__[0]}/_former")


if not TYPE_CHECKING:  # type checkers see only the names above, so they report misspelled ones

    def __getattr__(name: str) -> Any:
        try:
            home = _HOMES[name]
        except KeyError:
            raise AttributeError(f"module 'workbench' has no attribute {name!r}") from None
        if not home:
            return importlib.import_module(f"workbench.{name}")
        value = getattr(importlib.import_module(f"workbench.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
