"""JupyterLab with our extension: launcher cards, running jobs in the status bar, themes."""

from __future__ import annotations

import json
import os
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

import workbench as wb
from tests.browser.conftest import NOTEBOOKS, PATIENCE, Visit, jupyter_lab
from tests.conftest import installed, workspace_in
from tests.waiting import until

pytestmark = pytest.mark.browser

expect.set_options(timeout=PATIENCE)

EXTENSION = Path(wb.__file__).parent / "labextension"

#: A stand-in for the HTTP API: responds with the content of a file, or with 404 if it is missing.
API = """
import json
from pathlib import Path
from tornado import web
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join

ANSWER = Path(__file__).parent / "answer.json"

class Jobs(JupyterHandler):
    @web.authenticated
    def get(self):
        if not ANSWER.exists():
            raise web.HTTPError(404)
        assert self.get_argument("status") == "running"
        self.finish(json.loads(ANSWER.read_text()))

def _jupyter_server_extension_points():
    return [{"module": "jobs_api"}]

def _load_jupyter_server_extension(app):
    path = url_path_join(app.web_app.settings["base_url"], "workbench/api/jobs")
    app.web_app.add_handlers(".*", [(path, Jobs)])
"""


@dataclass
class Lab:
    """A JupyterLab on a folder, with an API whose answer the test sets."""

    root: Path
    answer: Path
    url: Callable[[str], str]

    @property
    def address(self) -> str:
        """The URL of the page with the launcher."""
        return self.url("x").replace("/tree/notebooks/x", "")

    def running(self, number: int) -> None:
        """Set the number of running jobs that the API reports."""
        beside = self.answer.with_suffix(".new")
        beside.write_text(json.dumps({"jobs": [], "total": number}))
        beside.replace(self.answer)


@contextmanager
def lab_in(folder: Path, home: Path, *, api: str = "jobs_api", everything: bool = False) -> Iterator[Lab]:
    root, state = folder / "root", folder / "state"
    root.mkdir(exist_ok=True)
    (state / "jupyter_server_config.d").mkdir(parents=True)
    installed = state / "labextensions" / "notebook-workbench"  # as a wheel installs it, from this checkout
    shutil.copytree(EXTENSION, installed)
    shutil.copytree(NOTEBOOKS, installed / "static" / "notebooks")
    (folder / "api").mkdir()
    (folder / "api" / "jobs_api.py").write_text(API)
    extensions = {name: name == api for name in ("jobs_api", "workbench.server")}
    enabled = {"ServerApp": {"jpserver_extensions": extensions}}
    (state / "jupyter_server_config.d" / "jobs_api.json").write_text(json.dumps(enabled))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "api"))
        patch.setenv(
            "PYTHONPATH",
            os.pathsep.join(filter(None, [str(folder / "api"), os.environ.get("PYTHONPATH")])),
        )
        with jupyter_lab(root, home, state, notebooks=False, everything=everything) as url:
            yield Lab(root, folder / "api" / "answer.json", url)


