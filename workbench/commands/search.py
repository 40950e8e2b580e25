"""``workbench search``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.arguments import command, count, in_workspace, options, takes_index, takes_options
from workbench.commands.exit_codes import DONE
from workbench.commands.output import print_document, print_table
from workbench.errors import BadInput, NotFound

if TYPE_CHECKING:
    from workbench.workspace import Workspace


def add(commands: Any) -> None:
    """Add the command."""
    about = "Search an index with a text or a picture."
    search = command(commands, "search", in_workspace(_search), about)
    search.add_argument("what", choices=("text", "image"), help="what the query is")
    search.add_argument("query", metavar="QUERY", help="words, or the path of a picture")
    takes_index(search, "the only one if not given")
    search.add_argument("-k", type=count, default=10, metavar="N", help="how many hits")
    takes_options(search, lambda _: "search")


def _search(home: Workspace, given: argparse.Namespace) -> int:
    searcher = home.open_search(given.index or _only_index(home))
    chosen = options(given.option)
    if given.what == "text":
        result = searcher.by_text(given.query, given.k, **chosen)
    else:
        try:
            data = Path(given.query).read_bytes()
        except OSError as error:
            raise BadInput(f"{given.query!r} cannot be read: {error.strerror or error}") from None
        result = searcher.by_image(data, given.k, **chosen)
    if given.json:
        hits = [
            {"id": hit.id, "score": hit.score, "distance": hit.distance, "caption": hit.caption}
            for hit in result
        ]
        print_document({"hits": hits, "took_ms": result.took_ms})
        return DONE
    rows = [(hit.label or f"{hit.score:.3f}", hit.caption, hit.subtitle, hit.id) for hit in result]
    print_table(("score", "caption", "", "id"), rows, empty="Nothing was found.")
    if result.note:
        print(result.note)
    return DONE


def _only_index(home: Workspace) -> str:
    names = home.index_names()
    if len(names) > 1:
        raise BadInput(f"which index? There are: {', '.join(names)}", hint="Name it with --index.")
    if not names:
        said = "this workspace has no index yet"
        raise NotFound(said, hint="Build one with: workbench jobs submit index_build --wait")
    return names[0]
