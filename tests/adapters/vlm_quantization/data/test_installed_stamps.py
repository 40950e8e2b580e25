"""Tux Paint's stamps as the Debian package installs them; CI installs it, see ``.ci/run``."""

import os
from pathlib import Path

import pytest

from adapters.vlm_quantization.data import stamps
from adapters.vlm_quantization.data.sources import list_collection


@pytest.fixture(scope="module")
def installed():
    """The folder; a test of CI names another one, to see what happens without it."""
    folder = Path(os.environ.get("WORKBENCH_TEST_STAMPS", stamps.INSTALLED))
    if not folder.is_dir():
        message = "tuxpaint-stamps-default is not installed: apt-get install tuxpaint-stamps-default"
        if os.environ.get("WORKBENCH_REQUIRE_STAMPS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return folder


def test_the_stamps_have_captions_in_english_and_korean(installed):
    collection = list_collection("stamps")

    by_id = {item.id: item for item in collection.items}
    assert len(by_id) > 900
    assert collection.languages == ("en", "ko")
    assert sum("ko" in item.captions for item in collection.items) > 900
    assert by_id["animals/marsupials/kangaroo.png"].captions == {
        "en": ("A red kangaroo",),
        "ko": ("빨간 캥거루",),
    }
    assert "GPL-2" in collection.credits[0]
    text = (installed / "animals/marsupials/kangaroo.txt").read_text(encoding="utf-8")
    assert len(stamps.captions_of(text)) > 50


def test_photographs_are_told_from_drawings(installed):
    """Judged on a few pictures: all of them take ten seconds to decode."""
    from adapters.vlm_quantization.data.pictures import decode_picture

    photographs = ("animals/marsupials/kangaroo.png", "food/fruit/lemon.png")
    drawings = ("sports/cartoon/volleyball.png", "sports/cartoon/football_helmet_side.png")
    for name in (*photographs, *drawings):
        assert stamps.is_photograph(decode_picture(installed / name)) is (name in photographs), name
