"""``workbench search``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import (
    chosen_index,
    command,
    count,
    existing_folder,
    options,
    takes_index,
    takes_options,
)
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table, show
from workbench.errors import BadInput
from workbench.text import shortened

if TYPE_CHECKING:
    from workbench.results.hits import Hit

#: A file's path, or an id, is shown with at most this many characters.
_PLACE_CHARACTERS = 120


def add(commands: Any) -> None:
    """Add the command."""
    about = "Search an index with a text or a picture."
    search = command(commands, "search", _search, about)
    search.add_argument("what", choices=("text", "image"), help="type of the query")
    search.add_argument("query", metavar="QUERY", help="a text, or the path of a picture")
    takes_index(search, "name of the index (default: the only one)")
    search.add_argument("-k", type=count, default=10, metavar="N", help="number of hits (default 10)")
    search.add_argument(
        "--filter",
        metavar="FILTER",
        help="search only among items that match, such as 'label:animal and not style:plain'",
    )
    takes_options(search, lambda _: "search")


def _search(args: argparse.Namespace) -> int:
    # Without the database: an index can be searched whatever state that is in.
    from workbench.search.indexes import open_index

    folder = existing_folder(args) / "indexes"
    searcher = open_index(folder, chosen_index(folder, args.index))
    filtering = [] if args.filter is None else [f"filter={json.dumps(args.filter)}"]
    search_options = options([*filtering, *args.option])
    if args.what == "text":
        result = searcher.by_text(args.query, args.k, **search_options)
    else:
        try:
            data = Path(args.query).read_bytes()
        except OSError as error:
            raise BadInput(f"{args.query!r} cannot be read: {error.strerror or error}") from None
        result = searcher.by_image(data, args.k, **search_options)
    if args.json:
        hits = [
            {
                "id": hit.id,
                "score": hit.score,
                "distance": hit.distance,
                "caption": hit.caption,
                "path": hit.path,
            }
            for hit in result
        ]
        document = {"hits": hits, "took_ms": result.took_ms, "note": result.note, "cutoff": result.cutoff}
        print_document(document)
        return DONE
    rows = [
        (hit.label or f"{hit.score:.3f}", *map(shortened, (hit.caption, hit.subtitle)), _place(hit))
        for hit in result
    ]
    where = "file" if any(hit.path for hit in result) else "id"
    print_table(("score", "caption", "", where), rows, empty="No results.")
    for text in (result.note, result.verdict):
        if text:
            show(text)
    return DONE


def _place(hit: Hit) -> str:
    """Return where a hit is: its file or its id; of a long one the end, and ``--json`` has the whole."""
    place = " ".join((hit.path or hit.id).splitlines())
    return place if len(place) <= _PLACE_CHARACTERS else f"…{place[-_PLACE_CHARACTERS:]}"
