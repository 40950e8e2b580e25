"""A panel to search an index with words, with a picture, or with one of its own items.

The page and the kernel exchange custom messages; pictures travel beside them as binary buffers, here
written as ``+``.

::

    page -> kernel   {"type": "search", "seq": 7, "by": "text",  "query": "강아지", "k": 20, "options": {...}}
                     {"type": "search", "seq": 8, "by": "image", "k": 20, "options": {...}} + [picture]
                     {"type": "search", "seq": 9, "by": "item",  "item": "1F436", "k": 20, "options": {...}}
    kernel -> page   {"type": "answer", "seq": 7, "hits": [{"id", "score", "distance", "caption", "subtitle",
                      "label", "meter", "thumbnail": index of a buffer or null}, ...],
                      "took_ms": {...}, "note": "", "cutoff": 8} + thumbnails
                     {"type": "error", "seq": 7, "message": "...", "hint": "..."}

Every question is answered once, with its own number. The page drops an answer that is older than its
newest question. What the page may ask (fields, choices of k, limits) stands in the trait ``setup``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import BadInput, BadOptions, NotSupported, WorkbenchError
from workbench.panels.assets import assets
from workbench.panels.fields import form_fields, initial_values
from workbench.panels.panel import Panel
from workbench.results.hits import SearchResult
from workbench.search.client import SearchClient
from workbench.search.indexes import index_adapter, newest_index
from workbench.search.searcher import MAX_IMAGE_BYTES, MAX_QUERY_CHARACTERS, Searcher

if TYPE_CHECKING:
    from IPython.display import HTML

    from workbench.workspace import Workspace

_LOG = logging.getLogger(__name__)

#: How many results a visitor may ask for.
K_CHOICES = (20, 50, 100)

_METHODS = {"text": "search_by_text", "image": "search_by_image", "item": "search_by_item"}


class SearchPanel(Panel):
    """Search an index: a box, sample queries, the searcher's own options, and a gallery.

    Parameters
    ----------
    searcher : Searcher
        An opened index.
    query : str
        A query to start with.
    """

    _esm = assets("dom.js", "search.js")
    _css = assets("theme.css", "search.css")

    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, searcher: Searcher, *, query: str = "") -> None:
        self.searcher = searcher
        fields = [field for field in form_fields(searcher.schema) if field["kind"] != "json"]
        self._option_names = frozenset(field["name"] for field in fields)
        super().__init__(setup=_setup(searcher, fields, query))
        self.on_msg(lambda _, content, buffers: self._on_message(content, buffers))

    def _on_message(self, content: Any, buffers: Sequence[Any]) -> None:
        """Answer one message from the page; nothing a visitor sends raises here."""
        if not isinstance(content, Mapping) or content.get("type") != "search":
            return
        seq = content.get("seq") if isinstance(content.get("seq"), int) else 0
        try:
            answer, thumbnails = _packed(self._search(content, buffers))
        except WorkbenchError as error:
            answer, thumbnails = {"type": "error", "message": error.message, "hint": error.hint}, []
        except Exception:
            # A visitor learns nothing of the machine; the trace is in the log of whoever publishes.
            _LOG.exception("a search failed")
            answer, thumbnails = (
                {
                    "type": "error",
                    "message": "The search failed for a reason of its own.",
                    "hint": "Try another query; the details are in the log.",
                },
                [],
            )
        self.send({**answer, "seq": seq}, buffers=thumbnails)

    def _search(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> SearchResult:
        by, k, options = content.get("by"), content.get("k", K_CHOICES[0]), content.get("options", {})
        if not isinstance(by, str) or by not in _METHODS:
            raise BadInput(f"a search is by {', '.join(_METHODS)}, not by {by!r}")
        if isinstance(k, bool) or k not in K_CHOICES:
            raise BadInput(f"k is one of {', '.join(map(str, K_CHOICES))}, not {k!r}")
        if not isinstance(options, Mapping):
            raise BadInput(f"options are a mapping, not {type(options).__name__}")
        unknown = sorted(str(name) for name in options if name not in self._option_names)
        if unknown:
            allowed = ", ".join(sorted(self._option_names)) or "none"
            raise BadOptions(f"no option {', '.join(unknown)}; allowed: {allowed}")
        if by == "image":
            return self.searcher.by_image(bytes(buffers[0]) if buffers else b"", k, **options)
        given = content.get("query" if by == "text" else "item")
        if not isinstance(given, str):
            raise BadInput("the query is no text")
        ask = self.searcher.by_text if by == "text" else self.searcher.by_item
        return ask(given, k, **options)


def search_page(
    workspace: Workspace | str | os.PathLike[str], index: str | None = None, *, service: bool = False
) -> SearchPanel | HTML:
    """Return the search panel of an index, or a page that says what to do where there is none.

    Parameters
    ----------
    workspace : Workspace or path
        Where the indexes are. Of a path the workspace's search service is asked, and nothing else of the
        workspace is opened: a kernel that only shows this page stays light.
    index : str, optional
        Which one; ``$WORKBENCH_INDEX``, else the newest, if not given.
    service : bool
        Whether the search service holds the index for a workspace too, instead of this process.
    """
    try:
        name = index or os.environ.get("WORKBENCH_INDEX") or _newest(workspace)
        if name is not None:
            return SearchPanel(_opened(workspace, name, service=service))
    except WorkbenchError as error:
        return _message("This index cannot be opened", error.message, error.hint)
    said = "A search page needs an index, and this workspace has none."
    return _message(
        "Nothing to search yet", said, "Run `workbench demo`, or build an index in the jobs panel."
    )


def _opened(workspace: Workspace | str | os.PathLike[str], name: str, *, service: bool) -> Searcher:
    if not isinstance(workspace, (str, os.PathLike)):
        return workspace.open_search(name, service=service)
    home = Path(workspace).expanduser().resolve()
    index_adapter(home / "indexes", name)  # what cannot be opened is said without starting anything
    return SearchClient(home).open_search(name)


def _newest(workspace: Workspace | str | os.PathLike[str]) -> str | None:
    """Return the index that was built last; of a workspace on a server, the last by name."""
    if isinstance(workspace, (str, os.PathLike)):
        return newest_index(Path(workspace).expanduser() / "indexes")
    try:
        return newest_index(workspace.indexes)
    except NotSupported:
        return next(reversed(workspace.index_names()), None)


def _message(title: str, said: str, hint: str) -> HTML:
    from IPython.display import HTML

    body = f"<b>{escape(title)}</b>{escape(said)}<br>{escape(hint)}"
    return HTML(  # type: ignore[no-untyped-call]
        f'<style>{assets("theme.css")}</style><div class="wb"><div class="wb-empty">{body}</div></div>'
    )


def _setup(searcher: Searcher, fields: Sequence[Mapping[str, Any]], query: str) -> dict[str, Any]:
    about = searcher.describe()
    return {
        "title": str(about["title"]),
        "subtitle": str(about["subtitle"]),
        "credits": [str(credit) for credit in about["credits"]],
        "samples": [{"text": one.text, "language": one.language} for one in searcher.sample_queries()],
        "by": {by: searcher.adapter.offers(method) for by, method in _METHODS.items()},
        "fields": list(fields),
        "options": initial_values(fields),
        "kChoices": list(K_CHOICES),
        "maxImageBytes": MAX_IMAGE_BYTES,
        "maxQueryCharacters": MAX_QUERY_CHARACTERS,
        "query": query,
    }


def _packed(result: SearchResult) -> tuple[dict[str, Any], list[bytes]]:
    """Return a result as one message, with all its thumbnails as buffers beside it."""
    thumbnails: list[bytes] = []
    hits = []
    for hit in result:
        place = None
        if hit.thumbnail is not None:
            place = len(thumbnails)
            thumbnails.append(hit.thumbnail)
        hits.append({**hit.to_json(thumbnails=False), "thumbnail": place})
    answer = {
        "type": "answer",
        "hits": hits,
        "took_ms": result.took_ms,
        "note": result.note,
        "cutoff": result.cutoff,
    }
    return answer, thumbnails
