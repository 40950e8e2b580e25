"""A panel that searches an index by text, by picture, or by one of the index's own items.

The page and the kernel exchange custom messages; pictures are sent along as binary buffers, written here
as ``+``.

::

    page -> kernel   {"type": "search", "seq": 7, "by": "text",  "query": "강아지", "k": 20, "options": {...}}
                     {"type": "search", "seq": 8, "by": "image", "k": 20, "options": {...}} + [picture]
                     {"type": "search", "seq": 9, "by": "item",  "item": "1F436", "k": 20, "options": {...}}
    kernel -> page   {"type": "answer", "seq": 7, "hits": [{"id", "score", "distance", "caption", "subtitle",
                      "label", "meter", "path", "thumbnail": index of a buffer or null}, ...],
                      "took_ms": {...}, "note": "", "cutoff": 8} + thumbnails
                     {"type": "error", "seq": 7, "message": "...", "hint": "...",
                      "option": the option that is wrong, or empty}

    page -> kernel   {"type": "explain", "seq": 1, "hit": "1F436", "options": {...}, "by", ...: as above}
    kernel -> page   {"type": "explanation", "seq": 1, "html": "...", "message": "", "hint": ""}

    page -> kernel   {"type": "fields", "seq": 1}
    kernel -> page   {"type": "fields", "seq": 1, "fields": [{"name", "text", "kind", "help", "more",
                      "values": [{"value", "text", "count"}, ...]}, ...], "message": "", "hint": ""}

Every request gets one answer with the same ``seq``. The page drops answers to older requests than its
newest. A published page is not sent where a picture's file is, unless its publisher wants that shown; ids of
such pictures may tell it too, so the page gets stand-ins for them. Explanations are for those who run the
notebook: a published page offers none, since they show more of the model than a search does. What the page
may request (fields, choices of k, limits) is in the trait ``setup``. The fields of filters and their values
are asked for when the visitor wants to see them; ``text`` is how a name or value is typed. A published page
neither lists nor accepts those that tell where files are.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from html import escape
from typing import Any, cast

import traitlets

from workbench.errors import (
    AdapterBroken,
    BadInput,
    BadName,
    BadOptions,
    Busy,
    CorruptFile,
    MissingExtra,
    NotFound,
    NotSupported,
    SearchFailed,
    StoreUnavailable,
    TooLarge,
    WorkbenchError,
)
from workbench.panels.base.assets import assets, panel_script
from workbench.panels.base.fields import form_fields, initial_values
from workbench.panels.base.panel import Panel
from workbench.results.explanation import By, Term
from workbench.results.hits import SearchResult
from workbench.search.filters import MAX_FILTER_CHARACTERS, Condition, FilterValue, parse_filter
from workbench.search.searcher import (
    MAX_IMAGE_BYTES,
    MAX_QUERY_CHARACTERS,
    PUBLISHED,
    SHOW_PATHS,
    Searcher,
)

_LOG = logging.getLogger(__name__)


#: Numbers of results a visitor can choose from.
K_CHOICES = (20, 50, 100)


#: Maximum length of an item's id, in characters.
MAX_ITEM_CHARACTERS = 1_000


#: Maximum number of ids that a published page keeps stand-ins for.
KEPT_IDS = 10_000


#: A path of the machine in an error's text.
_FOLDER = re.compile(r"(?<![\w/:])/[\w.~-]+/|[A-Za-z]:\\|\bworkbench ")


#: What a page may ask, and what is sent back if that fails.
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "search": {"type": "error", "option": ""},
    "explain": {"type": "explanation", "html": ""},
    "fields": {"type": "fields", "fields": []},
}


#: Maximum number of fields that are suggested, and of values of each.
MOST_FIELDS, MOST_VALUES = 30, 12


_METHODS = {"text": "search_by_text", "image": "search_by_image", "item": "search_by_item"}


class SearchPanel(Panel):
    """Search an index: a query box, sample queries, the searcher's options, and a gallery.

    Parameters
    ----------
    searcher : Searcher
        An open index.
    query : str
        The initial query.
    """

    _esm = panel_script("search/filter.js", "search/search.js")
    _css = assets("base/theme.css", "base/trophy.css", "results/results.css", "search/search.css")

    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, searcher: Searcher, *, query: str = "") -> None:
        self.searcher = searcher
        about = searcher.describe()
        fields = _offered(form_fields(searcher.schema), about.get("choices", {}))
        self._option_names = frozenset(field["name"] for field in fields)
        self._filter = _filter_option(searcher.schema, self._option_names)
        self._private = frozenset(map(str.casefold, about.get("private_fields", ())))
        self._ids: dict[str, str] = {}  # by their stand-ins
        setup = _setup(searcher, about, fields, query, self._hide)
        self._start_ids = dict(self._ids)  # of the pictures to start with, which are there all the time
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
        if not isinstance(content, Mapping) or content.get("type") not in _KINDS:
            return
        seq = content.get("seq") if isinstance(content.get("seq"), int) else 0
        kind = dict(_KINDS[content["type"]])
        thumbnails: list[bytes] = []
        try:
            if content["type"] == "explain":
                answer = {**kind, "html": self._explain(content, buffers), "message": "", "hint": ""}
            elif content["type"] == "fields":
                answer = {**kind, "fields": self._fields(), "message": "", "hint": ""}
            else:
                answer, thumbnails = _packed(self._search(content, buffers), self._hide)
        except WorkbenchError as error:
            message, hint = shown(error)
            answer = {**kind, "message": message, "hint": hint}
            if kind["type"] == "error" and isinstance(error, BadOptions):
                wrong = (name for name, _ in error.problems if name in self._option_names)
                answer["option"] = next(wrong, "")
        except Exception:
            # Visitors learn nothing about the machine; the traceback is in the publisher's log.
            _LOG.exception("a search failed")
            failed = SearchFailed(
                "Internal error in the search.",
                hint="Try another query.",
                advice="The details are in the log.",
            )
            message, hint = shown(failed)
            answer = {**kind, "message": message, "hint": hint}
        self.send({**answer, "seq": seq}, buffers=thumbnails)

    def _search(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> SearchResult:
        by, k = _by(content), content.get("k", K_CHOICES[0])
        if isinstance(k, bool) or k not in K_CHOICES:
            raise BadInput(f"k must be one of {', '.join(map(str, K_CHOICES))}, got {_short(repr(k), 60)}")
        options = self._options(content)
        if by == "image":
            return self.searcher.by_image(bytes(buffers[0]) if buffers else b"", k, **options)
        if by == "text":
            return self.searcher.by_text(_text(content, "query"), k, **options)
        item = _text(content, "item")
        item = self._ids.get(item) or self._start_ids.get(item, item)
        return self.searcher.by_item(item, k, **options)

    def _hide(self, hit: dict[str, Any]) -> dict[str, Any]:
        """Return a hit as it is sent: on a published page without its path, or an id that tells it."""
        if not hit["path"] or _shows_paths():
            return hit
        stand_in = hashlib.sha256(hit["id"].encode("utf-8", "surrogatepass")).hexdigest()[:32]
        self._ids.pop(stand_in, None)
        self._ids[stand_in] = hit["id"]
        while len(self._ids) > KEPT_IDS:
            del self._ids[next(iter(self._ids))]
        named = hit["caption"] in ("", re.split(r"[\\/]", hit["path"])[-1])  # after its file
        return {**hit, "id": stand_in, "caption": "Picture" if named else hit["caption"], "path": ""}

    def _options(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        options = content.get("options", {})
        if not isinstance(options, Mapping):
            raise BadInput(f"options must be a mapping, got {type(options).__name__}")
        unknown = sorted(str(name) for name in options if name not in self._option_names)
        if unknown:
            allowed = ", ".join(sorted(self._option_names)) or "none"
            raise BadOptions(f"unknown option {_short(', '.join(unknown), 60)}; allowed: {allowed}")
        if self._private and not _shows_paths() and options.get(self._filter):
            asked = parse_filter(options[self._filter])
            for condition in asked.conditions():
                if condition.field.casefold() in self._private:
                    problem = f"'{_short(condition.field, 60)}' is no field of this page"
                    raise asked.refused(problem, condition.at)
        return options

    def _fields(self) -> list[dict[str, Any]]:
        """Return the fields that a filter may use, with some values, each also as it is typed."""
        if not self._filter or not self.searcher.adapter.offers("filter_fields"):
            raise NotSupported(self.searcher.adapter.name, "filter_fields")
        hidden = frozenset() if _shows_paths() else self._private
        known = [one for one in self.searcher.filter_fields() if one.name.casefold() not in hidden]
        return [
            {
                "name": one.name,
                "text": str(Condition(one.name, ":", (FilterValue("x"),))).removesuffix(":x"),
                "kind": one.kind,
                "help": one.help,
                "more": one.more or len(one.values) > MOST_VALUES,
                "values": [
                    {"value": value, "text": str(FilterValue(value)), "count": count}
                    for value, count in one.values[:MOST_VALUES]
                ],
            }
            for one in known[:MOST_FIELDS]
        ]

    def _explain(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> str:
        """Return why a hit is near what was searched for, as HTML."""
        from workbench.panels.results.html import explanation_html  # visitors' kernels do without it

        if not _explains(self.searcher):
            raise NotSupported(self.searcher.adapter.name, "explain")
        by, hit, options = _by(content), _text(content, "hit"), self._options(content)
        if by == "image":
            value: Any = bytes(buffers[0]) if buffers else b""
        else:
            value = _text(content, "query" if by == "text" else "item")
        name = content.get("name")
        asked = Term(by, value, _short(name, 100) if isinstance(name, str) else "")
        return explanation_html(self.searcher.explain(asked, Term("item", hit), **options))


def _filter_option(schema: Mapping[str, Any], offered: Collection[str]) -> str:
    """Return the search option that is a filter; empty if there is none."""
    formats = {name: node.get("format") for name, node in schema.get("properties", {}).items()}
    return next((name for name, kind in formats.items() if kind == "filter" and name in offered), "")


def _by(content: Mapping[str, Any]) -> By:
    """Return what a message searches by."""
    by = content.get("by")
    if not isinstance(by, str) or by not in _METHODS:
        raise BadInput(f"by must be one of {', '.join(_METHODS)}, got {_short(repr(by), 60)}")
    return cast("By", by)


def _text(content: Mapping[str, Any], name: str) -> str:
    """Return a query or an item's id from a message."""
    value = content.get(name)
    if not isinstance(value, str):
        raise BadInput(f"the {name} must be text, got {type(value).__name__}")
    if name != "query" and len(value) > MAX_ITEM_CHARACTERS:
        raise BadInput(f"an item's id must be at most {MAX_ITEM_CHARACTERS:,} characters, got {len(value):,}")
    return value


