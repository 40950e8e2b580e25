"""A comparison as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import workbench as wb
from workbench.compare import Comparison, RunSnapshot, setting_text


def run(number: int, name: str, config: dict[str, Any], **last: float) -> RunSnapshot:
    summary = {metric: {"last": value, "count": 1} for metric, value in last.items()}
    return RunSnapshot(number, name, "tries", "succeeded", config, summary)


@pytest.fixture
def comparison() -> Comparison:
    runs = [
        run(1, "a|b_c", {"lr": 1e-3, "note": None, "same": 1}, loss=0.5, speed=1 / 3),
        run(2, "둘 & 50%", {"lr": 2e-3, "same": 1}, loss=0.25),
        run(3, "=cmd()", {"lr": 1e-3, "same": 1, "text": "-x"}, loss=math.nan),
    ]
    return Comparison(runs, {1: [wb.Metric("loss", "lower")]})


def test_csv_reads_back_as_the_same_numbers(comparison: Comparison) -> None:
    text = comparison.to_csv()
    assert text.splitlines()[0] == (
        "id,name,experiment,status,config:lr,config:note,config:same,config:text,loss,speed"
    )
    assert "\r" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert rows[1]["name"] == "둘 & 50%"
    assert (rows[1]["experiment"], rows[1]["status"]) == ("tries", "succeeded")
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


#: Formulas behind blanks and invisible characters, and in full width.
BLANKS = (
    " =1",
    "\xa0=1",
    "\ufeff=1",
    "\u200b=1",
    "\u3000＝1",
    "＋1",
    "＠a",
    "－a",
    "\r=1",
    " \t -a",
    "\x00=1",
    "﹦1",
)


@pytest.mark.parametrize(
    "text", ["=1", "+a", "-a", "@a", "\ta", "\na", "-1 a", "-1e", "--1", "+.", "-1.2.3", *BLANKS]
)
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    csv_text = Comparison([run(1, text, {"a": text})]).to_csv()
    (row,) = csv.DictReader(io.StringIO(csv_text, newline=""))
    assert row["name"] == row["config:a"] == f"'{text}"


@pytest.mark.parametrize(
    "text", ["a=1", "a", "", "1+a", "-1", "+1.5", "-.5", "-1.", "+1e-05", "-12E+34", "-.5e6"]
)
def test_a_text_that_is_harmless_stays_as_it_is(text: str) -> None:
    (row,) = csv.DictReader(io.StringIO(Comparison([run(1, text, {})]).to_csv()))
    assert row["name"] == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_text_of_several_lines_stays_in_its_cell(end: str) -> None:
    text = Comparison([run(1, f"a{end}=cmd()", {})]).to_csv()
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["name"] == f"a{end}=cmd()"


@given(st.lists(st.text(max_size=8), min_size=3, max_size=3))
def test_csv_reads_back_exactly(texts: list[str]) -> None:
    name, key, setting = (text.encode("utf-8", "replace").decode() for text in texts)
    text = Comparison([run(1, name, {"k": setting}, **{f"m{key}": 1.0})]).to_csv()
    heads, row = csv.reader(io.StringIO(text, newline=""))
    assert heads[-1] == f"m{key}"
    assert row[1] in (name, f"'{name}")
    assert row[-2] in (setting_text(setting), f"'{setting_text(setting)}")
    assert not any(unicodedata.normalize("NFKC", cell.strip())[:1] in ("=", "@", "+") for cell in row[1:])


def test_a_metric_is_no_formula_either() -> None:
    heads, _ = csv.reader(io.StringIO(Comparison([run(1, "a", {}, **{"=x": 1.0})]).to_csv()))
    assert heads[-1] == "'=x"


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


def test_markdown_escapes_what_it_must() -> None:
    text = Comparison([run(1, "\\ ` * _ [ ] < > | # ~ $x$ a&b &lt; \x1b[2J\n\n가", {}, x=1.0)]).to_markdown()
    assert text.startswith(r"| Final | \\ \` \* \_ \[ \] \< \> \| \# \~ \$x\$ a&b \&lt; \\x1b\[2J 가 |")


@pytest.mark.parametrize("start", ["[0]", "*x", "[val] loss", " [a]"])
def test_a_row_that_latex_would_take_for_an_argument_is_kept_apart(start: str) -> None:
    one, two = run(1, "a", {start: 1}, **{start: 1.0}), run(2, "b", {start: 2}, **{start: 2.0})
    text = Comparison([one, two]).to_latex()
    shown = start.strip()
    assert text.count("\\midrule\n{}" + shown) + text.count("\\midrule\n " + shown) == 2
    assert not [line for line in text.splitlines() if line.startswith(("[", "*"))]


def test_hyphens_and_controls_stay_what_they_are_in_latex() -> None:
    text = Comparison([run(1, "--lr--- a-b \x07", {}, x=1.0)]).to_latex()
    assert r"& -{}-lr-{}-{}- a-b \textbackslash{}x07 \\" in text


@pytest.mark.parametrize(("statistic", "head"), [("last", "Final"), ("best", "Best"), ("min", "Min")])
def test_tables_say_which_number_of_a_run_stands_in_them(statistic: str, head: str) -> None:
    summary = {"x": dict.fromkeys(("last", "best", "min", "max"), 1.0)}
    one = Comparison([RunSnapshot(1, "a", "tries", "succeeded", {}, summary)], statistic=statistic)
    assert one.to_markdown().startswith(f"| {head} |")
    assert f"\n{head} & a " in one.to_latex()


def test_an_arrow_says_which_way_is_better() -> None:
    both = Comparison([run(1, "a", {}, x=1.0)], {1: [wb.Metric("x", "higher")]})
    assert "| x ↑ |" in both.to_markdown()
    assert r"x $\uparrow$ &" in both.to_latex()


def test_latex_shows_what_differs_and_the_best_in_bold() -> None:
    runs = [
        run(1, "a", {"lr": 1e-3, "same": 1}, loss=0.5, speed=1.0),
        run(2, "", {"lr": 2e-3, "same": 1}, loss=0.25),
    ]
    assert Comparison(runs, {2: [wb.Metric("loss", "lower")]}).to_latex() == (
        "% \\usepackage{booktabs}\n"
        "\n"
        "\\begin{tabular}{lll}\n"
        "\\toprule\n"
        "Config & a & run 2 \\\\\n"
        "\\midrule\n"
        "lr & 0.001 & 0.002 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\n"
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "Final & a & run 2 \\\\\n"
        "\\midrule\n"
        "loss $\\downarrow$ & 0.500 & \\textbf{0.250} {\\footnotesize $-$0.250} \\\\\n"
        "speed & 1 & -- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )


@pytest.mark.parametrize(
    ("sign", "written"),
    [
        ("\\", r"\textbackslash{}"),
        ("&", r"\&"),
        ("%", r"\%"),
        ("$", r"\$"),
        ("#", r"\#"),
        ("_", r"\_"),
        ("{", r"\{"),
        ("}", r"\}"),
        ("~", r"\textasciitilde{}"),
        ("^", r"\textasciicircum{}"),
        ("<", r"\textless{}"),
        (">", r"\textgreater{}"),
        ("|", r"\textbar{}"),
        ('"', r"\textquotedbl{}"),
        ("−", "$-$"),
        ("–", "--"),
        ("→", r"$\rightarrow$"),
        ("∞", r"$\infty$"),
        ("±", r"$\pm$"),
        ("×", r"$\times$"),
        ("\n \t", " "),
        ("가", "가"),
    ],
)
def test_signs_that_latex_would_obey_are_written_so_that_they_are_read(sign: str, written: str) -> None:
    assert f"\nFinal & a{written}b \\\\\n" in Comparison([run(1, f"a{sign}b", {}, x=1.0)]).to_latex()


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
    assert alone.to_latex().count(r"\begin{tabular}") == 1
