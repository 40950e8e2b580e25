"""Answer what a search page asks, the same for a panel in a notebook and for a published page.

A page asks by messages; pictures are sent along as binary buffers, written here as ``+``.

::

    page   -> {"type": "search", "seq": 7, "by": "text",  "query": "강아지", "k": 20, "options": {...}}
              {"type": "search", "seq": 8, "by": "image", "k": 20, "options": {...}} + [picture]
              {"type": "search", "seq": 9, "by": "item",  "item": "1F436", "k": 20, "options": {...}}
              {"type": "search", "seq": 10, "by": "compose", "k": 20, "options": {...}, "terms": [
               {"weight": 1, "by": "text", "query": "dog"}, {"weight": -1, "by": "item", "item": "1F431"},
               {"weight": 0.5, "by": "image", "picture": index of a buffer}]} + pictures
    answer <- {"type": "answer", "seq": 7, "hits": [{"id", "score", "distance", "caption", "subtitle",
               "label", "meter", "path", "thumbnail": index of a buffer or null}, ...],
               "took_ms": {...}, "note": "", "cutoff": 8} + thumbnails
              {"type": "error", "seq": 7, "message": "...", "hint": "...",
               "option": the option that is wrong, or empty}

    page   -> {"type": "fields", "seq": 1}
    answer <- {"type": "fields", "seq": 1, "fields": [{"name", "text", "kind", "help", "more",
               "values": [{"value", "text", "count"}, ...]}, ...], "message": "", "hint": ""}

Every question gets one answer with the same ``seq``; the page drops answers to older questions than its
newest. A published page is not sent where a picture's file is, unless its publisher wants that shown; ids of
such pictures may tell it too, so the page gets stand-ins for them. The fields of filters and their values are
asked for when the visitor wants to see them; ``text`` is how a name or value is typed. A published page
neither lists nor accepts those that tell where files are.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, cast

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
    UnknownIndex,
    WorkbenchError,
)
from workbench.results.explanation import By, Term
from workbench.results.hits import SearchResult
from workbench.search.composition import MAX_TERMS
from workbench.search.filters import Condition, FilterValue, parse_filter
from workbench.search.searcher import PUBLISHED, SHOW_PATHS, Searcher
from workbench.search.stand_ins import StandIns

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")


#: Numbers of results a visitor can choose from.
K_CHOICES = (20, 50, 100)


#: Maximum length of an item's id, in characters.
MAX_ITEM_CHARACTERS = 1_000


#: A path of the machine in an error's text.
_FOLDER = re.compile(r"(?<![\w/:])/[\w.~-]+/|[A-Za-z]:\\|\bworkbench ")


#: What a page may ask, and what is sent back if that fails.
KINDS: Mapping[str, Mapping[str, Any]] = {
    "search": {"type": "error", "option": ""},
    "fields": {"type": "fields", "fields": []},
}


#: Maximum number of fields that are suggested, and of values of each.
MOST_FIELDS, MOST_VALUES = 30, 12


#: The adapter's method for each way to search.
METHODS = {"text": "search_by_text", "image": "search_by_image", "item": "search_by_item"}


class Answering:
    """Answers the questions of a search page.

    Parameters
    ----------
    searcher : Searcher
        An open index.
    option_names : collection of str
        The options that the page may set.
    stand_ins : StandIns, optional
        Makes the stand-ins for ids that tell a path. Default: with the publisher's key, or a new one.
    """

    def __init__(
        self, searcher: Searcher, option_names: Sequence[str], stand_ins: StandIns | None = None
    ) -> None:
        self.searcher = searcher
        self.option_names = frozenset(option_names)
        self._filter = filter_option(searcher.schema, self.option_names)
        self._private = frozenset(map(str.casefold, searcher.describe().get("private_fields", ())))
        self._stand_ins = stand_ins or StandIns()

    def answer(
        self, content: Mapping[str, Any], buffers: Sequence[Any] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Return the answer to a question of :data:`KINDS`, and its thumbnails; nothing sent here raises."""
        kind = KINDS[content["type"]]
        thumbnails: list[bytes] = []
        if content["type"] == "fields":
            fields, problem = attempt(self.fields)
            body = {**kind, "fields": fields or [], "message": "", "hint": "", **problem}
        else:
            found, problem = attempt(lambda: packed(self.search(content, buffers), self.hide))
            body, thumbnails = found or ({**kind, **problem}, [])
        wrong = (name for name in body.pop("options", ()) if name in self.option_names)
        if body["type"] == "error":
            body["option"] = next(wrong, "")
        return {**body, "seq": seq_of(content)}, thumbnails

    def search(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> SearchResult:
        """Return the result of a question.

        Raises
        ------
        WorkbenchError
            The question is invalid, or the search failed.
        """
        by = "compose" if content.get("by") == "compose" else by_of(content)
        k = content.get("k", K_CHOICES[0])
        if isinstance(k, bool) or k not in K_CHOICES:
            raise BadInput(f"k must be one of {', '.join(map(str, K_CHOICES))}, got {short(repr(k), 60)}")
        options = self.options_of(content)
        if by == "compose":
            return self.searcher.compose(self._terms(content, buffers), k, **options)
        if by == "image":
            return self.searcher.by_image(bytes(buffers[0]) if buffers else b"", k, **options)
        if by == "text":
            return self.searcher.by_text(text_of(content, "query"), k, **options)
        return self.searcher.by_item(self._item(content), k, **options)

    def _item(self, content: Mapping[str, Any]) -> str:
        """Return the id of an item of a question; a published page may have sent its stand-in."""
        return self._stand_ins.item_of(text_of(content, "item"))

    def _terms(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> list[tuple[Any, Term]]:
        """Return the terms of a composed query; their number and weights are checked by the searcher."""
        given = content.get("terms")
        if not isinstance(given, Sequence) or isinstance(given, str) or len(given) > MAX_TERMS:
            raise BadInput(f"the terms must be a list of at most {MAX_TERMS}, got {short(repr(given), 60)}")
        terms: list[tuple[Any, Term]] = []
        for term in given:
            if not isinstance(term, Mapping):
                raise BadInput(f"a term must be a mapping, got {type(term).__name__}")
            by, place = by_of(term), term.get("picture")
            if by == "text":
                value: Any = text_of(term, "query")
            elif by == "item":
                value = self._item(term)
            elif isinstance(place, int) and not isinstance(place, bool) and 0 <= place < len(buffers):
                value = bytes(buffers[place])
            else:
                raise BadInput(f"picture must be one of {len(buffers)} buffers, got {short(repr(place), 60)}")
            terms.append((weight_of(term), Term(by, value)))
        return terms

    def fields(self) -> list[dict[str, Any]]:
        """Return the fields that a filter may use, with some values, each also as it is typed.

        Raises
        ------
        NotSupported
            There are no filters, or their fields are not listed.
        """
        if not self._filter or not self.searcher.adapter.offers("filter_fields"):
            raise NotSupported(self.searcher.adapter.name, "filter_fields")
        hidden = frozenset() if shows_paths() else self._private
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

    def hide(self, hit: dict[str, Any]) -> dict[str, Any]:
        """Return a hit as it is sent: on a published page without its path, or an id that tells it."""
        if not hit["path"] or shows_paths():
            return hit
        named = hit["caption"] in ("", re.split(r"[\\/]", hit["path"])[-1])  # after its file
        stand_in = self._stand_ins.stand_in_of(hit["id"])
        return {**hit, "id": stand_in, "caption": "Picture" if named else hit["caption"], "path": ""}

    def options_of(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the search options of a question.

        Raises
        ------
        BadInput
            They are no mapping, or the page may not set one of them.
        """
        options = content.get("options", {})
        if not isinstance(options, Mapping):
            raise BadInput(f"options must be a mapping, got {type(options).__name__}")
        unknown = sorted(str(name) for name in options if name not in self.option_names)
        if unknown:
            allowed = ", ".join(sorted(self.option_names)) or "none"
            raise BadOptions(f"unknown option {short(', '.join(unknown), 60)}; allowed: {allowed}")
        if self._private and not shows_paths() and options.get(self._filter):
            asked = parse_filter(options[self._filter])
            for condition in asked.conditions():
                if condition.field.casefold() in self._private:
                    problem = f"'{short(condition.field, 60)}' is no field of this page"
                    raise asked.refused(problem, condition.at)
        return options


def attempt(work: Callable[[], _T]) -> tuple[_T | None, dict[str, Any]]:
    """Return what a function returns, or None and the problem as a page shows it, with the wrong options."""
    try:
        return work(), {}
    except WorkbenchError as error:
        known: WorkbenchError = error
    except Exception:
        # Visitors learn nothing about the machine; the traceback is in the publisher's log.
        _LOG.exception("a search failed")
        known = SearchFailed(
            "Internal error in the search.", hint="Try another query.", advice="The details are in the log."
        )
    message, hint = shown(known)
    more: dict[str, Any] = {"retry_after": known.retry_after} if isinstance(known, Busy) else {}
    if isinstance(known, BadOptions):
        more["options"] = [name for name, _ in known.problems]
    return None, {"message": message, "hint": hint, **more}


def filter_option(schema: Mapping[str, Any], offered: Collection[str]) -> str:
    """Return the search option that is a filter; empty if there is none."""
    formats = {name: node.get("format") for name, node in schema.get("properties", {}).items()}
    return next((name for name, kind in formats.items() if kind == "filter" and name in offered), "")


def weight_of(term: Mapping[str, Any]) -> float:
    """Return the weight of a term of a question."""
    weight = term.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise BadInput(f"a weight must be a number, got {short(repr(weight), 60)}")
    return weight


def seq_of(content: Mapping[str, Any]) -> int:
    """Return the number of a question; 0 if it has none."""
    seq = content.get("seq")
    return seq if isinstance(seq, int) else 0


def by_of(content: Mapping[str, Any]) -> By:
    """Return what a question searches by."""
    by = content.get("by")
    if not isinstance(by, str) or by not in METHODS:
        raise BadInput(f"by must be one of {', '.join(METHODS)}, got {short(repr(by), 60)}")
    return cast("By", by)


def text_of(content: Mapping[str, Any], name: str) -> str:
    """Return a query or an item's id from a question."""
    value = content.get(name)
    if not isinstance(value, str):
        raise BadInput(f"the {name} must be text, got {type(value).__name__}")
    if name != "query" and len(value) > MAX_ITEM_CHARACTERS:
        raise BadInput(f"an item's id must be at most {MAX_ITEM_CHARACTERS:,} characters, got {len(value):,}")
    return value


def shows_paths() -> bool:
    """Return whether paths are shown: always in a notebook, on a published page only if chosen."""
    return not os.environ.get(PUBLISHED) or bool(os.environ.get(SHOW_PATHS))


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
            _LOG.warning("%s", short(str(error), 2_000))
        return short(error.message), short(error.hint)
    _LOG.warning("%s: %s", type(error).__name__, short(str(error), 2_000))
    if isinstance(error, (Busy, StoreUnavailable)):
        return "The search is busy.", "Please try again in a moment."
    if isinstance(error, NotFound) and not isinstance(error, UnknownIndex):
        return "This picture is not in the collection.", "The link to it may be an old one."
    if isinstance(error, (UnknownIndex, CorruptFile, AdapterBroken, MissingExtra)):
        return "This collection cannot be searched right now.", "Please try again later."
    return "This search failed.", "Please try another query, or try again in a moment."


def short(text: str, most: int = 300) -> str:
    """Return a text of limited length."""
    return text if len(text) <= most else f"{text[:most]}…"


def packed(
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
