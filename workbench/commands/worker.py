"""``workbench worker``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, count, in_workspace
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, say
from workbench.errors import BadInput

if TYPE_CHECKING:
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the command."""
    worker = command(
        commands, "worker", in_workspace(_worker, creates=True), "Run jobs on this machine until stopped."
    )
    worker.add_argument("--slots", type=count, default=1, metavar="N", help="number of jobs at once")


def _worker(home: Workspace, args: argparse.Namespace) -> int:
    from workbench.jobs.worker.worker import Worker

    if args.slots < 1:
        raise BadInput(f"--slots must be at least 1, got {args.slots}")
    say(f"worker for {home.path}, up to {args.slots} jobs at once; stop it with Ctrl-C")
    worker = Worker(home, slots=args.slots)
    worker.run()
    if args.json:
        print_document({"worker": worker.id, "workspace": str(home.path)})
    return DONE
