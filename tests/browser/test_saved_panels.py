"""Panels in JupyterLab whose kernel restarts or is gone, in saved notebooks, and in the reports of jobs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from playwright.sync_api import Locator, Page, expect

import workbench as wb
from tests.browser.conftest import PATIENCE, Visit, on_path, run_all
from tests.browser.shapes import make_index
from tests.browser.test_jobs_panel import page_of, running_row
from tests.browser.test_lab import Lab, lab_in
from tests.conftest import workspace_in

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)

PANELS = (
    "import workbench as wb\nhome = wb.Workspace()\nwb.panels.JobsPanel(home)",
    "wb.panels.ComparePanel(home)",
    "wb.panels.ResultsComparePanel(home)",
    "wb.panels.SearchPanel(home.open_search('shapes'))",
)
REGIONS = ("Jobs", "Compare runs", "Compare results")
BARS = "from tqdm.notebook import tqdm\nfor _ in tqdm(range(3), '세기'):\n    pass"

SHUT_DOWN = """async () => {
  const headers = { "X-XSRFToken": document.cookie.match(/_xsrf=([^;]*)/)?.[1] ?? "" };
  for (const { id } of await (await fetch("/api/sessions")).json())
    await fetch(`/api/sessions/${id}`, { method: "DELETE", headers });
}"""


@pytest.fixture(scope="module")
def home(shapes_package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[wb.Workspace]:
    """A workspace in JupyterLab's folder, as in a project."""
    folder = tmp_path_factory.mktemp("saved")
    with on_path(shapes_package), workspace_in(folder / "root" / "results") as home:
        make_index(home.indexes / "shapes")
        for name, loss in (("first", 0.5), ("둘째, a name that goes on and on", 0.25)):
            with home.start_run("tour", name=name, config={"lr": loss}, better={"loss": "lower"}) as run:
                for step in range(3):
                    run.log({"loss": loss}, step=step)
        yield home


@pytest.fixture(scope="module")
def lab(home: wb.Workspace) -> Iterator[Lab]:
    with lab_in(home.path.parents[1], home.path, api="workbench.server") as lab:
        (lab.root / "notebooks").mkdir()
        nbformat.write(page_of(*PANELS), lab.root / "notebooks" / "all.ipynb")
        nbformat.write(page_of(PANELS[0], PANELS[1], BARS), lab.root / "mine.ipynb")
        yield lab


