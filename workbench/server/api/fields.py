"""Field types shared by several models, for validation and for ``openapi.json``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

#: Maximum items per page, and maximum runs per comparison.
MOST_LISTED, MOST_COMPARED = 1000, 100


def _whole(value: Any) -> Any:
    """Accept 5.0 as 5, since JSON does not distinguish them."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def from_text(value: Any) -> Any:
    """Parse a string from a URL as an integer if it is one."""
    return (
        int(value)
        if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit()
        else value
    )


#: Which of archived things and others a list has.
Archived = Literal["false", "true", "any"]


def archived_of(value: Archived) -> bool | None:
    """Return what a list has: only others, only what is archived, or all (None)."""
    return {"false": False, "true": True, "any": None}[value]


Whole = Annotated[int, BeforeValidator(_whole)]


#: A number; NaN is null.
Number = float | Literal["Infinity", "-Infinity"] | None


Id = Annotated[Whole, Field(ge=1, lt=2**31)]


Text = Annotated[str, Field(max_length=10_000)]


MetricName = Annotated[str, Field(max_length=250)]


Name = Annotated[str, Field(max_length=255)]


#: Text in a URL; percent-encoding may make it nine times longer, and it must fit into the request head.
Asked = Annotated[str, Field(max_length=1000)]


class Given(BaseModel):
    """Base of request models: unknown names are refused, and types are not coerced."""

    model_config = ConfigDict(extra="forbid", strict=True)


# Requests --------------------------------------------------------------------------------------


class Page(Given):
    """A page of a list."""

    limit: Annotated[int, BeforeValidator(from_text)] = Field(
        100, ge=1, le=MOST_LISTED, description="Maximum number."
    )
    offset: Annotated[int, BeforeValidator(from_text)] = Field(
        0, ge=0, lt=2**31, description="Skip the newest N."
    )


# Answers ---------------------------------------------------------------------------------------


class ErrorDetail(BaseModel):
    """What went wrong, and what to do."""

    type: str = Field(description="Name of the Python exception class.")
    message: str = Field(description="The value received, and what is allowed.")
    hint: str = Field(description="What to do next; may be empty.")
    advice: str = Field(
        description="What else helps the owner of the server, such as a setting; may be empty."
    )
    details: dict[str, Any] = Field(description="Further attributes of the error, such as `problems`.")


class ErrorOut(BaseModel):
    """An error."""

    error: ErrorDetail
