"""A panel that shows results of jobs side by side.

::

    state            {"jobs": [{"id", "name", "adapter", "summary"}, ...] newest first,
                      "chosen": [id, ...], "baseline": id or null, "html": the drawn comparison,
                      "problem": null or {"message", "hint"}, "heard": {view: number}}
    page -> kernel   {"type": "choose", "jobs": [id, ...], "view", "number"}
                     {"type": "baseline", "job": id or null, "view", "number"}
                     {"type": "view", "view", "open"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.panels.base.assets import assets, panel_script
from workbench.panels.base.live import LivePanel
from workbench.panels.results.side_by_side import comparison_html

if TYPE_CHECKING:
    from workbench.base_workspace import BaseWorkspace


#: Seconds between looks for new jobs, maximum number of listed jobs, and number chosen at the start.
LOOK_SECONDS, LISTED_JOBS, CHOSEN_AT_START = 2.0, 100, 2


class ResultsComparePanel(LivePanel):
    """Show results of jobs side by side: numbers with their differences, and every view.

    Parameters
    ----------
    workspace : BaseWorkspace
        The workspace of the jobs, local or on a server.
    jobs : sequence of int, optional
        Ids of the jobs chosen at the start; default: the newest two.
    type : str
        Type of the listed jobs.
    """

    _esm = panel_script("results/side_by_side.js")
    _css = assets("base/theme.css", "results/side_by_side.css")

    def __init__(
        self,
        workspace: BaseWorkspace,
        jobs: Sequence[int] | None = None,
        *,
        type: str = "eval",  # noqa: A002  # the name used everywhere
    ) -> None:
        self.workspace = workspace
        self._type = type
        self._chosen = None if jobs is None else list(dict.fromkeys(jobs))
        self._baseline: int | None = None
        self._heard: dict[str, int] = {}
        self._drawn: tuple[Any, str] = (None, "")
        super().__init__()

    def choose(self, jobs: Sequence[int]) -> None:
        """Compare the results of these jobs, in this order."""
        with self._refreshing:
            self._chosen = list(dict.fromkeys(jobs))
            self.look_now()

    def pin(self, job: int | None) -> None:
        """Compare the other results with this job's, or with the first one's if None."""
        with self._refreshing:
            self._baseline = job
            self.look_now()

    def look(self) -> tuple[dict[str, Any], float]:
        """Return the jobs with a result and the comparison of the chosen ones."""
        rows = self.workspace.jobs(type=self._type, status="succeeded", limit=LISTED_JOBS)
        newest = sorted(job.id for job in rows[:CHOSEN_AT_START])
        chosen = newest if self._chosen is None else self._chosen
        baseline = self._baseline if self._baseline in chosen else None
        state: dict[str, Any] = {
            "jobs": [
                {
                    "id": job.id,
                    "name": str(job.options.get("name") or job.options.get("experiment") or job.type),
                    "adapter": job.adapter,
                    "summary": job.summary,
                }
                for job in rows
            ],
            "chosen": chosen,
            "baseline": baseline,
            "html": "",
            "problem": None,
            "heard": self._heard,
        }
        try:
            if chosen:
                key = (tuple(chosen), baseline)
                if self._drawn[0] != key:  # a stored result never changes
                    compared = self.workspace.compare_results(chosen, baseline=baseline)
                    self._drawn = (key, comparison_html(compared))
                state["html"] = self._drawn[1]
        except WorkbenchError as error:
            state["problem"] = {"message": error.message, "hint": error.help}
        return state, LOOK_SECONDS

    def at_hand(self) -> dict[str, Any]:
        """Return which messages of the page arrived; they take effect when a look succeeds."""
        return {"heard": self._heard}

    def to_html(self) -> str:
        """Return the comparison as plain HTML that stays readable in a saved notebook."""
        if self.state.get("html"):
            return str(self.state["html"])
        problem = self.state.get("problem")
        message = problem["message"] if problem else "No results to compare yet."
        return f'<div class="wb-result"><p class="wb-none">{escape(message)}</p></div>'

    def answer(self, content: Mapping[str, Any]) -> None:
        """Handle a message from the page; other messages are ignored."""
        view, number = content.get("view"), content.get("number")
        if isinstance(view, str) and isinstance(number, int):
            self._heard = dict([*self._heard.items(), (view, number)][-8:])
        jobs, job = content.get("jobs"), content.get("job")
        if content.get("type") == "choose" and isinstance(jobs, list):
            self.choose([one for one in jobs if isinstance(one, int) and not isinstance(one, bool)])
        elif content.get("type") == "baseline" and (job is None or isinstance(job, int)):
            self.pin(job)
