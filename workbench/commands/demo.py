"""``workbench demo``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, in_workspace, options, takes_adapter, takes_port
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table, say
from workbench.commands.serve import serve_index
from workbench.errors import BadInput

if TYPE_CHECKING:
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the command."""
    about = "Train, evaluate, index and publish a search, on real data."
    demo = command(commands, "demo", in_workspace(_demo), about)
    takes_adapter(demo)
    demo.add_argument(
        "--option",
        "-o",
        metavar="TYPE.NAME=VALUE",
        action="append",
        default=[],
        help="an option of one of its jobs, such as train.steps=100; as often as you like",
    )
    demo.add_argument("--no-serve", dest="serve", action="store_false", help="stop before the page")
    takes_port(demo)


def _demo(home: Workspace, given: argparse.Namespace) -> int:
    from workbench.adapter.registry import get_adapter
    from workbench.demo import headlines, run_demo

    adapter = get_adapter(given.adapter)
    tell = say if given.json else print
    tell(f"{adapter.title or adapter.name}: the whole way, in {home.path}")
    outcome = run_demo(home, adapter, options=_by_type(given), say=tell)
    if given.json:
        print_document(outcome)
    else:
        shown = headlines([home.job(job["id"]) for job in outcome["jobs"]])
        if shown:
            print_table(("metric", "value"), [(k, f"{v:.4g}") for k, v in shown.items()])
        print("Notebooks, each the report of its job:")
        for job in outcome["jobs"]:
            print(f"  {job['type']:<12} {job['notebook']}")
    if given.serve and outcome["index"]["name"]:
        return serve_index(home, outcome["index"]["name"], given.port, given.open)
    return DONE


def _by_type(given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return ``--option TYPE.k=v …`` by job type."""
    out: dict[str, dict[str, Any]] = {}
    for name, value in options(given.option).items():
        kind, dot, option = name.partition(".")
        if not dot or not option:
            raise BadInput(f"--option {name}=…: TYPE.name=value is wanted", hint="Such as train.steps=100.")
        out.setdefault(kind, {})[option] = value
    return out
