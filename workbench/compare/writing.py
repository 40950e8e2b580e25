"""A comparison as text for other programs: CSV for spreadsheets, Markdown for notes, LaTeX for papers."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from workbench.compare.finals import FinalRow
from workbench.compare.records import RunSnapshot, run_label
from workbench.compare.settings import MISSING, ConfigRow, setting_text
from workbench.text import visible

_ARROWS = {"higher": "↑", "lower": "↓"}

#: Spreadsheets execute a cell that starts with one of these as a formula, whatever blanks come before.
_FORMULA_STARTS = frozenset("=+-@")
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")

#: Stands for a hyphen before another, which LaTeX would join to a dash.
_HYPHEN = "\0"

_LATEX = {
    _HYPHEN: "-{}",
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "−": "$-$",
    "–": "--",
    "→": r"$\rightarrow$",
    "∞": r"$\infty$",
    "±": r"$\pm$",
    "×": r"$\times$",
}


class Compared(Protocol):
    """The parts of a comparison that are written."""

    @property
    def runs(self) -> Sequence[RunSnapshot]:
        """The runs, in the order of the columns."""

    @property
    def config(self) -> Sequence[ConfigRow]:
        """All settings."""

    @property
    def differences(self) -> Sequence[ConfigRow]:
        """The settings in which the runs differ."""

    @property
    def final(self) -> Sequence[FinalRow]:
        """The final numbers, one row per metric."""

    @property
    def statistic(self) -> str:
        """Which value of each metric's summary is used."""


def to_csv(comparison: Compared) -> str:
    """Write one line per run: ``id, name, experiment, status``, all settings, all final numbers.

    Settings are named ``config:<path>`` and numbers by their metric. A setting that a run does not have is an
    empty cell and null is ``null``; numbers are written in full precision. Text that a spreadsheet would take
    for a formula is prefixed with an apostrophe; any other text is read back as it was, line breaks included.
    """
    lines: list[str] = []
    settings = [f"config:{row.key}" for row in comparison.config]
    heads = ["id", "name", "experiment", "status", *settings, *(row.name for row in comparison.final)]
    lines.append(_csv_line(map(_harmless, heads)))
    for place, run in enumerate(comparison.runs):
        values = [row.values[place] for row in comparison.config]
        numbers = [row.values[place] for row in comparison.final]
        cells = [
            str(run.id),
            *map(_harmless, (run.name, run.experiment, run.status)),
            *("" if value is MISSING else _harmless(setting_text(value)) for value in values),
            *("" if number is None else repr(float(number)) for number in numbers),
        ]
        lines.append(_csv_line(cells))
    return "".join(lines)


def _csv_line(cells: Iterable[str]) -> str:
    """Return one row. Of line breaks ``csv`` quotes those of its row end only, so that it is given both."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(list(cells))
    return out.getvalue().removesuffix("\r\n") + "\n"


def _harmless(text: str) -> str:
    if _NUMBER.match(text) or not text:
        return text
    return f"'{text}" if text[0] in "\t\r\n" or _first_sign(text) in _FORMULA_STARTS else text


def _first_sign(text: str) -> str:
    """Return the first visible character, in its usual width; empty if there is none.

    Spreadsheets drop blanks and invisible characters, and some read full-width signs as the usual ones.
    """
    for sign in text:
        if unicodedata.category(sign)[0] not in "ZC":
            return unicodedata.normalize("NFKC", sign)[0]
    return ""


def to_markdown(comparison: Compared) -> str:
    """Write the differing settings and the final numbers as two Markdown tables, the best in bold."""
    names = [_markdown(run_label(run)) for run in comparison.runs]
    parts = []
    if comparison.differences:
        rows = [[_markdown(row.key), *map(_markdown, row.texts)] for row in comparison.differences]
        parts.append(_markdown_table(["Config", *names], rows, "left"))
    finals = []
    for row in comparison.final:
        arrow = _ARROWS.get(row.better or "", "")
        cells = [
            f"**{text}**" if best else text for text, best in zip(_with_deltas(row), row.best, strict=True)
        ]
        finals.append([f"{_markdown(row.name)} {arrow}".strip(), *cells])
    parts.append(_markdown_table([_head(comparison), *names], finals, "right"))
    return "\n\n".join(parts) + "\n"


def _head(comparison: Compared) -> str:
    return "Final" if comparison.statistic == "last" else comparison.statistic.capitalize()


def _with_deltas(row: Any) -> list[str]:
    return [f"{text} ({delta})" if delta else text for text, delta in zip(row.texts, row.deltas, strict=True)]


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~$]|&(?=#?\w+;))", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    """Return text with each run of white space as one space, and other control characters escaped."""
    return visible(re.sub(r"\s+", " ", text))


def _markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]], side: str) -> str:
    marks = ["---", *(["---:" if side == "right" else "---"] * (len(heads) - 1))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, marks, *rows))


def to_latex(comparison: Compared) -> str:
    r"""Write the differing settings and the final numbers as two LaTeX tables, the best in bold.

    The preamble needs ``\usepackage{booktabs}``; text that is not ASCII needs an engine that supports it
    (LuaLaTeX, XeLaTeX).
    """
    names = [_latex(run_label(run)) for run in comparison.runs]
    parts = ["% \\usepackage{booktabs}"]
    if comparison.differences:
        rows = [[_latex(row.key), *map(_latex, row.texts)] for row in comparison.differences]
        parts.append(_latex_table(["Config", *names], rows, "l"))
    finals = []
    for row in comparison.final:
        arrow = {"higher": r" $\uparrow$", "lower": r" $\downarrow$"}.get(row.better or "", "")
        cells = []
        for text, delta, best in zip(row.texts, row.deltas, row.best, strict=True):
            number = rf"\textbf{{{_latex(text)}}}" if best else _latex(text)
            cells.append(rf"{number} {{\footnotesize {_latex(delta)}}}" if delta else number)
        finals.append([_latex(row.name) + arrow, *cells])
    parts.append(_latex_table([_head(comparison), *names], finals, "r"))
    return "\n\n".join(parts) + "\n"


def _latex(text: str) -> str:
    apart = re.sub("-(?=-)", _HYPHEN, _one_line(text))
    return "".join(_LATEX.get(sign, sign) for sign in apart)


def _row_start(cell: str) -> str:
    r"""Return what parts a row from the ``\\`` or ``\midrule`` before it, which would take ``[`` or ``*``."""
    return "{}" if cell.startswith(("[", "*")) else ""


def _latex_table(heads: Sequence[str], rows: Iterable[Sequence[str]], side: str) -> str:
    columns = "l" + side * (len(heads) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", f"{' & '.join(heads)} \\\\", r"\midrule"]
    lines += [f"{_row_start(cells[0])}{' & '.join(cells)} \\\\" for cells in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])
