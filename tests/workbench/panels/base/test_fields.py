"""Form fields from an adapter's options."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import ConfigDict, Field

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
        ("names", "list"),
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


def test_lists_and_choices_of_several_are_typed_not_written_as_json() -> None:
    class Lists(wb.Options):
        model_config = ConfigDict(json_schema_extra={"x-more": ["seeds", "needed"]})

        needed: tuple[str, ...]
        seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
        shades: tuple[Shade, ...] = (Shade.DARK,)
        pairs: tuple[tuple[int, int], ...] = ()
        where: str = Field("", json_schema_extra={"format": "sources", "x-names": ["a"]})

    fields = {field["name"]: field for field in form_fields(Lists.model_json_schema())}
    assert [fields[name]["kind"] for name in Lists.model_fields] == [
        *("list", "list", "choices", "json", "text"),
    ]
    assert [fields[name]["items"] for name in ("needed", "seeds")] == ["text", "integer"]
    assert [choice["value"] for choice in fields["shades"]["choices"]] == [shade.value for shade in Shade]
    assert (fields["where"]["path"], fields["where"]["names"]) == ("sources", ["a"])
    # One that must be given is never out of sight.
    assert [name for name, field in fields.items() if field["more"]] == ["seeds"]
