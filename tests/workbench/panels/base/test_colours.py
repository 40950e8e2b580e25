"""The colours of series stand in one place, from which Python, CSS and JavaScript take them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from workbench.panels.base import assets as module
from workbench.panels.base.assets import assets
from workbench.panels.base.colours import DARK_SERIES_COLOURS, SERIES_COLOURS

PANELS = Path(module.__file__).parents[1]


@pytest.mark.parametrize("sheet", ["compare/compare.css", "results/results.css"])
def test_a_sheet_gets_every_colour_in_light_and_in_dark(sheet: str) -> None:
    css = assets(sheet)
    for colours in (SERIES_COLOURS, DARK_SERIES_COLOURS):
        for place, colour in enumerate(colours):
            assert f"--wb-s{place}: {colour};" in css
    assert "--wb-series" not in css


def test_no_other_file_repeats_a_colour_of_a_series() -> None:
    others = {*SERIES_COLOURS[1:], *DARK_SERIES_COLOURS}  # the first one is the accent, too
    for path in PANELS.rglob("*"):
        if path.suffix in (".py", ".js", ".css") and path.name != "colours.py":
            assert not others & set(re.findall(r"#[0-9a-f]{6}\b", path.read_text(encoding="utf-8"))), path


def test_the_page_counts_as_many_colours_as_there_are() -> None:
    (count,) = re.findall(
        r"COLOUR_COUNT = (\d+);", (PANELS / "compare" / "charts.js").read_text(encoding="utf-8")
    )
    assert int(count) == len(SERIES_COLOURS) == len(DARK_SERIES_COLOURS) == len({*SERIES_COLOURS})
