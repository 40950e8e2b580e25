"""The Python half of the jobs panel, on a real workspace with the toy adapter."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import workbench as wb
from tests.waiting import GUARD, until
from workbench.panels.jobs.panel import BUSY_SECONDS, CALM_SECONDS, PAGE_JOBS, STATES, JobsPanel
from workbench.store import records


class Sent:
    """A panel that records its messages to the page."""

    def __init__(self, workspace: wb.Workspace) -> None:
        self.panel = JobsPanel(workspace, adapter="toy")
        self.messages: list[dict[str, Any]] = []
        self.panel.send = lambda content, buffers=None: self.messages.append(content)

    def ask(self, **content: Any) -> dict[str, Any] | None:
        before = len(self.messages)
        self.panel._on_message(content)
        return self.messages[before] if len(self.messages) > before else None

    def rows(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.panel.state["jobs"]
        return rows


@pytest.fixture
def sent(workspace: wb.Workspace, toy: wb.BaseAdapter) -> Iterator[Sent]:
    sent = Sent(workspace)
    yield sent
    sent.panel.close()


def add(workspace: wb.Workspace, **values: Any) -> int:
    """Add a job's row in any state, without anything that runs it."""
    return workspace.store.add_job(records.JobRecord(**{"type": "eval", "adapter": "toy", **values})).id or 0


def test_the_buttons_are_the_jobs_the_adapter_offers_in_the_order_of_work(
    sent: Sent, toy: wb.BaseAdapter
) -> None:
    offers = sent.panel.setup["offers"]
    assert [offer["label"] for offer in offers] == ["Check data", "Train", "Evaluate", "Build index"]
    form = offers[2]["forms"][0]
    assert (form["adapter"], form["title"]) == ("toy", "A toy that counts")
    assert [field["name"] for field in form["fields"]] == list(toy.options("eval").model_fields)
    assert form["values"]["k"] == 3


def test_an_empty_workspace_has_no_rows_and_is_polled_slowly(sent: Sent) -> None:
    assert sent.panel.state == {
        "jobs": [],
        "total": 0,
        "offset": 0,
        "going_on": 0,
        "types": [
            {"type": "data_check", "label": "Check data"},
            {"type": "train", "label": "Train"},
            {"type": "eval", "label": "Evaluate"},
            {"type": "index_build", "label": "Build index"},
            {"type": "notebook", "label": "Notebook"},
        ],
        "shown": {"type": "", "state": ""},
        "problem": None,
    }
    assert sent.panel.refresh() == CALM_SECONDS
    assert sent.panel.to_html() == "<p>No jobs yet.</p>"


def test_rows_show_progress_and_where_a_job_failed(sent: Sent, workspace: wb.Workspace) -> None:
    add(
        workspace,
        status="failed",
        error={"cell": 4, "type": "ValueError", "message": "no <run> 7"},
        finished_at=1e9,
    )
    add(
        workspace,
        type="index_build",
        status="running",
        options={"name": "words"},
        progress_done=3,
        progress_total=4,
    )
    add(workspace, status="queued")
    assert sent.panel.refresh() == BUSY_SECONDS
    queued, running, failed = sent.rows()
    assert queued["status"] == "queued"
    assert (running["type"], running["name"], running["fraction"]) == ("build index", "words", 0.75)
    assert failed["error"] == {"cell": 4, "message": "no <run> 7"}
    assert failed["ended"] == 1e9
    assert "cell 4: no &lt;run&gt; 7" in sent.panel.to_html()


def test_the_state_is_set_only_when_something_changed(sent: Sent, workspace: wb.Workspace) -> None:
    add(workspace, status="queued")
    changes: list[Any] = []
    sent.panel.observe(lambda change: changes.append(change.new), "state")
    for _ in range(3):
        sent.panel.refresh()
    assert len(changes) == 1


