"""A panel that puts runs beside each other: final values with the best marked, and what differs.

::

    state            {"runs": [{"id", "name", "experiment", "status"}, ...] newest first,
                      "chosen": [id, ...], "comparison": Comparison.to_json() or null,
                      "problem": null or {"message", "hint"}}
    page -> kernel   {"type": "choose", "runs": [id, ...]}   {"type": "view", "view", "open"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.panels.assets import assets
from workbench.panels.live import LivePanel

if TYPE_CHECKING:
    from workbench.workspace import Workspace


#: Seconds between looks at the runs.
LOOK_SECONDS = 1.0

#: So many of the newest runs are chosen at the start, and so many are listed.
CHOSEN_AT_START, LISTED_RUNS = 3, 200


class ComparePanel(LivePanel):
    """Compare runs of a workspace; the table moves while they log.

    Parameters
    ----------
    workspace : Workspace
        Whose runs.
    runs : sequence of int, optional
        Ids to begin with, the baseline first; the newest few otherwise.
    """

    _esm = assets("dom.js", "compare.js")
    _css = assets("theme.css", "compare.css")

    def __init__(self, workspace: Workspace, runs: Sequence[int] | None = None) -> None:
        self.workspace = workspace
        self._chosen = None if runs is None else list(dict.fromkeys(runs))
        super().__init__()

    def choose(self, runs: Sequence[int]) -> None:
        """Compare these runs; the first is the baseline."""
        self._chosen = list(dict.fromkeys(runs))
        self.look_now()

    def look(self) -> tuple[dict[str, Any], float]:
        """Return the runs there are, and the comparison of the chosen ones."""
        runs = list(self.workspace.runs())[:LISTED_RUNS]
        # Until somebody chooses, a run that appears joins the newest few.
        newest = sorted(run.id for run in runs[:CHOSEN_AT_START])
        state: dict[str, Any] = {
            "runs": [
                {"id": run.id, "name": run.name, "experiment": run.experiment, "status": run.status}
                for run in runs
            ],
            "chosen": newest if self._chosen is None else self._chosen,
            "comparison": None,
            "problem": None,
        }
        try:
            if state["chosen"]:
                state["comparison"] = self.workspace.compare(state["chosen"]).to_json()
        except WorkbenchError as error:
            state["problem"] = {"message": error.message, "hint": error.hint}
        return state, LOOK_SECONDS

    def to_html(self) -> str:
        """Return the tables as plain HTML that stays readable in a saved notebook."""
        comparison = self.state.get("comparison")
        if comparison is None:
            problem = self.state.get("problem")
            said = problem["message"] if problem else "No runs to compare yet."
            return f'<div class="wb-result"><p class="wb-none">{escape(said)}</p></div>'
        tables = _final_html(comparison) + _config_html(comparison)
        return f'<div class="wb-result"><style>{assets("results.css")}</style>{tables}</div>'

    def answer(self, content: Mapping[str, Any]) -> None:
        """Do what the page asks; anything else is left alone."""
        runs = content.get("runs")
        if content.get("type") == "choose" and isinstance(runs, list):
            self.choose([run for run in runs if isinstance(run, int) and not isinstance(run, bool)])


def _head(comparison: Mapping[str, Any], first: str, side: str) -> str:
    names = "".join(
        f'<th scope="col" align="{side}"{_text_class(side)}>{escape(run["name"] or str(run["id"]))}</th>'
        for run in comparison["runs"]
    )
    return f'<thead><tr><th scope="col" align="left" class="wb-text">{first}</th>{names}</tr></thead>'


def _text_class(side: str) -> str:
    return ' class="wb-text"' if side == "left" else ""


def _final_html(comparison: Mapping[str, Any]) -> str:
    rows = []
    for row in comparison["final"]:
        arrow = {"higher": " ↑ best", "lower": " ↓ best"}.get(row["better"] or "", "")
        cells = "".join(
            f'<td align="right">{f"🏆 <b>{escape(text)}</b>" if best else escape(text)}</td>'
            for text, best in zip(row["texts"], row["best"], strict=True)
        )
        name = f'{escape(row["name"])}<small class="wb-note">{arrow}</small>'
        rows.append(f'<tr><th scope="row" align="left">{name}</th>{cells}</tr>')
    body = "".join(rows) or '<tr><td class="wb-none">No metric was logged yet.</td></tr>'
    table = f"<table>{_head(comparison, 'Final', 'right')}<tbody>{body}</tbody></table>"
    return f'<section class="wb-view"><div class="wb-scroll">{table}</div></section>'


def _config_html(comparison: Mapping[str, Any]) -> str:
    differing = [row for row in comparison["config"] if row["differs"]]
    if not differing:
        return ""
    rows = []
    for row in differing:
        cells = "".join(
            f'<td align="left" class="wb-text">{f"<b>{escape(value)}</b>" if odd else escape(value)}</td>'
            for value, odd in zip(row["values"], row["odd"], strict=True)
        )
        rows.append(f'<tr><th scope="row" align="left">{escape(row["key"])}</th>{cells}</tr>')
    table = f"<table>{_head(comparison, 'Config that differs', 'left')}<tbody>{''.join(rows)}</tbody></table>"
    return f'<section class="wb-view"><div class="wb-scroll">{table}</div></section>'
