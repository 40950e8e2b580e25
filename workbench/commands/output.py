"""What commands print: one JSON document for programs, tables and sentences for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.text import visible

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
    message, hint = getattr(error, "message", "") or str(error), getattr(error, "hint", "")
    if as_json:
        print_document({"error": {"type": type(error).__name__, "message": message, "hint": hint}})
    complain(message, hint)


def complain(error: WorkbenchError | str, hint: str = "") -> None:
    """Print an error and its hint on standard error."""
    message = error
    if isinstance(error, WorkbenchError):
        message, hint = error.message, error.hint
    say(f"error: {message}")
    if hint:
        say(hint)


def say(text: str) -> None:
    """Print a message for the user on standard error."""
    print(visible(text), file=sys.stderr, flush=True)


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str = "") -> None:
    """Print rows under their column heads, or ``empty`` if there are no rows."""
    if not rows:
        show(empty)
        return
    from rich.console import Console

    # Lines are cut only in a terminal.
    width = None if sys.stdout.isatty() else 10_000
    Console(width=width, highlight=False).print(_table(heads, rows))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(Text(visible(head)), overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
