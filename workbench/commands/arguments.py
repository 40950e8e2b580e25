"""The arguments of commands: the parser, arguments shared by several commands, and checks of values."""

from __future__ import annotations

import argparse
import difflib
import functools
import json
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from workbench.commands.documents import DOCUMENTS, in_words
from workbench.commands.output import say
from workbench.errors import BadInput, NotFound, WorkbenchError

if TYPE_CHECKING:
    from pathlib import Path

    from workbench.workspace import Workspace


class WrongUse(WorkbenchError):
    """An unknown command or option, or a value of the wrong type."""

    def __init__(self, usage: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """A parser that raises its errors like any other, so that ``--json`` prints them as a document too."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed, with the closest valid choice."""
        hint = f"See: {self.prog} --help"
        if match := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            near = difflib.get_close_matches(match[1], re.findall(r"'(.+?)'", match[2]), n=1)
            hint = f"Did you mean {near[0]!r}? {hint}" if near else hint
        raise WrongUse(self.format_usage(), message, hint=hint)


def everywhere(parser: argparse.ArgumentParser, *, first: bool = False) -> None:
    """Add ``--workspace`` and ``--json``, before a command as well as after it."""
    default = None if first else argparse.SUPPRESS
    parser.add_argument(
        "--workspace",
        metavar="DIR",
        default=default,
        help="workspace folder (default: $WORKBENCH_HOME or ./results)",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=False if first else argparse.SUPPRESS,
        help="print one JSON document on standard output and nothing else",
    )


def group(commands: Any, name: str, about: str) -> Any:
    """Add a command that has subcommands; return the object to add them to."""
    parser = commands.add_parser(name, help=about, description=about)
    everywhere(parser)
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def command(
    commands: Any, words: str, call: Callable[[argparse.Namespace], int], about: str
) -> argparse.ArgumentParser:
    """Add a command named by the last of ``words``; all of them name its document."""
    parser: argparse.ArgumentParser = commands.add_parser(
        words.split()[-1],
        help=about,
        description=about,
        epilog="with --json:\n" + textwrap.fill(in_words(DOCUMENTS[words]), 96, break_long_words=False),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    everywhere(parser)
    parser.set_defaults(call=call)
    return parser


def in_workspace(
    call: Callable[[Workspace, argparse.Namespace], int], *, creates: bool = False
) -> Callable[[argparse.Namespace], int]:
    """Return a command that opens the workspace and passes it to ``call``.

    Parameters
    ----------
    call : callable
        The command.
    creates : bool
        Whether the command writes, and so creates a missing workspace; for any other, a missing one is an
        error, since its path may be mistyped.
    """

    @functools.wraps(call)
    def with_workspace(args: argparse.Namespace) -> int:
        with opened(args, creates=creates) as home:
            if home.store.read_only:
                say(f"This workspace can only be read: {home.store.read_only}.")
            return call(home, args)

    return with_workspace


def opened(args: argparse.Namespace, *, creates: bool = False) -> Workspace:
    """Open the workspace of a command.

    Raises
    ------
    NotFound
        There is none, and the command does not create one.
    """
    from workbench.workspace import Workspace

    if not creates:
        existing_folder(args)
    return Workspace(args.workspace)


def existing_folder(args: argparse.Namespace) -> Path:
    """Return the folder of a command's workspace, without opening its database.

    Raises
    ------
    NotFound
        There is no workspace.
    """
    from workbench.home import check_workspace, workspace_path

    path = workspace_path(args.workspace)
    try:
        check_workspace(path)
    except NotFound as error:
        where = "Name its folder with --workspace or $WORKBENCH_HOME."
        error.hint = f"{where} A job, an import or the demo creates one."
        raise
    return path


def completed_by(action: argparse.Action, names: Callable[[argparse.Namespace], Iterable[object]]) -> None:
    """Let the shell complete an argument with names that are looked up on demand."""

    def complete(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
        try:
            return [name for name in map(str, names(parsed_args)) if name.startswith(prefix)]
        except Exception:  # completion must not print errors into the shell
            return []

    action.completer = complete  # type: ignore[attr-defined]  # read by argcomplete


def takes_adapter(parser: argparse.ArgumentParser) -> None:
    """Add ``--adapter``."""
    action = parser.add_argument(
        "--adapter", metavar="A", help="model family (default: the only one installed)"
    )
    completed_by(action, lambda _: _adapters())


def takes_options(parser: argparse.ArgumentParser, task: Callable[[argparse.Namespace], str]) -> None:
    """Add ``--option``, completed for the task that ``task`` reads from the other arguments."""
    action = parser.add_argument(
        "--option",
        "-o",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the adapter; the value is parsed as JSON if possible; repeatable",
    )
    completed_by(action, lambda args: _option_names(getattr(args, "adapter", None), task(args)))


def takes_index(parser: argparse.ArgumentParser, about: str) -> None:
    """Add ``--index``."""
    action = parser.add_argument("--index", metavar="NAME", help=about)
    completed_by(action, _indexes)


def chosen_index(folder: Path, name: str | None) -> str:
    """Return the index that ``--index`` names, or else the only one in the folder of the indexes.

    Raises
    ------
    BadInput
        None is named, and there are several.
    NotFound
        There is none.
    """
    from workbench.search.indexes import index_names

    if name:
        return name
    names = index_names(folder)
    if len(names) > 1:
        raise BadInput(f"which index? Available: {', '.join(names)}", hint="Name one with --index.")
    if not names:
        hint = "Build one with: workbench jobs submit index_build --wait"
        raise NotFound("this workspace has no index yet", hint=hint)
    return names[0]


def takes_port(parser: argparse.ArgumentParser) -> None:
    """Add ``--port`` and ``--open``, for a page that is served."""
    parser.add_argument("--port", type=port, default=0, metavar="N", help="0 (default) picks a free port")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def count(text: str) -> int:
    """Parse an integer of at least 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


def port(text: str) -> int:
    """Parse a port number."""
    if (number := count(text)) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port from 0 to 65535, got {text!r}")
    return number


def options(pairs: Iterable[str]) -> dict[str, Any]:
    """Parse ``--option k=v …``: a value that is valid JSON is parsed, any other is text.

    Raises
    ------
    BadInput
        A pair without a name or ``=``, or a repeated name.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadInput(f"--option must be NAME=VALUE, got {pair!r}", hint="For example: --option k=3")
        if name in out:
            raise BadInput(f"--option {name} is repeated", hint="Give each option once.")
        try:
            out[name] = json.loads(value)
        except ValueError:
            out[name] = value
    return out


def _adapters() -> list[str]:
    from workbench.adapter.registry import adapters

    return adapters()


def _option_names(adapter: str | None, task: str) -> list[str]:
    from workbench.adapter.registry import get_adapter

    return [f"{name}=" for name in get_adapter(adapter).options(task).model_fields]


def _indexes(args: argparse.Namespace) -> list[str]:
    with opened(args) as home:
        return home.index_names()
