"""``workbench jobs``: submit, list, show, logs, cancel."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands import order
from workbench.commands.arguments import (
    command,
    completed_by,
    count,
    group,
    in_workspace,
    opened,
    options,
    takes_adapter,
    takes_options,
)
from workbench.commands.exit_codes import CANCELLED, DONE, FAILED
from workbench.commands.output import complain, few_lines, print_document, print_table, say, show
from workbench.errors import BadInput, JobCancelled, WorkbenchError
from workbench.text import NAME_CHARACTERS, short, short_number, visible

if TYPE_CHECKING:
    from workbench.jobs.job import Job
    from workbench.results.result import Result
    from workbench.workspace import Workspace

#: What ``jobs show`` prints without ``--full``: metrics, warnings, and characters of the options.
SHOWN_METRICS, SHOWN_WARNINGS, SHOWN_OPTIONS = 20, 3, 300


def add(commands: Any) -> None:
    """Add the commands."""
    jobs = group(commands, "jobs", "Submit, list, show and cancel jobs.")
    _add_submit(jobs)
    listed = command(jobs, "jobs list", in_workspace(_list), "List jobs, newest first.")
    kind = listed.add_argument("--type", metavar="TYPE", help="only jobs of this type")
    completed_by(kind, lambda _: _types())
    status = listed.add_argument("--status", metavar="STATUS", help="only jobs with this status")
    completed_by(status, lambda _: _statuses())
    listed.add_argument("--limit", type=count, default=20, metavar="N", help="at most N (default 20)")
    listed.add_argument("--offset", type=count, default=0, metavar="N", help="skip the newest N")
    listed.add_argument("--archived", action="store_true", help="only archived jobs")
    for name, call, about in (
        ("show", _show, "Show one job: its options, status and result."),
        ("logs", _logs, "Print the end of a job's log."),
        ("cancel", _cancel, "Cancel a job."),
    ):
        one = command(jobs, f"jobs {name}", in_workspace(call), about)
        completed_by(one.add_argument("id", metavar="JOB", help="the job's id"), _ids)
        if name == "show":
            one.add_argument("--full", action="store_true", help="print all options, metrics and warnings")
        if name == "logs":
            one.add_argument(
                "--tail", type=count, default=200, metavar="LINES", help="number of lines (default 200)"
            )
            one.add_argument("--follow", action="store_true", help="follow the log until the job has ended")
    order.add_jobs(jobs)


def _add_submit(jobs: Any) -> None:
    about = "Queue a job; a worker runs its notebook."
    submit = command(jobs, "jobs submit", in_workspace(_submit, creates=True), about)
    kind = submit.add_argument(
        "type",
        metavar="TYPE",
        help="train, eval, index_build, another type the adapter offers, or the path of your own notebook "
        "(whose parameters are set with --option)",
    )
    completed_by(kind, lambda _: [*_types(), *Path().glob("*.ipynb")])
    submit.add_argument(
        "--fail-below",
        metavar="JSON",
        help="""fail if a metric is below its minimum: '{"t2i/R@10@128": 0.35}'""",
    )
    takes_adapter(submit)
    submit.add_argument("--wait", action="store_true", help="show progress and return when the job has ended")
    takes_options(submit, lambda args: str(args.type))


def _submit(home: Workspace, args: argparse.Namespace) -> int:
    if args.type.endswith(".ipynb"):
        if args.adapter or args.fail_below:
            raise BadInput("--adapter and --fail-below do not apply to your own notebook")
        job = home.submit_notebook(args.type, _parameters(args))
        if note := _kernel_note(args.type):
            say(note)
    else:
        job = home.submit(args.type, args.adapter, options(args.option), fail_below=args.fail_below)
    code = _follow(job) if args.wait else DONE
    if args.json:
        print_document(job.to_json())
    else:
        show(f"job {job.id}: {job.status}{f', {short(job.summary)}' if job.summary else ''}")
        _show_warnings(job.result, SHOWN_WARNINGS)
        if job.notebook:
            show(str(job.notebook))
        if not args.wait:
            show(f"Check on it with: workbench jobs show {job.id}")
    return code


def _kernel_note(path: str) -> str:
    from workbench.jobs.submission import local_notebook
    from workbench.notebooks.language import kernel_note
    from workbench.notebooks.parameters import read_notebook

    return kernel_note(read_notebook(local_notebook(path)))


def _parameters(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options as parameters of a notebook; those it declares as str are not parsed as JSON."""
    from workbench.jobs.submission import local_notebook
    from workbench.notebooks.parameters import declared_parameters

    declared = {one.name: one.type for one in declared_parameters(local_notebook(args.type))}
    typed = dict(pair.partition("=")[::2] for pair in args.option)
    read = options(args.option)
    return {name: typed[name] if declared.get(name) == "str" else value for name, value in read.items()}


def _follow(job: Job) -> int:
    from workbench.commands.progress import JobProgress

    try:
        with JobProgress() as shown:
            job.wait(on_progress=shown)
    except KeyboardInterrupt:
        say(f"job {job.id} is still running; cancel it with: workbench jobs cancel {job.id}")
        raise
    except JobCancelled as error:
        complain(error)
        return CANCELLED
    except WorkbenchError as error:
        complain(error)
        return FAILED
    return DONE


