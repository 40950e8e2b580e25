"""Options of a search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

import workbench as wb
from adapters.vlm_quantization.codes import CODE_LENGTHS

#: What ranks a whole index by itself.
METHODS = ("hamming", "cosine")

#: The methods that compare float features, which an index need not have.
NEED_FEATURES = ("cosine",)


#: Survivors per hit of the last stage that compares codes: on the demo's emoji, 20 times ten by 128 bits hold
#: 98 % of the ten nearest by float cosine, 10 times 93 %, 5 times 86 %.
OVERSAMPLING = 20.0


def _as_length(value: object) -> object:
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


class SearchOptions(wb.Options):
    """Options of a search besides the query and k."""

    model_config = ConfigDict(json_schema_extra={"x-more": ["rescore", "oversampling", "survivors"]})

    bits: Annotated[Literal[8, 16, 32, 64, 128], BeforeValidator(_as_length)] = Field(
        128,
        title="Code length",
        description="Number of leading bits of the stored code to compare; short codes are coarser.",
        json_schema_extra={"x-labels": {str(length): str(length) for length in CODE_LENGTHS}},
    )
    method: Literal["hamming", "cosine", "funnel"] = Field(
        "hamming",
        title="Method",
        description="Hamming compares codes; cosine compares the float features and ignores the code length; "
        "funnel compares short codes, then longer ones of those that are left, and ranks the last by rescore",
        json_schema_extra={"x-labels": {"hamming": "Hamming", "cosine": "Cosine", "funnel": "Funnel"}},
    )
    rescore: Literal["auto", "none", "features", "bits"] = Field(
        "auto",
        title="Rescore",
        description="Ranks the nearest codes again: by cosine of the float features, or by the float query "
        "against the bits, which needs no features. 'auto': by features in a funnel, not otherwise",
        json_schema_extra={
            "x-labels": {
                "auto": "Auto",
                "none": "No",
                "features": "By features",
                "bits": "By bits",
            }
        },
    )
    oversampling: float = Field(
        OVERSAMPLING,
        ge=1,
        le=10_000,
        title="Oversampling",
        description="With rescoring: how many of the nearest codes are ranked again per hit",
    )
    survivors: list[Annotated[int, Field(ge=1)]] = Field(
        [],
        max_length=3,
        title="Survivors",
        description="Funnel: how many items each stage of codes (8, 32 and all bits) leaves. Empty: by "
        "oversampling",
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

    @model_validator(mode="after")
    def _check_stages(self) -> SearchOptions:
        """Refuse what the method would not use."""
        if self.method == "cosine" and self.rescore in ("features", "bits"):
            raise ValueError(f"rescore={self.rescore} ranks codes again, and method=cosine compares none")
        if self.method == "funnel" and self.rescore == "none":
            raise ValueError("a funnel ends with rescoring: leave out rescore=none")
        if self.survivors and self.method != "funnel":
            raise ValueError(f"survivors are those of a funnel; the method is {self.method}")
        if self.survivors != sorted(self.survivors, reverse=True):
            raise ValueError(f"survivors must not grow from stage to stage, got {self.survivors}")
        return self

    @property
    def rescoring(self) -> Literal["features", "bits"] | None:
        """How the nearest codes are ranked again, or None if they are not."""
        if self.rescore in ("features", "bits"):
            return self.rescore
        return "features" if self.method == "funnel" else None

    @property
    def by_cosine(self) -> bool:
        """Whether hits are ranked by the cosine of float features."""
        return self.method == "cosine" or self.rescoring == "features"
