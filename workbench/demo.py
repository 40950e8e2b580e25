"""``workbench demo``: train, evaluate, index and search, with whatever the installed adapter offers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.adapter.contract import BaseAdapter
from workbench.errors import BadInput
from workbench.jobs.job import Job
from workbench.progress import JobProgress
from workbench.workspace import Workspace


def run_demo(
    home: Workspace,
    adapter: BaseAdapter,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Submit the adapter's demo jobs one after another and wait for each.

    Parameters
    ----------
    home : Workspace
        Where; an earlier demo's index is replaced whole, and its runs stay beside the new one.
    adapter : BaseAdapter
        Whose ``demo()`` says what to submit.
    options : mapping, optional
        By job type, options that replace or join those of ``demo()``.
    say : callable
        Takes each sentence for the person who watches.

    Returns
    -------
    dict
        ``workspace``, ``jobs``, ``run``, ``index`` and ``metrics``: what ``--json`` prints.

    Raises
    ------
    BadInput
        Options for a job type that the demo has not.
    JobFailed
        A job failed; the error names its cell, its message and its notebook.
    """
    plan = {kind: dict(given) for kind, given in adapter.demo().items()}
    for kind, given in (options or {}).items():
        if kind not in plan:
            raise BadInput(f"the demo has no job {kind!r}; it has {', '.join(plan)}")
        plan[kind] |= given
    results: dict[str, Any] = {}
    done: list[Job] = []
    with JobProgress(sys.stderr) as shown:
        for kind, given in plan.items():
            job = home.submit(kind, adapter, filled_in(given, results))
            job.wait(on_progress=shown)
            done.append(job)
            results[kind] = job.result.made if job.result else {}
    for job in done:
        say(f"{job.type:<12} {job.seconds or 0:6.1f} s  {job.summary}")
    made = {name: value for result in results.values() for name, value in result.items()}
    metrics: dict[str, float] = {}
    for job in done:
        metrics |= job.result.metrics if job.result else {}
    return {
        "workspace": str(home.path),
        "jobs": [
            {"id": job.id, "type": job.type, "status": job.status, "notebook": str(job.notebook)}
            for job in done
        ],
        "run": {"id": made.get("run")},
        "index": {"name": made.get("index")},
        "metrics": metrics,
    }


def headlines(jobs: Sequence[Job]) -> dict[str, float]:
    """Return the metrics that jobs put first, in their order; all of a job that puts none first."""
    shown: dict[str, float] = {}
    for job in jobs:
        if job.result:
            names = job.result.headline or job.result.metrics
            shown |= {name: job.result.metrics[name] for name in names if name in job.result.metrics}
    return shown


def filled_in(options: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return options with each ``"$type.key"`` replaced by what the earlier job of that type made.

    Raises
    ------
    BadInput
        No earlier job made such a thing.
    """
    out: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            value = filled_in(value, made)
        elif isinstance(value, str) and value.startswith("$"):
            kind, _, key = value[1:].partition(".")
            if key not in made.get(kind, {}):
                known = [f"${kind}.{key}" for kind, things in made.items() for key in things]
                raise BadInput(
                    f"demo option {name}={value!r} refers to nothing that was made. "
                    f"There is: {', '.join(known) or 'nothing yet'}"
                )
            value = made[kind][key]
        out[name] = value
    return out
