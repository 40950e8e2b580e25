"""The command ``workbench``.

Exit codes: 0 success, 1 failure, 2 usage error, 75 cancelled. With ``--json`` standard output is one JSON
document and nothing else; progress and messages for people go to standard error. The commands are in
:mod:`workbench.commands`.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence

# Only what the parser needs; heavy modules are imported by the commands that use them.
from workbench.commands import (
    cache,
    cluster,
    completion,
    data,
    demo,
    doctor,
    explain,
    imports,
    index,
    jobs,
    metrics,
    new,
    notebooks,
    order,
    runs,
    search,
    serve,
    worker,
)
from workbench.commands.arguments import Parser, WrongUse, everywhere
from workbench.commands.documents import ERROR, in_words
from workbench.commands.exit_codes import CANCELLED, DONE, FAILED, INTERRUPTED, WRONG_USE
from workbench.commands.output import print_error, say
from workbench.errors import BadInput, JobCancelled, NotFound, NotSupported, WorkbenchError

_ABOUT = "Launch, watch and compare training jobs, search their indexes, and publish the search page."
_ENDING = (
    "Exit codes: 0 success, 1 failure, 2 usage error, 75 cancelled. With --json standard output is one JSON "
    f"document, which each command's --help shows; on failure it is {in_words(ERROR)}."
)

#: What is wrong with a disk, with permissions or with limits is no bug: words say it, not a traceback.
_OF_THE_SYSTEM = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ELOOP}
    | {errno.EMFILE, errno.ENFILE}
)

#: In the order of the help.
FAMILIES = (
    demo,
    data,
    jobs,
    worker,
    runs,
    imports,
    search,
    explain,
    index,
    serve,
    cluster,
    cache,
    metrics,
    doctor,
    new,
    notebooks,
    order,
    completion,
)


def _of_an_option(message: str, words: Sequence[str]) -> str:
    """Return a usage error's message; the value of an unknown option is not taken for a wrong command."""
    found = re.search(r"invalid choice: '(.*)' \(choose from", message)
    place = words.index(found[1]) if found and found[1] in words else 0
    option = words[place - 1] if place else ""
    if option.startswith("--") and "=" not in option and option != "--json":
        return f"unrecognized arguments: {option} {words[place]}"
    return message


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
        With code 0 for ``--help`` or ``--version``, and with code 2 for a usage error.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        args = make_parser().parse_args(words)
        if "check_arguments" in args:  # rules of a command that its parser cannot express
            args.check_arguments(args)
    except WrongUse as error:
        error.message = _of_an_option(error.message, words)
        say(error.usage.rstrip())
        print_error(error, as_json=as_json)
        raise SystemExit(WRONG_USE) from None
    try:
        code: int = args.call(args)
        return code
    except WorkbenchError as error:
        print_error(error, as_json=args.json)
        if isinstance(error, JobCancelled):
            return CANCELLED
        return WRONG_USE if isinstance(error, (BadInput, NotFound, NotSupported)) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            return _bug(error, as_json=args.json)
        where = f"{error.filename}: " if error.filename else ""
        print_error(WorkbenchError(f"{where}{error.strerror}"), as_json=args.json)
        return FAILED
    except Exception as error:
        return _bug(error, as_json=args.json)


def _bug(error: Exception, *, as_json: bool) -> int:
    """Print a bug of ours or of an adapter's: its author needs the traceback."""
    import traceback

    traceback.print_exc()
    print_error(error, as_json=as_json)
    return FAILED


def main() -> None:
    """Run the command line; the entry point ``workbench``."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions; no command runs
        import argcomplete

        argcomplete.autocomplete(make_parser())
    sys.exit(run())


if __name__ == "__main__":
    main()
