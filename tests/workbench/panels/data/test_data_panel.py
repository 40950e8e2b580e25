"""The Python half of the panel that checks data, and its page, with the toy adapter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import workbench as wb
from tests.workbench.conftest import job_row
from workbench.panels.data.panel import KEPT_CHECKS, DataPanel
from workbench.panels.jobs.panel import BUSY_SECONDS, CALM_SECONDS


@pytest.fixture
def panel(workspace: wb.Workspace, toy: wb.BaseAdapter) -> Iterator[DataPanel]:
    panel = DataPanel(workspace, adapter="toy")
    yield panel
    panel.close()


def checked(workspace: wb.Workspace, toy: wb.BaseAdapter, source: str = "words") -> int:
    with wb.job_scope("data_check", toy, {"source": source}, workspace=workspace) as job:
        job.finish(job.check_data())
    return job.id


def asked(panel: DataPanel, **content: Any) -> dict[str, Any]:
    sent: list[dict[str, Any]] = []
    panel.send = lambda content, buffers=None: sent.append(content)
    panel._on_message(content)
    return sent[0]


def test_nothing_checked_yet(panel: DataPanel) -> None:
    assert panel.state == {"checks": [], "problem": None}
    assert panel.to_html() == "<p>No data checked yet.</p>"
    assert panel.setup["offers"][0]["type"] == "data_check"
    assert panel.refresh() == CALM_SECONDS


def test_a_check_is_submitted_and_watched(panel: DataPanel, workspace: wb.Workspace) -> None:
    job_row(workspace, "succeeded", type="eval")  # other jobs are not its
    form = {"form": "data_check", "job_type": "data_check", "adapter": "toy", "unread": [], "root": ""}
    refused = asked(panel, type="submit", options={}, **form)
    assert refused["type"] == "refused"
    assert [name for name, _ in refused["problems"]] == ["source"]
    job_id = job_row(workspace, "running", type="data_check", options={"source": "단어"}, progress_done=1.0)
    assert panel.refresh() == BUSY_SECONDS
    (row,) = panel.state["checks"]
    assert (row["id"], row["source"], row["status"], row["over"]) == (job_id, "단어", "running", False)
    assert panel.to_html() == f"<p><b>단어</b> (job {job_id}, running)</p>"


def test_the_result_comes_with_the_jobs_that_can_use_the_data(
    panel: DataPanel, workspace: wb.Workspace, toy: wb.BaseAdapter
) -> None:
    job_id = checked(workspace, toy)
    answer = asked(panel, type="result", id=job_id)
    assert "What it holds" in answer["html"]
    assert answer["uses"] == {"train": {"name": "words"}}
    assert "What it holds" in panel.to_html()
    assert (workspace.jobs_dir / str(job_id) / "all.txt").read_text() == "dog\n"


def test_a_failed_check_says_why_and_long_lists_have_an_end(
    panel: DataPanel, workspace: wb.Workspace, toy: wb.BaseAdapter
) -> None:
    for number in range(KEPT_CHECKS + 1):
        job_row(workspace, "succeeded", type="data_check", options={"source": f"<{number}>"})
    with pytest.raises(wb.BadInput):
        checked(workspace, toy, "nothing")
    panel.refresh()
    assert len(panel.state["checks"]) == KEPT_CHECKS
    assert "no source 'nothing'" in panel.state["checks"][0]["error"]["message"]
    assert "<b>nothing</b> (job" in panel.to_html()
