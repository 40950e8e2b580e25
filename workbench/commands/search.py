"""``workbench search``."""

from __future__ import annotations

import argparse
import json
import re
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
    from workbench.results.hits import Hit, SearchResult
    from workbench.search.searcher import Searcher

#: A file's path, or an id, is shown with at most this many characters.
_PLACE_CHARACTERS = 120


#: A weight in front of a picture or an item, such as ``-0.5=cat.png``.
_WEIGHED = re.compile(r"([+\-]?(?:\d+(?:\.\d*)?|\.\d+))=(.+)", re.DOTALL)


def add(commands: Any) -> None:
    """Add the command."""
    about = "Search an index with a text, a picture, or a query composed of several."
    search = command(commands, "search", _search, about)
    search.add_argument("what", choices=("text", "image", "compose"), help="type of the query")
    search.add_argument(
        "query",
        metavar="QUERY",
        nargs="?",
        help="a text; the path of a picture; or, to compose, terms with signs and weights, such as "
        "'+dog -cat', '0.5*dog water', '+\"police car\" -red'",
    )
    for what, meta in (("image", "FILE"), ("item", "ID")):
        kind = "a picture" if what == "image" else "an item of the index"
        search.add_argument(
            f"--{what}",
            action="append",
            default=[],
            metavar=f"[WEIGHT=]{meta}",
            help=f"compose: {kind}, such as -0.5={meta}; repeatable",
        )
    search.set_defaults(check_arguments=lambda args: _check(search, args))
    takes_index(search, "name of the index (default: the only one)")
    search.add_argument("-k", type=count, default=10, metavar="N", help="number of hits (default 10)")
    search.add_argument(
        "--filter",
        metavar="FILTER",
        help="search only among items that match, such as 'label:animal and not style:plain'",
    )
    takes_options(search, lambda _: "search")


def _check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse a search without a query, and terms beside one that is not composed."""
    composes, terms = args.what == "compose", bool(args.image or args.item)
    if args.query is None and not (composes and terms):
        parser.error("the following arguments are required: QUERY")
    if terms and not composes:
        parser.error("--image and --item are for search compose")


def _search(args: argparse.Namespace) -> int:
    # Without the database: an index can be searched whatever state that is in.
    from workbench.search.indexes import open_index

    folder = existing_folder(args) / "indexes"
    searcher = open_index(folder, chosen_index(folder, args.index))
    filtering = [] if args.filter is None else [f"filter={json.dumps(args.filter)}"]
    result = _result(searcher, args, options([*filtering, *args.option]))
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


def _result(searcher: Searcher, args: argparse.Namespace, search_options: dict[str, Any]) -> SearchResult:
    from workbench.results.explanation import Term
    from workbench.search.composition import parse_terms

    if args.what == "text":
        return searcher.by_text(args.query, args.k, **search_options)
    if args.what == "image":
        return searcher.by_image(_picture(args.query), args.k, **search_options)
    terms: list[tuple[float, Term]] = parse_terms(args.query) if args.query is not None else []
    for weight, path in map(_weighed, args.image):
        terms.append((weight, Term("image", _picture(path), Path(path).name)))
    terms += [(weight, Term("item", item)) for weight, item in map(_weighed, args.item)]
    return searcher.compose(terms, args.k, **search_options)


def _weighed(given: str) -> tuple[float, str]:
    """Return the weight in front of a picture or an item, 1 if there is none, and what is behind it."""
    found = _WEIGHED.fullmatch(given)
    return (float(found[1]), found[2]) if found else (1.0, given)


def _picture(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _place(hit: Hit) -> str:
    """Return where a hit is: its file or its id; of a long one the end, and ``--json`` has the whole."""
    place = " ".join((hit.path or hit.id).splitlines())
    return place if len(place) <= _PLACE_CHARACTERS else f"…{place[-_PLACE_CHARACTERS:]}"
