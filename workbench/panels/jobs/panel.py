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
                     {"type": "submit", "job_type", "adapter", "options", "form", "unread", "root"}
                     {"type": "declare", "path", "form", "root"}
                     {"type": "submit", "path", "options", "form", "unread"}
                      "unread" are the fields that the page could not read, [[field, message]]: with any, the
                      rest is only checked; "root" is JupyterLab's folder, where relative paths start
                     {"type": "retry", "id"}   {"type": "cancel", "id"}   {"type": "result", "id"}
                     {"type": "log", "id", "open"}   {"type": "view", "view", "open"}
    kernel -> page   {"type": "submitted", "form", "id"}
                     {"type": "declared", "form", "path", "fields", "values"}
                     {"type": "refused", "form" or "id", "message", "hint", "problems": [[field, message]]}
                     {"type": "result", "id", "html"}
"""

from __future__ import annotations

import json
import logging
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.adapter.options import check_job
from workbench.adapter.registry import adapters, get_adapter
from workbench.errors import BadInput, BadOptions, UnknownAdapter, WorkbenchError
from workbench.home import Home
from workbench.jobs.checking import check_beginning
from workbench.jobs.submission import NOTEBOOK, local_notebook
from workbench.notebooks.parameters import check_parameters, parameters_model
from workbench.panels.base.assets import assets, panel_script
from workbench.panels.base.fields import form_fields, initial_values
from workbench.panels.base.live import LivePanel
from workbench.panels.jobs.paths import place_options, placed
from workbench.panels.results.html import result_style, table_html
from workbench.panels.results.show import render_html
from workbench.store.records import DAMAGED, FINAL_STATUSES

if TYPE_CHECKING:
    from workbench.base_workspace import BaseWorkspace
    from workbench.jobs.job import Job


_LOG = logging.getLogger(__name__)


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


_LABELS = {"train": "Train", "eval": "Evaluate", "index_build": "Build index", NOTEBOOK: "Notebook"}


#: The order of one's work.
_BUTTON_ORDER = ("train", "eval", "index_build")


#: Hints that name a command of the terminal, which a reader of the panel has no use for.
_FOR_TERMINALS = re.compile(r"\bworkbench [a-z]")


_NAMING_OPTIONS = ("name", "index", "experiment")


class JobsPanel(LivePanel):
    """List the jobs of a workspace, live, and submit new ones.

    Parameters
    ----------
    workspace : BaseWorkspace
        The workspace of the jobs.
    adapter : str, optional
        Offer only this adapter's jobs; default: those of all installed adapters.
    """

    _esm = panel_script("jobs/forms.js", "jobs/jobs.js")
    _css = assets("base/theme.css", "jobs/jobs.css", "base/trophy.css", "results/results.css")

    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, workspace: BaseWorkspace, *, adapter: str | None = None) -> None:
        self.workspace = workspace
        self._settled_rows: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._open_logs: set[int] = set()
        self._type: str | None = None
        self._state = ""
        self._offset = 0
        offers, broken = _offers([adapter] if adapter else adapters())
        self._offered = [offer["type"] for offer in offers] + [NOTEBOOK]
        self._forms = {(offer["type"], form["adapter"]): form for offer in offers for form in offer["forms"]}
        super().__init__(
            setup={
                "offers": offers,
                "broken": broken,
                "home": str(Path.home()),
                "states": list(STATES),
                "page": PAGE_JOBS,
            }
        )

    def look(self) -> tuple[dict[str, Any], float]:
        """Return one page of jobs as rows; look often while any job is active."""
        states = STATES.get(self._state)
        total = self.workspace.count_jobs(self._type, states)
        # Jobs may have been deleted or changed state since; avoid an empty page.
        self._offset = min(self._offset, max(total - 1, 0) // PAGE_JOBS * PAGE_JOBS)
        jobs = self.workspace.jobs(self._type, states, PAGE_JOBS, self._offset)
        active = self.workspace.count_jobs(status=_ACTIVE)
        others = (kind for kind in self.workspace.job_types() if kind not in self._offered)
        types = [*self._offered, *others]
        state = {
            "jobs": [self._row(job) for job in jobs],
            "total": total,
            "offset": self._offset,
            "going_on": active,
            "types": [{"type": kind, "label": _label(kind)} for kind in types],
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
                _outcome(row),
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

    def answer(self, content: Mapping[str, Any]) -> None:
        """Handle a message from the page; nothing it sends raises here."""
        where = {key: content[key] for key in ("form", "id") if key in content}
        try:
            reply = self._do(content)
        except WorkbenchError as error:
            problems = error.problems if isinstance(error, BadOptions) else ()
            reply = {
                "type": "refused",
                "message": error.message,
                "hint": _hint(error),
                "problems": [list(problem) for problem in problems],
            }
        except Exception as error:
            _LOG.exception("the jobs panel could not handle %r", content.get("type"))
            problem = f"{type(error).__name__}: {error}"
            hint = "The traceback is in the log."
            reply = {"type": "refused", "message": problem, "hint": hint, "problems": []}
        if reply:
            self.send({**where, **reply})

    def _do(self, content: Mapping[str, Any]) -> dict[str, Any] | None:
        kind = content.get("type")
        if kind == "submit":
            return self._submit(content)
        if kind == "declare":
            return _declared(content.get("path"), self._root(content))
        if kind == "show":
            self._show(content)
            return None
        job_id = content.get("id")
        if isinstance(job_id, bool) or not isinstance(job_id, int):
            raise BadInput(f"the id of a job must be an integer, got {job_id!r}")
        if kind == "retry":
            job = self.workspace.job(job_id).retry()
            self.look_now()
            return {"type": "submitted", "id": job.id}
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
            raise BadInput(f"unknown message type {kind!r}")
        return None

    def _submit(self, content: Mapping[str, Any]) -> dict[str, Any]:
        job_type, options, path = content.get("job_type"), content.get("options"), content.get("path")
        if not isinstance(options, Mapping):
            raise BadInput(f"the options of a job must be a dictionary, got {options!r}")
        if not isinstance(path, str) and not isinstance(job_type, str):
            raise BadInput(f"a job needs a type or the path of a notebook, got type {job_type!r}")
        form = self._forms.get((str(job_type), str(content.get("adapter"))), {"fields": []})
        names = [field["name"] for field in form["fields"] if field["path"]]
        root = self._root(content)
        checked, lost = (dict(options), []) if root is None else place_options(options, names, root)
        problems = [*_unread(content.get("unread")), *lost]
        if problems:
            # Report all problems at once, not first those that the page finds and then the others.
            problems += self._problems(content, checked, {name for name, _ in problems})
            text = "; ".join(f"{name}: {message}" for name, message in problems)
            raise BadOptions(text, [(name, message) for name, message in problems])
        if isinstance(path, str):
            job = self.workspace.submit_notebook(path, checked)
        else:
            job = self.workspace.submit(str(job_type), content.get("adapter") or None, checked)
        self.look_now()
        return {"type": "submitted", "id": job.id}

    def _root(self, content: Mapping[str, Any]) -> str | None:
        """Return JupyterLab's folder as the page knows it; None if the workspace is on another machine."""
        root = content.get("root")
        here = isinstance(getattr(self.workspace, "path", None), Path)
        return (root if isinstance(root, str) else "") if here else None

    def _problems(
        self, content: Mapping[str, Any], options: Mapping[str, Any], known: set[str]
    ) -> list[list[str]]:
        """Return what else is wrong with the options of a form."""
        rest = {name: value for name, value in options.items() if name not in known}
        try:
            if isinstance(content.get("path"), str):
                check_parameters(local_notebook(content["path"]), rest)
            else:
                family, job_type = get_adapter(content.get("adapter") or None), str(content.get("job_type"))
                if isinstance(self.workspace, Home):
                    check_beginning(family, job_type, rest, self.workspace)
                else:
                    check_job(family, job_type, rest)  # what the workspace holds, its server checks
        except BadOptions as error:
            return [[name, message] for name, message in error.problems if name.split(".")[0] not in known]
        return []

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
            row = self._fresh_row(job)
            if row["over"]:
                self._settled_rows[job.id] = row
                while len(self._settled_rows) > _REMEMBERED_ROWS:
                    self._settled_rows.popitem(last=False)
        log = job.logs(tail=LOG_LINES) if job.id in self._open_logs else None
        return {**row, "log": log}

    def _fresh_row(self, job: Job) -> dict[str, Any]:
        form = self._forms.get((job.type, job.adapter or ""), {"values": {}})
        return {**_row_of(job), "given": _given(job.options, form["values"])}


