"""``workbench new adapter``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.commands.arguments import command, group
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document


def add(commands: Any) -> None:
    """Add the command."""
    new = group(commands, "new", "Write the beginnings of a package.")
    about = "Write a package with an adapter that works, and the contract test that proves it."
    adapter = command(new, "new adapter", _adapter, about)
    adapter.add_argument("name", metavar="NAME", help="of the adapter and its package, such as my_model")
    adapter.add_argument(
        "--into", metavar="DIR", default=".", help="where its folder NAME is made; here if not given"
    )


def _adapter(given: argparse.Namespace) -> int:
    from workbench.adapter.scaffold import write_adapter

    folder, files = write_adapter(given.name, Path(given.into))
    if given.json:
        print_document({"name": given.name, "folder": str(folder), "files": files})
        return DONE
    print(f"{folder}")
    for name in files:
        print(f"  {name}")
    print("Install it beside the workbench, and see that it keeps the contract:")
    print(f'  pip install -e "{folder}[test]" && pytest {folder}')
    return DONE