@pytest.fixture(scope="module")
def lab(shapes_workspace: wb.Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """JupyterLab as after installing a wheel: no checkout, no notebooks."""
    for name, loss in (("first", 0.5), ("둘째", 0.25)):
        with shapes_workspace.start_run("lab", name=name, better={"loss": "lower"}) as run:
            run.log({"loss": loss}, step=1)
    with lab_in(tmp_path_factory.mktemp("lab"), shapes_workspace.path) as running:
        yield running


@contextmanager
def cleared(lab: Lab) -> Iterator[None]:
    """Take what other tests left in the folder of the notebooks out of the way, and what this one leaves."""
    folder = lab.root / "notebooks"

    def gone() -> bool:
        # A page that is still saving may write into the folder while it is being removed.
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            folder.unlink(missing_ok=True)
        return not folder.exists()

    until(gone)
    yield
    until(gone)


@pytest.fixture
def answering(lab: Lab) -> Iterator[Lab]:
    """The same, with an API that reports no running jobs."""
    lab.running(0)
    yield lab
    lab.answer.unlink(missing_ok=True)


def card(page: Page, name: str) -> Locator:
    title = page.get_by_role("heading", name="Workbench", exact=True)
    section = page.locator(".jp-Launcher-section").filter(has=title)
    return section.locator(".jp-LauncherCard").filter(has_text=name)


def status(page: Page) -> Locator:
    return page.locator("#jp-main-statusbar").get_by_role("button", name=re.compile("jobs? running"))


def panel(page: Page) -> Locator:
    """The first panel in a notebook's output."""
    return page.locator(".jp-Notebook .jp-OutputArea .wb").first


def tab(page: Page, name: str) -> Locator:
    return page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab").filter(has_text=name)


#: Each card with the notebook that it copies, and what its panels are called.
CARDS = [
    ("Tour", "start_here.ipynb", ["Jobs", "Compare runs"]),
    ("Jobs", "jobs.ipynb", ["Jobs"]),
    ("Compare runs", "compare.ipynb", ["Compare runs"]),
    ("Search demo", "search_demo.ipynb", []),
]


def test_a_card_copies_its_page_and_opens_it_with_its_panel(
    visit: Callable[..., Visit], answering: Lab
) -> None:
    seen = visit(answering.address, viewport={"width": 1300, "height": 2600})
    page, folder = seen.page, answering.root / "notebooks"
    refused: list[str] = []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
    answering.running(2)
    assert_it_can_be_read_in(page, light=True)
    for number, (name, file, panels) in enumerate(CARDS):  # one page, since loading it takes the longest
        if number:
            page.get_by_title("New Launcher", exact=True).click()
        card(page, name).click()
        expect(tab(page, file)).to_be_visible()
        notebook = page.locator(".jp-NotebookPanel:visible")
        expect(notebook.locator(".jp-OutputArea .wb").first).to_be_visible()
        for region in panels:
            expect(notebook.get_by_role("region", name=region, exact=True)).to_be_visible()
        if not panels or name == "Tour":
            expect(notebook.get_by_label("Query")).to_be_visible()
        assert json.loads((folder / file).read_text(encoding="utf-8"))["metadata"]["workbench"] == {
            "page": file
        }
        if name == "Tour":  # the notebooks that it links to are copied with it
            jobs = {"check_data.ipynb", "train.ipynb", "evaluate.ipynb", "build_index.ipynb"}
            assert jobs <= {path.name for path in folder.iterdir()}
        if name == "Compare runs":
            assert_it_follows_the_theme(notebook.get_by_role("region", name=name), light=True)
    assert (seen.strangers(), seen.errors, refused) == ([], [], [])


def test_existing_files_are_never_overwritten(visit: Callable[..., Visit], lab: Lab) -> None:
    shipped = json.loads((NOTEBOOKS / "compare.ipynb").read_text(encoding="utf-8"))
    foreign = {**shipped, "metadata": {}, "cells": []}
    changed = {
        **shipped,
        "cells": [{**shipped["cells"][0], "source": "# 내가 고친 쪽"}, *shipped["cells"][1:]],
    }
    with cleared(lab):
        page = visit(lab.address).page
        folder = lab.root / "notebooks"
        folder.write_text("a file instead of a folder", encoding="utf-8")
        card(page, "Jobs").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text('"Jobs" could not be opened')
        assert folder.read_text(encoding="utf-8") == "a file instead of a folder"
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)

        folder.unlink()
        folder.mkdir()
        before = {}
        for name, notebook in (("compare.ipynb", changed), ("jobs.ipynb", foreign)):
            (folder / name).write_text(json.dumps(notebook), encoding="utf-8")
            before[name] = (folder / name).read_bytes()
        card(page, "Compare runs").click()  # ours, changed by the user: opened as is
        expect(page.get_by_role("heading", name="내가 고친 쪽")).to_be_visible()
        expect(panel(page)).to_be_visible()
        page.get_by_title("New Launcher", exact=True).click()
        card(page, "Jobs").click()  # another notebook has that name: ours gets a different one
        expect(tab(page, "workbench-jobs.ipynb")).to_be_visible()
        expect(page.get_by_role("region", name="Jobs", exact=True)).to_be_visible()
        assert {name: (folder / name).read_bytes() for name in before} == before
        assert {path.name for path in folder.glob("*.ipynb")} == {*before, "workbench-jobs.ipynb"}


def test_beside_a_checkouts_notebooks_its_own_are_opened_and_in_a_whole_one_copies_that_git_ignores(
    visit: Callable[..., Visit], lab: Lab
) -> None:
    beside = [lab.root / "workbench", lab.root / "adapters"]
    with cleared(lab):
        shutil.copytree(NOTEBOOKS, lab.root / "notebooks")

        def there() -> dict[str, bytes]:
            # A file that is being saved has a name with a dot in front.
            return {path.name: path.read_bytes() for path in (lab.root / "notebooks").glob("[!.]*.ipynb")}

        before = there()
        page = visit(lab.address).page
        card(page, "Search demo").click()
        expect(page.get_by_label("Query")).to_be_visible()
        assert there() == before

        (lab.root / "pyproject.toml").touch()
        for folder in beside:
            folder.mkdir()
        try:
            page.get_by_title("New Launcher", exact=True).click()
            card(page, "Jobs").click()
            expect(tab(page, "workbench-jobs.ipynb")).to_be_visible()
            expect(page.get_by_role("region", name="Jobs", exact=True)).to_be_visible()
            page.keyboard.press("Control+s")
        finally:
            (lab.root / "pyproject.toml").unlink()
            for folder in beside:
                folder.rmdir()
        after = there()
        assert set(after) - set(before) == {"workbench-jobs.ipynb"}
        assert {name: after[name] for name in before} == before
        ignored = (NOTEBOOKS.parent / ".gitignore").read_text(encoding="utf-8").split()
        assert "/notebooks/workbench-*.ipynb" in ignored


