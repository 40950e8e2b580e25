"""Types of fields that several models share, as they are checked and as ``openapi.json`` says it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

#: So many of anything on one page at most, and so many runs beside each other.
MOST_LISTED, MOST_COMPARED = 1000, 100


def _whole(value: Any) -> Any:
    """Take 5.0 for 5, as JSON does, and nothing else."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def from_text(value: Any) -> Any:
    """Take the text of a URL for a number where it is written as one."""
    return (
        int(value)
        if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit()
        else value
    )


Whole = Annotated[int, BeforeValidator(_whole)]


#: A number; NaN is null.
Number = float | Literal["Infinity", "-Infinity"] | None


Id = Annotated[Whole, Field(ge=1, lt=2**31)]


Text = Annotated[str, Field(max_length=10_000)]


MetricName = Annotated[str, Field(max_length=250)]


Name = Annotated[str, Field(max_length=255)]


#: A text in a URL, which may be nine times as long there, and has to fit into a request's head.
Asked = Annotated[str, Field(max_length=1000)]


class Given(BaseModel):
    """Base of what comes in: unknown names are refused, and nothing is taken for something else."""

    model_config = ConfigDict(extra="forbid", strict=True)


# Coming in -------------------------------------------------------------------------------------


class Page(Given):
    """Which page of a list."""

    limit: Annotated[int, BeforeValidator(from_text)] = Field(
        100, ge=1, le=MOST_LISTED, description="At most so many."
    )
    offset: Annotated[int, BeforeValidator(from_text)] = Field(
        0, ge=0, lt=2**31, description="How many of the newest to pass over."
    )


# Going out -------------------------------------------------------------------------------------


class ErrorDetail(BaseModel):
    """What is wrong, and what to do."""

    type: str = Field(description="Class of the error, as in Python.")
    message: str = Field(description="What was given, and what is allowed.")
    hint: str = Field(description="What to do next; may be empty.")
    details: dict[str, Any] = Field(description="What the class carries besides, such as `problems`.")


class ErrorOut(BaseModel):
    """An error."""

    error: ErrorDetail
