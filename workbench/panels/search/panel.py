"""A panel that searches an index by text, by picture, or by one of the index's own items.

The page and the kernel exchange custom messages: the questions and answers of
:mod:`workbench.search.answering`, and explanations:

::

    page -> kernel   {"type": "explain", "seq": 1, "hit": "1F436", "options": {...}, "by", ...: as above}
    kernel -> page   {"type": "explanation", "seq": 1, "html": "...", "message": "", "hint": ""}

Explanations are for those who run the notebook: a published page offers none, since they show more of the
model than a search does. What the page may request (fields, choices of k, limits) is in the trait ``setup``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import traitlets

from workbench.errors import NotSupported
from workbench.panels.base.assets import assets, panel_script
from workbench.panels.base.fields import form_fields, initial_values
from workbench.panels.base.panel import Panel
from workbench.results.explanation import Term
from workbench.search.answering import (
    K_CHOICES,
    KINDS,
    METHODS,
    Answering,
    attempt,
    by_of,
    filter_option,
    seq_of,
    short,
    text_of,
)
from workbench.search.composition import MAX_PICTURES, MAX_TERMS
from workbench.search.filters import MAX_FILTER_CHARACTERS
from workbench.search.searcher import MAX_IMAGE_BYTES, MAX_QUERY_CHARACTERS, PUBLISHED, Searcher

#: The scripts and the style sheets of the panel.
SCRIPTS = ("search/filter.js", "search/address.js", "search/search.js")
STYLES = ("base/theme.css", "base/trophy.css", "results/results.css", "search/search.css")


class SearchPanel(Panel):
    """Search an index: a query box, sample queries, the searcher's options, and a gallery.

    Parameters
    ----------
    searcher : Searcher
        An open index.
    query : str
        The initial query; signs in it compose, as in the box: ``+dog -cat``.
    """

    _esm = panel_script(*SCRIPTS)
    _css = assets(*STYLES)

    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, searcher: Searcher, *, query: str = "") -> None:
        self.searcher = searcher
        setup, self.answering = set_up(searcher, query)
        super().__init__(setup=setup)
        self.on_msg(lambda _, content, buffers: self._on_message(content, buffers))

    def to_html(self) -> str:
        """Return what can be searched as plain HTML; a saved page cannot search."""
        setup = self.setup
        samples = " · ".join(escape(str(one["text"])) for one in setup["samples"])
        lines = [
            f"<b>{escape(setup['title'])}</b>",
            escape(setup["subtitle"]),
            escape(setup["note"]),
            f"Sample queries: {samples}" if samples else "",
            "Searching needs a running kernel: run this cell.",
            *(f"<small>{escape(credit)}</small>" for credit in setup["credits"]),
        ]
        return "".join(f"<p>{line}</p>" for line in lines if line)

    def _on_message(self, content: Any, buffers: Sequence[Any]) -> None:
        """Answer one message from the page; nothing a visitor sends raises here."""
        if not isinstance(content, Mapping):
            return
        if content.get("type") in KINDS:
            answer, thumbnails = self.answering.answer(content, buffers)
            self.send(answer, buffers=thumbnails)
        elif content.get("type") == "explain":
            html, problem = attempt(lambda: self._explain(content, buffers))
            answer = {"type": "explanation", "html": html or "", "message": "", "hint": "", **problem}
            self.send({**answer, "seq": seq_of(content)}, buffers=[])

    def _explain(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> str:
        """Return why a hit is near what was searched for, as HTML."""
        from workbench.panels.results.html import explanation_html  # visitors' kernels do without it

        if not _explains(self.searcher):
            raise NotSupported(self.searcher.adapter.name, "explain")
        by, hit, options = by_of(content), text_of(content, "hit"), self.answering.options_of(content)
        if by == "image":
            value: Any = bytes(buffers[0]) if buffers else b""
        else:
            value = text_of(content, "query" if by == "text" else "item")
        name = content.get("name")
        asked = Term(by, value, short(name, 100) if isinstance(name, str) else "")
        return explanation_html(self.searcher.explain(asked, Term("item", hit), **options))


def _explains(searcher: Searcher) -> bool:
    return searcher.adapter.offers("explain") and not os.environ.get(PUBLISHED)


def _offered(
    fields: Sequence[Mapping[str, Any]], choices: Mapping[str, Sequence[Any]]
) -> list[Mapping[str, Any]]:
    """Return the fields to show, each with the choices that make sense here; none with only one of them."""
    out: list[Mapping[str, Any]] = []
    for field in fields:
        if field["kind"] in ("json", "list", "choices"):
            continue  # for programs: a page has no room for them
        if field["kind"] == "choice" and field["name"] in choices:
            kept = [one for one in field["choices"] if one["value"] in choices[field["name"]]]
            if len(kept) < 2:
                continue
            field = {**field, "choices": kept}
        out.append(field)
    return out


def _starts(searcher: Searcher, hide: Callable[[dict[str, Any]], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return pictures of the index to search with: id, caption, and the thumbnail as bytes."""
    out = []
    for hit in searcher.sample_items():
        if hit.thumbnail is None:
            continue
        row = hide(hit.to_json(thumbnails=False))
        name = row["caption"] or re.split(r"[\\/]", row["path"] or row["id"])[-1]
        out.append({"id": row["id"], "caption": name, "thumbnail": hit.thumbnail})
    return out


def set_up(searcher: Searcher, query: str = "") -> tuple[dict[str, Any], Answering]:
    """Return what a page needs to draw the panel, and what answers its questions."""
    about = searcher.describe()
    fields = _offered(form_fields(searcher.schema), about.get("choices", {}))
    answering = Answering(searcher, [field["name"] for field in fields])
    return _setup(searcher, about, fields, query, answering.hide), answering


def _setup(
    searcher: Searcher,
    about: Mapping[str, Any],
    fields: Sequence[Mapping[str, Any]],
    query: str,
    hide: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    ways = about.get("by", list(METHODS))
    leads = about.get("lead") == "picture" and "item" in ways and searcher.adapter.offers("search_by_item")
    return {
        "title": str(about["title"]),
        "subtitle": str(about["subtitle"]),
        "credits": [str(credit) for credit in about["credits"]],
        "samples": [{"text": one.text, "language": one.language} for one in searcher.sample_queries()],
        "pictures": _starts(searcher, hide) if leads else [],
        "note": str(about.get("note", "")),
        "lead": "picture" if about.get("lead") == "picture" else "text",
        "by": {by: by in ways and searcher.adapter.offers(method) for by, method in METHODS.items()},
        "explain": _explains(searcher),
        "compose": searcher.adapter.offers("compose"),
        "maxTerms": MAX_TERMS,
        "maxPictures": MAX_PICTURES,
        "filter": _filter_setup(searcher, fields),
        "fields": list(fields),
        "options": initial_values(fields),
        "kChoices": list(K_CHOICES),
        "maxImageBytes": MAX_IMAGE_BYTES,
        "maxQueryCharacters": MAX_QUERY_CHARACTERS,
        "query": query,
    }


def _filter_setup(searcher: Searcher, fields: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the option that is a filter, and whether its fields can be listed; None if there is none."""
    option = filter_option(searcher.schema, {field["name"] for field in fields})
    offered = searcher.adapter.offers("filter_fields")
    return {"option": option, "listed": offered, "most": MAX_FILTER_CHARACTERS} if option else None
