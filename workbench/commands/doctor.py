"""``workbench doctor``."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, existing_folder
from workbench.commands.exit_codes import DONE, FAILED
from workbench.commands.output import print_document, show
from workbench.text import visible

if TYPE_CHECKING:
    from workbench.commands.examination import Report


def add(commands: Any) -> None:
    """Add the command."""
    about = "Check the installation and report problems; exits with 1 if something is broken."
    doctor = command(commands, "doctor", _doctor, about)
    doctor.add_argument(
        "--repair",
        action="store_true",
        help="replace wrongly stored values of the workspace by what is shown of them, and restore a missing "
        "schema version; the database is copied first",
    )


def _doctor(args: argparse.Namespace) -> int:
    from workbench.commands.examination import Repairs, examine, repair
    from workbench.home import HOME, workspace_path

    if (args.workspace or os.environ.get(HOME)) and not workspace_path(args.workspace).exists():
        existing_folder(args)  # a mistyped path; the default one may not exist yet
    repairs = repair(args.workspace) if args.repair else Repairs()
    report = examine(args.workspace)
    if args.json:
        print_document({**report.to_json(), "repairs": repairs.to_json()})
        return FAILED if report.broken else DONE
    if args.repair:
        for change in repairs.changes:
            show(f"repaired: {change}")
        show(
            f"The database before the repair is in {repairs.backup}"
            if repairs.backup
            else "Nothing to repair."
        )
        show()
    _print(report)
    return FAILED if report.broken else DONE


def _print(report: Report) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    widest = max(map(len, report.found), default=0)
    for name, value in report.found.items():
        console.print(Text.assemble((f"{name:<{widest}}  ", "bold"), visible(str(value))))
    print()
    for problem in report.problems:
        style = "bold red" if problem.level == "broken" else "yellow"
        console.print(Text.assemble((f"{problem.level}: ", style), visible(problem.message)))
        if problem.hint:
            console.print(Text(visible(f"  {problem.hint}")))
    if not report.problems:
        print("No problems found.")
    elif not report.broken:
        print("Warnings only; nothing is broken.")
