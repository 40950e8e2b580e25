"""Pictures as base64 text, as programs write it."""

from __future__ import annotations

import base64
import os

import pytest

import workbench as wb
from workbench.search import messages
from workbench.search.searcher import MAX_IMAGE_BYTES

PICTURE = os.urandom(1_000)
TEXT = base64.b64encode(PICTURE).decode()
LINES = base64.encodebytes(PICTURE).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        LINES,
        LINES.replace("\n", "\r\n"),
        f"data:image/jpeg;base64,{TEXT}",
        f" data:image/png;name=a.png;base64,{LINES}",
        f"DATA:;BASE64,{TEXT}",
    ],
    ids=["one line", "lines", "CR LF", "URL", "URL of lines", "upper case"],
)
def test_a_picture_is_read_as_programs_write_it(text: str) -> None:
    assert messages.picture_from(text) == PICTURE
    assert abs(messages.picture_characters(text.strip()) - len(TEXT)) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("AAA%AAAA", r"character 4 is '%'"),
        ("AAAA-_AA", r"character 5 is '-'"),
        ("AAAAA", "5 characters"),
        ("data:image/png,abc", "a data: URL that is not base64: 'data:image/png'"),
        ("data:image/png;base64", "a data: URL that is not base64"),
        ("/home/me/a.png", "character 9 is '.'|character 10 is '.'|character 11 is '.'"),
        ("사진", "character 1 is '사'"),
    ],
)
def test_what_is_not_base64_is_refused_with_the_wrong_part(text: str, says: str) -> None:
    with pytest.raises(wb.BadInput, match=says) as refused:
        messages.picture_from(text)
    assert refused.value.hint


def test_the_largest_picture_fits_a_request_with_line_breaks() -> None:
    lines = -(-MAX_IMAGE_BYTES // 57)  # of 76 characters, and a break that JSON writes as two
    assert lines * 78 + 1_000 < messages.REQUEST_BYTES