def _shows_paths() -> bool:
    """Return whether this panel shows paths: always in a notebook, on a published page only if chosen."""
    return not os.environ.get(PUBLISHED) or bool(os.environ.get(SHOW_PATHS))


def _explains(searcher: Searcher) -> bool:
    return searcher.adapter.offers("explain") and not os.environ.get(PUBLISHED)


def shown(error: WorkbenchError) -> tuple[str, str]:
    """Return an error's message and what to do, as they are shown here.

    A notebook shows everything. A published page shows message and hint only if they are about what the
    visitor sent, and never the advice for the owner. Other errors name files, folders, indexes and commands
    of the machine: they are logged for the publisher, and the visitor reads what that means for the search.
    """
    if not os.environ.get(PUBLISHED):
        return error.message, error.help
    about_the_query = isinstance(error, (BadInput, TooLarge, NotSupported)) and not isinstance(error, BadName)
    if about_the_query and not _FOLDER.search(f"{error.message}\n{error.hint}"):
        if error.advice:
            _LOG.warning("%s", _short(str(error), 2_000))
        return _short(error.message), _short(error.hint)
    _LOG.warning("%s: %s", type(error).__name__, _short(str(error), 2_000))
    if isinstance(error, (Busy, StoreUnavailable)):
        return "The search is busy.", "Please try again in a moment."
    if isinstance(error, (NotFound, CorruptFile, AdapterBroken, MissingExtra)):
        return "This collection cannot be searched right now.", "Please try again later."
    return "This search failed.", "Please try another query, or try again in a moment."


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _offered(
    fields: Sequence[Mapping[str, Any]], choices: Mapping[str, Sequence[Any]]
) -> list[Mapping[str, Any]]:
    """Return the fields to show, each with the choices that make sense here; none with only one of them."""
    out: list[Mapping[str, Any]] = []
    for field in fields:
        if field["kind"] == "json":
            continue
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


