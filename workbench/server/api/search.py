"""Indexes and search over HTTP."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, Field

from workbench.errors import SearchFailed, TooLarge, WorkbenchError
from workbench.search.indexes import index_adapter
from workbench.search.searcher import MAX_IMAGE_BYTES, MAX_QUERY_CHARACTERS
from workbench.server.api.fields import MOST_LISTED, Given, Name, Number, Text, Whole
from workbench.server.api.route import Call
from workbench.server.desk import WorkbenchServer
from workbench.workspace import Workspace


class SearchIn(Given):
    """What every search says."""

    index: Name = Field(description="Name of the index.")
    k: Whole = Field(20, ge=1, le=MOST_LISTED, description="How many hits.")
    options: dict[str, Any] = Field({}, description="The adapter's own; see `indexes/{name}`.")


class TextSearchIn(SearchIn):
    """A search with a text."""

    query: str = Field(min_length=1, max_length=MAX_QUERY_CHARACTERS)


class ImageSearchIn(SearchIn):
    """A search with a picture."""

    image: str = Field(min_length=1, description="A JPEG, PNG or WebP file as base64 text.")


class ItemSearchIn(SearchIn):
    """A search with an item of the index itself."""

    item: Text = Field(min_length=1, description="Id of an item of the index: more like this.")


class IndexRowOut(BaseModel):
    """An index."""

    name: str
    adapter: str = Field(description="Who made it; empty where its manifest does not say.")


class IndexesOut(BaseModel):
    """The indexes, by name."""

    indexes: list[IndexRowOut]


class SampleOut(BaseModel):
    """A query worth trying."""

    text: str
    language: str


class IndexOut(BaseModel):
    """An index, and how it can be searched."""

    index: str
    adapter: str
    adapter_title: str
    offers: list[str] = Field(description="Which searches its adapter has.")
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
    thumbnail: str = Field("", description="A picture as base64 text, where the item is one.")


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
        found = []
        for name in home.index_names():
            try:
                found.append({"name": name, "adapter": index_adapter(home.indexes, name)})
            except WorkbenchError:
                found.append({"name": name, "adapter": ""})
        return {"indexes": found}

    return await desk.run(look)


async def get_index(desk: WorkbenchServer, call: Call) -> Any:
    """Open an index, and tell what it holds and how it can be searched."""
    return await desk.ask(op="describe", index=call.path["name"])


def searching(by: str, field: str) -> Callable[[WorkbenchServer, Call], Awaitable[Any]]:
    """Return what searches ``by`` text, image or item, whose query stands in a field of the body."""

    async def search(desk: WorkbenchServer, call: Call) -> Any:
        asked = call.body
        given = getattr(asked, field)
        if by == "image" and len(given) > math.ceil(MAX_IMAGE_BYTES / 3) * 4:
            raise TooLarge(f"the picture has over {MAX_IMAGE_BYTES // 2**20} MiB", hint="Make it smaller.")
        question = {"by": by, by: given, "k": asked.k, "options": asked.options}
        found = await desk.ask(op="search", index=asked.index, **question)
        if not isinstance(found.get("hits"), list):
            raise SearchFailed(f"index {asked.index!r} answered with no hits")
        return found

    return search
