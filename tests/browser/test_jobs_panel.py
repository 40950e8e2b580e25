"""The jobs panel in JupyterLab: updates and requests while a cell runs, pages, filters, notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Locator, Page, expect

import workbench as wb
from tests.browser.conftest import PATIENCE, Visit, jupyter_lab, run_all
from workbench.host import processes
from workbench.store import records

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)

# Records the page's running timers by their interval; only the panel's timer has this interval.
COUNT_TIMERS = """
window.timers = new Map();
const [set, clear] = [window.setInterval, window.clearInterval];
window.setInterval = (call, pause, ...rest) => {
  const id = set(call, pause, ...rest);
  window.timers.set(id, pause);
  return id;
};
window.clearInterval = (id) => { window.timers.delete(id); clear(id); };
"""
PANELS_PAUSE = 10000

PANEL = "import workbench as wb\nhome = wb.Workspace()\npanel = wb.panels.JobsPanel(home)\npanel"


BUSY = """
import os, time
until = time.time() + 1200
while time.time() < until and not os.path.exists(home.path / "enough"):
    time.sleep(0.05)
"""


def page_of(*sources: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )


@pytest.fixture(scope="module")
def lab(
    shapes_workspace: wb.Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    root = shapes_workspace.path.parent
    with jupyter_lab(root, shapes_workspace.path, tmp_path_factory.mktemp("state")) as url:
        for name, sources in {
            "busy": (
                PANEL,
                BUSY,
            ),
            "closing": (PANEL, "panel.close()"),
            "jobs": (PANEL,),
        }.items():
            nbformat.write(page_of(*sources), root / "notebooks" / f"{name}.ipynb")
        yield url


def add(home: wb.Workspace, **values: object) -> int:
    row = {"type": "eval", "adapter": "shapes", "status": "succeeded", "summary": "R@10 0.43", **values}
    return home.store.add_job(records.JobRecord(**row)).id or 0


def panel_of(page: Page) -> Locator:
    return page.get_by_role("region", name="Jobs", exact=True)


def row_of(page: Page, job: int) -> Locator:
    return panel_of(page).locator(f".wb-row[data-id='{job}']")


def running_row(home: wb.Workspace) -> int:
    """Add a job that this process runs, so that it is not taken for lost."""
    me = processes.this_process()
    who = {"host": processes.host(), "pid": me.pid, "pid_started": me.started, "attempt": 1}
    stages = [
        {"name": "refit", "done": 0.0, "total": 1.0},
        {"name": "특징 features", "done": 10, "total": 400},
    ]
    return add(
        home,
        status="running",
        summary="",
        progress_done=0.1,
        progress_total=1.0,
        progress_stages=stages,
        **who,
    )


def test_it_updates_and_cancels_while_the_kernel_is_busy(
    visit: Callable[..., Visit], lab: Callable[[str], str], shapes_workspace: wb.Workspace
) -> None:
    home = shapes_workspace
    job = running_row(home)
    seen = visit(lab("busy.ipynb"))
    page = seen.page
    expect(page.locator("#jp-main-statusbar")).to_contain_text("Python 3 | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    row = row_of(page, job)
    expect(row).to_contain_text("10 / 400 refit › 특징 features")
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text("[*]:")
    stages = [
        {"name": "refit", "done": 0.5, "total": 1.0},
        {"name": "특징 features", "done": 200, "total": 400},
    ]
    home.store.update_job(
        job, attempt=1, progress_done=0.5, progress_stages=stages, progress_rate=3.2, progress_left=39.0
    )
    expect(row).to_contain_text("200 / 400 refit › 특징 features · 3.2/s")
    expect(row).to_contain_text("39 s left")
    assert row.get_by_role("progressbar").get_attribute("aria-valuenow") == "50"
    row.get_by_role("button", name="cancel").click()
    expect(row).to_contain_text("cancelling…")
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text("[*]:")
    home.store.move_job(job, expect="cancelling", to="cancelled", attempt=1)
    expect(row.get_by_text("cancelled")).to_be_visible()
    (home.path / "enough").touch()
    expect(page.locator(".jp-CodeCell .jp-InputPrompt").last).to_have_text("[2]:")


def test_pages_filters_and_a_form_for_a_users_notebook_with_errors_next_to_its_fields(
    visit: Callable[..., Visit], lab: Callable[[str], str], shapes_workspace: wb.Workspace, tmp_path: Path
) -> None:
    home = shapes_workspace
    failed = add(
        home, type="train", status="failed", error={"cell": 4, "type": "ValueError", "message": "no run 7"}
    )
    for _ in range(30):
        add(home)
    page = visit(lab("jobs.ipynb")).page
    run_all(page)
    panel = panel_of(page)
    total = home.count_jobs()
    expect(panel.get_by_text(f"1–25 of {total}")).to_be_visible()
    expect(row_of(page, failed)).to_have_count(0)
    panel.get_by_role("button", name="older ›").press("Enter")
    expect(panel.get_by_text(f"26–{min(total, 50)} of {total}")).to_be_visible()
    expect(row_of(page, failed)).to_contain_text("cell 4: no run 7")
    panel.get_by_label("Job state").select_option("failed")
    panel.get_by_label("Job type").select_option("Train")
    expect(panel.get_by_role("listitem")).to_have_count(1)
    expect(panel.get_by_role("button", name="older ›")).to_be_hidden()
    panel.get_by_label("Job state").select_option("cancelled")
    expect(panel.get_by_text("No matching jobs")).to_be_visible()
    panel.get_by_role("button", name="show all").click()
    expect(panel.get_by_text(f"1–25 of {total}")).to_be_visible()

    source = "steps: int = 3  # how many steps\nname = '첫째'"
    own_notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell("for step in range(steps):\n    print(name, step)\n1 / (steps - 4)"),
        ]
    )
    nbformat.write(own_notebook, tmp_path / "own.ipynb")
    panel.get_by_role("button", name="＋ Notebook").click()
    panel.get_by_label("Path").fill("nowhere.ipynb")
    panel.get_by_label("Path").press("Enter")
    expect(panel.get_by_role("alert").filter(has_text="nowhere.ipynb")).to_be_visible()
    panel.get_by_label("Path").fill(str(tmp_path / "own.ipynb"))
    panel.get_by_label("Path").press("Enter")
    expect(panel.get_by_label("steps")).to_be_focused()
    expect(panel.get_by_text("how many steps")).to_be_visible()
    panel.get_by_label("steps").fill("4.5")
    panel.get_by_role("button", name="Run notebook").click()
    expect(panel.get_by_label("steps")).to_have_attribute("aria-invalid", "true")
    panel.get_by_label("steps").fill("4")
    panel.get_by_role("button", name="Run notebook").click()
    row = panel.get_by_role("listitem").first
    expect(row).to_contain_text("notebook · own")
    expect(row).to_contain_text("cell 3: division by zero")
    row.get_by_role("button", name="log").click()
    expect(row.locator("pre")).to_contain_text("첫째 3")
    first = shapes_workspace.jobs("notebook")[0].id
    row.get_by_role("button", name="retry").click()
    expect(row_of(page, first + 1).get_by_text("failed")).to_be_visible()
    assert shapes_workspace.count_jobs("notebook") == 2


def test_closing_it_leaves_no_timer(visit: Callable[..., Visit], lab: Callable[[str], str]) -> None:
    seen = visit("about:blank")
    page = seen.page
    page.add_init_script(COUNT_TIMERS)
    page.goto(lab("closing.ipynb"), wait_until="commit")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("Python 3 | Idle")
    count = f"[...window.timers.values()].filter((pause) => pause === {PANELS_PAUSE}).length"
    before = page.evaluate(count)
    page.locator(".jp-CodeCell").first.click()
    page.keyboard.press("Shift+Enter")
    expect(panel_of(page)).to_be_visible()
    assert page.evaluate(count) == before + 1
    page.keyboard.press("Shift+Enter")
    expect(panel_of(page)).to_have_count(0)
    page.wait_for_function(f"{count} === {before}")
    assert seen.errors == []
