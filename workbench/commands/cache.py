"""``workbench cache show`` and ``workbench cache clear``: what a workspace keeps and can make again."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.commands.arguments import command, completed_by, group, in_workspace, opened
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table, show
from workbench.errors import NotFound, WrongState

if TYPE_CHECKING:
    from workbench.workspace import Workspace


class Part(NamedTuple):
    """A file or folder of the cache."""

    name: str
    files: int
    size: int


def add(commands: Any) -> None:
    """Add the commands."""
    tools = group(commands, "cache", "See or empty the workspace's cache, which jobs fill again.")
    command(tools, "cache show", in_workspace(_show), "List the parts of the cache and their sizes.")
    clear = command(
        tools, "cache clear", in_workspace(_clear), "Delete the cache, or parts of it; jobs make it again."
    )
    name = clear.add_argument("name", metavar="NAME", nargs="*", help="parts to delete (default: all)")
    completed_by(name, _names)


def parts_of(folder: Path) -> list[Part]:
    """Return the parts of a cache folder, the largest first."""
    parts = []
    for entry in folder.iterdir():
        sizes = []
        for place, _, names in os.walk(entry) if _is_folder(entry) else [(str(folder), [], [entry.name])]:
            for name in names:
                with contextlib.suppress(OSError):  # deleted meanwhile
                    sizes.append(Path(place, name).lstat().st_size)
        parts.append(Part(entry.name, len(sizes), sum(sizes)))
    return sorted(parts, key=lambda part: (-part.size, part.name))


def _show(home: Workspace, args: argparse.Namespace) -> int:
    parts = parts_of(home.cache)
    if args.json:
        print_document(_document(home, parts))
        return DONE
    rows = [(part.name, f"{part.files:,}", _megabytes(part.size)) for part in parts]
    print_table(("part", "files", "size"), rows, empty="The cache is empty.")
    if parts:
        show(f"{_megabytes(sum(part.size for part in parts))} in {home.cache}")
    return DONE


def _clear(home: Workspace, args: argparse.Namespace) -> int:
    known = {part.name: part for part in parts_of(home.cache)}
    if unknown := [name for name in args.name if name not in known]:
        names = ", ".join(sorted(known)) or "none: it is empty"
        raise NotFound(f"the cache has no part {unknown[0]!r}", hint=f"Parts: {names}.")
    if running := home.count_jobs(status=("running", "cancelling")):
        jobs = "1 job is running and may use" if running == 1 else f"{running} jobs are running and may use"
        raise WrongState(f"{jobs} the cache", hint="Wait until they end, or cancel them.")
    parts = [known[name] for name in dict.fromkeys(args.name)] or list(known.values())
    for part in parts:
        entry = home.cache / part.name
        if _is_folder(entry):
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    if args.json:
        print_document(_document(home, parts))
    elif parts:
        names = ", ".join(part.name for part in parts)
        show(f"Deleted {names}: {_megabytes(sum(part.size for part in parts))}.")
    else:
        show("The cache is empty.")
    return DONE


def _is_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.is_symlink()  # what a link leads to is not ours


def _document(home: Workspace, parts: list[Part]) -> dict[str, Any]:
    return {
        "workspace": str(home.path),
        "parts": [{"name": part.name, "files": part.files, "bytes": part.size} for part in parts],
        "bytes": sum(part.size for part in parts),
    }


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _names(args: argparse.Namespace) -> list[str]:
    with opened(args) as home:
        return [part.name for part in parts_of(home.cache)]
