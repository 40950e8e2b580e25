"""``workbench data check``."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, group, takes_adapter
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table, show
from workbench.errors import NotSupported
from workbench.text import short_number

if TYPE_CHECKING:
    from workbench.results.result import Result


def add(commands: Any) -> None:
    """Add the command."""
    tools = group(commands, "data", "Look at data before using it.")
    about = "Say what a source of data holds, what is broken in it, and what a training would use."
    check = command(tools, "data check", _check, about)
    check.add_argument("source", metavar="SOURCE", help="what a training would take: a name or a path")
    check.add_argument("--thorough", action="store_true", help="open every file whole; this can take long")
    check.add_argument(
        "--into",
        metavar="DIR",
        help="folder for the lists and samples it writes (default: one in the user's cache, and printed)",
    )
    takes_adapter(check)


def _check(args: argparse.Namespace) -> int:
    from workbench.adapter.registry import get_adapter

    adapter = get_adapter(args.adapter)
    if not adapter.offers("check_data"):
        raise NotSupported(adapter.name, "check_data")
    folder = Path(args.into).expanduser().resolve() if args.into else results_folder(args.source)
    with _Progress() as progress:
        result = adapter.check_data(args.source, folder, thorough=args.thorough, progress=progress)
    if args.json:
        document = {
            "source": args.source,
            "adapter": adapter.name,
            "thorough": args.thorough,
            "folder": str(folder),
            "result": result.model_dump(mode="json"),
        }
        print_document(document)
        return DONE
    _print(result)
    return DONE


def results_folder(source: str) -> Path:
    """Return a folder of the source's own in the user's cache."""
    import platformdirs

    key = hashlib.sha256(f"{Path.cwd()}\0{source}".encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return platformdirs.user_cache_path("notebook-workbench") / "data-check" / key


def _print(result: Result) -> None:
    show(result.summary)
    for view in result.views:
        rows = view.data.get("rows", [])
        if view.kind != "metrics_table" or not rows:
            continue
        cells = [(str(row["name"]), short_number(row["value"]), str(row.get("note", ""))) for row in rows]
        print_table((view.title, "", ""), cells)
        for note in view.notes:
            show(note)
    for warning in result.warnings:
        show(f"warning: {warning}")
    for name, path in result.made.items():
        if isinstance(path, str):  # a file; options of jobs are for panels
            show(f"{name}: {path}")


class _Progress:
    """A progress bar on standard error, where that is a terminal; called with done, total and message."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        self._bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("reading", total=None)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, done: float, total: float | None, message: str) -> None:
        self._bar.update(self._task, completed=done, total=total, description=message)
