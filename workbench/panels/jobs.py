"""A panel over a workspace's jobs: what runs and how far it is, what failed and why, and new ones.

The page shows the trait ``state`` and asks by custom messages.

::

    state            {"jobs": [row, ...], "problem": null or {"message", "hint"}}
    row              {"id", "type", "name", "adapter", "status", "done", "total", "message", "fraction",
                      "rate", "left", "summary", "error": {"cell", "message"} or null, "hasResult", "ended",
                      "notebook", "log": text or null}
    page -> kernel   {"type": "submit", "job_type", "adapter", "options", "form"}
                     {"type": "retry", "id"}   {"type": "cancel", "id"}   {"type": "result", "id"}
                     {"type": "log", "id", "open"}   {"type": "view", "view", "open"}
    kernel -> page   {"type": "submitted", "form", "id"}
                     {"type": "refused", "form" or "id", "message", "hint", "problems": [[field, message]]}
                     {"type": "result", "id", "html"}
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.adapter import adapters, get_adapter
from workbench.errors import BadInput, BadOptions, WorkbenchError
from workbench.panels.assets import assets
from workbench.panels.fields import form_fields, initial_values
from workbench.panels.live import LivePanel
from workbench.panels.results import render_html

if TYPE_CHECKING:
    from workbench.jobs import Job
    from workbench.workspace import Workspace

_LOG = logging.getLogger(__name__)

#: Seconds between looks while a job moves, and while none does.
BUSY_SECONDS, CALM_SECONDS = 0.5, 2.0

#: So many jobs are listed, newest first; so many lines of a log are shown.
LISTED_JOBS, LOG_LINES = 50, 200

_SETTLED = frozenset({"succeeded", "failed", "cancelled"})
_LABELS = {"train": "Train", "eval": "Evaluate", "index_build": "Build index"}
_BUTTON_ORDER = ("index_build", "eval", "train")
_NAMING_OPTIONS = ("name", "index", "experiment")


class JobsPanel(LivePanel):
    """List the jobs of a workspace, live, and submit new ones.

    Parameters
    ----------
    workspace : Workspace
        Whose jobs.
    adapter : str, optional
        Offer this adapter's jobs only; all installed ones otherwise.
    """

    _esm = assets("dom.js", "jobs.js")
    _css = assets("theme.css", "jobs.css", "results.css")

    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, workspace: Workspace, *, adapter: str | None = None) -> None:
        self.workspace = workspace
        self._paces: dict[int, _Pace] = {}
        self._settled_rows: dict[int, dict[str, Any]] = {}
        self._open_logs: set[int] = set()
        names = [adapter] if adapter else adapters()
        super().__init__(setup={"offers": _offers(names), "home": str(Path.home())})

    def look(self) -> tuple[dict[str, Any], float]:
        """Return the newest jobs as rows; look often while one of them moves."""
        rows = [self._row(job) for job in self.workspace.jobs(limit=LISTED_JOBS)]
        moving = any(row["status"] not in _SETTLED for row in rows)
        return {"jobs": rows, "problem": None}, BUSY_SECONDS if moving else CALM_SECONDS

    def to_html(self) -> str:
        """Return the list as plain HTML, for where no widget is shown."""
        if not self.state.get("jobs"):
            return "<p>No jobs yet.</p>"
        titles = ("Job", "Name", "State", "Outcome")
        lines = [
            (f"#{row['id']} {row['type']}", row["name"], row["status"], _outcome(row))
            for row in self.state["jobs"]
        ]
        head = "".join(f'<th align="left">{title}</th>' for title in titles)
        body = "".join(
            "<tr>" + "".join(f'<td align="left">{escape(cell)}</td>' for cell in line) + "</tr>"
            for line in lines
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    # --- messages from the page ---------------------------------------------------------------------------

    def answer(self, content: Mapping[str, Any]) -> None:
        """Do what the page asks; nothing it sends raises here."""
        where = {key: content[key] for key in ("form", "id") if key in content}
        try:
            reply = self._do(content)
        except WorkbenchError as error:
            problems = error.problems if isinstance(error, BadOptions) else ()
            reply = {
                "type": "refused",
                "message": error.message,
                "hint": error.hint,
                "problems": [list(problem) for problem in problems],
            }
        except Exception as error:
            _LOG.exception("the jobs panel could not do %r", content.get("type"))
            said = f"{type(error).__name__}: {error}"
            reply = {"type": "refused", "message": said, "hint": "The trace is in the log.", "problems": []}
        if reply:
            self.send({**where, **reply})

    def _do(self, content: Mapping[str, Any]) -> dict[str, Any] | None:
        kind = content.get("type")
        if kind == "submit":
            return self._submit(content.get("job_type"), content.get("adapter"), content.get("options"))
        job_id = content.get("id")
        if isinstance(job_id, bool) or not isinstance(job_id, int):
            raise BadInput(f"a job's id is a whole number, not {job_id!r}")
        if kind == "retry":
            job = self.workspace.job(job_id)
            return self._submit(job.type, job.adapter, job.options)
        if kind == "cancel":
            self.workspace.job(job_id).cancel()
            self.look_now()
        elif kind == "result":
            result = self.workspace.job(job_id).result
            if result is None:
                raise BadInput(f"job {job_id} has no result")
            return {"type": "result", "html": render_html(result)}
        elif kind == "log":
            (self._open_logs.add if content.get("open") else self._open_logs.discard)(job_id)
            self.look_now()
        else:
            raise BadInput(f"the panel does not know {kind!r}")
        return None

    def _submit(self, job_type: Any, adapter: Any, options: Any) -> dict[str, Any]:
        if not isinstance(job_type, str) or not isinstance(options, Mapping):
            raise BadInput("a job has a type and options")
        job = self.workspace.submit(job_type, adapter=adapter or None, options=dict(options))
        self.look_now()
        return {"type": "submitted", "id": job.id}

    # --- rows ---------------------------------------------------------------------------------------------

    def _row(self, job: Job) -> dict[str, Any]:
        row = self._settled_rows.get(job.id)
        if row is None or row["status"] != job.status:
            row = self._fresh_row(job)
            if job.status in _SETTLED:
                self._paces.pop(job.id, None)
                self._settled_rows[job.id] = row
        log = job.logs(tail=LOG_LINES) if job.id in self._open_logs else None
        return {**row, "log": log}

    def _fresh_row(self, job: Job) -> dict[str, Any]:
        progress, error = job.progress, job.error
        rate = left = None
        if job.status == "running":
            pace = self._paces.setdefault(job.id, _Pace())
            rate, left = pace.take(time.monotonic(), progress.done, progress.total, progress.message)
        names = (job.options[key] for key in _NAMING_OPTIONS if job.options.get(key))
        return {
            "id": job.id,
            "type": _LABELS.get(job.type, job.type.replace("_", " ")).lower(),
            "name": str(next(names, "")),
            "adapter": job.adapter or "",
            "status": job.status,
            "done": progress.done,
            "total": progress.total,
            "message": progress.message or "",
            "fraction": progress.fraction,
            "rate": rate,
            "left": left,
            "summary": job.summary,
            "hasResult": job.status == "succeeded",
            "error": {"cell": error.get("cell"), "message": str(error.get("message", ""))} if error else None,
            "ended": job.finished_at.timestamp() if job.finished_at else None,
            "notebook": str(job.notebook or ""),
        }


class _Pace:
    """How fast a step of a job goes; a new message is a new step."""

    def __init__(self) -> None:
        self._message: str | None = None
        self._start = (0.0, 0.0)

    def take(
        self, now: float, done: float, total: float | None, message: str
    ) -> tuple[float | None, float | None]:
        """Return units a second and seconds left, each None while unknown."""
        if message != self._message or done < self._start[1]:
            self._message, self._start = message, (now, done)
        seconds, gained = now - self._start[0], done - self._start[1]
        if seconds < 1 or gained <= 0:
            return None, None
        rate = gained / seconds
        return rate, None if total is None else max(0.0, total - done) / rate


def _offers(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return one offer a job type, with the form of each adapter that has it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        adapter = get_adapter(name)
        for job_type in adapter.job_types():
            fields = form_fields(adapter.options(job_type).model_json_schema())
            form = {
                "adapter": name,
                "title": adapter.title or name,
                "fields": fields,
                "values": initial_values(fields),
            }
            found.setdefault(job_type, []).append(form)
    order = {job_type: place for place, job_type in enumerate(_BUTTON_ORDER)}
    return [
        {
            "type": job_type,
            "label": _LABELS.get(job_type, job_type.replace("_", " ").capitalize()),
            "forms": forms,
        }
        for job_type, forms in sorted(
            found.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0])
        )
    ]


def _outcome(row: Mapping[str, Any]) -> str:
    error = row["error"]
    if error:
        return f"cell {error['cell']}: {error['message']}" if error["cell"] else str(error["message"])
    return str(row["summary"] or row["message"])