def test_invalid_options_are_refused_field_by_field(sent: Sent) -> None:
    reply = sent.ask(
        type="submit", form="eval", job_type="eval", adapter="toy", options={"steps": "x", "nope": 1}
    )
    assert reply is not None
    assert (reply["type"], reply["form"]) == ("refused", "eval")
    assert [name for name, _ in reply["problems"]] == ["steps", "nope"]
    assert sent.rows() == []


@pytest.mark.slow
def test_a_job_submitted_in_the_panel_runs_and_shows_its_result_and_log(sent: Sent) -> None:
    reply = sent.ask(type="submit", form="eval", job_type="eval", adapter="toy", options={"k": 2})
    assert reply is not None
    assert reply["type"] == "submitted"
    assert sent.rows()[0]["id"] == reply["id"]
    sent.ask(type="view", view="one", open=True)
    until(lambda: sent.rows()[0]["status"] in ("succeeded", "failed"))
    row = sent.rows()[0]
    assert (row["status"], row["summary"], row["hasResult"]) == ("succeeded", "measured", True)
    assert row["notebook"].endswith(".ipynb")
    assert (row["output"], row["outputNote"]) == ("", "")  # the log and the notebook show everything
    shown = sent.ask(type="result", id=row["id"])
    assert shown is not None
    assert '<td align="right">' in shown["html"]
    assert row["log"] is None
    sent.ask(type="log", id=row["id"], open=True)
    assert isinstance(sent.rows()[0]["log"], str)
    sent.ask(type="log", id=row["id"], open=False)
    assert sent.rows()[0]["log"] is None


def test_cancel_and_retry(sent: Sent, workspace: wb.Workspace) -> None:
    job_id = add(workspace, status="queued")
    assert sent.ask(type="cancel", id=job_id) is None
    assert sent.rows()[0]["status"] == "cancelled"
    failed = add(workspace, type="train", status="failed", options={"steps": 2})
    reply = sent.ask(type="retry", id=failed)
    assert reply is not None
    again = workspace.job(reply["id"])
    assert (again.type, again.options["steps"]) == ("train", 2)
    again.cancel()
    active = add(workspace, status="queued")
    reply = sent.ask(type="retry", id=active)
    assert reply is not None
    assert reply["type"] == "refused"
    assert f"job {active}" in reply["message"]
    assert "queued" in reply["message"]


@pytest.mark.parametrize(
    ("content", "field", "value"),
    [
        ({"type": "cancel", "id": 99}, "job", "99"),
        ({"type": "cancel", "id": "1"}, "id", "'1'"),
        ({"type": "explode", "id": 1}, "message type", "'explode'"),
        (
            {"type": "submit", "form": "x", "job_type": "x", "adapter": "toy", "options": {}},
            "job type",
            "'x'",
        ),
        ({"type": "submit", "form": "x", "job_type": 3, "options": {}}, "type", "3"),
        ({"type": "submit", "form": "x", "job_type": "eval", "options": 3}, "options", "3"),
        ({"type": "submit", "form": "x", "path": "no.ipynb", "options": {}}, "notebook", "no.ipynb"),
        ({"type": "declare", "form": "x", "path": "s3://b/x.ipynb"}, "path", "s3://b/x.ipynb"),
        ({"type": "declare", "form": "x", "path": " "}, "path", "missing"),
        ({"type": "declare", "form": "x"}, "path", "missing"),
        ({"type": "show", "job_type": "", "state": "asleep", "offset": 0}, "state", "'asleep'"),
        ({"type": "show", "job_type": None, "state": "", "offset": 0}, "type", "None"),
        ({"type": "show", "job_type": "", "state": "", "offset": "x"}, "offset", "'x'"),
        (
            {"type": "submit", "form": "x", "job_type": "eval", "adapter": "none", "options": {}},
            "adapter",
            "'none'",
        ),
    ],
)
def test_an_invalid_request_is_refused_with_its_field_and_value(
    sent: Sent, content: dict[str, Any], field: str, value: str
) -> None:
    reply = sent.ask(**content)
    assert reply is not None
    assert reply["type"] == "refused"
    assert {key: reply[key] for key in ("form", "id") if key in reply} == {
        key: content[key] for key in ("form", "id") if key in content
    }
    assert field in reply["message"]
    assert value in reply["message"]


