"""Indexes and search over HTTP."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from workbench.errors import NotFound, SearchFailed, TooLarge, WorkbenchError, WrongState
from workbench.results.explanation import Side
from workbench.results.result import View
from workbench.search.index_order import ARCHIVED
from workbench.search.indexes import index_adapter
from workbench.search.messages import SIDES, picture_characters
from workbench.search.searcher import MAX_IMAGE_BYTES, MAX_QUERY_CHARACTERS
from workbench.server.api.fields import MOST_LISTED, Given, Name, Number, Text, Whole
from workbench.server.api.kept_files import FILE_TYPE, FileToSend
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


class TermIn(Given):
    """One of the two things to compare: exactly one of text, image and item."""

    text: str | None = Field(None, min_length=1, max_length=MAX_QUERY_CHARACTERS)
    image: str | None = Field(
        None, min_length=1, description="A JPEG, PNG or WebP file as base64 text, or as a data: URL."
    )
    item: Text | None = Field(None, min_length=1, description="Id of an item of the index.")
    name: str = Field("", max_length=200, description="What to call a picture.")

    @model_validator(mode="after")
    def _one(self) -> TermIn:
        if sum(value is not None for value in (self.text, self.image, self.item)) != 1:
            raise ValueError("give exactly one of text, image and item")
        return self

    @property
    def by(self) -> str:
        """Which of them is given."""
        return "text" if self.text is not None else "image" if self.image is not None else "item"


class ExplainIn(Given):
    """Two things to compare."""

    index: Name = Field(description="Name of the index.")
    left: TermIn
    right: TermIn
    options: dict[str, Any] = Field({}, description="The adapter's search options; see `indexes/{name}`.")


class IndexRowOut(BaseModel):
    """An index."""

    name: str
    adapter: str = Field(description="The adapter that built it; empty if its manifest names none.")


class IndexesQuery(Given):
    """Which indexes to list."""

    archived: Literal["false", "true"] = Field(
        "false", description="Only archived indexes, instead of only others."
    )


class IndexesOut(BaseModel):
    """The indexes, sorted by name."""

    indexes: list[IndexRowOut]


class SampleOut(BaseModel):
    """A query worth trying."""

    text: str
    language: str


class HitOut(BaseModel):
    """One result."""

    id: str
    score: Number
    distance: Number
    caption: str
    subtitle: str
    label: str
    meter: Number
    path: str = Field("", description="Where the item's file is on the server; empty if it has none.")
    thumbnail: str = Field("", description="A picture as base64 text, if the item has one.")


class IndexOut(BaseModel):
    """An index and its search options."""

    index: str
    adapter: str
    adapter_title: str
    offers: list[str] = Field(description="The searches that its adapter offers.")
    options: dict[str, Any] = Field(alias="schema", description="JSON schema of the search options.")
    about: dict[str, Any] = Field(description="Title, subtitle, count and credits.")
    samples: list[SampleOut] = Field(description="Queries worth trying.")
    items: list[HitOut] = Field([], description="Items to start a search with.")


class FieldValueOut(BaseModel):
    """A value of a field."""

    value: str
    count: int = Field(description="How many items have it; of very many items, those of a part are counted.")


class FilterFieldOut(BaseModel):
    """A field that searches can be filtered by."""

    name: str = Field(description="As it is typed: `name:value`.")
    kind: str = Field(description="`text`, `number`, `date` or `flag`; numbers and dates have an order.")
    help: str
    values: list[FieldValueOut] = Field(description="The most frequent values, if they can be listed.")
    more: bool = Field(description="Whether there are further values.")


class FilterFieldsOut(BaseModel):
    """The fields for the search option `filter`."""

    fields: list[FilterFieldOut]


class SearchOut(BaseModel):
    """Results, best first."""

    hits: list[HitOut]
    took_ms: dict[str, Number]
    note: str
    cutoff: int | None


class ExplanationOut(BaseModel):
    """Why two things are near, or far from each other."""

    summary: str = Field(description="One sentence.")
    left: Side
    right: Side
    views: list[View] = Field(description="What shows it; each kind has its own data.")


# Search ----------------------------------------------------------------------------------------


async def list_indexes(desk: WorkbenchServer, call: Call) -> Any:
    """Return the indexes by name."""
    archived = call.query.archived == "true"

    def look(home: Workspace) -> Any:
        rows = []
        folder = home.indexes / ARCHIVED if archived else home.indexes
        for name in home.index_names(archived=archived):
            try:
                rows.append({"name": name, "adapter": index_adapter(folder, name)})
            except WorkbenchError:
                rows.append({"name": name, "adapter": ""})
        return {"indexes": rows}

    return await desk.run(look)


async def get_index(desk: WorkbenchServer, call: Call) -> Any:
    """Open an index and describe its content and search options."""
    return await desk.ask(op="describe", index=call.path["name"])


async def get_fields(desk: WorkbenchServer, call: Call) -> Any:
    """Return the fields that searches of an index can be filtered by."""
    return await desk.ask(op="fields", index=call.path["name"])


#: Content types of files by how their names end; others are bytes. None of them can hold a script.
_TYPES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
}


async def get_item_file(desk: WorkbenchServer, call: Call) -> Any:
    """Return the bytes of an item's file, if it is still the one that was indexed."""
    index, item = call.path["name"], call.path["item"]
    known = await desk.ask(op="file", index=index, item=item)
    path = Path(str(known["path"]))

    def opened() -> FileToSend:
        try:
            file = path.open("rb")
        except OSError as error:
            raise NotFound(
                f"the file of item {item!r} is missing", advice=f"{path}: {error.strerror}"
            ) from None
        # of the open file: another may have taken its name since it was looked at
        status = os.fstat(file.fileno())
        if (status.st_size, status.st_mtime_ns) != (known["size"], known["modified_ns"]):
            file.close()
            raise WrongState(f"the file of item {item!r} was just changed", hint="Build the index again.")
        return FileToSend(file, path.name, status.st_size, _TYPES.get(path.suffix.lower(), FILE_TYPE))

    return await desk.on_disk(opened)


def searching(by: str, field: str) -> Callable[[WorkbenchServer, Call], Awaitable[Any]]:
    """Return a function that searches ``by`` text, image or item, with the query in ``field`` of the body."""

    async def search(desk: WorkbenchServer, call: Call) -> Any:
        body = call.body
        query = getattr(body, field)
        if by == "image":
            _check_picture(query)
        request = {"by": by, by: query, "k": body.k, "options": body.options}
        answer = await desk.ask(op="search", index=body.index, **request)
        if not isinstance(answer.get("hits"), list):
            raise SearchFailed(f"the search service returned a malformed answer for index {body.index!r}")
        return answer

    return search


async def explain(desk: WorkbenchServer, call: Call) -> Any:
    """Explain why two things are near, or far from each other."""
    body = call.body
    sides: dict[str, dict[str, str]] = {}
    for side in SIDES:
        term: TermIn = getattr(body, side)
        value = getattr(term, term.by)
        if term.by == "image":
            _check_picture(value)
        sides[side] = {"by": term.by, "value": value, "name": term.name}
    answer = await desk.ask(op="explain", index=body.index, **sides, options=body.options)
    if not isinstance(answer.get("views"), list):
        raise SearchFailed(f"the search service returned a malformed answer for index {body.index!r}")
    return answer


def _check_picture(text: str) -> None:
    if picture_characters(text) > math.ceil(MAX_IMAGE_BYTES / 3) * 4:
        raise TooLarge(f"the picture is larger than {MAX_IMAGE_BYTES // 2**20} MiB", hint="Make it smaller.")
