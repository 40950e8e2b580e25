"""What commands print: one JSON document for programs, tables and sentences for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import UnknownIndex, UnknownJob, UnknownRun, WorkbenchError
from workbench.text import short, visible

#: Maximum number of lines of an error, and maximum length of one, or of a row that is one line.
MOST_LINES, LINE_CHARACTERS = 8, 600


#: The command that helps after an error.
_COMMANDS: Mapping[type[WorkbenchError], str] = {
    UnknownIndex: "Build one with: workbench jobs submit index_build --wait",
    UnknownJob: "List them with: workbench jobs list",
    UnknownRun: "List them with: workbench runs",
}


if TYPE_CHECKING:
    from rich.table import Table


def print_document(document: Any) -> None:
    """Print one JSON document on standard output; NaN is null and infinities are strings, as over HTTP."""
    from workbench import wire

    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2)
    except ValueError:
        text = json.dumps(wire.strict(document), ensure_ascii=False, allow_nan=False, indent=2)
    try:
        print(text, flush=True)
    except UnicodeEncodeError:  # the terminal's encoding, or text that is not Unicode
        print(json.dumps(wire.strict(document), indent=2), flush=True)


def show(text: str = "") -> None:
    """Print text for people on standard output."""
    print(visible(text), flush=True)


def print_error(error: BaseException, *, as_json: bool) -> None:
    """Print an error on standard error and, with ``as_json``, as a document on standard output."""
    message, hint = getattr(error, "message", "") or str(error), _hint(error)
    advice = str(getattr(error, "advice", ""))
    if as_json:
        document = {"type": type(error).__name__, "message": message, "hint": hint, "advice": advice}
        print_document({"error": document})
    complain(message, _joined(hint, advice))


def complain(error: WorkbenchError | str, hint: str = "") -> None:
    """Print an error and its hint on standard error, in a few lines."""
    message = error
    if isinstance(error, WorkbenchError):
        message, hint = error.message, _joined(_hint(error), error.advice)
    say(f"error: {few_lines(str(message))}")
    if hint:
        say(hint)


def _hint(error: BaseException) -> str:
    """Return what to do next: the command that helps, or the error's own hint."""
    command = next((hint for kind, hint in _COMMANDS.items() if isinstance(error, kind)), "")
    return command or str(getattr(error, "hint", ""))


def _joined(hint: str, advice: str) -> str:
    return " ".join(filter(None, (hint, advice)))


def few_lines(text: str) -> str:
    """Return a text cut to :data:`MOST_LINES` lines of :data:`LINE_CHARACTERS` characters."""
    lines = text.splitlines()
    kept = [short(line, LINE_CHARACTERS) for line in lines[:MOST_LINES]]
    more = len(lines) - len(kept)
    return "\n".join([*kept, f"… ({more:,} more lines)"] if more > 0 else kept)


def say(text: str) -> None:
    """Print a message for the user on standard error."""
    print(visible(text), file=sys.stderr, flush=True)


def print_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "", one_line: bool = False
) -> None:
    """Print rows under their column heads, or ``empty`` if there are no rows.

    Parameters
    ----------
    heads : sequence of str
        One per column.
    rows : sequence of sequence of str
        The cells; a terminal that is too narrow wraps them.
    empty : str
        Printed instead of a table without rows.
    one_line : bool
        Whether to cut each row to one line instead.
    """
    if not rows:
        show(empty)
        return
    from rich.console import Console

    # Lines are cut only in a terminal.
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, highlight=False).print(_table(heads, rows, one_line))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], one_line: bool) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(Text(visible(head)), overflow="ellipsis" if one_line else "fold", no_wrap=one_line)
    for row in rows:
        cells = [short(cell, LINE_CHARACTERS) for cell in row] if one_line else row
        table.add_row(*(Text(visible(cell)) for cell in cells))
    return table
