"""A job that spans the cells of a notebook: how it ends, in a batch and by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell

import workbench as wb
from workbench.notebooks import cells
from workbench.notebooks.typed_options import parameters_cell

#: What a front end says with a cell: papermill, papermill with a cell tagged raises-exception, JupyterLab.
BATCH = {"allow_stdin": False, "stop_on_error": True}
EXPECTED = {"allow_stdin": False, "stop_on_error": False}
PERSON = {"allow_stdin": True, "stop_on_error": True}


@pytest.fixture
def notebook(workspace: wb.Workspace, toy: wb.BaseAdapter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A shell that runs cells as a kernel does; ``run(source, content)`` returns the cell's error."""
    # A shell puts its own module there, and a process that is spawned later would look for its file.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.user_ns |= {"workspace": str(workspace.path), "names": {"workspace": str(workspace.path)}}
    shell.showtraceback = lambda *_, **__: None  # what pytest shows is enough

    def run(source: str, content: dict[str, bool] | None = None) -> BaseException | None:
        shell.kernel = SimpleNamespace(get_parent=lambda _: {"content": content or BATCH})
        result = shell.run_cell(source, store_history=True)
        return result.error_in_exec or result.error_before_exec

    run.shell = shell  # type: ignore[attr-defined]
    yield run
    run.shell.user_ns.clear()  # type: ignore[attr-defined]
    InteractiveShell.clear_instance()


START = "import workbench as wb\njob = wb.start_job('eval', 'toy', globals())"
MEASURE = "result = job.finish(job.adapter.evaluate(job.options, job))"


def only(workspace: wb.Workspace) -> wb.Job:
    (job,) = workspace.jobs()
    return job


def test_a_job_spans_cells_until_it_is_ended(notebook: Any, workspace: wb.Workspace) -> None:
    assert notebook("k = 2") is None
    assert notebook(START) is None
    assert only(workspace).status == "running"
    assert notebook(MEASURE) is None
    assert notebook("job.end(); job.end()") is None
    done = only(workspace)
    assert (done.status, done.options["k"], done.summary) == ("succeeded", 2, "measured")
    problem = notebook("job.progress(1, 2)")
    assert isinstance(problem, wb.WrongState)
    assert "has ended" in str(problem)
    assert "from its first cell" in problem.help


@pytest.mark.parametrize(
    ("content", "status"), [(BATCH, "failed"), (EXPECTED, "running"), (PERSON, "running")]
)
def test_a_cell_that_fails_ends_the_job_where_nobody_can_mend_it(
    notebook: Any, workspace: wb.Workspace, content: dict[str, bool], status: str
) -> None:
    notebook(START)
    assert isinstance(notebook("run = job.start_run('e')\n1 / 0", content), ZeroDivisionError)
    job = only(workspace)
    assert (job.status, workspace.runs()[0].status) == (status, status)
    if status == "failed":
        assert job.error == {"cell": 2, "type": "ZeroDivisionError", "message": "division by zero"}
        assert isinstance(notebook(MEASURE), wb.WrongState)
        return
    assert notebook(MEASURE) is None
    notebook("job.end()")
    assert only(workspace).status == "succeeded"


def test_a_job_without_a_result_is_not_ended_by_mistake(notebook: Any, workspace: wb.Workspace) -> None:
    """As when the last cell is run although the one before it failed."""
    notebook(START)
    problem = notebook("job.end()", PERSON)
    assert isinstance(problem, wb.WrongState)
    assert "no result yet" in str(problem)
    assert only(workspace).status == "running"


def test_a_cancelled_job_ends_where_a_person_runs_it_too(notebook: Any, workspace: wb.Workspace) -> None:
    notebook(START)
    only(workspace).cancel()
    wait = "import time\nwhile True:\n    job.progress(0, 1)\n    time.sleep(0.05)"
    assert isinstance(notebook(wait, PERSON), wb.JobCancelled)
    assert only(workspace).status == "cancelled"


