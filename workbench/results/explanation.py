"""Why two things are near: both sides of a comparison, and the views that show it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from workbench.results.result import View

#: What can be compared or composed: a text, a picture, or an item of the index.
By = Literal["text", "image", "item"]


@dataclass(frozen=True)
class Term:
    """One of the two things to compare, or of those that a query is composed of.

    Attributes
    ----------
    by : {"text", "image", "item"}
        What it is.
    value : str, bytes or object
        The text, the item's id, or the picture: encoded when it is passed to a searcher, and as
        ``open_picture`` returned it when it is passed to an adapter.
    name : str
        What to call a picture, such as the name of its file.
    """

    by: By
    value: Any = field(repr=False)
    name: str = ""


class Side(BaseModel):
    """One side of an explanation, as it was understood.

    Attributes
    ----------
    by : {"text", "image", "item"}
        What it is.
    caption, subtitle : str
        First and second line of text, as for a hit.
    id : str
        Id of an item of the index; empty for a text or a picture.
    thumbnail : str
        An encoded picture (PNG, JPEG or WebP) as base64 text; empty if there is none.
    """

    model_config = ConfigDict(extra="forbid")

    by: By
    caption: str
    subtitle: str = ""
    id: str = ""
    thumbnail: str = Field(default="", repr=False)


class Explanation(BaseModel):
    """Why two things are near, or far from each other; plain JSON, rendered only through its views.

    Attributes
    ----------
    summary : str
        One sentence.
    left, right : Side
        What was compared.
    views : list of View
        The views to show, in order.
    """

    model_config = ConfigDict(extra="forbid")

    summary: str
    left: Side
    right: Side
    views: list[View]

    def __repr__(self) -> str:
        return f"{self.left.caption} ↔ {self.right.caption}: {self.summary}"
