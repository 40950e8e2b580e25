"""``workbench runs`` and ``workbench compare``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, completed_by, in_workspace, opened
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table
from workbench.text import short, short_number

if TYPE_CHECKING:
    from workbench.runs.run import Run
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the commands."""
    runs = command(commands, "runs", in_workspace(_runs), "List runs, newest first.")
    experiment = runs.add_argument("--experiment", metavar="NAME", help="only runs of this experiment")
    completed_by(experiment, _experiments)
    about = "Compare runs: settings that differ and final metrics; the first run is the baseline."
    compare = command(commands, "compare", in_workspace(_compare), about)
    completed_by(compare.add_argument("run", nargs="+", metavar="RUN", help="the run's id"), _run_ids)


def _runs(home: Workspace, args: argparse.Namespace) -> int:
    runs = home.runs(args.experiment)
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
