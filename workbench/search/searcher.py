"""An opened index that answers queries."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workbench.adapter.contract import BaseAdapter
from workbench.adapter.options import check_options
from workbench.errors import BadInput, TooLarge
from workbench.results.hits import SampleQuery, SearchResult

#: Maximum length of a query, in characters; longer ones are refused rather than silently cut.
MAX_QUERY_CHARACTERS = 2_000


#: Maximum size of an uploaded picture, in bytes; larger ones are refused before they are opened.
MAX_IMAGE_BYTES = 20 * 2**20


#: Environment variable: set for published pages, whose visitors must not learn anything about the machine.
PUBLISHED = "WORKBENCH_PUBLISHED"


class Searcher:
    """An opened index that answers queries, whatever the model family.

    Parameters
    ----------
    adapter : BaseAdapter
        The adapter that built the index.
    index : object
        The index, as the adapter's ``load_index`` returned it.
    name : str
        Name of the index.
    """

    def __init__(self, adapter: BaseAdapter, index: Any, name: str) -> None:
        self.adapter = adapter
        self.index = index
        self.name = name

    def __repr__(self) -> str:
        return f"<Searcher {self.name!r} ({self.adapter.name})>"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the search options."""
        return self.adapter.options("search").model_json_schema()

    def describe(self) -> dict[str, Any]:
        """Return the title, subtitle, count and credits of the index."""
        return {"title": self.name, "subtitle": "", "credits": [], **self.adapter.describe_index(self.index)}

    def sample_queries(self) -> list[SampleQuery]:
        """Return queries worth trying."""
        return list(self.adapter.sample_queries(self.index))

    def by_text(self, query: str, k: int = 20, **options: Any) -> SearchResult:
        """Search with a text.

        Raises
        ------
        BadInput
            The query is empty or too long, or ``k`` is below 1.
        BadOptions
            The adapter does not accept the options.
        """
        if not isinstance(query, str) or not query.strip():
            raise BadInput("the query is empty", hint="Type a word or two.")
        if len(query) > MAX_QUERY_CHARACTERS:
            limit = f"{MAX_QUERY_CHARACTERS:,}"
            raise BadInput(f"the query must be at most {limit} characters, got {len(query):,}")
        return self._ask(self.adapter.search_by_text, query.strip(), k, options)

    def by_image(self, data: bytes, k: int = 20, **options: Any) -> SearchResult:
        """Search with an encoded picture (PNG, JPEG, WebP).

        Raises
        ------
        BadInput
            ``data`` is empty, or is not a picture.
        TooLarge
            ``data`` is larger than :data:`MAX_IMAGE_BYTES`.
        """
        if not data:
            raise BadInput("the picture is empty (0 bytes)")
        if len(data) > MAX_IMAGE_BYTES:
            size, limit = f"{len(data) / 2**20:.1f}", MAX_IMAGE_BYTES // 2**20
            raise TooLarge(
                f"the picture must be at most {limit} MiB, got {size} MiB",
                hint="Make it smaller and try again.",
            )
        return self._ask(self.adapter.search_by_image, bytes(data), k, options)

    def by_item(self, item_id: str, k: int = 20, **options: Any) -> SearchResult:
        """Search with an item of the index itself."""
        return self._ask(self.adapter.search_by_item, item_id, k, options)

    def _ask(self, method: Callable[..., SearchResult], query: Any, k: int, options: Any) -> SearchResult:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise BadInput(f"k must be a whole number of at least 1, got {k!r}")
        checked = check_options(self.adapter, "search", options)
        start = time.perf_counter()
        result = method(self.index, query, k, checked)
        result.took_ms.setdefault("total", (time.perf_counter() - start) * 1e3)
        return result
