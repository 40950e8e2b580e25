"""Panels with forms that submit jobs: what they offer, and what they do with a form's values.

Messages, both ways; a panel may add its own::

    page -> kernel   {"type": "submit", "job_type", "adapter", "options", "form", "unread", "root"}
                     {"type": "declare", "path", "form", "root"}
                     {"type": "submit", "path", "options", "form", "unread"}
                      "unread" are the fields that the page could not read, [[field, message]]: with any, the
                      rest is only checked; "root" is JupyterLab's folder, where relative paths start
                     {"type": "retry", "id"}   {"type": "cancel", "id"}   {"type": "result", "id"}
    kernel -> page   {"type": "submitted", "form", "id"}
                     {"type": "declared", "form", "path", "fields", "values"}
                     {"type": "refused", "form" or "id", "message", "hint", "problems": [[field, message]]}
                     {"type": "result", "id", "html", "uses": options by job type that use what was checked}
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.adapter.contract import DATA_CHECK
from workbench.adapter.options import check_job, job_types, schema_of
from workbench.adapter.registry import adapters, get_adapter
from workbench.errors import BadInput, BadOptions, UnknownAdapter, WorkbenchError
from workbench.home import Home
from workbench.jobs.checking import check_beginning
from workbench.jobs.submission import local_notebook
from workbench.notebooks.parameters import check_parameters, parameters_model
from workbench.panels.base.fields import form_fields, initial_values
from workbench.panels.base.live import LivePanel
from workbench.panels.jobs.paths import place_options, placed
from workbench.panels.jobs.rows import FOR_TERMINALS, label, row_of
from workbench.panels.results.show import render_html

if TYPE_CHECKING:
    from workbench.base_workspace import BaseWorkspace
    from workbench.jobs.job import Job
    from workbench.results.result import Result


_LOG = logging.getLogger(__name__)


#: The order of one's work.
_ORDER = (DATA_CHECK, "train", "eval", "index_build")


class FormsPanel(LivePanel):
    """A panel with forms for the jobs of a workspace.

    Parameters
    ----------
    workspace : BaseWorkspace
        The workspace of the jobs.
    adapter : str, optional
        Offer only this adapter's jobs; default: those of all installed adapters.
    traits
        Values of the panel's traits; ``setup`` gets ``offers``, ``broken`` and ``home`` added.
    """

    def __init__(self, workspace: BaseWorkspace, adapter: str | None, **traits: Any) -> None:
        self.workspace = workspace
        offers, broken = _offers([adapter] if adapter else adapters())
        self._offered = [offer["type"] for offer in offers]
        self._forms = {(offer["type"], form["adapter"]): form for offer in offers for form in offer["forms"]}
        setup = {**traits.pop("setup", {}), "offers": offers, "broken": broken, "home": str(Path.home())}
        super().__init__(setup=setup, **traits)

    def row(self, job: Job) -> dict[str, Any]:
        """Return a job as the page shows it."""
        form = self._forms.get((job.type, job.adapter or ""), {"values": {}})
        return row_of(job, form["values"])

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
            _LOG.exception("a panel of jobs could not handle %r", content.get("type"))
            problem = f"{type(error).__name__}: {error}"
            hint = "The traceback is in the log."
            reply = {"type": "refused", "message": problem, "hint": hint, "problems": []}
        if reply:
            self.send({**where, **reply})

    def _do(self, content: Mapping[str, Any]) -> dict[str, Any] | None:
        """Do what a message asks for, and return the answer if it has one."""
        kind = content.get("type")
        if kind == "submit":
            return self._submit(content)
        if kind == "declare":
            return _declared(content.get("path"), self._root(content))
        job_id = job_id_of(content)
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
            return {"type": "result", "html": render_html(result), "uses": _uses(result)}
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
        root = self._root(content)
        checked, lost = (dict(options), []) if root is None else place_options(options, form["fields"], root)
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


def job_id_of(content: Mapping[str, Any]) -> int:
    """Return the id of the job that a message is about."""
    job_id = content.get("id")
    if isinstance(job_id, bool) or not isinstance(job_id, int):
        raise BadInput(f"the id of a job must be an integer, got {job_id!r}")
    return job_id


def _uses(result: Result) -> dict[str, dict[str, Any]]:
    """Return the options of jobs that use what a result is about; anything else in its place is dropped."""
    uses = result.made.get("options")
    if not isinstance(uses, Mapping):
        return {}
    return {str(kind): dict(options) for kind, options in uses.items() if isinstance(options, Mapping)}


def _unread(problems: Any) -> list[list[str]]:
    """Return the fields that the page could not read; anything else that it sends is dropped."""
    if not isinstance(problems, list):
        return []
    pairs = [pair for pair in problems if isinstance(pair, list) and len(pair) == 2]
    return [[str(name), str(message)] for name, message in pairs]


def _hint(error: WorkbenchError) -> str:
    """Return what to do, without what only a terminal can."""
    parts = (error.hint, error.advice)
    return " ".join(part for part in parts if part and not FOR_TERMINALS.search(part))


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
    order = {job_type: place for place, job_type in enumerate(_ORDER)}
    offers = [
        {"type": job_type, "label": label(job_type), "forms": forms}
        for job_type, forms in sorted(
            forms_by_type.items(), key=lambda pair: (order.get(pair[0], len(order)), pair[0])
        )
    ]
    return offers, broken


def _forms(name: str) -> dict[str, dict[str, Any]]:
    """Return the forms of an adapter by job type."""
    adapter = get_adapter(name)
    forms = {}
    for job_type in job_types(adapter):
        fields = form_fields(schema_of(adapter, job_type).model_json_schema())
        forms[job_type] = {
            "adapter": name,
            "title": adapter.title or name,
            "fields": fields,
            "values": initial_values(fields),
        }
    return forms
