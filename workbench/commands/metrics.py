"""``workbench metrics ADAPTER TASK``."""

from __future__ import annotations

import argparse
import fnmatch
from typing import Any

from workbench.commands.arguments import command, completed_by, options, takes_options
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table, show
from workbench.errors import NotSupported


def add(commands: Any) -> None:
    """Add the command."""
    about = "List the metrics that a job's result can have: those that --fail-below and comparisons name."
    metrics = command(commands, "metrics", _metrics, about)
    completed_by(metrics.add_argument("adapter", metavar="ADAPTER", help="name of the adapter"), _adapters)
    task = metrics.add_argument("task", metavar="TASK", help="type of the job, such as train or eval")
    completed_by(task, _tasks)
    takes_options(metrics, lambda args: str(args.task))
    metrics.add_argument(
        "--like", metavar="PATTERN", default="*", help="only those of this pattern, such as 't2i/*@128'"
    )


def _metrics(args: argparse.Namespace) -> int:
    from workbench.adapter.options import check_options
    from workbench.adapter.registry import get_adapter
    from workbench.runs.description import direction_of

    adapter = get_adapter(args.adapter)
    names = adapter.metric_names(args.task, check_options(adapter, args.task, options(args.option)))
    if names is None:
        raise NotSupported(
            adapter.name,
            "metric_names",
            hint="It does not say which metrics its results have. Run one; jobs show lists its metrics.",
        )
    directions = [(metric.name, metric.better) for metric in adapter.metrics if metric.better]
    kept = [name for name in names if fnmatch.fnmatchcase(name, args.like)]
    rows = [{"name": name, "better": direction_of(name, directions) or ""} for name in kept]
    if args.json:
        print_document({"adapter": adapter.name, "task": args.task, "metrics": rows})
        return DONE
    empty = f"None of the {len(names):,} metrics is like {args.like!r}."
    print_table(("metric", "better"), [(row["name"], row["better"]) for row in rows], empty=empty)
    if any("*" in name for name in kept):
        show("* stands for what the data decide, such as a language.")
    return DONE


def _adapters(_: argparse.Namespace) -> list[str]:
    from workbench.adapter.registry import adapters

    return adapters()


def _tasks(args: argparse.Namespace) -> list[str]:
    from workbench.adapter.options import job_types
    from workbench.adapter.registry import get_adapter

    return list(job_types(get_adapter(args.adapter)))
