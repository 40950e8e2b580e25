"""``workbench import mlflow`` and ``workbench import tensorboard``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, group, in_workspace
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, show

if TYPE_CHECKING:
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the commands."""
    tools = group(commands, "import", "Import runs from MLflow or TensorBoard.")
    about = "Import the runs of an MLflow store; importing again adds what is new."
    mlflow = command(tools, "import mlflow", in_workspace(_import, creates=True), about)
    mlflow.add_argument(
        "source",
        metavar="URI",
        help="sqlite:///mlflow.db, another database URL, an mlruns folder, or https://server",
    )
    mlflow.set_defaults(tool="mlflow")
    about = "Import TensorBoard runs; importing again adds what is new."
    board = command(tools, "import tensorboard", in_workspace(_import, creates=True), about)
    board.add_argument("source", metavar="DIR", help="the folder passed to tensorboard --logdir")
    board.add_argument(
        "--experiment", metavar="NAME", help="name of the experiment (default: the folder's name)"
    )
    board.set_defaults(tool="tensorboard")


def _import(home: Workspace, args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("runs", total=None)

        def say(done: int, total: int, points: int) -> None:
            bar.update(task, completed=done, total=total, description=f"runs, {points:,} points")

        if args.tool == "mlflow":
            imported = home.import_mlflow(args.source, say)
        else:
            imported = home.import_tensorboard(args.source, args.experiment, say)
    if args.json:
        print_document(imported._asdict())
        return DONE
    show(
        f"{imported.new} new, {imported.changed} continued, {imported.unchanged} unchanged; "
        f"{imported.points:,} new points"
    )
    for what, number in imported.passed_over.items():
        show(f"not imported: {what} ({number:,})")
    for note in imported.notes:
        show(f"note: {note}")
    return DONE
