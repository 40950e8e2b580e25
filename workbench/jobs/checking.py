"""What is checked before a job is queued or begins: its options, its inputs and its floors.

Every way to begin a job comes here: Python, the command line, panels, HTTP (in the search service, which
loads the adapters) and notebooks that papermill executes. What is wrong is found at once and all together.
"""

from __future__ import annotations

from typing import Any, cast

from workbench.adapter.contract import BaseAdapter, WorkspaceView
from workbench.adapter.options import check_job
from workbench.errors import BadOptions
from workbench.home import Home
from workbench.jobs.floors import check_floors, unknown_metrics


def check_beginning(
    family: BaseAdapter,
    type: str,  # noqa: A002
    options: Any,
    home: Home,
    *,
    floors: Any = None,
) -> tuple[Any, dict[str, float]]:
    """Return a job's options and floors, checked against the adapter and the workspace.

    Parameters
    ----------
    family : BaseAdapter
        The job's adapter.
    type : str
        The job's type.
    options : mapping or model, optional
        Its options.
    home : Home
        The workspace in which it is to run.
    floors : mapping or JSON text, optional
        Minimum values of its result's metrics.

    Returns
    -------
    options : model
        With defaults filled in.
    floors : dict of str to float
        By metric.

    Raises
    ------
    BadOptions
        Something is not valid, is missing or is not a metric of this job; the error lists all problems.
    BadInput, NotSupported
        The adapter does not offer that type.
    """
    minimum = check_floors(floors)
    checked = check_job(family, type, options)
    found = family.find_problems(type, checked, cast(WorkspaceView, home))
    problems = [(str(option), str(problem)) for option, problem in found]
    mistyped = unknown_metrics(minimum, family.metric_names(type, checked)) if minimum else []
    problems += mistyped
    if problems:
        said = "; ".join(f"{option}: {problem}" if option else problem for option, problem in problems)
        listed = f"List the metrics with: workbench metrics {family.name} {type}" if mistyped else ""
        raise BadOptions(f"{family.name} {type}: {said}", problems, advice=listed)
    return checked, minimum
