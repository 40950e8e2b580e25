"""Submit a job and follow it until its table shows: database, worker, kernel, notebook, result."""

import nbformat

import workbench as wb
from workbench.panels.results.show import render_html


def test_submit_a_job_until_its_table_shows(workspace: wb.Workspace, toy: wb.BaseAdapter) -> None:
    seen: list[str] = []
    job = workspace.submit("eval", adapter="toy", options={"k": 3})
    job.wait(300, on_progress=lambda now: seen.append(now.status))

    assert seen[0] == "queued"
    assert seen[-1] == "succeeded"
    assert job.notebook == workspace.path / "jobs" / str(job.id) / "notebook.ipynb"
    page = nbformat.read(job.notebook, as_version=4)
    shown = "".join(
        output.data.get("text/html", "")
        for cell in page.cells
        for output in cell.get("outputs", [])
        if output.output_type == "display_data"
    )
    assert "<table" in shown
    assert "R@k" in shown
    assert job.result is not None
    assert "<table" in render_html(job.result)
    assert job.result.views[0].data["rows"][-1] == {"k": 3, "R": 0.3}
    assert "A toy that counts" in job.logs()
    assert workspace.jobs(status="succeeded")[0].id == job.id
