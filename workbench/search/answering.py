"""Answer what a search page asks, the same for a panel in a notebook and for a published page.

A page asks by messages; pictures are sent along as binary buffers, written here as ``+``.

::

    page   -> {"type": "search", "seq": 7, "by": "text",  "query": "강아지", "k": 20, "options": {...}}
              {"type": "search", "seq": 8, "by": "image", "k": 20, "options": {...}} + [picture]
              {"type": "search", "seq": 9, "by": "item",  "item": "1F436", "k": 20, "options": {...}}
    answer <- {"type": "answer", "seq": 7, "hits": [{"id", "score", "distance", "caption", "subtitle",
               "label", "meter", "path", "thumbnail": index of a buffer or null}, ...],
               "took_ms": {...}, "note": "", "cutoff": 8} + thumbnails
              {"type": "error", "seq": 7, "message": "...", "hint": "..."}

Every question gets one answer with the same ``seq``; the page drops answers to older questions than its
newest. A published page is not sent where a picture's file is, unless its publisher wants that shown; ids of
such pictures may tell it too, so the page gets stand-ins for them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
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
from workbench.results.explanation import By
from workbench.results.hits import SearchResult
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
        self._stand_ins = stand_ins or StandIns()

    def answer(
        self, content: Mapping[str, Any], buffers: Sequence[Any] = ()
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Return the answer to a question, and its thumbnails; nothing that a page sends raises here."""
        thumbnails: list[bytes] = []
        answer, problem = attempt(lambda: packed(self.search(content, buffers), self.hide))
        if answer is not None:
            body, thumbnails = answer
        else:
            body = {"type": "error", **problem}
        return {**body, "seq": seq_of(content)}, thumbnails

    def search(self, content: Mapping[str, Any], buffers: Sequence[Any]) -> SearchResult:
        """Return the result of a question.

        Raises
        ------
        WorkbenchError
            The question is invalid, or the search failed.
        """
        by, k = by_of(content), content.get("k", K_CHOICES[0])
        if isinstance(k, bool) or k not in K_CHOICES:
            raise BadInput(f"k must be one of {', '.join(map(str, K_CHOICES))}, got {short(repr(k), 60)}")
        options = self.options_of(content)
        if by == "image":
            return self.searcher.by_image(bytes(buffers[0]) if buffers else b"", k, **options)
        if by == "text":
            return self.searcher.by_text(text_of(content, "query"), k, **options)
        return self.searcher.by_item(self._stand_ins.item_of(text_of(content, "item")), k, **options)

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
        return options


def attempt(work: Callable[[], _T]) -> tuple[_T | None, dict[str, Any]]:
    """Return what a function returns, or None and the problem as a page shows it."""
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
    busy = {"retry_after": known.retry_after} if isinstance(known, Busy) else {}
    return None, {"message": message, "hint": hint, **busy}


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