def _setup(
    searcher: Searcher,
    about: Mapping[str, Any],
    fields: Sequence[Mapping[str, Any]],
    query: str,
    hide: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    ways = about.get("by", list(_METHODS))
    leads = about.get("lead") == "picture" and "item" in ways and searcher.adapter.offers("search_by_item")
    return {
        "title": str(about["title"]),
        "subtitle": str(about["subtitle"]),
        "credits": [str(credit) for credit in about["credits"]],
        "samples": [{"text": one.text, "language": one.language} for one in searcher.sample_queries()],
        "pictures": _starts(searcher, hide) if leads else [],
        "note": str(about.get("note", "")),
        "lead": "picture" if about.get("lead") == "picture" else "text",
        "by": {by: by in ways and searcher.adapter.offers(method) for by, method in _METHODS.items()},
        "explain": _explains(searcher),
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
    option = _filter_option(searcher.schema, {field["name"] for field in fields})
    offered = searcher.adapter.offers("filter_fields")
    return {"option": option, "listed": offered, "most": MAX_FILTER_CHARACTERS} if option else None


def _packed(
    result: SearchResult, hide: Callable[[dict[str, Any]], dict[str, Any]]
) -> tuple[dict[str, Any], list[bytes]]:
    """Return a result as one message, and its thumbnails as buffers; ``hide`` is applied to each hit."""
    thumbnails: list[bytes] = []
    hits = []
    for hit in result:
        place = None
        if hit.thumbnail is not None:
            place = len(thumbnails)
            thumbnails.append(hit.thumbnail)
        hits.append({**hide(hit.to_json(thumbnails=False)), "thumbnail": place})
    answer = {
        "type": "answer",
        "hits": hits,
        "took_ms": result.took_ms,
        "note": result.note,
        "cutoff": result.cutoff,
    }
    return answer, thumbnails
