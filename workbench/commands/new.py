"""``workbench new adapter``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.commands.arguments import command, group
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, show


def add(commands: Any) -> None:
    """Add the command."""
    new = group(commands, "new", "Create a starter package.")
    about = "Create a package with a working adapter and its contract test."
    adapter = command(new, "new adapter", _adapter, about)
    adapter.add_argument("name", metavar="NAME", help="name of the adapter and its package, such as my_model")
    adapter.add_argument(
        "--into", metavar="DIR", default=".", help="where to create the folder NAME (default: here)"
    )
    adapter.add_argument(
        "--from",
        dest="parts_of",
        metavar="ADAPTER",
        default="",
        help="an installed adapter to make it out of, such as one for pictures and texts",
    )


def _adapter(args: argparse.Namespace) -> int:
    from workbench.adapter.scaffold import write_adapter

    folder, files = write_adapter(args.name, Path(args.into), args.parts_of)
    if args.json:
        print_document({"name": args.name, "folder": str(folder), "files": files})
        return DONE
    show(f"{folder}")
    for name in files:
        show(f"  {name}")
    show("Install it next to the workbench and run its contract test:")
    show(f'  pip install -e "{folder}[test]" && pytest {folder}')
    return DONE
