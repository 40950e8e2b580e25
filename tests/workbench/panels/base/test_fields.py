"""Form fields from an adapter's options."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import Field

import workbench as wb
from workbench.panels.base.fields import form_fields, initial_values


class Shade(Enum):
    LIGHT = "light"
    DARK = "dark"


class Inner(wb.Options):
    x: int = 1


class Options(wb.Options):
    needed: str
    count: int = Field(3, ge=1, le=9, title="How many", description="Between 1 and 9.")
    ratio: float | None = None
    flag: bool = True
    method: Literal["a", "b"] = Field("b", json_schema_extra={"x-labels": {"a": "First", "b": "Second"}})
    size: Literal[8, 16] = Field(8, json_schema_extra={"x-labels": ["small", "large"]})
    only: Literal["one"] = "one"
    shade: Shade = Shade.DARK
    must: Literal["x", "y"]
    names: list[str] = Field(["en"])
    inner: Inner = Field(Inner())
    maybe: Literal["p", "q"] | None = None


FIELDS = {field["name"]: field for field in form_fields(Options.model_json_schema())}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("needed", "text"),
        ("count", "integer"),
        ("ratio", "number"),
        ("flag", "flag"),
        ("method", "choice"),
        ("only", "choice"),
        ("shade", "choice"),
        ("maybe", "choice"),
        ("names", "json"),
        ("inner", "json"),
    ],
)
def test_every_type_has_its_kind_of_field(name: str, kind: str) -> None:
    assert FIELDS[name]["kind"] == kind


def test_order_texts_and_limits_come_from_the_schema() -> None:
    assert list(FIELDS) == list(Options.model_fields)
    count = FIELDS["count"]
    assert (count["label"], count["help"], count["min"], count["max"]) == (
        "How many",
        "Between 1 and 9.",
        1,
        9,
    )
    assert [FIELDS[name]["required"] for name in ("needed", "must", "count")] == [True, True, False]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("method", ["First", "Second"]),
        ("size", ["small", "large"]),
        ("shade", ["light", "dark"]),
        ("maybe", ["p", "q"]),
    ],
)
def test_choices_have_the_labels_of_the_adapter(name: str, labels: list[str]) -> None:
    assert [choice["label"] for choice in FIELDS[name]["choices"]] == labels


def test_initial_values_are_the_defaults_and_the_first_option_of_a_required_choice() -> None:
    values: dict[str, Any] = initial_values(list(FIELDS.values()))
    assert values["method"] == "b"
    assert values["must"] == "x"
    assert values["shade"] == "dark"
    assert {"needed", "ratio", "maybe"} & set(values) == set()
    assert Options.model_validate({**values, "needed": "n"}).shade is Shade.DARK
