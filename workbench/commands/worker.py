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
    worker = command(commands, "worker", in_workspace(_worker), "Run jobs here until stopped.")
    worker.add_argument("--slots", type=count, default=1, metavar="N", help="how many at once")


def _worker(home: Workspace, given: argparse.Namespace) -> int:
    from workbench.jobs.worker.worker import Worker

    if given.slots < 1:
        raise BadInput(f"--slots {given.slots}: at least 1 is wanted")
    say(f"worker for {home.path}, {given.slots} at once; stop it with Ctrl-C")
    worker = Worker(home, slots=given.slots)
    worker.run()
    if given.json:
        print_document({"worker": worker.id, "workspace": str(home.path)})
    return DONE
