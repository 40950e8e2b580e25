"""A comparison as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

import pytest

import workbench as wb
from workbench.compare import Comparison, RunRecord


def run(number: int, name: str, config: dict[str, Any], **last: float) -> RunRecord:
    summary = {metric: {"last": value, "count": 1} for metric, value in last.items()}
    return RunRecord(number, name, "tries", "succeeded", config, summary)


@pytest.fixture
def comparison() -> Comparison:
    runs = [
        run(1, "a|b_c", {"lr": 1e-3, "note": None, "same": 1}, loss=0.5, speed=1 / 3),
        run(2, "둘 & 50%", {"lr": 2e-3, "same": 1}, loss=0.25),
        run(3, "=cmd()", {"lr": 1e-3, "same": 1, "text": "-x"}, loss=math.nan),
    ]
    return Comparison(runs, [wb.Metric("loss", "lower")])


def test_csv_reads_back_as_the_same_numbers(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert rows[1]["name"] == "둘 & 50%"
    assert float(rows[0]["speed"]) == 1 / 3
    assert (rows[0]["config:note"], rows[1]["config:note"]) == ("null", "")
    assert rows[1]["speed"] == ""
    assert math.isnan(float(rows[2]["loss"]))
    assert rows[0]["config:same"] == "1"


def test_no_cell_is_a_formula(comparison: Comparison) -> None:
    cells = [cell for row in csv.reader(io.StringIO(comparison.to_csv())) for cell in row]
    assert "'=cmd()" in cells
    assert "'-x" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))]
    negative = Comparison([run(1, "a", {"shift": -3}, x=-0.5)]).to_csv()
    assert "'-" not in negative


def test_markdown_shows_what_differs_and_the_best_in_bold(comparison: Comparison) -> None:
    assert comparison.to_markdown() == (
        "| Config | a\\|b\\_c | 둘 & 50% | =cmd() |\n"
        "| --- | --- | --- | --- |\n"
        "| lr | 0.001 | 0.002 | 0.001 |\n"
        "| note | null | – | – |\n"
        "| text | – | – | -x |\n"
        "\n"
        "| Final | a\\|b\\_c | 둘 & 50% | =cmd() |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| loss ↓ | 0.500 | **0.250 (−0.250)** | NaN |\n"
        "| speed | 0.333 | – | – |\n"
    )


def test_latex_escapes_what_it_must(comparison: Comparison) -> None:
    text = comparison.to_latex()
    assert r"a\textbar{}b\_c" in text
    assert r"둘 \& 50\%" in text
    assert r"loss $\downarrow$ & 0.500 & \textbf{0.250} {\footnotesize $-$0.250} & NaN \\" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    for line in text.splitlines():
        if line.endswith("\\\\"):
            assert line.replace(r"\&", "").count("&") == 3, line


def test_nothing_that_differs_leaves_one_table() -> None:
    alone = Comparison([run(1, "", {"a": 1}, x=1.0)])
    assert alone.to_markdown() == "| Final | run 1 |\n| --- | ---: |\n| x | 1 |\n"