def region(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def command(page: Page, menu: str, name: str) -> None:
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.locator(f".lm-Menu-item[data-command='{name}']").first.click()


def test_a_restart_is_said_in_every_panel_and_a_saved_panel_is_shown_without_its_kernel(
    visit: Callable[..., Visit], lab: Lab, home: wb.Workspace
) -> None:
    job = running_row(home)
    page = visit(lab.url("all.ipynb"), viewport={"width": 1300, "height": 3200}).page
    run_all(page)
    for name in REGIONS:
        expect(region(page, name)).to_be_visible()
    expect(page.get_by_label("Query")).to_be_visible()
    expect(region(page, "Jobs").get_by_role("link", name="notebook")).to_have_count(0)  # of a running job
    command(page, "File", "docmanager:save")
    expect(page.locator(".lm-DockPanel-tabBar .jp-mod-dirty")).to_have_count(0)

    command(page, "Kernel", "kernelmenu:restart")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    notices = page.locator(".wb-notice:visible")
    expect(notices).to_have_count(4)
    assert {notice.split("\n")[0] for notice in notices.all_inner_texts()} == {
        "The kernel was restarted: run this cell again"
    }
    expect(page.get_by_role("button", name=f"cancel job {job}")).to_be_disabled()
    expect(page.get_by_label("Query")).to_be_disabled()
    home.store.move_job(job, expect="running", to="cancelled", attempt=1)

    page.evaluate(SHUT_DOWN)
    page.goto(lab.url("all.ipynb"), wait_until="commit")
    expect(page.get_by_text("This is the panel as it was saved.")).to_have_count(4)
    expect(page.get_by_text("model not found")).to_have_count(0)
    expect(page.locator(".wb-saved table").first).to_contain_text("running")  # as of then, which it says
    expect(page.locator(".wb-saved").first).to_contain_text(re.compile(r"As of \d{4}-\d\d-\d\d \d\d:\d\d"))
    expect(page.locator(".wb-saved .wb-plot img")).to_have_count(1)
    expect(page.locator(".wb-saved").last).to_contain_text("Sample queries")
    expect(page.locator(".lm-DockPanel-tabBar .jp-mod-dirty")).to_have_count(0)

    page.get_by_role("button", name="Run this cell").first.click()
    expect(region(page, "Jobs").get_by_text("cancelled", exact=True).last).to_be_visible()
    expect(page.get_by_text("This is the panel as it was saved.")).to_have_count(3)


def test_the_report_of_a_job_is_trusted_has_a_name_and_needs_no_kernel(
    visit: Callable[..., Visit], lab: Lab, home: wb.Workspace
) -> None:
    nbformat.write(page_of(PANELS[0]), lab.root / "notebooks" / "jobs only.ipynb")
    page = visit(lab.url("jobs only.ipynb"), viewport={"width": 1300, "height": 1600}).page
    run_all(page)
    jobs = region(page, "Jobs")
    jobs.get_by_role("button", name="＋ Notebook").click()
    jobs.get_by_label("Path").fill("mine.ipynb")  # where JupyterLab shows it, not where the kernel runs
    jobs.get_by_label("Path").press("Enter")
    jobs.get_by_role("button", name="Run notebook").click()
    row = jobs.get_by_role("listitem").first
    expect(row).to_contain_text("notebook · mine")
    expect(row.get_by_text("succeeded")).to_be_visible()
    expect(row).to_contain_text("took")
    job = home.jobs("notebook")[0]

    kernels = page.evaluate("() => fetch('/api/kernels').then((answer) => answer.json())")
    row.get_by_role("link", name="notebook").click()
    expect(page.get_by_role("tab", name=f"notebook-{job.id}", selected=True)).to_be_visible()
    report = page.locator(".jp-Notebook:visible")
    expect(report.locator(".wb-saved")).to_have_count(2)
    expect(report.locator(".wb-saved .wb-plot img")).to_be_visible()
    expect(report.locator(".wb-saved .wb-trophy")).to_have_css(
        "background-image", re.compile("svg")
    )  # trusted
    expect(report.get_by_text("3/3")).to_be_visible()
    assert report.locator("progress").evaluate("(bar) => bar.value / bar.max") == 1
    expect(report.get_by_text("Loading widget")).to_have_count(0)
    expect(page.locator("#jp-main-statusbar")).to_contain_text("No Kernel")
    again = page.evaluate("() => fetch('/api/kernels').then((answer) => answer.json())")
    assert [one["id"] for one in again] == [one["id"] for one in kernels]

    # The same file where nobody has signed it: no loose words of charts, and in nbconvert: the tables.
    copied = lab.root / "notebooks" / "foreign.ipynb"
    text = Path(job.notebook).read_text(encoding="utf-8")
    copied.write_text(text.replace("when this cell ran", "when that cell ran"), encoding="utf-8")
    page.goto(lab.url("foreign.ipynb"), wait_until="commit")
    expect(page.locator(".jp-RenderedHTMLCommon img").first).to_be_visible()
    shown = page.locator(".jp-OutputArea-output").nth(1).inner_text()
    assert not re.search(r"^[\d. ]+$", shown, re.MULTILINE), shown  # the ticks of an axis
    html, _ = HTMLExporter().from_filename(str(job.notebook))
    assert html.count('<div class="wb-saved">') == 2
    assert html.count("<table") >= 3
    shutil.rmtree(lab.root / "notebooks")
    (lab.root / "notebooks").mkdir()
