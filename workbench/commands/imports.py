"""``workbench import mlflow`` and ``workbench import tensorboard``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, group, in_workspace
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document

if TYPE_CHECKING:
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the commands."""
    tools = group(commands, "import", "Bring runs from MLflow or TensorBoard.")
    about = "Bring an MLflow store's runs; again, to continue them."
    mlflow = command(tools, "import mlflow", in_workspace(_import), about)
    mlflow.add_argument(
        "source",
        metavar="URI",
        help="sqlite:///mlflow.db, another database, folder mlruns, or https://server",
    )
    mlflow.set_defaults(tool="mlflow")
    about = "Bring runs written for TensorBoard; again, to continue them."
    board = command(tools, "import tensorboard", in_workspace(_import), about)
    board.add_argument("source", metavar="DIR", help="what tensorboard --logdir is given")
    board.add_argument("--experiment", metavar="NAME", help="called as the folder if not given")
    board.set_defaults(tool="tensorboard")


def _import(home: Workspace, given: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("runs", total=None)

        def say(done: int, total: int, points: int) -> None:
            bar.update(task, completed=done, total=total, description=f"runs, {points:,} points")

        if given.tool == "mlflow":
            brought = home.import_mlflow(given.source, say)
        else:
            brought = home.import_tensorboard(given.source, given.experiment, say)
    if given.json:
        print_document(brought._asdict())
        return DONE
    print(
        f"{brought.new} new, {brought.changed} continued, {brought.unchanged} unchanged; "
        f"{brought.points:,} new points"
    )
    for what, number in brought.passed_over.items():
        if number:
            print(f"not brought: {what} ({number})")
    return DONE
