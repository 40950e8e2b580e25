"""``workbench index``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import (
    command,
    in_workspace,
    options,
    takes_adapter,
    takes_options,
    takes_port,
)
from workbench.commands.exit_codes import DONE
from workbench.commands.output import few_lines, print_document, say, show
from workbench.commands.progress import JobProgress
from workbench.commands.serve import serve_index, takes_paths
from workbench.errors import BadInput

if TYPE_CHECKING:
    from workbench.results.result import Result
    from workbench.workspace import Workspace

#: Warnings that are printed; the job has all of them.
SHOWN_WARNINGS = 3


def add(commands: Any) -> None:
    """Add the command."""
    about = "Make a collection searchable at once; nothing has to be trained."
    index = command(commands, "index", in_workspace(_index, creates=True), about)
    index.add_argument("source", metavar="SOURCE", help="the name or the path of a collection")
    index.add_argument("--name", metavar="NAME", required=True, help="name of the index")
    index.add_argument(
        "--encoder", metavar="NAME", help="what reads the pictures (default: the adapter's own); see README"
    )
    takes_adapter(index)
    takes_options(index, lambda _: "quick_index")
    index.add_argument("--serve", action="store_true", help="then serve its search page")
    takes_port(index)
    takes_paths(index)


def _index(home: Workspace, args: argparse.Namespace) -> int:
    from workbench.adapter.options import check_options
    from workbench.adapter.registry import get_adapter

    adapter = get_adapter(args.adapter)
    given = options(args.option)
    for name in ("name", "encoder"):
        value = getattr(args, name)
        if value is not None and given.setdefault(name, value) != value:
            raise BadInput(f"--{name} and --option {name}=… differ", hint="Give one of them.")
    checked = check_options(adapter, "quick_index", given)
    job = home.submit("index_build", adapter, adapter.quick_index(args.source, checked))
    with JobProgress() as shown:
        job.wait(on_progress=shown)
    result = job.result
    made = result.made if result else {}
    name = str(made.get("index", args.name))
    if args.json:
        print_document(
            {
                "job": job.id,
                "index": {
                    "name": name,
                    "pictures": _count(result),
                    "skipped": [
                        {"path": str(one["path"]), "reason": str(one["reason"])}
                        for one in made.get("skipped", [])
                    ],
                },
                "encoder": str(made.get("encoder", "")),
                "codes": str(made.get("codes", "")),
                "summary": job.summary,
            }
        )
    else:
        show(f"index {name}: {job.summary}")
        for warning in (result.warnings if result else [])[:SHOWN_WARNINGS]:
            show(f"warning: {few_lines(warning)}")
        show(f"Its report: {job.notebook}")
    if args.serve:
        return serve_index(home, name, args.port, args.open, show_paths=args.show_paths)
    if not args.json:
        say(f"Serve its page with: workbench serve --index {name}")
    return DONE


def _count(result: Result | None) -> int | None:
    pictures = result.metrics.get("pictures") if result else None
    return None if pictures is None else round(pictures)
