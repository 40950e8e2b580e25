"""What a request may hold, before anything reads it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

import workbench as wb
from workbench.server.api.fields import MOST_LISTED, Page
from workbench.server.checks import check_texts, refuse_constant


@pytest.mark.parametrize("value", ["a\0b", {"k": ["\ud800"]}, {"\0": 1}, [[{"a": {"b": "\udfff"}}]]])
def test_texts_that_nothing_can_keep_are_refused_wherever_they_are(value: Any) -> None:
    with pytest.raises(wb.BadInput):
        check_texts(value)


def test_other_json_passes() -> None:
    check_texts({"강아지": ["🐶", 1, None, True, {"a": 0.5}]})


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        refuse_constant(name)


def test_a_page_is_asked_for_in_numbers_or_in_their_text() -> None:
    page = Page.model_validate({"limit": "5", "offset": 7})
    assert (page.limit, page.offset) == (5, 7)
    for wrong in ({"limit": 0}, {"limit": MOST_LISTED + 1}, {"offset": "-1"}, {"limit": "5.0"}, {"page": 1}):
        with pytest.raises(ValidationError):
            Page.model_validate(wrong)
