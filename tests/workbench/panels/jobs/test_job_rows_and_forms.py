"""What a panel of jobs says of a job, and what its forms take from a page."""

from __future__ import annotations

import pytest

import workbench as wb
from tests.workbench.conftest import job_row
from workbench.panels.jobs.forms import job_id_of
from workbench.panels.jobs.rows import label, outcome, row_of


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/annika/사진/captions.jsonl?image=file", "captions.jsonl?image=file"),
        ("/a/photos + /b/c.csv + emoji", "photos + c.csv + emoji"),
        ("emoji", "emoji"),
    ],
)
def test_a_check_is_named_by_the_end_of_its_paths(workspace: wb.Workspace, source: str, name: str) -> None:
    job = workspace.job(job_row(workspace, "queued", type="data_check", options={"source": source}))
    row = row_of(job, {})
    assert (row["type"], row["name"], row["given"]) == ("check data", name, [])


def test_job_types_have_names_for_people() -> None:
    assert [label(kind) for kind in ("data_check", "train", "make_soup")] == [
        *("Check data", "Train", "Make soup"),
    ]


def test_the_outcome_is_the_error_the_summary_or_how_far_it_is(workspace: wb.Workspace) -> None:
    ids = [
        job_row(workspace, "failed", error={"cell": 3, "message": "no <b>"}),
        job_row(workspace, "succeeded", summary="measured"),
        job_row(workspace, "running", progress_done=1.0, progress_total=4.0, progress_message="반"),
    ]
    rows = [row_of(workspace.job(one), {}) for one in ids]
    assert [outcome(row) for row in rows] == ["cell 3: no <b>", "measured", "25% · 반"]


@pytest.mark.parametrize("job_id", [None, True, "3", 1.5])
def test_a_message_about_no_job_is_refused(job_id: object) -> None:
    assert job_id_of({"id": 3}) == 3
    with pytest.raises(wb.BadInput, match="must be an integer"):
        job_id_of({"id": job_id})
