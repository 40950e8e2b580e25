"""A searcher whose index is held by another process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from workbench.adapter.contract import BaseAdapter
from workbench.errors import BadInput, NotSupported
from workbench.host.files import copy_stream
from workbench.results.explanation import Explanation, Term
from workbench.results.hits import Hit, SampleQuery, SearchResult
from workbench.search import messages
from workbench.search.filters import FilterField
from workbench.search.searcher import Searcher, target_of


class RemoteAdapter(BaseAdapter):
    """An adapter that runs in another process: its names, and the methods that it offers."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.__dict__.update(name=str(told["adapter"]), title=str(told.get("adapter_title", "")))
        self._offered = frozenset(told["offers"])

    def offers(self, method: str) -> bool:
        """Return whether the adapter has a method of the contract."""
        return method in self._offered


class RemoteSearcher(Searcher):
    """A searcher whose index is open in another process, or on another machine.

    Parameters
    ----------
    told : mapping
        Description of the index: ``index``, ``adapter``, ``offers``, ``schema``, ``about``, ``samples``.
    ask : callable
        Sends a request and returns the answer, both plain JSON.
    download : callable, optional
        Opens the file of an item, by its id, as a stream. For an index on another machine; without it the
        files are on this one.
    """

    def __init__(
        self,
        told: Mapping[str, Any],
        ask: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        download: Callable[[str], BinaryIO] | None = None,
    ) -> None:
        super().__init__(RemoteAdapter(told), None, str(told["index"]))
        self._told = told
        self._send = ask
        self._download = download

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the search options."""
        return dict(self._told["schema"])

    def describe(self) -> dict[str, Any]:
        """Return the title, subtitle, count and credits of the index."""
        return dict(self._told["about"])

    def sample_queries(self) -> list[SampleQuery]:
        """Return queries worth trying."""
        return [SampleQuery(one["text"], one["language"]) for one in self._told["samples"]]

    def sample_items(self) -> list[Hit]:
        """Return items to start a search with, with thumbnails."""
        return [messages.hit_from(one) for one in self._told.get("items", ())]

    def filter_fields(self) -> list[FilterField]:
        """Return the fields for the search option ``filter``, with their most frequent values."""
        if not self.adapter.offers("filter_fields"):
            raise NotSupported(self.adapter.name, "filter_fields")
        answer = self._send({"op": "fields", "index": self.name})
        return [messages.field_from(one) for one in answer["fields"]]

    def item_file(self, item: str | Hit) -> Path:
        """Return the path of an item's file; on another machine there is none here."""
        if self._download is not None:
            raise BadInput(
                f"the files of index {self.name!r} are on the server, not on this machine",
                hint="searcher.save_file(item, path) downloads one.",
            )
        item_id = item.id if isinstance(item, Hit) else item
        return Path(self._send({"op": "file", "index": self.name, "item": item_id})["path"])

    def save_file(self, item: str | Hit, target: str | os.PathLike[str]) -> Path:
        """Copy an item's file to a local file or folder; from another machine it is downloaded."""
        if self._download is None:
            return super().save_file(item, target)
        item_id, path = (item.id, item.path) if isinstance(item, Hit) else (item, item)
        place = target_of(target, path.replace("\\", "/").rpartition("/")[2])
        with self._download(item_id) as file:
            copy_stream(file, place)
        return place

    def _ask(self, method: Callable[..., SearchResult], query: Any, k: int, options: Any) -> SearchResult:
        by = method.__name__.removeprefix("search_by_")
        value = query if by != "image" else messages.picture_text(query)
        request = {"op": "search", "index": self.name, "by": by, by: value, "k": k, "options": options}
        return messages.result_from(self._send(request))

    def _explain(self, left: Term, right: Term, options: Any) -> Explanation:
        sides = {"left": messages.term_json(left), "right": messages.term_json(right)}
        request = {"op": "explain", "index": self.name, **sides, "options": options}
        return Explanation.model_validate(self._send(request))
