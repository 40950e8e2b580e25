"""``workbench explain``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import (
    chosen_index,
    command,
    existing_folder,
    options,
    takes_index,
    takes_options,
)
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table, show
from workbench.errors import BadInput, NotFound, NotSupported
from workbench.text import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from workbench.results.explanation import Side, Term
    from workbench.results.result import View
    from workbench.search.searcher import Searcher

#: Endings of files that are pictures, so that a mistyped path is not taken for a text.
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")

#: Cells of one line.
_LINE_CELLS = 64


def add(commands: Any) -> None:
    """Add the command."""
    about = "Explain why two texts, pictures or items of an index are near, or far from each other."
    explain = command(commands, "explain", _explain, about)
    meaning = (
        "a picture file, the id of an item, or a text; text:…, image:… or item:… in front says which is meant"
    )
    explain.add_argument("left", metavar="A", help=meaning)
    explain.add_argument("right", metavar="B", help="the same")
    takes_index(explain, "name of the index (default: the only one)")
    takes_options(explain, lambda _: "search")


def _explain(args: argparse.Namespace) -> int:
    from workbench.search.indexes import open_index

    folder = existing_folder(args) / "indexes"
    searcher = open_index(folder, chosen_index(folder, args.index))
    if not searcher.adapter.offers("explain"):
        raise NotSupported(searcher.adapter.name, "explain")
    left, right = (_term(searcher, given) for given in (args.left, args.right))
    explanation = searcher.explain(left, right, **options(args.option))
    if args.json:
        document = explanation.model_dump()
        for side in ("left", "right"):
            del document[side]["thumbnail"]
        print_document({"index": searcher.name, **document})
        return DONE
    show(f"A: {_named(explanation.left)}")
    show(f"B: {_named(explanation.right)}")
    show(explanation.summary)
    for view in explanation.views:
        _print_view(view)
    return DONE


def _term(searcher: Searcher, given: str) -> Term:
    """Return what an argument means: what it says in front, else a file, else an item, else a text."""
    from workbench.results.explanation import Term

    kind, colon, rest = given.partition(":")
    if colon and kind == "text":
        return Term("text", rest)
    if colon and kind == "item":
        return Term("item", rest)
    path = Path(rest if colon and kind == "image" else given)
    if (colon and kind == "image") or _is_file(path):
        return Term("image", path, path.name)
    if given.lower().endswith(_PICTURES) and not any(one.isspace() for one in given):
        raise BadInput(f"{given!r}: no such file", hint=f"If it is a text, write: text:{given}")
    item = Term("item", given)
    try:
        searcher.explain(item, item)
    except (BadInput, NotFound):
        return Term("text", given)
    return item


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than a path may be
        return False


def _named(side: Side) -> str:
    kind = {"text": "text", "image": "picture", "item": f"item {side.id}"}[side.by]
    captions = [shortened(text) for text in (side.caption, side.subtitle) if text]
    return f"{' · '.join(captions)} ({kind})"


def _print_view(view: View) -> None:
    show()
    show(view.title)
    if view.kind == "cells":
        for line in cell_lines(view.data):
            show(line)
    elif view.kind == "retrieval_table":
        columns = view.data["columns"]
        rows = [[_cell(row.get(column["key"])) for column in columns] for row in view.data["rows"]]
        print_table([str(column["label"]) for column in columns], rows)
    elif view.kind == "metrics_table":
        print_table(
            ("metric", "value"), [(str(row["name"]), _cell(row["value"])) for row in view.data["rows"]]
        )
    else:
        show("(drawn in a notebook: wb.show(searcher.explain(…)))")
    for note in view.notes:
        show(note)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return "–" if value is None else str(value)


def cell_lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield rows of cells for a terminal, each above the other, with ``^`` below the places that differ."""
    for row in data["rows"]:
        note = f"  ({row['note']})" if row.get("note") else ""
        yield f"{row['name']}{note}"
        left, right = str(row["left"]), str(row["right"])
        marks = "".join(" " if one == two else "^" for one, two in zip(left, right, strict=True))
        for start in range(0, len(left), _LINE_CELLS):
            for name, line in (("A", left), ("B", right), (" ", marks)):
                part = line[start : start + _LINE_CELLS]
                spaced = " ".join(part[place : place + 8] for place in range(0, len(part), 8))
                if name != " " or spaced.strip():
                    yield f"  {name} {spaced}".rstrip()
