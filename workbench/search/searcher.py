"""An opened index that answers queries."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workbench.adapter.contract import BaseAdapter
from workbench.adapter.options import check_options
from workbench.errors import BadInput, TooLarge
from workbench.results.hits import SampleQuery, SearchResult

#: A query longer than this many characters is refused rather than silently cut.
MAX_QUERY_CHARACTERS = 2_000


#: An uploaded picture larger than this many bytes is refused before it is opened.
MAX_IMAGE_BYTES = 20 * 2**20


#: Environment variable: set where a page is published, whose visitors learn nothing of the machine.
PUBLISHED = "WORKBENCH_PUBLISHED"


class Searcher:
    """An opened index that answers queries, whatever the model family.

    Parameters
    ----------
    adapter : BaseAdapter
        The family.
    index : object
        What the adapter's ``load_index`` returned.
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
        """Return title, subtitle, count and credits of the index."""
        return {"title": self.name, "subtitle": "", "credits": [], **self.adapter.describe_index(self.index)}

    def sample_queries(self) -> list[SampleQuery]:
        """Return queries worth trying."""
        return list(self.adapter.sample_queries(self.index))

    def by_text(self, query: str, k: int = 20, **options: Any) -> SearchResult:
        """Search with a text.

        Raises
        ------
        BadInput
            An empty or over-long query, or ``k`` below 1.
        BadOptions
            Options that are not the adapter's.
        """
        if not isinstance(query, str) or not query.strip():
            raise BadInput("the query is empty", hint="Type a word or two.")
        if len(query) > MAX_QUERY_CHARACTERS:
            limit = f"{MAX_QUERY_CHARACTERS:,}"
            raise BadInput(f"the query has {len(query):,} characters; at most {limit} are taken")
        return self._ask(self.adapter.search_by_text, query.strip(), k, options)

    def by_image(self, data: bytes, k: int = 20, **options: Any) -> SearchResult:
        """Search with an encoded picture (PNG, JPEG, WebP).

        Raises
        ------
        BadInput
            No bytes, or bytes that are not a picture.
        TooLarge
            More than :data:`MAX_IMAGE_BYTES`.
        """
        if not data:
            raise BadInput("the picture is empty (0 bytes)")
        if len(data) > MAX_IMAGE_BYTES:
            size, limit = f"{len(data) / 2**20:.1f}", MAX_IMAGE_BYTES // 2**20
            raise TooLarge(
                f"the picture has {size} MiB; at most {limit} MiB are taken",
                hint="Make it smaller and try again.",
            )
        return self._ask(self.adapter.search_by_image, bytes(data), k, options)

    def by_item(self, item_id: str, k: int = 20, **options: Any) -> SearchResult:
        """Search with an item of the index itself."""
        return self._ask(self.adapter.search_by_item, item_id, k, options)

    def _ask(self, method: Callable[..., SearchResult], query: Any, k: int, options: Any) -> SearchResult:
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise BadInput(f"k must be a whole number of at least 1, not {k!r}")
        checked = check_options(self.adapter, "search", options)
        start = time.perf_counter()
        result = method(self.index, query, k, checked)
        result.took_ms.setdefault("total", (time.perf_counter() - start) * 1e3)
        return result