def test_a_notebook_that_is_begun_again_ends_its_earlier_job(notebook: Any, workspace: wb.Workspace) -> None:
    notebook(START)
    notebook(START, PERSON)
    assert [job.status for job in workspace.jobs()] == ["running", "cancelled"]


@pytest.mark.parametrize(
    ("cells", "status", "kind"),
    [
        (["pass"], "cancelled", None),
        (["1 / 0"], "failed", "ZeroDivisionError"),
        (["1 / 0", "'mended'"], "cancelled", None),
        ([MEASURE], "succeeded", None),
    ],
)
def test_a_kernel_that_ends_ends_its_job(
    notebook: Any, workspace: wb.Workspace, cells: list[str], status: str, kind: str | None
) -> None:
    notebook(START)
    for cell in cells:
        notebook(cell, PERSON)
    notebook.shell.user_ns["job"]._leave()  # as atexit does
    job = only(workspace)
    assert (job.status, (job.error or {}).get("type")) == (status, kind)


def test_a_result_below_its_floor_fails_at_the_end(notebook: Any, workspace: wb.Workspace) -> None:
    notebook("fail_below = '{\"R@3\": 0.9}'")
    notebook(START)
    assert notebook(MEASURE) is None
    assert isinstance(notebook("job.end()"), wb.BelowFloor)
    job = only(workspace)
    assert (job.status, job.error["type"], job.summary) == ("failed", "BelowFloor", "measured")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("adapter = 'vlm'", "this notebook runs jobs of adapter 'toy', not of 'vlm'"),
        ("k = 'many'", "k: Input should be a valid integer"),
        ("options = '{\"kk\": 1}'", "kk: unknown option; did you mean 'k'?"),
        ("# Parameters\nstepss = 3", "stepss: unknown parameter; did you mean 'steps'?"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_done(
    notebook: Any, workspace: wb.Workspace, toy: wb.BaseAdapter, names: str, says: str
) -> None:
    notebook(parameters_cell(toy.options("eval"), "toy"))
    notebook(f"# Parameters\nworkspace = {str(workspace.path)!r}")
    notebook(names)
    if names.startswith("# Parameters"):  # papermill injects right behind the parameters cell
        notebook.shell.user_ns["In"][2:] = [names]
    assert says in str(notebook(START))
    assert workspace.jobs() == []


@pytest.mark.slow
def test_a_notebook_of_an_adapters_own_runs_under_the_worker(
    workspace: wb.Workspace, toy_package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Submitted as any job is; an option that differs from the cell's default arrives by name."""
    own = tmp_path / "own"
    own.mkdir()
    source = (toy_package / "toy_adapter.py").read_text(encoding="utf-8")
    more = "    def notebooks(self):\n        return {'eval': Path(__file__).with_name('own.ipynb')}\n\n"
    (own / "toy_adapter.py").write_text(source.replace("    def train(", f"{more}    def train(", 1))
    monkeypatch.syspath_prepend(str(own))
    monkeypatch.setenv("PYTHONPATH", f"{own}:{toy_package}")
    steps = [
        f"{START}\nprint('k is', k, job.attached)",
        MEASURE,
        "job.end()\nprint(result.summary)",
    ]
    from toy_adapter import Options  # type: ignore[import-not-found]

    first = nbformat.v4.new_code_cell(parameters_cell(Options, "toy"), metadata={"tags": ["parameters"]})
    page = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, steps)])
    nbformat.write(page, own / "own.ipynb")
    monkeypatch.syspath_prepend(str(toy_package))
    monkeypatch.syspath_prepend(str(own))
    job = workspace.submit("eval", "toy", {"k": 2})
    job.wait(timeout=120)
    assert (job.status, job.summary) == ("succeeded", "measured")
    written = nbformat.read(job.notebook, as_version=4)
    assert "k = 2" in written.cells[1].source
    assert "steps" not in written.cells[1].source
    assert [cell.outputs[0].text for cell in written.cells[2:] if cell.outputs] == [
        "k is 2 True\n",
        "measured\n",
    ]


def test_outside_of_a_notebook_there_is_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(cells.sys.modules, "IPython")
    assert cells.shell() is None
    assert not cells.ends_the_notebook(None)
