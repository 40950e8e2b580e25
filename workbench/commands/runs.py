"""``workbench runs`` and ``workbench compare``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.commands import order
from workbench.commands.arguments import command, completed_by, count, in_workspace, opened
from workbench.commands.exit_codes import DONE
from workbench.commands.output import few_lines, print_document, print_table, show
from workbench.text import short, short_number

if TYPE_CHECKING:
    from workbench.runs.kept_files import KeptFile
    from workbench.runs.run import Run
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the commands."""
    runs = command(commands, "runs", in_workspace(_runs), "List runs, newest first.")
    experiment = runs.add_argument("--experiment", metavar="NAME", help="only runs of this experiment")
    completed_by(experiment, _experiments)
    runs.add_argument(
        "--where", metavar="CONDITION", help="only runs that match: 'config.lr < 0.01 and tag:baseline'"
    )
    runs.add_argument(
        "--sort",
        action="append",
        metavar="FIELD",
        help="such as created, or --sort=-metric.val/loss for descending; repeatable",
    )
    runs.add_argument("--archived", action="store_true", help="only archived runs")
    runs.add_argument("--limit", type=count, metavar="N", help="at most N (default: all)")
    runs.add_argument("--offset", type=count, default=0, metavar="N", help="skip the first N")
    more = runs.add_subparsers(title="commands", metavar="COMMAND")
    one = command(
        more, "runs show", in_workspace(_show), "Show one run: what it was started with and what it logged."
    )
    completed_by(one.add_argument("id", metavar="RUN", help="the run's id"), _run_ids)
    order.add_runs(more)
    about = "Compare runs: settings that differ and final metrics; the first run is the baseline."
    compare = command(commands, "compare", in_workspace(_compare), about)
    completed_by(compare.add_argument("run", nargs="+", metavar="RUN", help="the run's id"), _run_ids)


def _runs(home: Workspace, args: argparse.Namespace) -> int:
    page = {"limit": args.limit, "offset": args.offset}
    runs = home.runs(args.experiment, where=args.where, sort=args.sort, archived=args.archived, **page)
    if args.json:
        print_document({"runs": [_to_json(run) for run in runs]})
        return DONE
    rows = []
    for run in runs:
        numbers = [
            f"{name}={short_number(row['last'])}"
            for name, row in sorted(run.summary.items(), key=_importance)
            if row["last"] is not None
        ]
        notes = short(run.notes)
        rows.append((str(run.id), run.experiment, run.name, run.status, ", ".join(numbers[:4]), notes))
    empty = "No runs yet. Create one with a train job, or with ws.start_run in Python."
    if args.experiment or args.where or args.archived or args.offset:
        empty = "No matching runs."
    print_table(("id", "experiment", "name", "status", "last", "notes"), rows, empty=empty)
    return DONE


def _importance(metric: tuple[str, Mapping[str, Any]]) -> int:
    """Return the sort key of a metric: scores to maximise, then losses, then those without a direction."""
    return {"higher": 0, "lower": 1}.get(metric[1].get("better") or "", 2)


def _to_json(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "experiment": run.experiment,
        "status": run.status,
        "job_id": run.job_id,
        "created_at": None if run.created_at is None else run.created_at.isoformat(),
        "notes": run.notes,
        "config": run.config,
        "summary": run.summary,
    }


def _show(home: Workspace, args: argparse.Namespace) -> int:
    run = home.run(args.id)
    files: dict[str, Sequence[KeptFile]]
    files = {"checkpoints": run.checkpoints(), "artifacts": run.artifacts(), "media": run.media()}
    if args.json:
        same = ("notes", "seed", "git", "environment", "origin", "tags", "error", "archived", "seconds")
        document = {**_to_json(run), **{name: getattr(run, name) for name in same}}
        document["finished_at"] = None if run.finished_at is None else run.finished_at.isoformat()
        document |= {
            kind: [{"name": one.name, "size": one.size} for one in some] for kind, some in files.items()
        }
        print_document(document)
        return DONE
    error = run.error or {}
    about = {
        "run": f"{run.id} {run.name}",
        "experiment": run.experiment,
        "status": f"{run.status}{', archived' if run.archived else ''}",
        "error": few_lines(": ".join(str(error[key]) for key in ("type", "message") if error.get(key))),
        "started": "" if run.created_at is None else run.created_at.astimezone().strftime("%F %T"),
        "took": "" if run.seconds is None else f"{run.seconds:.1f} s",
        "tags": ", ".join(name if value is True else f"{name}={value}" for name, value in run.tags.items()),
        "notes": run.notes,
        "seed": "" if run.seed is None else str(run.seed),
        "job": str(run.job_id or ""),
        "commit": f"{run.git.get('commit', '')}{' (changed)' if run.git.get('dirty') else ''}",
        "settings": json.dumps(run.config, ensure_ascii=False, default=str),
        **{kind: ", ".join(one.name for one in some[:20]) for kind, some in files.items()},
    }
    for name, value in about.items():
        if value:
            show(f"{name:<12} {value}")
    metrics = [
        (
            name,
            *("" if row[key] is None else short_number(row[key]) for key in ("last", "best", "min", "max")),
        )
        for name, row in sorted(run.summary.items(), key=_importance)
    ]
    print_table(("metric", "last", "best", "min", "max"), metrics, empty="No metric was logged.")
    return DONE


def _compare(home: Workspace, args: argparse.Namespace) -> int:
    comparison = home.compare(args.run)
    if args.json:
        print_document(comparison.to_json())
        return DONE
    heads = [f"{run.id} {run.name}" for run in comparison.runs]
    settings = [(row.key, *row.texts) for row in comparison.differences]
    if settings:
        print_table(("differs", *heads), settings)
    arrows = {"higher": " ↑", "lower": " ↓"}
    finals = [
        (
            f"{row.name}{arrows.get(row.better or '', '')}",
            *(f"🏆 {text}" if best else text for text, best in zip(row.texts, row.best, strict=True)),
        )
        for row in comparison.final
    ]
    print_table(("final", *heads), finals, empty="No metric was logged.")
    return DONE


def _experiments(args: argparse.Namespace) -> list[str]:
    with opened(args) as home:
        return home.experiments()


def _run_ids(args: argparse.Namespace) -> list[int]:
    with opened(args) as home:
        return [run.id for run in home.runs()]