def _given(options: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Return the options that somebody gave, which tell jobs without a name apart."""
    return [
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in options.items()
        if value is not None and value != defaults.get(name) and name not in _NAMING_OPTIONS
    ]


def _unread(problems: Any) -> list[list[str]]:
    """Return the fields that the page could not read; anything else that it sends is dropped."""
    if not isinstance(problems, list):
        return []
    pairs = [pair for pair in problems if isinstance(pair, list) and len(pair) == 2]
    return [[str(name), str(message)] for name, message in pairs]


def _row_of(job: Job) -> dict[str, Any]:
    progress, error = job.progress, job.error
    running = job.status == "running"
    stages = [{"name": stage.name, "done": stage.done, "total": stage.total} for stage in progress.stages]
    # A job that missed its floors has failed, but its result was kept.
    kept = job.status == "succeeded" or (error or {}).get("type") == "BelowFloor"
    return {
        "id": job.id,
        "over": job.status in FINAL_STATUSES,
        "type": _label(job.type).lower(),
        "name": _name(job),
        "adapter": job.adapter or "",
        "status": job.status,
        "done": progress.done,
        "total": progress.total,
        "message": "" if job.status == "succeeded" else progress.message or "",
        "stages": stages if running else [],
        "fraction": progress.fraction,
        "rate": progress.rate if running else None,
        "left": progress.left if running else None,
        "summary": job.summary,
        "hasResult": kept,
        "error": {"cell": error.get("cell"), "message": _reason(error)} if error else None,
        "ended": job.finished_at.timestamp() if job.finished_at else None,
        "took": _seconds(job),
        "notebook": str(job.notebook or ""),
        # Linked where the log and the notebook do not show everything.
        "output": str(job.output.path) if job.output and job.output_note else "",
        "outputNote": job.output_note,
    }


def _seconds(job: Job) -> float | None:
    """Return how long a finished job ran."""
    if job.started_at is None or job.finished_at is None:
        return None
    return max((job.finished_at - job.started_at).total_seconds(), 0.0)


def _hint(error: WorkbenchError) -> str:
    """Return what to do, without what only a terminal can."""
    parts = (error.hint, error.advice)
    return " ".join(part for part in parts if part and not _FOR_TERMINALS.search(part))


def _reason(error: Mapping[str, Any]) -> str:
    """Return why a job failed, without advice for a terminal."""
    lines = str(error.get("message") or "").splitlines()
    reason = "\n".join(line for line in lines if not _FOR_TERMINALS.search(line))
    return reason or ("the stored reason is damaged" if DAMAGED in error else "")


def _name(job: Job) -> str:
    if job.source:
        return Path(job.source).stem
    names = (job.options[key] for key in _NAMING_OPTIONS if job.options.get(key))
    return str(next(names, ""))


def _label(job_type: str) -> str:
    return _LABELS.get(job_type, job_type.replace("_", " ").capitalize())


def _declared(path: Any, root: str | None) -> dict[str, Any]:
    """Return the form for a user's own notebook."""
    if not isinstance(path, str) or not path.strip():
        raise BadInput("the path of the notebook is missing", hint="Give the path of an .ipynb file.")
    text, problem = (path.strip(), "") if root is None else placed(path.strip(), root)
    if problem:
        raise BadInput(problem, hint="Give the path of an .ipynb file.")
    source = local_notebook(text)
    fields = form_fields(parameters_model(source).model_json_schema())
    return {
        "type": "declared",
        "path": str(source),
        "fields": fields,
        "values": initial_values(fields),
    }


def _offers(names: Sequence[str]) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Return one offer per job type, with the form of each adapter that has it; and the broken adapters.

    An adapter that cannot be loaded, or whose options cannot be read, is reported in place of its forms.
    """
    forms_by_type: dict[str, list[dict[str, Any]]] = {}
    broken: list[dict[str, str]] = []
    for name in names:
        try:
            forms = _forms(name)
        except UnknownAdapter:
            raise
        except WorkbenchError as error:
            broken.append({"adapter": name, "message": error.message, "hint": error.help})
        except Exception as error:
            _LOG.exception("the options of adapter %r cannot be read", name)
            message = f"the options of adapter {name!r} cannot be read: {type(error).__name__}: {error}"
            broken.append({"adapter": name, "message": message, "hint": "The trace is in the log."})
        else:
            for job_type, form in forms.items():
                forms_by_type.setdefault(job_type, []).append(form)
    order = {job_type: place for place, job_type in enumerate(_BUTTON_ORDER)}
    offers = [
        {"type": job_type, "label": _label(job_type), "forms": forms}
        for job_type, forms in sorted(
            forms_by_type.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0])
        )
    ]
    return offers, broken


def _forms(name: str) -> dict[str, dict[str, Any]]:
    """Return the forms of an adapter by job type."""
    adapter = get_adapter(name)
    forms = {}
    for job_type in adapter.job_types():
        fields = form_fields(adapter.options(job_type).model_json_schema())
        forms[job_type] = {
            "adapter": name,
            "title": adapter.title or name,
            "fields": fields,
            "values": initial_values(fields),
        }
    return forms


def _outcome(row: Mapping[str, Any]) -> str:
    error = row["error"]
    if error:
        return f"cell {error['cell']}: {error['message']}" if error["cell"] else str(error["message"])
    if row["summary"] or not row["fraction"] or row["over"]:
        return str(row["summary"] or row["message"])
    return " · ".join(filter(None, [f"{row['fraction']:.0%}", str(row["message"])]))
