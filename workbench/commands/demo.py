"""``workbench demo``."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, in_workspace, options, takes_adapter, takes_port
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table, say
from workbench.commands.serve import serve_index
from workbench.errors import BadInput, NotSupported
from workbench.text import short_number

if TYPE_CHECKING:
    from workbench.adapter.contract import BaseAdapter
    from workbench.base_workspace import BaseWorkspace
    from workbench.jobs.job import Job
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the command."""
    about = "Train, evaluate, build an index and publish the search page, on real data."
    demo = command(commands, "demo", in_workspace(_demo, creates=True), about)
    takes_adapter(demo)
    demo.add_argument(
        "--option",
        "-o",
        metavar="TYPE.NAME=VALUE",
        action="append",
        default=[],
        help="an option of one of its jobs, such as train.steps=100; repeatable",
    )
    demo.add_argument(
        "--collection", metavar="SOURCE", default="", help="data to use instead of the adapter's own"
    )
    demo.add_argument("--no-serve", dest="serve", action="store_false", help="do not serve the search page")
    takes_port(demo)


def _demo(home: Workspace, args: argparse.Namespace) -> int:
    from workbench.adapter.registry import get_adapter

    adapter = get_adapter(args.adapter)
    show = say if args.json else print
    show(f"Running the demo of {adapter.title or adapter.name} in {home.path}")
    outcome = run_demo(home, adapter, options=_by_type(args), collection=args.collection, say=show)
    if args.json:
        print_document(outcome)
    else:
        shown = headlines([home.job(job["id"]) for job in outcome["jobs"]])
        if shown:
            print_table(("metric", "value"), [(k, short_number(v)) for k, v in shown.items()])
        show("Reports (the executed notebooks):")
        for job in outcome["jobs"]:
            show(f"  {job['type']:<12} {job['notebook']}")
    if args.serve and outcome["index"]["name"]:
        return serve_index(home, outcome["index"]["name"], args.port, args.open)
    return DONE


def _by_type(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return the options of ``--option TYPE.k=v …`` by job type."""
    out: dict[str, dict[str, Any]] = {}
    for name, value in options(args.option).items():
        kind, dot, option = name.partition(".")
        if not dot or not option:
            raise BadInput(
                f"--option must be TYPE.NAME=VALUE, got {name}=…",
                hint="For example: --option train.steps=100",
            )
        out.setdefault(kind, {})[option] = value
    return out


def run_demo(
    home: BaseWorkspace,
    adapter: BaseAdapter,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    collection: str = "",
    say: Callable[[str], object] = print,
) -> dict[str, Any]:
    """Submit the adapter's demo jobs one after another and wait for each.

    Parameters
    ----------
    home : BaseWorkspace
        Where the jobs run; the index of an earlier demo is replaced, and its runs are kept.
    adapter : BaseAdapter
        Its ``demo()`` returns the jobs to submit.
    options : mapping, optional
        Options by job type, which override or extend those of ``demo()``.
    collection : str
        Data to use instead of the adapter's own.
    say : callable
        Called with each progress message for the user.

    Returns
    -------
    dict
        ``workspace``, ``jobs``, ``run``, ``index`` and ``metrics``, as ``--json`` prints them.

    Raises
    ------
    BadInput
        Options for a job type that the demo does not have.
    NotSupported
        ``collection`` is given, and the adapter's demo takes none.
    JobFailed
        A job failed; the error names its cell, its message and its notebook.
    """
    from workbench.commands.progress import JobProgress

    if collection and "collection" not in inspect.signature(adapter.demo).parameters:
        raise NotSupported(adapter.name, "a demo with --collection")
    jobs = adapter.demo(collection) if collection else adapter.demo()
    plan = {kind: dict(values) for kind, values in jobs.items()}
    for kind, values in (options or {}).items():
        if kind not in plan:
            raise BadInput(f"the demo has no job {kind!r}; it has: {', '.join(plan)}")
        plan[kind] |= values
    results: dict[str, Any] = {}
    done: list[Job] = []
    with JobProgress(sys.stderr) as shown:
        for kind, values in plan.items():
            job = home.submit(kind, adapter, filled_in(values, results))
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
        "workspace": home.location,
        "jobs": [
            {"id": job.id, "type": job.type, "status": job.status, "notebook": str(job.notebook)}
            for job in done
        ],
        "run": {"id": made.get("run")},
        "index": {"name": made.get("index")},
        "metrics": metrics,
    }


def headlines(jobs: Sequence[Job]) -> dict[str, float]:
    """Return the headline metrics of jobs, in order; all metrics of a job that declares no headline."""
    shown: dict[str, float] = {}
    for job in jobs:
        if job.result:
            names = job.result.headline or job.result.metrics
            shown |= {name: job.result.metrics[name] for name in names if name in job.result.metrics}
    return shown


def filled_in(options: Mapping[str, Any], made: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return options with each ``"$type.key"`` replaced by that output of the earlier job of that type.

    Raises
    ------
    BadInput
        No earlier job has that output.
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
                    f"demo option {name}={value!r}: no earlier job has this output. "
                    f"Available: {', '.join(known) or 'none yet'}"
                )
            value = made[kind][key]
        out[name] = value
    return out
