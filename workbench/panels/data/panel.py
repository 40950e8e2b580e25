"""A panel that checks data: what a source holds, what is broken, and what a training would use.

A check is a job, so it has progress, can be cancelled, works on another machine, and is kept. The page shows
the trait ``state``; its forms are those of :mod:`workbench.panels.jobs.forms`.

::

    state            {"checks": [row, ...] newest first, "problem": null or {"message", "hint"}}
    row              as in :mod:`workbench.panels.jobs.panel`, with "source": what was checked
    setup            {"offers", "broken", "home"}
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.adapter.contract import DATA_CHECK
from workbench.panels.base.assets import assets, panel_script
from workbench.panels.jobs.forms import FormsPanel
from workbench.panels.jobs.panel import BUSY_SECONDS, CALM_SECONDS
from workbench.panels.results.show import render_html

if TYPE_CHECKING:
    from workbench.base_workspace import BaseWorkspace
    from workbench.jobs.job import Job


#: Number of earlier checks that can be looked at.
KEPT_CHECKS = 20


class DataPanel(FormsPanel):
    """Check a source of data, show what it holds, and start a job with it.

    Parameters
    ----------
    workspace : BaseWorkspace
        The workspace of the jobs; each check is a job of the type ``data_check``.
    adapter : str, optional
        Offer only this adapter's checks; default: those of all installed adapters.
    """

    _esm = panel_script("jobs/forms.js", "jobs/words.js", "data/data.js")
    _css = assets(
        "base/theme.css", "jobs/jobs.css", "data/data.css", "base/trophy.css", "results/results.css"
    )

    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, workspace: BaseWorkspace, *, adapter: str | None = None) -> None:
        super().__init__(workspace, adapter)

    def look(self) -> tuple[dict[str, Any], float]:
        """Return the newest checks as rows; look often while one is active."""
        rows = [
            {**self.row(job), "source": str(job.options.get("source", ""))}
            for job in self.workspace.jobs(DATA_CHECK, limit=KEPT_CHECKS)
        ]
        active = not all(row["over"] for row in rows)
        return {"checks": rows, "problem": None}, BUSY_SECONDS if active else CALM_SECONDS

    def to_html(self) -> str:
        """Return the newest check as plain HTML, for places that show no widgets."""
        newest = self._newest()
        if newest is None:
            return "<p>No data checked yet.</p>"
        source = escape(str(newest.options.get("source", "")))
        head = f"<p><b>{source}</b> (job {newest.id}, {newest.status})</p>"
        result = newest.result
        return head if result is None else head + render_html(result)

    def _newest(self) -> Job | None:
        return next(iter(self.workspace.jobs(DATA_CHECK, limit=1)), None)