def test_a_missing_result_is_refused(sent: Sent, workspace: wb.Workspace) -> None:
    job_id = add(workspace, status="queued")
    reply = sent.ask(type="result", id=job_id)
    assert reply is not None
    assert reply["type"] == "refused"
    assert f"job {job_id}" in reply["message"]
    assert "result" in reply["message"]


def test_a_failing_workspace_keeps_the_rows_and_shows_the_reason(
    sent: Sent, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(workspace, status="queued")
    sent.panel.refresh()

    def refuse(*_: Any) -> Any:
        raise wb.StoreError("the database is locked", hint="Another process writes.")

    monkeypatch.setattr(workspace, "jobs", refuse)
    sent.panel.refresh()
    assert len(sent.rows()) == 1
    assert sent.panel.state["problem"] == {
        "message": "the database is locked",
        "hint": "Another process writes.",
        "stale": True,
    }


def test_the_thread_lives_while_a_page_shows_the_panel(sent: Sent, workspace: wb.Workspace) -> None:
    panel = sent.panel
    assert not panel.alive
    bundle, _ = panel._repr_mimebundle_()
    assert panel.alive
    assert "No jobs yet" in bundle["text/html"]
    sent.ask(type="view", view="one", open=True)
    sent.ask(type="view", view="two", open=True)
    sent.ask(type="view", view="one", open=False)
    assert panel.alive
    add(workspace, status="queued")
    until(lambda: len(sent.rows()) == 1)  # found by the thread, without a request
    sent.ask(type="view", view="two", open=False)
    assert not panel.alive
    sent.ask(type="view", view="three", open=True)
    assert panel.alive
    panel.close()
    assert not panel.alive


def test_the_last_stage_is_the_innermost_one(sent: Sent, workspace: wb.Workspace) -> None:
    stages = [{"name": "refit", "done": 0.5, "total": 1.0}, {"name": "features", "done": 30, "total": 400}]
    columns = {"progress_done": 0.5, "progress_total": 1.0, "progress_rate": 3.5, "progress_left": 106.0}
    add(workspace, status="running", progress_stages=stages, **columns)
    sent.panel.refresh()
    (row,) = sent.rows()
    assert (row["fraction"], row["rate"], row["left"]) == (0.5, 3.5, 106.0)
    assert row["stages"][-1] == {"name": "features", "done": 30, "total": 400}


# Many jobs -------------------------------------------------------------------------------------------


def test_jobs_are_listed_in_pages(sent: Sent, workspace: wb.Workspace) -> None:
    ids = [add(workspace, status="succeeded") for _ in range(2 * PAGE_JOBS + 3)][::-1]
    sent.panel.refresh()
    for offset in (0, PAGE_JOBS, 2 * PAGE_JOBS):
        assert sent.ask(type="show", job_type="", state="", offset=offset) is None
        assert [row["id"] for row in sent.rows()] == ids[offset : offset + PAGE_JOBS]
        assert (sent.panel.state["total"], sent.panel.state["offset"]) == (len(ids), offset)
    assert f"{2 * PAGE_JOBS} more" in sent.panel.to_html()
    sent.ask(type="show", job_type="", state="", offset=10**6)  # an offset beyond the end shows the last page
    assert sent.panel.state["offset"] == 2 * PAGE_JOBS


@pytest.mark.parametrize("state", STATES)
def test_jobs_are_filtered_by_state_and_type(sent: Sent, workspace: wb.Workspace, state: str) -> None:
    ids = {
        (kind, status): add(workspace, type=kind, status=status)
        for kind in ("eval", "train", "dance")
        for status in ("queued", "running", "succeeded", "failed", "cancelled")
    }
    sent.ask(type="show", job_type="train", state=state, offset=0)
    expected = {ids["train", status] for status in STATES[state] if status != "cancelling"}
    assert {row["id"] for row in sent.rows()} == expected
    assert sent.panel.state["total"] == len(expected)
    assert sent.panel.state["shown"] == {"type": "train", "state": state}
    assert sent.panel.state["types"][-1] == {"type": "dance", "label": "Dance"}
    # Active jobs keep the panel polling fast, even if the filter hides them.
    assert sent.panel.state["going_on"] == 6
    assert sent.panel.refresh() == BUSY_SECONDS


# A user's own notebook -------------------------------------------------------------------------------


@pytest.fixture
def own_notebook(tmp_path: Path) -> Path:
    source = "steps: int = 3  # how many\nname = '첫째'\nrate: float | None = None"
    cells = [
        nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print(name, steps)"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "mine.ipynb")
    return tmp_path / "mine.ipynb"


def test_the_form_of_a_notebook_has_its_declared_parameters(sent: Sent, own_notebook: Path) -> None:
    reply = sent.ask(type="declare", form="notebook", path=f" {own_notebook} ")
    assert reply is not None
    assert (reply["type"], reply["form"], reply["path"]) == ("declared", "notebook", str(own_notebook))
    fields = [(field["name"], field["kind"], field["help"]) for field in reply["fields"]]
    assert fields == [("steps", "integer", "how many"), ("name", "text", ""), ("rate", "number", "")]
    assert reply["values"] == {"steps": 3, "name": "첫째"}


@pytest.mark.slow
def test_a_notebook_is_submitted_and_retried_unchanged(
    sent: Sent, workspace: wb.Workspace, own_notebook: Path
) -> None:
    refused = sent.ask(
        type="submit", form="notebook", path=str(own_notebook), options={"steps": "many", "no": 1}
    )
    assert refused is not None
    assert [field for field, _ in refused["problems"]] == ["steps", "no"]
    assert sent.rows() == []
    reply = sent.ask(type="submit", form="notebook", path=str(own_notebook), options={"steps": 7})
    assert reply is not None
    job = workspace.job(reply["id"]).wait(GUARD)
    sent.panel.refresh()
    assert (sent.rows()[0]["type"], sent.rows()[0]["name"]) == ("notebook", "mine")
    assert "첫째 7" in job.logs()
    own_notebook.unlink()
    again = sent.ask(type="retry", id=job.id)
    assert again is not None
    assert "첫째 7" in workspace.job(again["id"]).wait(GUARD).logs()


@pytest.mark.slow
def test_a_result_below_its_floor_is_shown_although_the_job_failed(
    sent: Sent, workspace: wb.Workspace
) -> None:
    job = workspace.submit("eval", "toy", {"k": 2}, fail_below={"R@2": 0.9}).wait(GUARD, check=False)
    sent.panel.refresh()
    (row,) = sent.rows()
    assert (row["status"], row["hasResult"]) == ("failed", True)
    shown = sent.ask(type="result", id=job.id)
    assert shown is not None
    assert "Recall" in shown["html"]
    assert job.retry().floors == {"R@2": 0.9}


# Closing ---------------------------------------------------------------------------------------------


def test_closing_leaves_no_widget_and_no_thread(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    from ipywidgets.widgets import widget

    models, threads = dict(widget._instances), threading.active_count()
    for _ in range(3):
        panel = JobsPanel(workspace, adapter="toy")
        panel._repr_mimebundle_()
        panel.close()
    assert dict(widget._instances) == models
    assert threading.active_count() == threads


def test_all_that_is_wrong_is_said_at_once(sent: Sent) -> None:
    unread = [["k", "not a number: many"]]
    reply = sent.ask(
        type="submit", form="eval", job_type="eval", adapter="toy", options={"seconds": "long"}, unread=unread
    )
    assert reply is not None
    assert reply["type"] == "refused"
    assert [name for name, _ in reply["problems"]] == ["k", "seconds"]
    assert sent.rows() == []  # with a field that could not be read, nothing is submitted
    reply = sent.ask(type="submit", form="eval", job_type="eval", adapter="toy", options={}, unread=unread)
    assert reply is not None
    assert reply["problems"] == unread
    assert sent.rows() == []


def test_a_hint_stays_where_only_the_advice_is_for_a_terminal(
    sent: Sent, workspace: wb.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_job_id: int) -> None:
        raise wb.StoreError("the disk is full", hint="Free some space.", advice="See: workbench doctor")

    monkeypatch.setattr(workspace, "job", refuse)
    sent.ask(type="cancel", id=1)
    assert sent.messages[-1]["message"] == "the disk is full"
    assert sent.messages[-1]["hint"] == "Free some space."


def test_a_message_is_confirmed_before_it_is_handled(sent: Sent) -> None:
    reply = sent.ask(type="cancel", id=999, hear={"view": "v", "heard": 4})
    assert reply == {"type": "heard", "view": "v", "heard": 4}
    assert sent.messages[-1]["type"] == "refused"


def test_advice_for_the_terminal_is_not_shown_in_the_panel(sent: Sent, workspace: wb.Workspace) -> None:
    sent.ask(type="cancel", id=999)
    assert sent.messages[-1]["message"].startswith("no job 999")
    assert sent.messages[-1]["hint"] == ""
    error = {"cell": 3, "type": "UnknownRun", "message": str(wb.UnknownRun(999, 16))}
    add(workspace, status="failed", error=error)
    sent.panel.refresh()
    assert sent.rows()[0]["error"] == {"cell": 3, "message": "no run 999: the newest is 16"}


def test_rows_without_a_name_are_told_apart_by_their_options(sent: Sent, workspace: wb.Workspace) -> None:
    for k in (3, 50):  # 3 is the default
        add(workspace, status="succeeded", options={"k": k}, started_at=100.0, finished_at=134.0)
    sent.panel.refresh()
    assert [row["given"] for row in sent.rows()] == [["k 50"], []]
    assert sent.rows()[0]["took"] == 34.0
    assert "k 50" in sent.panel.to_html()


def test_a_succeeded_job_does_not_look_interrupted(sent: Sent, workspace: wb.Workspace) -> None:
    add(
        workspace,
        status="succeeded",
        progress_message="step 600 of 900",
        progress_done=600,
        progress_total=900,
    )
    sent.panel.refresh()
    assert (sent.rows()[0]["message"], sent.rows()[0]["summary"]) == ("", "")
    assert "step 600" not in sent.panel.to_html()


def test_a_path_is_looked_for_where_jupyterlab_shows_it(
    sent: Sent, own_notebook: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = own_notebook.parent
    (root / "elsewhere").mkdir()
    monkeypatch.chdir(root / "elsewhere")
    reply = sent.ask(type="declare", form="notebook", path=own_notebook.name, root=str(root))
    assert reply is not None
    assert reply["path"] == str(own_notebook)
    reply = sent.ask(type="declare", form="notebook", path="no/such.ipynb", root=str(root))
    assert reply is not None
    assert "JupyterLab's folder" in reply["message"]


def test_a_job_whose_row_is_damaged_says_so(sent: Sent, workspace: wb.Workspace) -> None:
    lost = {records.DAMAGED: "no"}
    job_id = add(workspace, status="failed", error=lost, options=lost)
    sent.panel.refresh()
    assert sent.rows()[0]["error"] == {"cell": None, "message": "the stored reason is damaged"}
    reply = sent.ask(type="retry", id=job_id)
    assert reply is not None
    assert reply["message"] == f"the stored options of job {job_id} are damaged"
    assert reply["hint"] == "Start a new job instead."
