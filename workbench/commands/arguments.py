"""What commands take: the parser, the arguments that several share, and the checks on what was typed."""

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
from workbench.errors import BadInput, WorkbenchError

if TYPE_CHECKING:
    from workbench.workspace import Workspace


class WrongUse(WorkbenchError):
    """Words that the command line does not know, or a value of the wrong kind."""

    def __init__(self, usage: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are errors like any other, so that they are documents with ``--json`` too."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed, with the word that was probably meant."""
        hint = f"See: {self.prog} --help"
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            near = difflib.get_close_matches(found[1], re.findall(r"'(.+?)'", found[2]), n=1)
            hint = f"Did you mean {near[0]!r}? {hint}" if near else hint
        raise WrongUse(self.format_usage(), message, hint=hint)


def everywhere(parser: argparse.ArgumentParser, *, first: bool = False) -> None:
    """Take ``--workspace`` and ``--json``, before a command as well as after it."""
    said = None if first else argparse.SUPPRESS
    parser.add_argument(
        "--workspace", metavar="DIR", default=said, help="folder of results ($WORKBENCH_HOME, or ./results)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        default=False if first else argparse.SUPPRESS,
        help="one JSON document on standard output, and nothing else",
    )


def group(commands: Any, name: str, about: str) -> Any:
    """Add a word that has commands of its own; return what takes them."""
    parser = commands.add_parser(name, help=about, description=about)
    everywhere(parser)
    return parser.add_subparsers(title="commands", required=True, metavar="COMMAND")


def command(
    commands: Any, words: str, call: Callable[[argparse.Namespace], int], about: str
) -> argparse.ArgumentParser:
    """Add a command: its last word names it, and all of them its document."""
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
    call: Callable[[Workspace, argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """Return a command that is given its workspace, open."""

    @functools.wraps(call)
    def opened(given: argparse.Namespace) -> int:
        from workbench.workspace import Workspace

        with Workspace(given.workspace) as home:
            return call(home, given)

    return opened


def completed_by(action: argparse.Action, names: Callable[[argparse.Namespace], Iterable[object]]) -> None:
    """Let the shell complete an argument with names that are looked up when it asks."""

    def complete(prefix: str, parsed_args: argparse.Namespace, **_: object) -> list[str]:
        try:
            return [name for name in map(str, names(parsed_args)) if name.startswith(prefix)]
        except Exception:  # a shell that waits for a word is no place for complaints
            return []

    action.completer = complete  # type: ignore[attr-defined]  # what argcomplete looks for


def takes_adapter(parser: argparse.ArgumentParser) -> None:
    """Take ``--adapter``."""
    action = parser.add_argument(
        "--adapter", metavar="A", help="model family; the only one installed if not given"
    )
    completed_by(action, lambda _: _adapters())


def takes_options(parser: argparse.ArgumentParser, task: Callable[[argparse.Namespace], str]) -> None:
    """Take ``--option``, of a task that what else was typed names."""
    action = parser.add_argument(
        "--option",
        "-o",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the adapter's; the value is read as JSON where it is JSON; as often as you like",
    )
    completed_by(action, lambda given: _option_names(getattr(given, "adapter", None), task(given)))


def takes_index(parser: argparse.ArgumentParser, about: str) -> None:
    """Take ``--index``."""
    action = parser.add_argument("--index", metavar="NAME", help=about)
    completed_by(action, _indexes)


def takes_port(parser: argparse.ArgumentParser) -> None:
    """Take where a page is served."""
    parser.add_argument("--port", type=port, default=0, metavar="N", help="0: any that is free")
    parser.add_argument("--open", action="store_true", help="open it in a browser")


def count(text: str) -> int:
    """Return a whole number of at least 0 that was typed."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def port(text: str) -> int:
    """Return a port that was typed."""
    if (number := count(text)) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; 0 to 65535 are")
    return number


def options(pairs: Iterable[str]) -> dict[str, Any]:
    """Return ``--option k=v …``: a value that is JSON counts as that, any other as text.

    Raises
    ------
    BadInput
        A pair without a name or a value, or the same name twice.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadInput(f"--option {pair!r}: name=value is wanted", hint="Such as --option k=3.")
        if name in out:
            raise BadInput(f"--option {name} is given twice", hint="Give each option once.")
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


def _indexes(given: argparse.Namespace) -> list[str]:
    from workbench.workspace import Workspace

    with Workspace(given.workspace) as home:
        return home.index_names()