def _list(home: Workspace, args: argparse.Namespace) -> int:
    page = {"limit": args.limit, "offset": args.offset}
    jobs = home.jobs(type=args.type, status=args.status, archived=args.archived, **page)
    if args.json:
        print_document({"jobs": [job.to_json(result=False) for job in jobs]})
        return DONE
    rows = [
        (
            str(job.id),
            job.type,
            short(job.adapter or Path(job.source).name, NAME_CHARACTERS),
            job.status,
            _share(job),
            _took(job.seconds),
            short(_outcome(job)),
        )
        for job in jobs
    ]
    filtered = args.type or args.status or args.offset or args.archived
    empty = "No matching jobs." if filtered else "No jobs yet. Submit one with: workbench jobs submit TYPE"
    print_table(("id", "type", "adapter", "status", "done", "took", ""), rows, empty=empty, one_line=True)
    return DONE


def _show(home: Workspace, args: argparse.Namespace) -> int:
    job = home.job(args.id)
    if args.json:
        print_document(job.to_json())
        return DONE
    options = json.dumps(job.options, ensure_ascii=False)
    error = _outcome(job, whole=True) if job.error else ""
    about = {
        "name": job.name,
        "job": f"{job.id}, {job.type} ({job.adapter or job.source})",
        "status": f"{job.status} {_share(job)}".strip(),
        "submitted": job.created_at.astimezone().strftime("%F %T"),
        "took": _took(job.seconds),
        "options": options if args.full else short(options, SHOWN_OPTIONS),
        "says": job.progress.message,
        "run": str(job.run_id or ""),
        "notebook": str(job.notebook or ""),
        "output": str(job.output.path if job.output else ""),
        "note": job.output_note.replace("\n", " "),
        "error": error if args.full else few_lines(error),
        "result": job.summary,
    }
    for name, value in about.items():
        if value:
            show(f"{name:<10} {value}")
    if job.result is not None:
        left = _show_metrics(job.result, args.full)
        left += _show_warnings(job.result, None if args.full else SHOWN_WARNINGS)
        if left:
            show(f"({left:,} more lines with: workbench jobs show {job.id} --full)")
    return DONE


def _show_metrics(result: Result, full: bool) -> int:
    """Print the metrics of a result, or its headline; return how many are left out."""
    metrics = result.metrics
    names = list(metrics)
    if not full and len(names) > SHOWN_METRICS:
        names = [name for name in result.headline if name in metrics] or names
        names = names[:SHOWN_METRICS]
    if names:
        print_table(("metric", "value"), [(name, short_number(metrics[name])) for name in names])
    return len(metrics) - len(names)


def _show_warnings(result: Result | None, most: int | None) -> int:
    """Print the warnings of a result, or the first few; return how many are left out."""
    warnings = [] if result is None else result.warnings
    for warning in warnings[:most]:
        show(f"warning: {warning if most is None else few_lines(warning)}")
    return len(warnings) - len(warnings[:most])


def _logs(home: Workspace, args: argparse.Namespace) -> int:
    job = home.job(args.id)
    if args.follow:
        if args.json:
            raise BadInput("--follow cannot be combined with --json, which prints one complete document")
        for line in job.follow_logs():
            sys.stdout.write(visible(line, colours=True) + "\n")
            sys.stdout.flush()
        _say_where(job)
        return DONE
    log = job.logs(args.tail)
    if args.json:
        output = job.output
        where = None if output is None else str(output.path)
        note = job.output_note
        print_document({"id": job.id, "lines": log.splitlines(), "output": where, "output_note": note})
    else:
        sys.stdout.write(visible(log, colours=True))
        sys.stdout.flush()
        _say_where(job)
    return DONE


def _say_where(job: Job) -> None:
    """Say where everything is that the job printed, apart from the log itself."""
    for line in job.output_note.splitlines():
        say(line)
    if job.output is not None:
        say(f"Everything that its notebook printed is in {job.output.path}")


def _cancel(home: Workspace, args: argparse.Namespace) -> int:
    job = home.job(args.id).cancel()
    if args.json:
        print_document(job.to_json(result=False))
    else:
        show(f"job {job.id}: {job.status}")
    return DONE


def _share(job: Job) -> str:
    fraction = job.progress.fraction
    return "" if fraction is None or job.done else f"{fraction:.0%}"


def _took(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _outcome(job: Job, *, whole: bool = False) -> str:
    error = job.error
    if not error or job.status not in ("failed", "queued"):
        return job.summary or job.progress.message
    where = f"cell [{error['cell']}] " if error.get("cell") else ""
    message = str(error.get("message", ""))
    said = message if whole else next(iter(message.splitlines()), "")
    return f"{where}{error.get('type')}: {said}"


def _types() -> list[str]:
    from workbench.adapter.options import job_types
    from workbench.adapter.registry import adapters, load_adapters

    working, _ = load_adapters(adapters())
    return sorted({kind for adapter in working.values() for kind in job_types(adapter)})


def _statuses() -> list[str]:
    from workbench.store.records import JOB_STATUSES

    return list(JOB_STATUSES)


def _ids(args: argparse.Namespace) -> list[int]:
    with opened(args) as home:
        return [job.id for job in home.jobs(limit=100)]
