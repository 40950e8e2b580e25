"""A searcher whose index is held by another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.adapter.contract import BaseAdapter
from workbench.results.explanation import Explanation, Term
from workbench.results.hits import SampleQuery, SearchResult
from workbench.search import messages
from workbench.search.searcher import Searcher


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
    """

    def __init__(
        self, told: Mapping[str, Any], ask: Callable[[Mapping[str, Any]], Mapping[str, Any]]
    ) -> None:
        super().__init__(RemoteAdapter(told), None, str(told["index"]))
        self._told = told
        self._send = ask

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

    def _ask(self, method: Callable[..., SearchResult], query: Any, k: int, options: Any) -> SearchResult:
        by = method.__name__.removeprefix("search_by_")
        value = query if by != "image" else messages.picture_text(query)
        request = {"op": "search", "index": self.name, "by": by, by: value, "k": k, "options": options}
        return messages.result_from(self._send(request))

    def _explain(self, left: Term, right: Term, options: Any) -> Explanation:
        sides = {"left": messages.term_json(left), "right": messages.term_json(right)}
        request = {"op": "explain", "index": self.name, **sides, "options": options}
        return Explanation.model_validate(self._send(request))
