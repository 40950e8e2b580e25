"""The tour in JupyterLab: run every cell, see the panels, start a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

import workbench as wb
from tests.browser.conftest import PATIENCE, Visit, jupyter_lab, run_all

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def lab(
    shapes_workspace: wb.Workspace, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], str]]:
    """JupyterLab over a workspace that has an index and two runs."""
    for name, loss in (("first", 0.5), ("second", 0.25)):
        with shapes_workspace.start_run(
            "tour", name=name, config={"lr": loss}, better={"loss": "lower"}
        ) as run:
            run.log({"loss": loss}, step=1)
    # As in a checkout, the workspace is next to the notebooks, under the server's root.
    root = shapes_workspace.path.parent
    with jupyter_lab(root, shapes_workspace.path, tmp_path_factory.mktemp("state")) as url:
        yield url


def test_the_tour_shows_every_panel_follows_a_metric_and_builds_an_index(
    visit: Callable[..., Visit], lab: Callable[[str], str], shapes_workspace: wb.Workspace
) -> None:
    seen = visit(lab("start_here.ipynb"), viewport={"width": 1400, "height": 2600})
    page = seen.page
    run_all(page)

    compare = page.get_by_role("region", name="Compare runs")
    final = compare.get_by_role("region", name="Final values")
    loss = final.get_by_role("row").filter(has_text="loss")
    expect(loss).to_contain_text("↓ best")
    expect(loss.locator(".wb-best")).to_contain_text("0.250")
    # A metric that another process logs updates the table.
    with shapes_workspace.start_run("tour", name="third", better={"loss": "lower"}) as run:
        run.log({"loss": 0.125}, step=1)
        run.flush()
        expect(loss.locator(".wb-best")).to_contain_text("0.125")

    page.get_by_label("Query").fill("강아지")
    page.get_by_label("Query").press("Enter")
    expect(page.locator(".wb-hit .wb-caption").first).to_have_text("dog")
    expect(page.locator(".wb-hit img").first).to_be_visible()

    jobs = page.get_by_role("region", name="Jobs", exact=True)
    expect(jobs).to_contain_text("No jobs yet")
    jobs.get_by_role("button", name="＋ Build index").click()
    if jobs.get_by_label("Model family").count():
        jobs.get_by_label("Model family").select_option("Coloured shapes")
    jobs.get_by_label("Name").fill("more shapes")
    jobs.get_by_role("button", name="Build index", exact=True).click()
    row = jobs.get_by_role("listitem").filter(has_text="more shapes")
    # A state is a word and a colour; the colour survives the styles of the other panels.
    expect(row.get_by_text("succeeded")).to_have_css("color", "rgb(26, 115, 71)")
    expect(row).to_contain_text("7 shapes")
    assert "more shapes" in shapes_workspace.index_names()
    row.get_by_role("button", name="result").click()
    expect(row.locator(".wb-result")).to_contain_text("7 shapes")
    row.get_by_role("link", name="notebook").click()
    expect(page.get_by_role("heading", name="Build a search index")).to_be_visible()

    expect(page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']")).to_have_count(0)
    assert seen.strangers() == []


def test_the_tour_runs_in_an_empty_workspace(
    visit: Callable[..., Visit], lab: Callable[[str], str], shapes_workspace: wb.Workspace, tmp_path: Path
) -> None:
    # On the server of the other tour, in a kernel whose environment names another workspace.
    folder = shapes_workspace.path.parent / "notebooks"
    tour = nbformat.read(folder / "start_here.ipynb", as_version=4)
    tour.cells.insert(0, nbformat.v4.new_code_cell(f"%env WORKBENCH_HOME={tmp_path / 'empty'}"))
    nbformat.write(tour, folder / "empty.ipynb")
    page = visit(lab("empty.ipynb"), viewport={"width": 1400, "height": 2600}).page
    run_all(page)
    expect(page.get_by_text("Nothing to search yet")).to_be_visible()
    expect(page.get_by_text("No jobs yet")).to_be_visible()
    expect(page.locator(".jp-OutputArea").get_by_text("No evaluation has succeeded yet.")).to_be_visible()
    expect(page.get_by_text("No runs yet")).to_be_visible()
    expect(page.locator("[data-mime-type='application/vnd.jupyter.error']")).to_have_count(0)
