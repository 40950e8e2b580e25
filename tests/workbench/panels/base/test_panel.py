"""What all panels share: their files, and closing without leftovers."""

from __future__ import annotations

import re

import pytest

from workbench.host import processes
from workbench.panels import ComparePanel, JobsPanel, ResultsComparePanel, SearchPanel
from workbench.panels.base.assets import assets, panel_script
from workbench.panels.base.panel import Panel, executed_only


def test_files_are_put_together_in_the_order_given() -> None:
    both = assets("base/theme.css", "jobs/jobs.css")
    assert both == assets("base/theme.css") + "\n" + assets("jobs/jobs.css")
    with pytest.raises(FileNotFoundError):
        assets("base/no-such-file.js")


def test_a_closed_panel_leaves_no_widget_behind() -> None:
    class Empty(Panel):
        _esm = "export default { render() {} };"

    panel = Empty()
    layout = panel.layout
    assert layout.comm is not None
    panel.close()
    assert panel.comm is None
    assert layout.comm is None
    panel.close()  # twice is once


class Text(Panel):
    """A panel without a page of its own."""

    _esm = panel_script("search/search.js")

    def to_html(self) -> str:
        return "<p>글</p>"


def test_every_panel_is_in_the_frame() -> None:
    script = panel_script("jobs/forms.js", "jobs/jobs.js")
    assert script.count("\nexport default ") == 1
    assert script.rstrip().endswith("export default framed(panel);")
    assert "const panel = { render" in script
    for panel in (JobsPanel, ComparePanel, ResultsComparePanel, SearchPanel):
        assert "export default framed(panel);" in str(panel._esm)


def test_an_output_holds_the_widget_and_what_stays_without_it() -> None:
    panel = Text()
    data, _ = panel._repr_mimebundle_()
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == panel.model_id
    assert re.fullmatch(
        r'<div class="wb-saved"><p><small>As of \d{4}-\d\d-\d\d \d\d:\d\d, when this cell ran.</small></p>'
        "<p>글</p></div>",
        data["text/html"],
    )
    panel.close()


@pytest.mark.parametrize(
    ("command", "only"),
    [
        (["python", "-m", "workbench.jobs.worker.runner", "7"], True),
        (["/venv/bin/python", "/venv/bin/papermill", "a.ipynb", "b.ipynb"], True),
        (["/venv/bin/python", "/venv/bin/jupyter-nbconvert", "--execute", "a.ipynb"], True),
        (["python", "-X", "dev", "-m", "papermill", "a.ipynb"], True),
        (["jupyter-execute.exe", "a.ipynb"], True),
        (["/venv/bin/python", "/venv/bin/jupyter-lab"], False),
        (["python", "-m", "jupyterlab", "notebooks/papermill"], False),
        (["python", "-m"], False),
        (["voila", "nbconvert.ipynb"], False),
        ([], False),
    ],
)
def test_a_notebook_that_is_only_executed_has_no_widget(
    command: list[str], only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "12345")
    monkeypatch.setattr(processes, "command_line", lambda pid: command if pid == 12345 else [])
    assert executed_only() == only
    panel = Text()
    data, _ = panel._repr_mimebundle_()
    assert ("application/vnd.jupyter.widget-view+json" in data) == (not only)
    assert (panel.comm is None) == only
    assert "<p>글</p>" in data["text/html"]
    panel.close()


@pytest.mark.parametrize("parent", ["", "no number", "0"])
def test_an_unknown_parent_is_taken_for_one_with_a_page(parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", parent)
    assert not executed_only()
