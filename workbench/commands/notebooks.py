"""``workbench notebooks sync``."""

from __future__ import annotations

import argparse
from typing import Any

from workbench.commands.arguments import command, group
from workbench.commands.exit_codes import DONE, FAILED
from workbench.commands.output import print_document, show
from workbench.errors import BadInput


def add(commands: Any) -> None:
    """Add the command."""
    tools = group(commands, "notebooks", "Keep an adapter's job notebooks in step with its options.")
    about = "Write the parameters cells of an adapter's own job notebooks from its option schemas."
    sync = command(tools, "notebooks sync", _sync, about)
    sync.add_argument("adapter", metavar="ADAPTER", help="name of the adapter")
    sync.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if a notebook is out of step"
    )


def _sync(args: argparse.Namespace) -> int:
    from workbench.adapter.registry import get_adapter
    from workbench.notebooks import typed_options
    from workbench.notebooks.shipped import own_notebooks

    adapter = get_adapter(args.adapter)
    own = own_notebooks(adapter)
    if not own:
        raise BadInput(
            f"adapter {adapter.name!r} has no job notebooks of its own",
            hint="The generic ones execute its jobs. It names its own in notebooks().",
        )
    rows = []
    for kind, path in own.items():
        schema = adapter.options(kind)
        if args.check:
            changed = not typed_options.is_in_step(path, schema, adapter.name)
        else:
            changed = typed_options.sync(path, schema, adapter.name)
        rows.append({"type": kind, "path": str(path), "changed": changed})
    code = FAILED if args.check and any(row["changed"] for row in rows) else DONE
    if args.json:
        print_document({"adapter": adapter.name, "notebooks": rows})
        return code
    words = {True: "out of step" if args.check else "written", False: "in step"}
    for row in rows:
        show(f"{row['type']}: {words[bool(row['changed'])]} ({row['path']})")
    if code == FAILED:
        show(f"Write them with: workbench notebooks sync {adapter.name}")
    return code