def test_the_status_bar_counts_the_running_jobs_and_opens_their_page_as_the_palette_does(
    visit: Callable[..., Visit], answering: Lab
) -> None:
    seen = visit(answering.address)
    page = seen.page
    expect(status(page)).to_have_text("No jobs running")
    answering.running(1)
    expect(status(page)).to_have_text("1 job running")
    answering.answer.write_text("{}")  # an invalid answer hides the number
    expect(status(page)).to_be_hidden()
    answering.running(12)
    expect(status(page)).to_have_text("12 jobs running")
    status(page).click()
    expect(page.get_by_role("region", name="Jobs", exact=True)).to_be_visible()
    kernels = page.evaluate("() => fetch('/api/kernels').then((answer) => answer.json())")
    status(page).click()  # already open: the same notebook, and no second kernel
    expect(tab(page, "jobs.ipynb")).to_have_count(1)
    again = page.evaluate("() => fetch('/api/kernels').then((answer) => answer.json())")
    assert [one["id"] for one in again] == [one["id"] for one in kernels]
    # The palette opens the pages too; it takes no words before it is there.
    page.get_by_role("menuitem", name="View", exact=True).click()
    page.get_by_role("menuitem", name="Activate Command Palette").click()
    expect(page.locator(".lm-CommandPalette-input").first).to_be_focused()
    page.keyboard.type("Open Compare runs")
    page.keyboard.press("Enter")
    expect(page.get_by_role("region", name="Compare runs")).to_be_visible()
    assert seen.errors == []


def test_the_status_bar_counts_real_running_jobs(
    visit: Callable[..., Visit], toy_package: Path, tmp_path: Path
) -> None:
    with (
        installed(toy_package),
        workspace_in(tmp_path / "results") as home,
        lab_in(tmp_path, home.path, api="workbench.server", everything=True) as lab,
    ):
        seen = visit(lab.address)
        page = seen.page
        expect(status(page)).to_have_text("No jobs running")
        job = home.submit("eval", "toy", {"seconds": 120})
        expect(status(page)).to_have_text("1 job running")
        job.cancel()
        expect(status(page)).to_have_text("No jobs running")
        card(page, "Jobs").click()  # beside all other parts of JupyterLab
        expect(panel(page)).to_contain_text("cancelled")
        assert (seen.strangers(), seen.errors) == ([], [])


def test_without_an_api_there_is_no_status_and_no_further_request(
    visit: Callable[..., Visit], lab: Lab
) -> None:
    lab.answer.unlink(missing_ok=True)
    seen = visit(lab.address)
    page = seen.page
    refused: list[int] = []
    page.on(
        "response",
        lambda answer: refused.append(answer.status) if "workbench/api/jobs" in answer.url else None,
    )
    expect(card(page, "Jobs")).to_be_visible()
    until(lambda: page.wait_for_timeout(100) or refused)
    page.wait_for_timeout(6000)  # time for two more requests
    assert refused == [404]
    expect(status(page)).to_have_count(0)
    assert seen.errors == []


def brightness(place: Locator, what: str) -> float:
    """Return the brightness of an element's colour, 0 (black) to 255."""
    colour = place.evaluate(f"(element) => getComputedStyle(element).{what}")
    red, green, blue = (float(part) for part in re.findall(r"[\d.]+", colour)[:3])
    scale = 255 if colour.startswith("color(") else 1
    return scale * (0.299 * red + 0.587 * green + 0.114 * blue)


THEMES = "@jupyterlab/apputils-extension:themes"


def assert_it_can_be_read_in(page: Page, *, light: bool) -> None:
    """The icon of a card, and the count of the status bar, stand out from what is behind them."""
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", str(light).lower())
    expect(status(page)).to_be_visible()
    icon = card(page, "Jobs").locator("svg g").first
    expect(icon).to_be_visible()
    assert abs(brightness(icon, "fill") - brightness(card(page, "Jobs"), "backgroundColor")) > 60
    bar = page.locator("#jp-main-statusbar")
    assert abs(brightness(status(page), "color") - brightness(bar, "backgroundColor")) > 90


def assert_it_follows_the_theme(panel: Locator, *, light: bool) -> None:
    ink, paper = brightness(panel, "color"), brightness(panel, "backgroundColor")
    assert (ink < 100 and paper > 200) if light else (ink > 200 and paper < 100)


def test_panels_and_cards_follow_the_theme(visit: Callable[..., Visit], answering: Lab) -> None:
    # Of the light theme, with which JupyterLab begins, the cards' own test says the same.
    answering.running(2)
    address = answering.address.replace("/lab", f"/lab/api/settings/{THEMES}", 1)
    body = json.dumps({"raw": json.dumps({"theme": "JupyterLab Dark"})}).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data=body, method="PUT")):  # noqa: S310
        pass
    page = visit(answering.address, viewport={"width": 1300, "height": 1000}).page
    assert_it_can_be_read_in(page, light=False)
    card(page, "Compare runs").click()
    shown = page.get_by_role("region", name="Compare runs")
    expect(shown).to_be_visible()
    assert_it_follows_the_theme(shown, light=False)
