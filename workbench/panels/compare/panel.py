"""A panel that puts runs beside each other: what differs, how the curves went, which is best at what.

::

    state            {"runs": [{"id", "name", "experiment", "status", "tags", "notes", "began", "ended",
                                "value", "number", "best"}, ...] newest first,
                      "more": whether older ones are not listed,
                      "chosen": [id, ...], "slots": [colour, ...] one a chosen run, "metrics": [name, ...],
                      "column": metric beside each run, "column_better": its direction,
                      "comparison": null or {"base": place, "config": [...], "final": [...]},
                      "view": how it is shown (see View), "heard": {view: number},
                      "problem": null or {"message", "hint"}}
    curves, live     {"lines": [{"metric", "runs", "at", "count", "band", "x0"}, ...], "data": float32}
                      of runs that are over, and of runs that go on; "at" and "count" are in numbers, and of
                      each line x - x0 stands first, then y, then the band's low and high where it has one
    page -> kernel   {"type": "choose", "runs": [id, ...], "view", "number"}
                     {"type": "set", "change": {...}, "view", "number"}   {"type": "view", "view", "open"}
                     {"type": "export", "kind": "csv" | "md" | "tex"}
    kernel -> page   {"type": "file", "name", "mime", "text"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.compare import Comparison, RunRecord
from workbench.compare.charts import ChartWish, chart_lines
from workbench.compare.curves import AXES, Line
from workbench.errors import BadInput, UnknownRun, WorkbenchError
from workbench.panels.base.assets import assets
from workbench.panels.base.live import LivePanel
from workbench.panels.compare.html import page_html
from workbench.panels.compare.state import listed_runs, packed, plain_json
from workbench.panels.compare.view import CHARTS_AT_START, MAX_SENT_POINTS, View, changed
from workbench.store.runs import RunRow

if TYPE_CHECKING:
    from workbench.base_workspace import BaseWorkspace


#: Seconds between looks at the runs.
LOOK_SECONDS = 1.0


#: So many of the newest runs are chosen at the start, and so many are listed.
CHOSEN_AT_START, LISTED_RUNS = 3, 300


#: A point of a chart may stand for as many as this share of a pixel's column; four points a bucket are kept.
_PIXELS_A_BUCKET, _POINTS_A_BUCKET, _FEWEST_BUCKETS = 2, 4, 24


_KINDS = {"csv": "text/csv", "md": "text/markdown", "tex": "application/x-tex"}


class ComparePanel(LivePanel):
    """Compare runs of a workspace; tables and curves move while they log.

    Parameters
    ----------
    workspace : BaseWorkspace
        Whose runs; one on a server (``workbench.connect``) as well as one here.
    runs : sequence of int, optional
        Ids to begin with; the newest few otherwise.
    **view
        How to show them; see :class:`View`.
    """

    _esm = assets("base/dom.js", "compare/charts.js", "compare/tables.js", "compare/compare.js")
    _css = assets("base/theme.css", "compare/compare.css")

    curves = traitlets.Dict().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)

    def __init__(self, workspace: BaseWorkspace, runs: Sequence[int] | None = None, **view: Any) -> None:
        self.workspace = workspace
        self._chosen = None if runs is None else list(dict.fromkeys(runs))
        self._view = changed(View(), view)
        self._heard: dict[str, int] = {}
        self._slots: dict[int, int] = {}
        self._reader = workspace.run_reader()
        self._curves = workspace.curve_reader()
        self._drawn: dict[tuple[str, tuple[int, ...]], tuple[Any, Line]] = {}
        self._sent: dict[str, Any] = {}
        self._comparison: Comparison | None = None
        self._lines: list[tuple[str, Line]] = []
        # Whole from the start: the first look may find its workspace out of reach.
        nothing = {"runs": [], "more": False, "chosen": [], "slots": [], "metrics": [], "comparison": None}
        column = {"column": self._view.column, "column_better": None}
        told = {"view": asdict(self._view), "heard": {}, "problem": None}
        super().__init__(state={**nothing, **column, **told})

    # What people and pages do --------------------------------------------------------------------

    def choose(self, runs: Sequence[int]) -> None:
        """Compare these runs, in this order."""
        with self._refreshing:
            self._chosen = list(dict.fromkeys(runs))
            if self._view.baseline not in self._chosen:
                self._view = replace(self._view, baseline=None)
            self.look_now()

    def set(self, **change: Any) -> None:
        """Show the comparison in another way; see :class:`View` for what there is.

        Raises
        ------
        BadInput
            A name or a value that does not fit.
        """
        with self._refreshing:
            self._view = changed(self._view, change)
            self.look_now()

    @property
    def view(self) -> View:
        """How the comparison is shown."""
        return self._view

    @property
    def comparison(self) -> Comparison | None:
        """What is shown, as plain data; None while no run is chosen."""
        return self._comparison

    def answer(self, content: Mapping[str, Any]) -> None:
        """Do what the page asks; anything else is left alone."""
        kind, runs, change = content.get("type"), content.get("runs"), content.get("change")
        view, number = content.get("view"), content.get("number")
        if isinstance(view, str) and isinstance(number, int):
            self._heard = dict([*self._heard.items(), (view, number)][-8:])
        if kind == "choose" and isinstance(runs, list):
            self.choose([run for run in runs if isinstance(run, int) and not isinstance(run, bool)])
        elif kind == "set" and isinstance(change, Mapping):
            try:
                self.set(**{str(name): value for name, value in change.items()})
            except BadInput:
                self.look_now()
        elif kind == "export" and content.get("kind") in _KINDS:
            self._export(str(content["kind"]))

    def _export(self, kind: str) -> None:
        with self._refreshing:  # not in the middle of a look
            comparison = self._comparison
        if comparison is None:
            return
        write = {"csv": comparison.to_csv, "md": comparison.to_markdown, "tex": comparison.to_latex}[kind]
        text = write()
        self.send({"type": "file", "name": f"comparison.{kind}", "mime": _KINDS[kind], "text": text})

    def at_hand(self) -> dict[str, Any]:
        """Return which messages of the page were heard; what they ask for is done when a look succeeds."""
        return {"heard": self._heard}

    def to_html(self) -> str:
        """Return tables and curves as plain HTML that stays readable in a saved notebook."""
        with self._refreshing:  # not in the middle of a look
            comparison, lines, view, state = self._comparison, self._lines, self._view, self.state
        problem = state.get("problem")
        said = problem["message"] if problem else "No runs to compare yet."
        return page_html(comparison, lines, state.get("slots", []), said, axis=view.axis, log=view.log)

    # What is looked up ---------------------------------------------------------------------------

    def look(self) -> tuple[dict[str, Any], float]:
        """Return the runs there are, and the comparison of the chosen ones."""
        listed, rows = self._reader.look(LISTED_RUNS, self._chosen or ())
        shown = sorted(rows.values(), key=lambda row: -row.id)
        # Until somebody chooses, a run that appears joins the newest few.
        newest = sorted(row.id for row in shown[:CHOSEN_AT_START])
        chosen = newest if self._chosen is None else self._chosen
        summaries = self._reader.summaries(shown)
        declared = self._reader.declared(shown)
        state: dict[str, Any] = {
            "more": listed.start > 1,
            "chosen": chosen,
            "comparison": None,
            "heard": self._heard,
            "problem": None,
        }
        self._comparison = None
        picked: list[RunRow] = []
        try:
            for run_id in chosen:
                if run_id not in rows:
                    raise UnknownRun(run_id, listed.stop - 1 or None)
            picked = [rows[run_id] for run_id in chosen]
            if picked:
                self._comparison = self._compared(picked, summaries, declared)
                state["comparison"] = plain_json(self._comparison)
        except WorkbenchError as error:
            state["problem"] = {"message": error.message, "hint": error.hint}
            picked = []
        view = self._settled(picked, summaries)
        self._draw(view, picked, summaries)
        state["slots"] = self._colours(chosen)
        state["view"] = asdict(view)
        state |= listed_runs(shown, summaries, declared, view)
        return state, LOOK_SECONDS

    def _compared(
        self, picked: Sequence[RunRow], summaries: Mapping[int, Mapping[str, Any]], declared: Sequence[Any]
    ) -> Comparison:
        records = [
            RunRecord(row.id, row.name, row.experiment, row.status, row.config, summaries[row.id])
            for row in picked
        ]
        how = {"statistic": self._view.statistic, "baseline": self._view.baseline}
        return Comparison(records, declared, better=self._view.better, **how)  # type: ignore[arg-type]

    def _settled(self, picked: Sequence[RunRow], summaries: Mapping[int, Mapping[str, Any]]) -> View:
        """Return the view with what nobody has chosen filled in."""
        final = self._comparison.final if self._comparison else []
        if self._view.metrics is not None:
            return self._view
        names = [row.name for row in final]
        curved = [name for name in names if any(_count(summaries, row, name) > 1 for row in picked)]
        return replace(self._view, metrics=(curved or names)[:CHARTS_AT_START])

    def _colours(self, chosen: Sequence[int]) -> list[int]:
        """Return a colour a run; one that stays keeps its own."""
        self._slots = {run_id: slot for run_id, slot in self._slots.items() if run_id in chosen}
        for run_id in chosen:
            if run_id not in self._slots:
                taken = set(self._slots.values())
                self._slots[run_id] = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        return [self._slots[run_id] for run_id in chosen]

    # Curves --------------------------------------------------------------------------------------

    def _draw(self, view: View, picked: Sequence[RunRow], summaries: Mapping[int, Mapping[str, Any]]) -> None:
        """Bring the curves up to date, and tell the page of those that changed."""
        metrics = list(view.metrics or ())
        wanted = metrics if view.axis in AXES else [*metrics, view.axis]
        counts = {
            (row.id, name): _count(summaries, row, name)
            for row in picked
            for name in dict.fromkeys(wanted)
            if _count(summaries, row, name)
        }
        held = self._curves.series(counts)
        most = MAX_SENT_POINTS // (_POINTS_A_BUCKET * max(len(counts), 1))
        buckets = max(min(int(view.width) // _PIXELS_A_BUCKET, most), _FEWEST_BUCKETS)
        wish = ChartWish(view.axis, view.smoothing, buckets, view.average, view.window)
        running = {row.id for row in picked if row.status == "running"}
        drawn: dict[tuple[str, tuple[int, ...]], tuple[Any, Line]] = {}
        for name in metrics:
            for ids in _members(name, picked, counts, view.average):
                rows = [row for row in picked if row.id in ids]
                sizes = [
                    len(held[row.id, one])
                    for row in rows
                    for one in (name, view.axis)
                    if (row.id, one) in held
                ]
                key, mark = (name, ids), (wish, sizes)
                if self._drawn.get(key, (None,))[0] != mark:
                    found = chart_lines(name, rows, held, wish)
                    if not found:
                        continue
                    drawn[key] = (mark, found[0])
                else:
                    drawn[key] = self._drawn[key]
        self._drawn = drawn
        self._lines = [(name, line) for (name, _), (_, line) in drawn.items()]
        for trait, goes_on in (("curves", False), ("live", True)):
            mine = {key: one for key, one in drawn.items() if bool(running & set(key[1])) == goes_on}
            marks = {key: mark for key, (mark, _) in mine.items()}
            if self._sent.get(trait) != marks:
                self._sent[trait] = marks
                setattr(self, trait, packed([(name, line) for (name, _), (_, line) in mine.items()]))


def _count(summaries: Mapping[int, Mapping[str, Any]], row: RunRow, metric: str) -> int:
    return int(summaries[row.id].get(metric, {}).get("count", 0))


def _members(
    metric: str, picked: Sequence[RunRow], counts: Mapping[tuple[int, str], int], average: str | None
) -> list[tuple[int, ...]]:
    """Return which runs each line of a chart is of."""
    from workbench.compare import groups

    rows = [row for row in picked if (row.id, metric) in counts]
    if average is None:
        return [(row.id,) for row in rows]
    found = groups([row.config for row in rows], (average,))
    return [tuple(rows[place].id for place in group) for group in found]
