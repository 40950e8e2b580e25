"""The command ``workbench``.

Exit codes: 0 done, 1 failed, 2 wrong use, 75 cancelled. With ``--json`` standard output is one JSON document
and nothing else; progress and words for people go to standard error. The commands are in
:mod:`workbench.commands`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

# What the parser needs; all that is heavy is imported by the command that needs it.
from workbench.commands import completion, demo, doctor, imports, jobs, new, runs, search, serve, worker
from workbench.commands.arguments import Parser, WrongUse, everywhere
from workbench.commands.documents import ERROR, in_words
from workbench.commands.exit_codes import CANCELLED, DONE, FAILED, INTERRUPTED, WRONG_USE
from workbench.commands.output import print_error, say
from workbench.errors import BadInput, JobCancelled, NotFound, NotSupported, WorkbenchError

_ABOUT = "Launch, watch and compare training jobs, search what they made, publish the search."
_ENDING = (
    "Exit codes: 0 done, 1 failed, 2 wrong use, 75 cancelled. With --json standard output is one document, "
    f"which each command's --help shows; where a command could not be done it is {in_words(ERROR)}."
)

#: In the order of the help.
FAMILIES = (demo, jobs, worker, runs, imports, search, serve, doctor, new, completion)


def make_parser() -> Parser:
    """Return the parser of the command line."""
    from workbench import __version__

    parser = Parser(prog="workbench", description=_ABOUT, epilog=_ENDING)
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    everywhere(parser, first=True)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for family in FAMILIES:
        family.add(commands)
    return parser


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Raises
    ------
    SystemExit
        ``--help`` or ``--version`` was asked for, with code 0; or the words are none that it knows, with 2.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        given = make_parser().parse_args(words)
    except WrongUse as error:
        say(error.usage.rstrip())
        print_error(error, as_json=as_json)
        raise SystemExit(WRONG_USE) from None
    try:
        code: int = given.call(given)
        return code
    except WorkbenchError as error:
        print_error(error, as_json=given.json)
        if isinstance(error, JobCancelled):
            return CANCELLED
        return WRONG_USE if isinstance(error, (BadInput, NotFound, NotSupported)) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Exception as error:
        # Not foreseen, by us or by an adapter: where it happened is what its author needs.
        import traceback

        traceback.print_exc()
        print_error(error, as_json=given.json)
        return FAILED


def main() -> None:
    """Run the command line; the entry point ``workbench``."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for the next word, and runs nothing
        import argcomplete

        argcomplete.autocomplete(make_parser())
    sys.exit(run())


if __name__ == "__main__":
    main()
