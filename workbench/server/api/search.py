"""Indexes and search over HTTP."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field

from workbench.errors import SearchFailed, TooLarge, WorkbenchError
from workbench.search.indexes import index_adapter
from workbench.search.messages import picture_characters
from workbench.search.searcher import MAX_IMAGE_BYTES, MAX_QUERY_CHARACTERS
from workbench.server.api.fields import MOST_LISTED, Given, Name, Number, Text, Whole
from workbench.server.api.route import Call
from workbench.server.desk import WorkbenchServer
from workbench.workspace import Workspace


class SearchIn(Given):
    """Fields of every search."""

    index: Name = Field(description="Name of the index.")
    k: Whole = Field(20, ge=1, le=MOST_LISTED, description="Number of hits.")
    options: dict[str, Any] = Field({}, description="The adapter's search options; see `indexes/{name}`.")


class TextSearchIn(SearchIn):
    """A text search."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)


class ImageSearchIn(SearchIn):
    """A picture search."""

    image: str = Field(
        min_length=1, description="A picture file, such as JPEG or PNG, as base64 text, or as a data: URL."
    )


class ItemSearchIn(SearchIn):
    """A search with an item of the index."""

    item: Text = Field(min_length=1, description="Id of an item of the index, to find similar ones.")


class IndexRowOut(BaseModel):
    """An index."""

    name: str
    adapter: str = Field(description="The adapter that built it; empty if its manifest names none.")


class IndexesOut(BaseModel):
    """The indexes, sorted by name."""

    indexes: list[IndexRowOut]


class SampleOut(BaseModel):
    """A query worth trying."""

    text: str
    language: str


class IndexOut(BaseModel):
    """An index and its search options."""

    index: str
    adapter: str
    adapter_title: str
    offers: list[str] = Field(description="The searches that its adapter offers.")
    options: dict[str, Any] = Field(alias="schema", description="JSON schema of the search options.")
    about: dict[str, Any] = Field(description="Title, subtitle, count and credits.")
    samples: list[SampleOut] = Field(description="Queries worth trying.")


class HitOut(BaseModel):
    """One result."""

    id: str
    score: Number
    distance: Number
    caption: str
    subtitle: str
    label: str
    meter: Number
    thumbnail: str = Field("", description="A picture as base64 text, if the item has one.")


class SearchOut(BaseModel):
    """Results, best first."""

    hits: list[HitOut]
    took_ms: dict[str, Number]
    note: str
    cutoff: int | None


# Search ----------------------------------------------------------------------------------------


async def list_indexes(desk: WorkbenchServer, call: Call) -> Any:
    """Return the indexes by name."""

    def look(home: Workspace) -> Any:
        rows = []
        for name in home.index_names():
            try:
                rows.append({"name": name, "adapter": index_adapter(home.indexes, name)})
            except WorkbenchError:
                rows.append({"name": name, "adapter": ""})
        return {"indexes": rows}

    return await desk.run(look)


async def get_index(desk: WorkbenchServer, call: Call) -> Any:
    """Open an index and describe its content and search options."""
    return await desk.ask(op="describe", index=call.path["name"])


def searching(by: str, field: str) -> Callable[[WorkbenchServer, Call], Awaitable[Any]]:
    """Return a function that searches ``by`` text, image or item, with the query in ``field`` of the body."""

    async def search(desk: WorkbenchServer, call: Call) -> Any:
        body = call.body
        query = getattr(body, field)
        if by == "image" and picture_characters(query) > math.ceil(MAX_IMAGE_BYTES / 3) * 4:
            raise TooLarge(
                f"the picture is larger than {MAX_IMAGE_BYTES // 2**20} MiB", hint="Make it smaller."
            )
        request = {"by": by, by: query, "k": body.k, "options": body.options}
        answer = await desk.ask(op="search", index=body.index, **request)
        if not isinstance(answer.get("hits"), list):
            raise SearchFailed(f"the search service returned a malformed answer for index {body.index!r}")
        return answer

    return search
