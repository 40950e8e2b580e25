"""A panel for a workspace's jobs: running jobs with progress, failures with reasons, forms for new jobs.

The page shows the trait ``state`` and sends its requests as custom messages.

::

    state            {"jobs": [row, ...], "total", "offset", "going_on", "types": [{"type", "label"}, ...],
                      "shown": {"type", "state"}, "problem": null or {"message", "hint"}}
    setup            {"offers", "broken": [{"adapter", "message", "hint"}, ...], "home", "states", "page"}
    row              {"id", "type", "name", "given": options that are not the defaults, "adapter", "status",
                      "done", "total", "message", "stages", "fraction", "rate", "left", "summary",
                      "error": {"cell", "message"} or null, "hasResult", "ended", "took": seconds or null,
                      "notebook", "output", "outputNote", "log": text or null}
    page -> kernel   {"type": "show", "job_type", "state", "offset"}
                     {"type": "log", "id", "open"}   {"type": "view", "view", "open"}

What its forms send and get is in :mod:`workbench.panels.jobs.forms`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import BadInput
from workbench.jobs.submission import NOTEBOOK
from workbench.panels.base.assets import assets, panel_script
from workbench.panels.jobs.forms import FormsPanel, job_id_of
from workbench.panels.jobs.rows import label, outcome
from workbench.panels.results.html import result_style, table_html

if TYPE_CHECKING:
    from workbench.base_workspace import BaseWorkspace
    from workbench.jobs.job import Job


#: Seconds between looks while a job is active, and while none is.
BUSY_SECONDS, CALM_SECONDS = 0.5, 2.0


#: Jobs per page (newest first), and maximum number of log lines shown.
PAGE_JOBS, LOG_LINES = 25, 200


#: Maximum number of cached rows of finished jobs, which never change.
_REMEMBERED_ROWS = 500


_ACTIVE = ("queued", "running", "cancelling")


#: Choices of the state filter, with the states each stands for.
STATES: Mapping[str, tuple[str, ...]] = {
    "active": _ACTIVE,
    "succeeded": ("succeeded",),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}


class JobsPanel(FormsPanel):
    """List the jobs of a workspace, live, and submit new ones.

    Parameters
    ----------
    workspace : BaseWorkspace
        The workspace of the jobs.
    adapter : str, optional
        Offer only this adapter's jobs; default: those of all installed adapters.
    """

    _esm = panel_script("jobs/forms.js", "jobs/words.js", "jobs/jobs.js")
    _css = assets("base/theme.css", "jobs/jobs.css", "base/trophy.css", "results/results.css")

    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, workspace: BaseWorkspace, *, adapter: str | None = None) -> None:
        self._settled_rows: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._open_logs: set[int] = set()
        self._type: str | None = None
        self._state = ""
        self._offset = 0
        super().__init__(workspace, adapter, setup={"states": list(STATES), "page": PAGE_JOBS})

    def look(self) -> tuple[dict[str, Any], float]:
        """Return one page of jobs as rows; look often while any job is active."""
        states = STATES.get(self._state)
        total = self.workspace.count_jobs(self._type, states)
        # Jobs may have been deleted or changed state since; avoid an empty page.
        self._offset = min(self._offset, max(total - 1, 0) // PAGE_JOBS * PAGE_JOBS)
        jobs = self.workspace.jobs(self._type, states, PAGE_JOBS, self._offset)
        active = self.workspace.count_jobs(status=_ACTIVE)
        offered = [*self._offered, NOTEBOOK]
        others = (kind for kind in self.workspace.job_types() if kind not in offered)
        types = [*offered, *others]
        state = {
            "jobs": [self._row(job) for job in jobs],
            "total": total,
            "offset": self._offset,
            "going_on": active,
            "types": [{"type": kind, "label": label(kind)} for kind in types],
            "shown": {"type": self._type or "", "state": self._state},
            "problem": None,
        }
        return state, BUSY_SECONDS if active else CALM_SECONDS

    def to_html(self) -> str:
        """Return the page as plain HTML, for places that show no widgets."""
        if not self.state.get("jobs"):
            return "<p>No jobs yet.</p>"
        titles = ("Job", "Name", "State", "Outcome")
        lines = [
            (
                f"#{row['id']} {row['type']}",
                row["name"] or ", ".join(row["given"]),
                row["status"],
                outcome(row),
            )
            for row in self.state["jobs"]
        ]
        left = 'class="wb-text" align="left" style="text-align:left"'  # saved pages align cells to the right
        head = "".join(f'<th scope="col" {left}>{title}</th>' for title in titles)
        body = "".join(
            "<tr>" + "".join(f"<td {left}>{escape(cell)}</td>" for cell in line) + "</tr>" for line in lines
        )
        table = table_html(f"<tr>{head}</tr>", body, "Jobs")
        left_out = self.state["total"] - len(lines)
        more = f'<p class="wb-note">{left_out} more not shown.</p>' if left_out else ""
        return f'<div class="wb-result">{result_style()}{table}{more}</div>'

    # --- messages from the page ---------------------------------------------------------------------------

    # --- messages from the page ---------------------------------------------------------------------------

    def _do(self, content: Mapping[str, Any]) -> dict[str, Any] | None:
        if content.get("type") == "show":
            self._show(content)
        elif content.get("type") == "log":
            (self._open_logs.add if content.get("open") else self._open_logs.discard)(job_id_of(content))
            self.look_now()
        else:
            return super()._do(content)
        return None

    def _show(self, content: Mapping[str, Any]) -> None:
        """Show another page or other jobs."""
        kind, state, offset = content.get("job_type"), content.get("state"), content.get("offset")
        if not isinstance(kind, str) or state not in ("", *STATES) or not isinstance(offset, int):
            raise BadInput(
                f"invalid filter: type {kind!r}, state {state!r}, offset {offset!r}",
                hint=f"States: {', '.join(STATES)}; empty for all.",
            )
        self._type, self._state, self._offset = kind or None, state, max(offset, 0)
        self.look_now()

    # --- rows ---------------------------------------------------------------------------------------------

    def _row(self, job: Job) -> dict[str, Any]:
        row = self._settled_rows.get(job.id)
        if row is None:
            row = self.row(job)
            if row["over"]:
                self._settled_rows[job.id] = row
                while len(self._settled_rows) > _REMEMBERED_ROWS:
                    self._settled_rows.popitem(last=False)
        log = job.logs(tail=LOG_LINES) if job.id in self._open_logs else None
        return {**row, "log": log}
