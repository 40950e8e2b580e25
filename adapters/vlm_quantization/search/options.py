"""Options of a search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS

METHODS = ("hamming", "cosine")

#: The methods that compare float features, which an index need not have.
NEED_FEATURES = ("cosine",)


def _as_length(value: object) -> object:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


class SearchOptions(wb.Options):
    """Options of a search besides the query and k."""

    bits: Annotated[Literal[8, 16, 32, 64, 128], BeforeValidator(_as_length)] = Field(
        128,
        title="Code length",
        description="Number of leading bits of the stored code to compare; short codes are coarser.",
        json_schema_extra={"x-labels": {str(length): str(length) for length in CODE_LENGTHS}},
    )
    method: Literal["hamming", "cosine"] = Field(
        "hamming",
        title="Method",
        description="Hamming compares codes; cosine compares the float features and ignores the code length.",
        json_schema_extra={"x-labels": {"hamming": "Hamming", "cosine": "Cosine"}},
    )
    target: Literal["pictures", "captions"] = Field(
        "pictures",
        title="Find",
        description="What to search for.",
        json_schema_extra={"x-labels": {"pictures": "Pictures", "captions": "Captions"}},
    )
    filter: str = Field(
        "",
        title="Filter",
        description="Search only among items that match: label:animal and not style:plain, "
        'label:(cat, dog), caption:"red heart", size>100000.',
        json_schema_extra={"format": "filter"},
    )
    radius: int | None = Field(
        None,
        ge=0,
        le=128,
        title="Within (bits)",
        description="Hamming: find only what differs in at most this many bits; empty: whatever is nearest.",
    )
