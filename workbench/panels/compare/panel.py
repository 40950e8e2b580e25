"""A panel that compares runs: settings that differ, curves, and the best value of each metric.

::

    state            {"runs": [{"id", "name", "experiment", "status", "tags", "notes", "reason", "began",
                                "ended", "value", "number", "best"}, ...] newest first,
                      "more": whether older runs are left out,
                      "chosen": [id, ...], "slots": [colour, ...] one per chosen run, "metrics": [name, ...],
                      "column": metric shown for each run, "column_better": its direction,
                      "comparison": null or {"base": place, "config": [...], "final": [...]},
                      "view": how it is shown (see Display), "heard": {view: number},
                      "no_metrics": the text in place of final values,
                      "problem": null or {"message", "hint"},
                      "found": null or {"where", "count", "problem"}: what a condition found in all runs,
                      "ordered": null or {"text", "hint", "undo": null or [id, ...]}: the last change}
    curves, live     {"lines": [{"metric", "runs", "at", "count", "band", "x0"}, ...], "data": float32}
                      of finished runs, and of running ones; "at" and "count" are in numbers; each line holds
                      x - x0, then y, then the low and high of its band if it has one
    page -> kernel   {"type": "choose", "runs": [id, ...], "view", "number"}
                     {"type": "set", "change": {...}, "view", "number"}   {"type": "view", "view", "open"}
                     {"type": "export", "kind": "csv" | "md" | "tex"}
                     {"type": "find", "where": condition on all runs, or empty, "view", "number"}
                     {"type": "order", "verb": "archive" | "restore" | "delete", "runs": [id, ...]}
                     {"type": "order", "verb": "rename", "runs": [id], "name"}
    kernel -> page   {"type": "file", "name", "mime", "text"}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, TypeVar

import traitlets

from workbench.compare import Comparison, RunSnapshot
from workbench.compare.charts import ChartWish, chart_lines
from workbench.compare.curves import AXES, Line
from workbench.errors import BadInput, StoreError, StoreUnavailable, UnknownRun, WorkbenchError
from workbench.panels.base.assets import assets, panel_script
from workbench.panels.base.live import LivePanel
from workbench.panels.compare.html import NO_METRICS, UNREAD_METRICS, page_html
from workbench.panels.compare.state import listed_runs, packed, plain_json
from workbench.panels.compare.view import CHARTS_AT_START, MAX_SENT_POINTS, Display, changed
from workbench.store.runs import RunRow

if TYPE_CHECKING:
    from workbench.base_workspace import BaseWorkspace


#: Seconds between looks at the runs.
LOOK_SECONDS = 1.0


#: Number of newest runs chosen at the start, and maximum number of listed runs.
CHOSEN_AT_START, LISTED_RUNS = 3, 300


#: Pixels per bucket, points kept per bucket, and minimum number of buckets of a curve.
_PIXELS_PER_BUCKET, _POINTS_PER_BUCKET, _MIN_BUCKETS = 2, 4, 24


T = TypeVar("T")


#: Seconds after which a condition is looked up again.
FIND_SECONDS = 5.0


#: What can be done to runs, and how it is reported.
_VERBS = {"archive": "Archived", "restore": "Restored", "delete": "Deleted", "rename": "Renamed"}


_KINDS = {"csv": "text/csv", "md": "text/markdown", "tex": "application/x-tex"}


class ComparePanel(LivePanel):
    """Compare runs of a workspace; tables and curves update while the runs log.

    Parameters
    ----------
    workspace : BaseWorkspace
        The workspace of the runs, local or on a server (``workbench.connect``).
    runs : sequence of int, optional
        Ids of the runs chosen at the start; default: the newest few.
    **view
        How to show the comparison; see :class:`Display`.
    """

    _esm = panel_script("compare/charts.js", "compare/tables.js", "compare/parts.js", "compare/compare.js")
    _css = assets("base/theme.css", "base/trophy.css", "compare/compare.css")

    curves = traitlets.Dict().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)

    def __init__(self, workspace: BaseWorkspace, runs: Sequence[int] | None = None, **view: Any) -> None:
        self.workspace = workspace
        self._chosen = None if runs is None else list(dict.fromkeys(runs))
        self._view = changed(Display(), view)
        self._heard: dict[str, int] = {}
        self._slots: dict[int, int] = {}
        self._reader = workspace.run_reader()
        self._curves = workspace.curve_reader()
        self._drawn: dict[tuple[str, tuple[int, ...]], tuple[Any, Line]] = {}
        self._sent: dict[str, Any] = {}
        self._where = ""
        self._found: dict[str, Any] | None = None
        self._found_ids: list[int] = []
        self._found_at = 0.0
        self._ordered: dict[str, Any] | None = None
        self._unread: StoreError | None = None
        self._comparison: Comparison | None = None
        self._lines: list[tuple[str, Line]] = []
        # Complete from the start, because the first look may not reach the workspace.
        nothing = {"runs": [], "more": False, "chosen": [], "slots": [], "metrics": [], "comparison": None}
        column = {"column": self._view.column, "column_better": None}
        rest = {"view": asdict(self._view), "heard": {}, "problem": None, "no_metrics": NO_METRICS}
        rest |= {"found": None, "ordered": None}
        super().__init__(state={**nothing, **column, **rest})

    # Requests from Python and from the page ------------------------------------------------------

    def choose(self, runs: Sequence[int]) -> None:
        """Compare these runs, in this order."""
        with self._refreshing:
            self._chosen = list(dict.fromkeys(runs))
            if self._view.baseline not in self._chosen:
                self._view = replace(self._view, baseline=None)
            self.look_now()

    def set(self, **change: Any) -> None:
        """Change how the comparison is shown; see :class:`Display` for the options.

        Raises
        ------
        BadInput
            An unknown option or an invalid value.
        """
        with self._refreshing:
            self._view = changed(self._view, change)
            self.look_now()

    def find(self, where: str) -> None:
        """List the runs that match a condition, of all runs; an empty one lists the newest again.

        Parameters
        ----------
        where : str
            As for ``workspace.runs``: ``"config.lr < 0.01 and tag:baseline"``.
        """
        with self._refreshing:
            self._where, self._found_at = where.strip(), 0.0
            self.look_now()

    def order(self, verb: str, runs: Sequence[int], name: str = "") -> None:
        """Archive, restore, delete or rename runs; what was done, or why not, is in ``state["ordered"]``.

        Parameters
        ----------
        verb : {"archive", "restore", "delete", "rename"}
            What to do.
        runs : sequence of int
            Ids of the runs; one, to rename it.
        name : str
            Its new name.
        """
        done: list[int] = []
        hint, problem = "", ""
        with self._refreshing:
            try:
                for run_id in runs:
                    run = self.workspace.run(run_id)
                    getattr(run, verb)(*([name] if verb == "rename" else []))
                    done.append(run_id)
            except WorkbenchError as error:
                problem, hint = error.message, error.help
            said = _said(verb, len(done)) if done else ""
            undo = done if verb == "archive" and done else None
            text = ". ".join(filter(None, (said, problem)))
            self._ordered = {"text": text, "hint": hint, "undo": undo}
            if verb in ("archive", "delete") and self._chosen is not None:
                self._chosen = [run_id for run_id in self._chosen if run_id not in done]
            if self._view.baseline in done:
                self._view = replace(self._view, baseline=None)
            self._found_at = 0.0
            self.look_now()

    @property
    def view(self) -> Display:
        """How the comparison is shown."""
        return self._view

    @property
    def comparison(self) -> Comparison | None:
        """The comparison as plain data; None while no run is chosen."""
        return self._comparison

    def answer(self, content: Mapping[str, Any]) -> None:
        """Handle a message from the page; other messages are ignored."""
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
        elif kind == "find" and isinstance(where := content.get("where"), str):
            self.find(where)
        elif kind == "order" and content.get("verb") in _VERBS and isinstance(runs, list):
            name = content.get("name", "")
            ids = [run for run in runs if isinstance(run, int) and not isinstance(run, bool)]
            self.order(str(content["verb"]), ids, name if isinstance(name, str) else "")
        elif kind == "export" and content.get("kind") in _KINDS:
            self._export(str(content["kind"]))

    def _export(self, kind: str) -> None:
        with self._refreshing:  # not during a look
            comparison = self._comparison
        if comparison is None:
            return
        write = {"csv": comparison.to_csv, "md": comparison.to_markdown, "tex": comparison.to_latex}[kind]
        text = write()
        self.send({"type": "file", "name": f"comparison.{kind}", "mime": _KINDS[kind], "text": text})

    def at_hand(self) -> dict[str, Any]:
        """Return which messages of the page arrived; they take effect when a look succeeds."""
        return {"heard": self._heard}

    def to_html(self) -> str:
        """Return tables and curves as plain HTML that stays readable in a saved notebook."""
        with self._refreshing:  # not during a look
            comparison, lines, view, state = self._comparison, self._lines, self._view, self.state
        problem = state.get("problem")
        nothing = problem["message"] if problem else "No runs to compare yet."
        return page_html(
            comparison,
            lines,
            state.get("slots", []),
            nothing,
            axis=view.axis,
            log=view.log,
            no_metrics=state.get("no_metrics", NO_METRICS),
        )

    # Looking up the state ------------------------------------------------------------------------

    def look(self) -> tuple[dict[str, Any], float]:
        """Return the listed runs and the comparison of the chosen ones."""
        self._unread = None
        found = self._find()
        limit = LISTED_RUNS if found is None else 0
        listed, rows = self._reader.look(limit, [*(self._chosen or ()), *(found or ())])
        wanted = {*(self._chosen or ()), *(found or ())}
        shown = [
            row
            for row in sorted(rows.values(), key=lambda row: -row.id)
            if row.archived_at is None or row.id in wanted
        ]
        # Until runs are chosen by hand, the newest few are compared.
        newest = sorted(row.id for row in shown[:CHOSEN_AT_START])
        chosen = newest if self._chosen is None else self._chosen
        nothing: Mapping[int, Mapping[str, Any]] = {row.id: {} for row in shown}
        summaries = self._readable(lambda: self._reader.summaries(shown), nothing)
        undeclared: Mapping[int, Any] = {}
        declared = self._readable(lambda: self._reader.declared(shown), undeclared)
        state: dict[str, Any] = {
            "more": listed.start > 1 and found is None,
            "found": self._found,
            "ordered": self._ordered,
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
        except UnknownRun as error:
            hint = error.help or "Select other runs below."
            state["problem"] = {"message": error.message, "hint": hint}
            picked = []
        except WorkbenchError as error:
            state["problem"] = {"message": error.message, "hint": error.help}
            picked = []
        view = self._settled(picked, summaries)
        self._draw(view, picked, summaries)
        if self._unread is not None and state["problem"] is None:
            message = f"some of these runs' data cannot be read: {self._unread.message}"
            state["problem"] = {"message": message, "hint": self._unread.help}
        state["no_metrics"] = NO_METRICS if self._unread is None else UNREAD_METRICS
        state["slots"] = self._colours(chosen)
        state["view"] = asdict(view)
        state |= listed_runs(shown, summaries, declared, view)
        return state, LOOK_SECONDS

    def _find(self) -> list[int] | None:
        """Return the ids of the runs that match the condition, looked up every few seconds; None without."""
        if not self._where:
            self._found = None
            return None
        if time.monotonic() - self._found_at > FIND_SECONDS:
            self._found_at = time.monotonic()
            problem = ""
            try:
                runs = self.workspace.runs(where=self._where, limit=LISTED_RUNS)
                count = len(runs)
                if count == LISTED_RUNS:
                    count = self.workspace.count_runs(where=self._where)
                self._found_ids = [run.id for run in runs]
            except BadInput as error:
                self._found_ids, count = [], 0
                problem = f"{error.message}\n{error.hint}".strip()
            self._found = {"where": self._where, "count": count, "problem": problem}
        return self._found_ids

    def _readable(self, read: Callable[[], T], nothing: T) -> T:
        """Return what is read; of a part of the database that is damaged nothing, and remember why.

        The other parts are still shown. A database that cannot be reached for a while ends the look instead.
        """
        try:
            return read()
        except StoreUnavailable:
            raise
        except StoreError as error:
            self._unread = error
            return nothing

    def _compared(
        self,
        picked: Sequence[RunRow],
        summaries: Mapping[int, Mapping[str, Any]],
        declared: Mapping[int, Any],
    ) -> Comparison:
        records = [
            RunSnapshot(row.id, row.name, row.experiment, row.status, row.config, summaries[row.id])
            for row in picked
        ]
        how = {"statistic": self._view.statistic, "baseline": self._view.baseline}
        return Comparison(records, declared, better=self._view.better, **how)  # type: ignore[arg-type]

    def _settled(self, picked: Sequence[RunRow], summaries: Mapping[int, Mapping[str, Any]]) -> Display:
        """Return the view with its unset fields filled in."""
        final = self._comparison.final if self._comparison else []
        if self._view.metrics is not None:
            return self._view
        names = [row.name for row in final]
        curved = [name for name in names if any(_count(summaries, row, name) > 1 for row in picked)]
        return replace(self._view, metrics=(curved or names)[:CHARTS_AT_START])

    def _colours(self, chosen: Sequence[int]) -> list[int]:
        """Return one colour per run; a run that stays keeps its colour."""
        self._slots = {run_id: slot for run_id, slot in self._slots.items() if run_id in chosen}
        for run_id in chosen:
            if run_id not in self._slots:
                taken = set(self._slots.values())
                self._slots[run_id] = next(slot for slot in range(len(taken) + 1) if slot not in taken)
        return [self._slots[run_id] for run_id in chosen]

    # Curves --------------------------------------------------------------------------------------

    def _draw(
        self, view: Display, picked: Sequence[RunRow], summaries: Mapping[int, Mapping[str, Any]]
    ) -> None:
        """Update the curves and send those that changed to the page."""
        metrics = list(view.metrics or ())
        names = metrics if view.axis in AXES else [*metrics, view.axis]
        counts = {
            (row.id, name): _count(summaries, row, name)
            for row in picked
            for name in dict.fromkeys(names)
            if _count(summaries, row, name)
        }
        none: Mapping[tuple[int, str], Any] = {}
        held = self._readable(lambda: self._curves.series(counts), none)
        most = MAX_SENT_POINTS // (_POINTS_PER_BUCKET * max(len(counts), 1))
        buckets = max(min(int(view.width) // _PIXELS_PER_BUCKET, most), _MIN_BUCKETS)
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
                    fresh = chart_lines(name, rows, held, wish)
                    if not fresh:
                        continue
                    drawn[key] = (mark, fresh[0])
                else:
                    drawn[key] = self._drawn[key]
        self._drawn = drawn
        self._lines = [(name, line) for (name, _), (_, line) in drawn.items()]
        for trait, goes_on in (("curves", False), ("live", True)):
            part = {key: one for key, one in drawn.items() if bool(running & set(key[1])) == goes_on}
            marks = {key: mark for key, (mark, _) in part.items()}
            if self._sent.get(trait) != marks:
                self._sent[trait] = marks
                setattr(self, trait, packed([(name, line) for (name, _), (_, line) in part.items()]))


def _said(verb: str, count: int) -> str:
    """Return what was done, as a sentence without its full stop."""
    runs = "1 run" if count == 1 else f"{count} runs"
    return f"{_VERBS[verb]} {runs}"


def _count(summaries: Mapping[int, Mapping[str, Any]], row: RunRow, metric: str) -> int:
    return int(summaries[row.id].get(metric, {}).get("count", 0))


def _members(
    metric: str, picked: Sequence[RunRow], counts: Mapping[tuple[int, str], int], average: str | None
) -> list[tuple[int, ...]]:
    """Return the runs of each line of a chart."""
    from workbench.compare import groups

    rows = [row for row in picked if (row.id, metric) in counts]
    if average is None:
        return [(row.id,) for row in rows]
    same = groups([row.config for row in rows], (average,))
    return [tuple(rows[place].id for place in group) for group in same]
